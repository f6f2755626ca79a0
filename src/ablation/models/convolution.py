"""Convolutions of few channels, for which the kernels of PyTorch's libraries are slow: on a GPU and on a CPU."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MAX_CHANNELS = 64  # of the input; with 64 of both, cuDNN is about as fast
_kernel: Callable[[Tensor, Tensor, int, int], Tensor] | None = None


def train_with(kernel: Callable[[Tensor, Tensor, int, int], Tensor] | None) -> None:
    """From now on `Conv2d` trains on a GPU with `kernel(input, weight, stride, padding)`; None: with cuDNN, as before.

    kernel: takes float32, whose factors it may cut to tf32, and bfloat16.
    """
    global _kernel
    _kernel = kernel


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
        if _kernel is None or not input.is_cuda or not torch.is_grad_enabled() or not self.suits_kernel(input):
            return super().forward(input)
        weight, bias = self.weight, self.bias
        if torch.is_autocast_enabled("cuda"):
            dtype = torch.get_autocast_dtype("cuda")
            input, weight = input.to(dtype), weight.to(dtype)
        elif not torch.backends.cudnn.allow_tf32:
            return super().forward(input)
        output = _kernel(input, weight, *self.settings)
        return output if bias is None else output + bias.to(output.dtype)[:, None, None]

    def suits_kernel(self, input: Tensor) -> bool:
        """Few channels, and no more elements than 32 bits can count."""
        n, channels, height, width = input.shape
        padding = 2 * self.settings[1]
        largest = n * (height + padding) * (width + padding) * max(channels, self.out_channels)
        return channels <= MAX_CHANNELS and largest < 2**31


class PairedConv2d(Conv2d):
    """Of stride 1 without padding, for few output channels, on a CPU: two columns of the map at a time.

    The filters, once padded with zeros on the right and once on the left, move in steps of two columns. That fills
    vector registers which so few channels leave half empty: for SimpleNN's first layer forward and backward take two
    thirds of the time. In the channels-last format the result is the map as it should be.
    """

    def forward(self, images: Tensor) -> Tensor:
        """Images float [N, C, H, W], whose map is an even number of columns wide -> that map."""
        if images.device.type != "cpu":
            return super().forward(images)
        assert self.bias is not None and (images.shape[-1] - self.kernel_size[1]) % 2 == 1
        filters = torch.cat([F.pad(self.weight, (0, 1)), F.pad(self.weight, (1, 0))])
        pairs = F.conv2d(images, filters, self.bias.repeat(2), stride=(1, 2))  # [N, 2 * channels, H', W' / 2]
        n, c, h, w = pairs.shape
        return pairs.permute(0, 2, 3, 1).reshape(n, h, 2 * w, c // 2).permute(0, 3, 1, 2)
