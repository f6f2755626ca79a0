"""Settings of the data: where the images come from and how they are split."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from ablation.common.settings import Settings, matching

OFFICIAL_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
NUM_TRAIN_IMAGES = {"cifar10": 50_000, "digits": 1_437}
NUM_CLASSES = 10
Label = Annotated[
    str, matching("[A-Za-z0-9][A-Za-z0-9._-]*", "letters, digits, '.', '_' and '-', beginning with a letter or digit")
]


class DownloadParams(Settings):
    """Which images: the CIFAR-10 binary archive, or scikit-learn's handwritten digits in its layout."""

    source: Literal["cifar10", "digits"]
    url: Annotated[str, Field(min_length=1)]  # http(s):, file:, or a plain path
    md5: Annotated[str, matching("[0-9a-fA-F]{32}", "32 hexadecimal digits"), AfterValidator(str.lower)]


class NormalizeParams(Settings):
    """How the training images are split into train and val; test is the archive's own."""

    train_size: Annotated[int, Field(gt=0)] | Literal["all"]  # images
    val_size: Annotated[int, Field(gt=0)]  # images
    split_seed: Annotated[int, Field(ge=0, lt=2**32)]


class DataParams(DownloadParams, NormalizeParams):
    """The section `data` of params.yaml."""

    label: Label  # names the data in tables and figures

    @model_validator(mode="after")
    def _check(self) -> Self:
        available = NUM_TRAIN_IMAGES[self.source]
        if self.val_size >= available:
            raise ValueError(f"val_size {self.val_size} must be below the {available} training images of {self.source}")
        if self.train_size != "all" and self.train_size + self.val_size > available:
            raise ValueError(
                f"train_size {self.train_size} and val_size {self.val_size} together "
                f"must be at most the {available} training images of {self.source}"
            )
        if min(self.val_size, available - self.val_size if self.train_size == "all" else self.train_size) < NUM_CLASSES:
            raise ValueError(
                f"train_size {self.train_size} and val_size {self.val_size} "
                f"must each be at least {NUM_CLASSES}, one image of every class"
            )
        if self.label == "cifar10" and (self.source != "cifar10" or self.md5 != OFFICIAL_MD5):
            raise ValueError(
                f"label 'cifar10' is reserved for the official archive (md5 {OFFICIAL_MD5}); "
                "name other data otherwise, for example digits or cifar10-jpeg"
            )
        return self
