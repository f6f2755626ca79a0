"""A small network that is fast to train, after K. Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU" (2024).

arXiv 2404.00498, its network for 94 %: a first layer that whitens patches (section 3.2), convolutions that start as the
identity (3.3), batch norm biases that learn 64 times as fast (3.4), six views of each test image (3.5). Left out are
Lookahead and the freezing of the first layer's bias after three epochs; the variant trains for more epochs instead.
"""

import contextlib

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ablation.models.params import SpeedrunParams

WHITENING_EPS = 5e-4  # added to the eigenvalues of the covariance of patches of normalised images
BIAS_SCALE = 8.0  # the square root of how much faster batch norm's biases learn
LOGIT_SCALE = 1 / 9
MOMENTUM = 0.4  # of batch norm: the weight of the current batch in the running statistics
CHUNK_SIZE = 500  # images whose patches are held at a time


class SpeedrunNet(nn.Module):
    """Images float [N, 3, 32, 32] -> logits [N, 10], with PyTorch's initialisation except for the identities.

    The first layer's weights are a buffer: saved with the weights, unknown to the optimizer. Until `fit_whitening` has
    seen images they suit patches that are already white. Meant for colour images: with grey ones (the digits) eight
    whitened channels have no variance, one batch norm after another scales their gradients up, and a bf16 network does
    not learn.
    """

    whitening: Tensor

    def __init__(self, params: SpeedrunParams) -> None:
        super().__init__()
        self.multi_crop = params.test_time_augmentation == "multi_crop"
        self.register_buffer("whitening", whitening_filters(torch.eye(12, dtype=torch.float64)))
        self.bias = nn.Parameter(torch.empty(24).uniform_(-(12**-0.5), 12**-0.5))  # as nn.Conv2d initialises it
        self.block1 = Block(24, 64)
        self.block2 = Block(64, 256)
        self.block3 = Block(256, 256)
        self.fc = nn.Linear(256, 10, bias=False)

    def fit_whitening(self, images: Tensor) -> None:
        """Set the first layer from normalised training images, float [N, 3, H, W] on the CPU, before training."""
        self.whitening.copy_(whitening_filters(patch_covariance(images)))

    def forward(self, images: Tensor) -> Tensor:
        """With multi_crop, in eval mode: a mean of the image (1/2) and two shifts (1/4 each), each with its mirror."""
        if self.training or not self.multi_crop:
            return self._logits(images)
        padded = F.pad(images, (1, 1, 1, 1), mode="reflect")
        shifts = self._mirrored(padded[:, :, :-2, :-2]) + self._mirrored(padded[:, :, 2:, 2:])
        return self._mirrored(images) / 2 + shifts / 4

    def _mirrored(self, images: Tensor) -> Tensor:
        return (self._logits(images) + self._logits(images.flip(3))) / 2

    def _logits(self, images: Tensor) -> Tensor:
        with no_autocast(images.device.type):  # large weights amplify small differences, which bfloat16 loses
            x = F.gelu(F.conv2d(images, self.whitening, self.bias))  # [N, 24, 31, 31]
        x = self.block1(x)  # [N, 64, 15, 15]
        x = self.block2(x)  # [N, 256, 7, 7]
        x = self.block3(x)  # [N, 256, 3, 3]
        x = F.max_pool2d(x, 3).flatten(1)  # [N, 256]
        logits: Tensor = self.fc(x) * LOGIT_SCALE
        return logits


def no_autocast(device_type: str) -> contextlib.AbstractContextManager[None]:
    """Disables autocast on devices that have it; `meta` has none."""
    available = torch.amp.is_autocast_available(device_type)
    return torch.autocast(device_type, enabled=False) if available else contextlib.nullcontext()


class Block(nn.Module):
    """Two 3x3 convolutions, each with batch norm and GELU; the output of the first is halved by max-pooling."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.conv1 = identity_convolution(in_channels, channels)
        self.bn1 = BatchNorm(channels)
        self.conv2 = identity_convolution(channels, channels)
        self.bn2 = BatchNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.bn1(F.max_pool2d(self.conv1(x), 2)))
        return F.gelu(self.bn2(self.conv2(x)))


def identity_convolution(in_channels: int, channels: int) -> nn.Conv2d:
    """3x3; the first outputs start as copies of the inputs, the others with PyTorch's initialisation."""
    convolution = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
    nn.init.dirac_(convolution.weight[:in_channels])
    return convolution


class BatchNorm(nn.BatchNorm2d):
    """Batch norm without a scale, whose bias learns at 64 times the learning rate.

    It stores b and applies 8 b: the gradient with respect to b is 8 times that of the bias, and a step of b moves the
    bias 8 times as far. With SGD, including momentum and weight decay, this is equivalent to training the bias itself
    with 64 times the learning rate and 1/64 of the weight decay, the paper's setting: it decays as fast as all others.
    """

    ones: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__(channels, momentum=MOMENTUM, affine=False)
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("ones", torch.ones(channels), persistent=False)  # cuDNN requires a scale

    def forward(self, x: Tensor) -> Tensor:
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)  # as in nn.BatchNorm2d
        statistics, bias = (self.running_mean, self.running_var), BIAS_SCALE * self.bias
        return F.batch_norm(x, *statistics, self.ones, bias, self.training, MOMENTUM, self.eps)


def patch_covariance(images: Tensor) -> Tensor:
    """Covariance of the 2x2 patches of images float [N, 3, H, W], float64 [12, 12], by channel, row, column."""
    total, products, num_patches = torch.zeros(12, dtype=torch.float64), torch.zeros(12, 12, dtype=torch.float64), 0
    for chunk in images.split(CHUNK_SIZE):
        patches = F.unfold(chunk.double(), 2).transpose(1, 2).reshape(-1, 12)
        total += patches.sum(0)
        products += patches.T @ patches
        num_patches += len(patches)
    mean = total / num_patches
    return products / num_patches - torch.outer(mean, mean)


def whitening_filters(covariance: Tensor) -> Tensor:
    """The eigenvectors of a covariance [12, 12] divided by the square roots of their eigenvalues, and their negatives.

    Float [24, 3, 2, 2], largest eigenvalue first. An eigenvector's sign is arbitrary: the largest entry is positive.
    """
    eigenvalues, eigenvectors = torch.linalg.eigh(covariance)  # ascending; columns
    vectors = eigenvectors.T.flip(0)
    vectors = vectors * vectors.gather(1, vectors.abs().argmax(1, keepdim=True)).sign()
    filters = vectors / (eigenvalues.flip(0)[:, None] + WHITENING_EPS).sqrt()
    return torch.cat([filters, -filters]).float().view(24, 3, 2, 2)
