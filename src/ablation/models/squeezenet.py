"""SqueezeNet (Iandola et al. 2016, arXiv 1602.07360) adapted to 32x32 images.

Kept: the order of layers, eight fire modules, a final 1x1 convolution with global average pooling. Changed for small
images: conv1 is 3x3 with stride 1; two poolings, from 32x32 to 8x8, replace the stride and the three poolings from
224x224 to 13x13, and are 2x2, since overlapping windows make the backward pass nondeterministic on CUDA; halving the
filters brings the cost close to that of ResNet-20; no dropout and no ReLU on the logits. Batch norm is added: without
it four epochs on 5,000 images ended near chance at learning rates 0.01 to 0.1.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ablation.models.layers import Conv2d, norm_activation
from ablation.models.params import SqueezeNetParams


class SqueezeNet(nn.Module):
    """Images float [N, 3, 32, 32] -> logits [N, 10].

    downsampling "late" is the paper's design, large activation maps through the early layers: the two poolings come
    after fire4 and fire8. "early" has the same layers and parameters, with the poolings after conv1 and fire2.
    """

    def __init__(self, params: SqueezeNetParams) -> None:
        super().__init__()
        self.late = params.downsampling == "late"
        self.conv1 = Conv2d(3, 48, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(48)
        self.fire2 = Fire(48, 8, 32)
        self.fire3 = Fire(64, 8, 32)
        self.fire4 = Fire(64, 16, 64)
        self.fire5 = Fire(128, 16, 64)
        self.fire6 = Fire(128, 24, 96)
        self.fire7 = Fire(192, 24, 96)
        self.fire8 = Fire(192, 32, 128)
        self.fire9 = Fire(256, 32, 128)
        self.conv10 = nn.Conv2d(256, 10, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # fan in, so that a fire module's two halves start at the same scale
                nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        early, late = not self.late, self.late
        x = norm_activation(self.conv1(images), self.bn1, "relu")  # [N, 48, 32, 32]
        x = F.max_pool2d(x, 2) if early else x
        x = self.fire2(x)
        x = F.max_pool2d(x, 2) if early else x
        x = self.fire4(self.fire3(x))
        x = F.max_pool2d(x, 2) if late else x
        x = self.fire8(self.fire7(self.fire6(self.fire5(x))))
        x = F.max_pool2d(x, 2) if late else x
        x = self.fire9(x)  # [N, 256, 8, 8]
        logits: Tensor = self.conv10(x).mean((2, 3))
        return logits


class Fire(nn.Module):
    """A 1x1 convolution squeezes to few channels; 1x1 and 3x3 convolutions expand to `expand` channels each."""

    def __init__(self, in_channels: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(in_channels, squeeze, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(squeeze)
        self.expand1x1 = Conv2d(squeeze, expand, 1, bias=False)
        self.expand3x3 = Conv2d(squeeze, expand, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(2 * expand)

    def forward(self, x: Tensor) -> Tensor:
        x = norm_activation(self.squeeze(x), self.bn1, "relu")
        return norm_activation(torch.cat([self.expand1x1(x), self.expand3x3(x)], 1), self.bn2, "relu")
