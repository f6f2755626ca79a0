"""What a trained network looks like inside: the numbers that the study's statements are about."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ablation.data.splits import Normalization, Statistics, channels_last
from ablation.models import layers

ACTIVATIONS = {*layers.ACTIVATIONS.values(), F.gelu}
NEAR_ZERO = 1e-3  # of the layer's largest weight
NUM_BATCH_NORM_IMAGES = 250  # fixed, since the evaluation's batch size must not change a result
LOG10_EDGES = [i / 5 for i in range(-30, 1)]  # of the histogram of weights relative to their layer's largest


class ActiveUnits(TorchFunctionMode):
    """While entered, records which hidden units of `model` pass a gradient on any image; the others are dead.

    A unit is a neuron or a feature map of a convolution; a network that takes several views of an image counts it once
    per view. A ReLU passes no gradient where its pre-activation is not above zero; the other ACTIVATIONS always do.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._active: list[Tensor] = []  # bool [units], one for each activation in a forward pass
        self._call = 0
        self._hook = model.register_forward_pre_hook(self._restart)

    def _restart(self, *_: Any) -> None:
        self._call = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func in ACTIVATIONS:
            if func is F.relu:
                active = (args[0] > 0).transpose(0, 1).flatten(1).any(1)
            else:
                active = torch.ones(args[0].shape[1], dtype=torch.bool, device=args[0].device)
            if self._call == len(self._active):
                self._active.append(active)
            else:
                self._active[self._call] |= active
            self._call += 1
        return func(*args, **(kwargs or {}))

    def __exit__(self, *exception: Any) -> None:
        self._hook.remove()
        super().__exit__(*exception)  # type: ignore[no-untyped-call]

    @property
    def dead_share(self) -> float:
        """Fraction of the units that passed a gradient on no image."""
        return 1 - torch.cat(self._active).float().mean().item()


def diagnose(
    model: nn.Module, units: ActiveUnits, logits: Tensor, images: Tensor, statistics: Statistics
) -> dict[str, Any]:
    """All diagnostics of one network; units, logits and images (uint8 [N, 3, 32, 32]) are those of the val split."""
    return {
        **weight_diagnostics(model),
        "dead_units": units.dead_share if logits.isfinite().all() else None,
        "batch_norm": batch_norm_means(model, images[:NUM_BATCH_NORM_IMAGES], statistics),
    }


def weight_diagnostics(model: nn.Module) -> dict[str, Any]:
    """Sparsity and histogram of the weights of convolutions and fully connected layers, without biases.

    sparsity: fraction whose magnitude is below 1e-3 of the layer's largest. weights: counts by log10 of that ratio; the
    first bin also holds what lies below its edge, zeros included. Non-finite weights give None.
    """
    weights = [p.detach().cpu().double().abs().flatten() for p in model.parameters() if p.ndim > 1]
    if not all(w.isfinite().all() for w in weights):
        return {"sparsity": None, "weights": None}
    relative = torch.cat([w / w.max().clamp(min=torch.finfo(w.dtype).tiny) for w in weights])
    logs = relative.log10().clamp(LOG10_EDGES[0], LOG10_EDGES[-1])
    counts = torch.histc(logs, len(LOG10_EDGES) - 1, LOG10_EDGES[0], LOG10_EDGES[-1])
    return {
        "sparsity": (relative < NEAR_ZERO).double().mean().item(),
        "weights": {"log10_edges": LOG10_EDGES, "counts": counts.long().tolist()},
    }


def batch_norm_means(model: nn.Module, images: Tensor, statistics: Statistics) -> dict[str, float] | None:
    """|Mean of batch norm's output over a batch|, averaged over all its channels; None without batch norm.

    Batch norm works as in training, with the statistics of the batch; images: uint8 [N, 3, 32, 32].
    normalized: before the affine part, so zero up to rounding; output: after it.
    """
    probe = copy.deepcopy(model).train()  # its running statistics will move
    device = next(probe.parameters()).device
    means: dict[str, list[Tensor]] = {"normalized": [], "output": []}

    def note(_: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        normalized = F.batch_norm(inputs[0], None, None, training=True)
        for key, values in (("normalized", normalized), ("output", output)):
            means[key].append(values.mean((0, 2, 3)).abs())

    for module in probe.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(note)
    normalization = Normalization.of(statistics, images.shape[-1]).to(device)
    with torch.inference_mode():
        probe(normalization(channels_last(images.to(device))))
    if not means["output"]:
        return None
    average = {key: torch.cat(values).mean() for key, values in means.items()}
    return {key: value.item() for key, value in average.items()} if all(map(torch.isfinite, average.values())) else None
