"""Settings of training: what every variant inherits from the section `train` and may override."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ablation.common.settings import Settings
from ablation.models.params import Device, ModelParams

Fraction = Annotated[float, Field(ge=0, lt=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Seeds = Annotated[list[Seed], Field(min_length=1)]


class SGDParams(Settings):
    name: Literal["sgd"]
    momentum: Fraction
    nesterov: bool

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov: true needs a momentum above 0")
        return self


class AdamParams(Settings):
    name: Literal["adam"]
    beta1: Fraction
    beta2: Fraction


class ConstantParams(Settings):
    name: Literal["constant"]


class StepParams(Settings):
    """lr times `factor` at each milestone, a fraction of all epochs."""

    name: Literal["step"]
    milestones: list[Fraction]
    factor: Annotated[float, Field(gt=0, lt=1)]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.milestones != sorted(set(self.milestones)):
            raise ValueError(f"milestones {self.milestones} must be strictly increasing")
        return self


class OneCycleParams(Settings):
    """Smith & Topin 2017, arXiv 1708.07120: up from `start` * lr to lr, then down to `end` * lr, both linearly."""

    name: Literal["one_cycle"]
    warmup: Fraction  # of all steps, over which the rate rises
    start: Annotated[float, Field(gt=0, le=1)]
    end: Annotated[float, Field(ge=0, le=1)]


class TrainParams(Settings):
    """The section `train` of params.yaml, and one variant's settings once its overrides are applied."""

    model: ModelParams
    augmentation: Literal["none", "crop_flip", "shift_alternating_flip"]
    optimizer: Annotated[SGDParams | AdamParams, Field(discriminator="name")]
    schedule: Annotated[ConstantParams | StepParams | OneCycleParams, Field(discriminator="name")]
    lr: Annotated[float, Field(gt=0)]
    weight_decay: Annotated[float, Field(ge=0)]  # L2
    l1: Annotated[float, Field(ge=0)]
    label_smoothing: Fraction
    batch_size: Annotated[int, Field(gt=0)]  # images
    epochs: Annotated[int, Field(gt=0)]
    precision: Literal["fp32", "tf32", "bf16"]
    compile: bool
    device: Device
    num_threads: Annotated[int, Field(gt=0, le=256)]  # CPU threads of one seed
    deterministic: bool
    checkpoint_every_epochs: Annotated[int, Field(gt=0)]


class VariantParams(TrainParams):
    """configs/train/<variant>.yaml: how to train a variant, and with which seeds."""

    seeds: Seeds
