"""Settings of the networks: which one, and the options that one has."""

from typing import Annotated, Literal

from pydantic import Field

from ablation.common.settings import Settings, matching

Device = Annotated[str, matching(r"auto|cpu|mps|cuda(:\d+)?", "auto, cpu, mps, cuda or cuda:N")]


class SimpleNNParams(Settings):
    name: Literal["simple_nn"]
    batch_norm: bool
    activation: Literal["relu", "leaky_relu", "swish"]
    dropout: Annotated[float, Field(ge=0, lt=1)]  # probability, after each hidden fully connected layer


class ResNet20Params(Settings):
    name: Literal["resnet20"]
    shortcut: Literal["projection", "none"]  # projection: option B of He et al. 2015; none: their plain net
    convolution: Literal["standard", "depthwise_separable"]


class SqueezeNetParams(Settings):
    name: Literal["squeezenet"]
    downsampling: Literal["late", "early"]


class SpeedrunParams(Settings):
    name: Literal["speedrun"]
    test_time_augmentation: Literal["none", "multi_crop"]  # multi_crop: six views of each image that is evaluated


ModelParams = Annotated[
    SimpleNNParams | ResNet20Params | SqueezeNetParams | SpeedrunParams, Field(discriminator="name")
]
