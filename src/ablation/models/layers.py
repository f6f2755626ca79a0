"""Layers for which PyTorch's kernels are slow: convolutions with few channels, and batch norm.

Training selects this project's kernels for a GPU or a CPU with `train_with`; evaluation always uses PyTorch's.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "swish": F.silu,  # x * sigmoid(x)
}
# For negative values; None: not monotonic, as Swish, whose minimum is at -1.28, so it does not commute with max-pooling
SLOPES = {"relu": 0.0, "leaky_relu": 0.01, "swish": None}
MAX_CHANNELS = 64  # of the input; more have not been measured
MAX_ELEMENTS = 2**31  # of a tensor; the GPU kernels use 32-bit indices
CpuKernel = Callable[[Tensor, nn.Conv2d, nn.BatchNorm2d | None, float | None], Tensor]
ConvKernel = Callable[[Tensor, Tensor, int, int], Tensor]  # of input, weight, stride and padding
BatchNormKernel = Callable[[Tensor, nn.BatchNorm2d, float | None, Tensor | None], Tensor]


class GpuKernels(NamedTuple):
    """For bfloat16, and for float32, whose values a convolution may truncate to tf32."""

    conv2d: ConvKernel
    depthwise_conv2d: ConvKernel
    batch_norm: BatchNormKernel  # plus a shortcut, then an activation: its slope below zero, 1 for none, None for Swish


_gpu_kernels: GpuKernels | None = None
_cpu_kernel: CpuKernel | None = None


def train_with(*, gpu: GpuKernels | None = None, cpu: CpuKernel | None = None) -> None:
    """Make networks train with these kernels from now on; None, the default: with PyTorch's.

    cpu: a fused float32 `conv_pool`, given the activation's slope for negative values, None for Swish.
    """
    global _gpu_kernels, _cpu_kernel
    _gpu_kernels, _cpu_kernel = gpu, cpu


@contextmanager
def without_kernels() -> Iterator[None]:
    """In this block networks compute with PyTorch's kernels."""
    gpu, cpu = _gpu_kernels, _cpu_kernel
    train_with()
    try:
        yield
    finally:
        train_with(gpu=gpu, cpu=cpu)


class Conv2d(nn.Conv2d):
    """nn.Conv2d with square filters; trained on a GPU with few channels, it uses the kernel given to `train_with`.

    cuDNN's is used where values must not be truncated to tf32, and where gradients are disabled, as in evaluation.
    """

    def __init__(
        self, in_channels: int, out_channels: int, size: int, stride: int = 1, padding: int = 0, bias: bool = True
    ) -> None:
        super().__init__(in_channels, out_channels, size, stride, padding, bias=bias)
        self.settings = stride, padding

    def forward(self, input: Tensor) -> Tensor:
        if _gpu_kernels is None or not _trains_on_gpu(input) or not self.suits_kernel(input) or _exact():
            return super().forward(input)
        output = _gpu_kernels.conv2d(_autocast(input), self.weight, *self.settings)
        return output if self.bias is None else output + self.bias.to(output.dtype)[:, None, None]

    def suits_kernel(self, input: Tensor) -> bool:
        """Whether `input` has few channels, and no tensor too many elements for 32-bit indices."""
        n, channels, height, width = input.shape
        padding = 2 * self.settings[1]
        largest = n * (height + padding) * (width + padding) * max(channels, self.out_channels)
        return channels <= MAX_CHANNELS and largest < MAX_ELEMENTS


class DepthwiseConv2d(nn.Conv2d):
    """3x3 depthwise convolution without bias; trained on a GPU uncompiled, it uses the kernel given to `train_with`."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__(channels, channels, 3, stride, padding=1, groups=channels, bias=False)
        self.settings = stride, 1

    def forward(self, input: Tensor) -> Tensor:
        if _gpu_kernels is None or not _trains_on_gpu(input) or torch.compiler.is_compiling():
            return super().forward(input)
        return _gpu_kernels.depthwise_conv2d(_autocast(input), self.weight, *self.settings)


def _trains_on_gpu(input: Tensor) -> bool:
    return (
        input.is_cuda
        and input.dtype in (torch.float32, torch.bfloat16)
        and torch.is_grad_enabled()
        and 0 < input.numel() < MAX_ELEMENTS
    )


def _exact() -> bool:
    """Whether a convolution must not truncate its float32 operands."""
    return not torch.is_autocast_enabled("cuda") and not torch.backends.cudnn.allow_tf32


def _autocast(tensor: Tensor) -> Tensor:
    return tensor.to(torch.get_autocast_dtype("cuda")) if torch.is_autocast_enabled("cuda") else tensor


def norm_activation(
    input: Tensor, bn: nn.BatchNorm2d, activation: str | None, shortcut: Tensor | None = None
) -> Tensor:
    """The activation, if any, of batch norm plus `shortcut`, if any; all tensors are [N, C, H, W].

    Fused when trained on a GPU uncompiled; torch's compiler does its own fusion.
    """
    if _gpu_kernels is not None and _norms_on_gpu(input, bn):
        return _gpu_kernels.batch_norm(input, bn, 1.0 if activation is None else SLOPES[activation], shortcut)
    x: Tensor = bn(input)
    if shortcut is not None:
        x = x + shortcut
    return x if activation is None else ACTIVATIONS[activation](x)


def _norms_on_gpu(input: Tensor, bn: nn.BatchNorm2d) -> bool:
    return (
        _gpu_kernels is not None
        and bn.training
        and _trains_on_gpu(input)
        and not torch.compiler.is_compiling()
        and input.numel() > input.shape[1]  # PyTorch refuses a single value per channel, which has no variance
    )


def conv_pool(input: Tensor, conv: Conv2d, bn: nn.Module, activation: str) -> Tensor:
    """Convolution, batch norm, activation and 2x2 max-pooling: [N, C, H, W] -> [N, K, H' // 2, W' // 2].

    conv: with stride 1, no padding and a bias; bn: `nn.BatchNorm2d(K)` or `nn.Identity()`. Fused into one kernel when
    trained on a CPU, in float32 and uncompiled.
    """
    slope = SLOPES[activation]
    if _cpu_kernel is not None and _suits_cpu_kernel(input, conv, bn):
        return _cpu_kernel(input, conv, bn if isinstance(bn, nn.BatchNorm2d) else None, slope)
    x = conv(input)
    if isinstance(bn, nn.BatchNorm2d) and (slope is None or _norms_on_gpu(x, bn)):
        return F.max_pool2d(norm_activation(x, bn, activation), 2)
    x = bn(x)
    if slope is None:
        return F.max_pool2d(ACTIVATIONS[activation](x), 2)
    # A monotonic activation commutes with the maximum, in value and gradient; after it, a quarter of the work is left.
    return ACTIVATIONS[activation](F.max_pool2d(x, 2))


def _suits_cpu_kernel(input: Tensor, conv: Conv2d, bn: nn.Module) -> bool:
    """Whether the CPU kernel can be used. An `input` that does not fit the layer is left for PyTorch to refuse."""
    return (
        torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and all(t.device.type == "cpu" and t.dtype == torch.float32 for t in (input, conv.weight))
        and (bn.training or isinstance(bn, nn.Identity))
        and input.ndim == 4
        and input.shape[1] == conv.in_channels
        and len(input) > 0
        and min(input.shape[2:]) > conv.kernel_size[0]
    )
