"""ResNet-20 for 32x32 images (He et al. 2015, arXiv 1512.03385, section 4.2) and two variations of it."""

from collections.abc import Callable

from torch import Tensor, nn

from ablation.models.layers import Conv2d, DepthwiseConv2d, norm_activation
from ablation.models.params import ResNet20Params


class ResNet20(nn.Module):
    """Images float [N, 3, 32, 32] -> logits [N, 10].

    shortcut "projection" is the paper's option B: a 1x1 convolution where the shape changes, identity elsewhere
    (272,474 parameters); "none" is its plain net: the same layers without any shortcut.
    """

    def __init__(self, params: ResNet20Params) -> None:
        super().__init__()
        self.conv1 = Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.stage1 = nn.Sequential(BasicBlock(16, 16, 1, params), *(BasicBlock(16, 16, 1, params) for _ in range(2)))
        self.stage2 = nn.Sequential(BasicBlock(16, 32, 2, params), *(BasicBlock(32, 32, 1, params) for _ in range(2)))
        self.stage3 = nn.Sequential(BasicBlock(32, 64, 2, params), *(BasicBlock(64, 64, 1, params) for _ in range(2)))
        self.fc = nn.Linear(64, 10)
        initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        x = norm_activation(self.conv1(images), self.bn1, "relu")  # [N, 16, 32, 32]
        x = self.stage1(x)
        x = self.stage2(x)  # [N, 32, 16, 16]
        x = self.stage3(x)  # [N, 64, 8, 8]
        logits: Tensor = self.fc(x.mean((2, 3)))  # adaptive_avg_pool2d has no deterministic backward on CUDA
        return logits


class BasicBlock(nn.Module):
    """Two 3x3 convolutions, each with batch norm; the shortcut is added before the last ReLU."""

    def __init__(self, in_channels: int, channels: int, stride: int, params: ResNet20Params) -> None:
        super().__init__()
        convolution = CONVOLUTIONS[params.convolution]
        self.conv1 = convolution(in_channels, channels, stride)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = convolution(channels, channels, 1)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut: nn.Module | None = None
        if params.shortcut == "projection" and stride == 1:
            self.shortcut = nn.Identity()
        elif params.shortcut == "projection":
            self.shortcut = Projection(in_channels, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = norm_activation(self.conv1(x), self.bn1, "relu")
        shortcut = None if self.shortcut is None else self.shortcut(x)
        return norm_activation(self.conv2(y), self.bn2, "relu", shortcut)


class Projection(nn.Sequential):
    """1x1 convolution and batch norm: [N, in_channels, H, W] -> [N, channels, H / stride, W / stride]."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__(Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        convolution, bn = self
        assert isinstance(bn, nn.BatchNorm2d)
        return norm_activation(convolution(x), bn, None)


def standard(in_channels: int, channels: int, stride: int) -> nn.Module:
    return Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)


class DepthwiseSeparable(nn.Sequential):
    """Depthwise 3x3, batch norm, ReLU, pointwise 1x1 (MobileNet, arXiv 1704.04861, figure 3).

    Batch norm and ReLU after the pointwise convolution, also in that figure, are left to the surrounding block.
    """

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__(
            DepthwiseConv2d(in_channels, stride),
            nn.BatchNorm2d(in_channels),
            nn.ReLU(),  # applied by norm_activation; listed only to keep the names of the weights
            Conv2d(in_channels, channels, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        depthwise, bn, _, pointwise = self
        assert isinstance(bn, nn.BatchNorm2d)
        y: Tensor = pointwise(norm_activation(depthwise(x), bn, "relu"))
        return y


CONVOLUTIONS: dict[str, Callable[[int, int, int], nn.Module]] = {
    "standard": standard,
    "depthwise_separable": DepthwiseSeparable,
}


def initialise(model: nn.Module) -> None:
    """He et al. 2015 (arXiv 1502.01852), fan out, for convolutions; batch norm starts as the identity."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            # PyTorch's fan_out ignores groups; a depthwise kernel's true fan out is what it calls fan_in: 9.
            nn.init.kaiming_normal_(
                module.weight, mode="fan_out" if module.groups == 1 else "fan_in", nonlinearity="relu"
            )
