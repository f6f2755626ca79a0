"""Convolutions of few channels, which are slow in PyTorch's own kernels: on a GPU and, the first one, on a CPU."""

import importlib.util
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MAX_CHANNELS = 64  # of the images; with more, cuDNN is as fast
_kernels: ModuleType | None = None


def use_kernels(device: torch.device) -> str | None:
    """From now on `Conv2d` trains with ablation.models.kernels, where `device`, a GPU, can. Else returns why it cannot.

    They round products as tensor cores do, which came with compute capability 8.0 for the types that training has.
    """
    global _kernels
    _kernels = None
    if torch.cuda.get_device_capability(device) < (8, 0):
        return None  # there is nothing to miss: cuDNN has no tensor cores for tf32 either
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed"
    from ablation.models import kernels

    _kernels = kernels
    return None


class Conv2d(nn.Conv2d):
    """nn.Conv2d for few channels, with square filters: trains on a GPU with kernels made for that.

    In float32 with exact products and without gradients it is cuDNN's.
    """

    def forward(self, images: Tensor) -> Tensor:
        if _kernels is None or not images.is_cuda or not torch.is_grad_enabled() or not self.suits_kernels(images):
            return super().forward(images)
        weight, bias = self.weight, self.bias
        if torch.is_autocast_enabled("cuda"):
            dtype = torch.get_autocast_dtype("cuda")
            images, weight = images.to(dtype), weight.to(dtype)
        elif not torch.backends.cudnn.allow_tf32:
            return super().forward(images)
        assert isinstance(self.padding[0], int)
        maps: Tensor = _kernels.convolution(images, weight, self.stride[0], self.padding[0])
        return maps if bias is None else maps + bias.to(maps.dtype)[:, None, None]

    def suits_kernels(self, images: Tensor) -> bool:
        """Few channels, and no more pixels than they can count in 32 bits."""
        n, channels, height, width = images.shape
        largest = n * height * width * max(channels, self.out_channels)  # no padding here makes a map larger
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
