"""One training step, of a compiled or eager network."""

import contextlib
import copy
import sys
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ablation.common.errors import InvalidInput
from ablation.models.device import out_of_memory
from ablation.training.batches import Data, make_batch
from ablation.training.optimization import Optimizer, l1_weights
from ablation.training.params import TrainParams

Step = Callable[[Tensor], None]
NO_ROOM = (  # what a compiler or the system reports when a disk or memory is full
    "No space left on device",
    "Disk quota exceeded",
    "No usable temporary directory",
    "Cannot allocate memory",
    "out of memory",
    "Killed",
)


def batch_sums(loss: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
    """Float [3], left on the device: sums over a batch's images of loss, correct predictions and squared loss.

    loss: the mean over the batch, scalar, used for each of its images; logits: [B, classes]; labels: [B].
    """
    mean = loss.detach()
    return torch.stack([mean * len(labels), (logits.argmax(1) == labels).sum(), mean.square() * len(labels)])


def eager_step(
    model: nn.Module,
    optimizer: Optimizer,
    params: TrainParams,
    data: Data,
    sums: Tensor,
) -> Step:
    """A function that trains on one batch, given its plan, int64 [4, B] as from `epoch_plan`.

    sums: float [3], to which the step adds its `batch_sums`.
    """
    forward = compiled(model, params)
    parameters = list(model.parameters())
    sparse_weights = l1_weights(model) if params.l1 else []

    def step(plan: Tensor) -> None:
        inputs, targets = make_batch(plan, data)
        with autocast(params, inputs.device):
            logits = forward(inputs)
            loss = F.cross_entropy(logits, targets, label_smoothing=params.label_smoothing)
        objective = loss
        if sparse_weights:
            objective = loss + params.l1 * torch.stack([w.abs().sum() for w in sparse_weights]).sum()
        for parameter in parameters:
            parameter.grad = None
        objective.backward()
        optimizer.step()
        sums.add_(batch_sums(loss, logits, targets))

    return step


def compiled(model: nn.Module, params: TrainParams) -> Callable[[Tensor], Tensor]:
    """`model`, compiled separately for each batch size if `params.compile` is set; the weights are shared with `model`.

    torch caches compiled code on disk, in a folder of its own, for later runs. Stays eager, with a note, if the
    compiler fails for good; raises if it runs out of disk space or memory.
    """
    if not params.compile:
        return model
    import torch._dynamo  # only for a compiled network: it takes a second
    import torch._functorch.config

    # Compile the backward together with the forward, so that its failure is caught here as well.
    torch._functorch.config.force_non_lazy_backward_lowering = True
    network = torch.compile(model, dynamic=False)
    failed = False

    def forward(inputs: Tensor) -> Tensor:
        nonlocal failed
        if not failed:
            try:
                logits: Tensor = network(inputs)
                return logits
            except torch._dynamo.exc.TorchDynamoException as error:
                if out_of_memory(error):
                    raise
                if full := no_room(error):  # an eager network would continue to different bits
                    raise InvalidInput(f"could not compile the network: {full}") from None
                failed = True
                reason = " ".join(str(error).splitlines()[:2])  # who raised, and what
                print(f"note: could not compile the network, continuing without ({reason})", file=sys.stderr)
        return model(inputs)  # type: ignore[no-any-return]

    return forward


def no_room(error: BaseException) -> str | None:
    """The line of a compiler's `error` that reports a full disk or memory; None if there is none."""
    return next((line for line in str(error).splitlines() if any(words in line for words in NO_ROOM)), None)


def gradient_norms(model: nn.Module, params: TrainParams, inputs: Tensor, targets: Tensor) -> Tensor:
    """Float [layers]: norm of the loss's gradient with respect to each of `weight_layers`; `model` is unchanged."""
    probe = copy.deepcopy(model).train()  # its batch norm uses, and tracks, the statistics of this batch
    with autocast(params, inputs.device):
        loss = F.cross_entropy(probe(inputs), targets, label_smoothing=params.label_smoothing)
    return torch.stack([g.norm() for g in torch.autograd.grad(loss, list(weight_layers(probe).values()))])


def weight_layers(model: nn.Module) -> dict[str, nn.Parameter]:
    """Layer -> weights of the convolutions and fully connected layers along the main path, in the order of depth."""
    return {
        name.removesuffix(".weight"): weights
        for name, weights in model.named_parameters()
        if weights.ndim > 1 and "shortcut" not in name
    }


def autocast(params: TrainParams, device: torch.device) -> contextlib.AbstractContextManager[None]:
    """A context in which layers compute in bfloat16 if `params.precision` is bf16."""
    if params.precision == "bf16":
        # A CUDA graph must not read cast weights that were cached for another graph.
        return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)
    return contextlib.nullcontext()
