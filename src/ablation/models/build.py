"""A network from its settings."""

from collections.abc import Callable
from typing import Any

from torch import nn

from ablation.models.params import ModelParams
from ablation.models.resnet import ResNet20
from ablation.models.simple_nn import SimpleNN
from ablation.models.speedrun import SpeedrunNet
from ablation.models.squeezenet import SqueezeNet

BUILDERS: dict[str, Callable[[Any], nn.Module]] = {
    "simple_nn": SimpleNN,
    "resnet20": ResNet20,
    "squeezenet": SqueezeNet,
    "speedrun": SpeedrunNet,
}


def build_model(params: ModelParams) -> nn.Module:
    """Images float [N, 3, 32, 32] -> logits [N, 10], initialised from PyTorch's global random state."""
    return BUILDERS[params.name](params)
