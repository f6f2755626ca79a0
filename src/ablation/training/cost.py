"""What a network costs, whatever the device."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import TorchFunctionMode

from ablation.models.build import build_model
from ablation.models.layers import without_kernels
from ablation.models.params import ModelParams


class _MultiplyAdds(TorchFunctionMode):
    """Counts those of convolutions and fully connected layers, as torch's FlopCounterMode, a slow import, would."""

    total: int = 0

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        if func in (F.conv2d, F.linear):
            weight = args[1]
            self.total += output.numel() * weight[0].numel()  # each output sums over one filter
        return output


def multiply_adds(model: ModelParams) -> int:
    """Multiply-adds to evaluate one 3x32x32 image, including all test-time views of the network."""
    network, counter = build_model(model).eval(), _MultiplyAdds()
    with counter, torch.no_grad():
        network(torch.zeros(1, 3, 32, 32))
    return counter.total


def activation_bytes(model: ModelParams) -> int:
    """Bytes that the forward pass of one 3x32x32 image saves for the backward pass, in float32, by PyTorch's kernels.

    They are the peak memory of training except for what does not grow with the batch: weights, their gradients and the
    optimizer state.
    """
    return (_kept_bytes(model, num_images=4) - _kept_bytes(model, num_images=2)) // 2


def _kept_bytes(model: ModelParams, num_images: int) -> int:
    network = build_model(model).train().to(memory_format=torch.channels_last)
    images = torch.zeros(num_images, 3, 32, 32).to(memory_format=torch.channels_last)  # as training has both
    kept: dict[int, Tensor] = {}  # by storage: views of the same one count once

    def pack(saved: Tensor) -> Tensor:
        kept[saved.untyped_storage().data_ptr()] = saved
        return saved

    with without_kernels(), saved_tensors_hooks(pack, lambda saved: saved):
        logits = network(images)
    del logits  # not earlier: freeing the graph would free tensors, whose addresses could be reused
    return sum(saved.untyped_storage().nbytes() for saved in kept.values())
