"""One training step, eager or captured as a CUDA graph."""

import contextlib
import sys
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ablation.data.augmentation import crop_flip
from ablation.data.splits import Normalization
from ablation.training.optimization import l1_weights
from ablation.training.params import TrainParams

Step = Callable[[Tensor], None]
WARMUP_STEPS = 3  # before a capture, as torch.cuda.graph asks for


def batch_sums(loss: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
    """Float [2]: a batch's summed loss and its number of correct predictions, left on the device.

    loss: the batch's mean, scalar; logits: [B, classes]; labels: [B].
    """
    return torch.stack([loss.detach() * len(labels), (logits.argmax(1) == labels).sum()])


def eager_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    params: TrainParams,
    images: Tensor,
    labels: Tensor,
    normalization: Normalization,
    sums: Tensor,
) -> Step:
    """A function of the plan of one batch, int64 [4, B] as from `epoch_plan`, that trains on it.

    images: uint8, `windows` of the training images with augmentation crop_flip, [N, H, W, 3] without.
    sums: float [2], to which the step adds its `batch_sums`.
    """
    augmented = params.augmentation == "crop_flip"
    sparse_weights = l1_weights(model) if params.l1 else []

    def step(plan: Tensor) -> None:
        flips, index, tops, lefts = plan
        batch = normalization(crop_flip(images, flips, index, tops, lefts) if augmented else images[index])
        targets = labels[index]
        with autocast(params, images.device):
            logits = model(batch)
            loss = F.cross_entropy(logits, targets, label_smoothing=params.label_smoothing)
        objective = loss
        if sparse_weights:
            objective = loss + params.l1 * torch.stack([w.abs().sum() for w in sparse_weights]).sum()
        optimizer.zero_grad(set_to_none=True)
        objective.backward()
        optimizer.step()
        sums.add_(batch_sums(loss, logits, targets))

    return step


def autocast(params: TrainParams, device: torch.device) -> contextlib.AbstractContextManager[None]:
    if params.precision == "bf16":
        return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)  # a captured graph must not read it
    return contextlib.nullcontext()


def captured_step(step: Step, model: nn.Module, optimizer: torch.optim.Optimizer, sums: Tensor) -> Step:
    """`step`, built by `eager_step` from the rest, captured once per batch size as a CUDA graph and replayed.

    Its results are the eager ones. Stays eager, with a note, where an operation cannot be captured.
    """
    device = sums.device

    def state() -> list[Tensor]:
        return [*model.state_dict(keep_vars=True).values(), *optimizer_tensors(optimizer), sums]

    graphs: dict[int, tuple[torch.cuda.CUDAGraph, Tensor]] = {}

    def capture(plan: Tensor) -> tuple[torch.cuda.CUDAGraph, Tensor]:
        static_plan = plan.clone()
        stream = torch.cuda.Stream(device)
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            warm_up(step, static_plan, state)
        torch.cuda.current_stream(device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step(static_plan)
        return graph, static_plan

    capturable = True

    def replay(plan: Tensor) -> None:
        nonlocal capturable
        num_images = plan.shape[1]
        if capturable and num_images not in graphs:
            try:
                graphs[num_images] = capture(plan)
            except RuntimeError as error:
                capturable = False
                print(f"note: no CUDA graph, going on without ({str(error).splitlines()[0]})", file=sys.stderr)
        if num_images not in graphs:
            return step(plan)
        graph, static_plan = graphs[num_images]
        static_plan.copy_(plan)
        graph.replay()

    return replay


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [t for slot in optimizer.state.values() for t in slot.values() if isinstance(t, Tensor)]


def warm_up(step: Step, plan: Tensor, state: Callable[[], list[Tensor]]) -> None:
    """Take a few steps and put back in place what they changed; optimizer state they made becomes zero, its start.

    state: the tensors that a step changes: weights, buffers, optimizer state, sums.
    """
    before = {id(t): t.detach().clone() for t in state()}
    with torch.random.fork_rng([plan.device] if plan.is_cuda else []):  # dropout draws from it
        for _ in range(WARMUP_STEPS):
            step(plan)
    with torch.no_grad():
        for t in state():
            if id(t) in before:
                t.copy_(before[id(t)])
            else:
                t.zero_()
