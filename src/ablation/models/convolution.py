"""Convolutions of few channels, for which the kernels of PyTorch's libraries are slow: on a GPU and on a CPU."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MAX_CHANNELS = 64  # of the input; with 64 of both, cuDNN is about as fast
GpuKernel = Callable[[Tensor, Tensor, int, int], Tensor]
CpuKernel = Callable[[Tensor, Tensor, Tensor, float | None], Tensor]
_gpu_kernel: GpuKernel | None = None
_cpu_kernel: CpuKernel | None = None


def train_with(*, gpu: GpuKernel | None = None, cpu: CpuKernel | None = None) -> None:
    """From now on networks train with these kernels; None: with PyTorch's, as before.

    gpu: a `Conv2d` of input, weight, stride and padding, in float32, whose factors it may cut to tf32, or in bfloat16.
    cpu: an `UnpaddedConv2d` of input, weight and bias, in float32, `pooled` with a slope, with None as it is.
    """
    global _gpu_kernel, _cpu_kernel
    _gpu_kernel, _cpu_kernel = gpu, cpu


@contextmanager
def without_kernels() -> Iterator[None]:
    """In this block networks compute with PyTorch's kernels."""
    gpu, cpu = _gpu_kernel, _cpu_kernel
    train_with()
    try:
        yield
    finally:
        train_with(gpu=gpu, cpu=cpu)


class Conv2d(nn.Conv2d):
    """nn.Conv2d for few channels, with square filters: in training on a GPU with a kernel for that (`train_with`).

    Where factors must not be cut to tf32 it is cuDNN's; so it is without gradients, since an evaluation has no kernel.
    """

    def __init__(
        self, in_channels: int, out_channels: int, size: int, stride: int = 1, padding: int = 0, bias: bool = True
    ) -> None:
        super().__init__(in_channels, out_channels, size, stride, padding, bias=bias)
        self.settings = stride, padding

    def forward(self, input: Tensor) -> Tensor:
        if _gpu_kernel is None or not input.is_cuda or not torch.is_grad_enabled() or not self.suits_kernel(input):
            return super().forward(input)
        weight, bias = self.weight, self.bias
        if torch.is_autocast_enabled("cuda"):
            dtype = torch.get_autocast_dtype("cuda")
            input, weight = input.to(dtype), weight.to(dtype)
        elif not torch.backends.cudnn.allow_tf32:
            return super().forward(input)
        output = _gpu_kernel(input, weight, *self.settings)
        return output if bias is None else output + bias.to(output.dtype)[:, None, None]

    def suits_kernel(self, input: Tensor) -> bool:
        """Few channels, and no more elements than 32 bits can count."""
        n, channels, height, width = input.shape
        padding = 2 * self.settings[1]
        largest = n * (height + padding) * (width + padding) * max(channels, self.out_channels)
        return channels <= MAX_CHANNELS and largest < 2**31


class UnpaddedConv2d(Conv2d):
    """Of stride 1, with a bias, trained on a CPU too with a kernel for few channels, in float32 and uncompiled."""

    bias: nn.Parameter

    def __init__(self, in_channels: int, out_channels: int, size: int) -> None:
        super().__init__(in_channels, out_channels, size)

    def forward(self, input: Tensor) -> Tensor:
        """Images float [N, C, H, W] -> their map [N, K, H', W']."""
        return self._by_cpu_kernel(input, None) if self._has_cpu_kernel(input) else super().forward(input)

    def pooled(self, input: Tensor, slope: float) -> Tensor:
        """Images -> a leaky ReLU, `slope` for negative values, of the map's maxima over 2x2, [N, K, H' / 2, W' / 2].

        Monotone, it commutes with the maximum, in value and gradient, and has a quarter of the elements to pass.
        """
        if self._has_cpu_kernel(input):
            return self._by_cpu_kernel(input, slope)
        maxima = F.max_pool2d(self(input), 2)
        return F.leaky_relu(maxima, slope) if slope else F.relu(maxima)

    def _has_cpu_kernel(self, input: Tensor) -> bool:
        """Whether training would take it; where `input` does not fit the layer, PyTorch says what is wrong."""
        return (
            _cpu_kernel is not None
            and torch.is_grad_enabled()
            and not torch.is_autocast_enabled("cpu")
            and not torch.compiler.is_compiling()
            and all(t.device.type == "cpu" and t.dtype == torch.float32 for t in (input, self.weight, self.bias))
            and input.ndim == 4
            and input.shape[1] == self.in_channels
            and len(input) > 0
            and min(input.shape[2:]) > self.kernel_size[0]
        )

    def _by_cpu_kernel(self, input: Tensor, slope: float | None) -> Tensor:
        assert _cpu_kernel is not None
        return _cpu_kernel(input, self.weight, self.bias, slope)
