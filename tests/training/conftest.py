import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ablation.common.settings import read_yaml
from ablation.configuration.study import merge
from ablation.data.augmentation import AUGMENTATIONS, CROP_FLIP
from ablation.data.splits import Normalization, Split, Statistics, write_split, write_statistics
from ablation.training import cpu_kernels
from ablation.training.params import VariantParams
from ablation.training.randomness import epoch_plan
from ablation.training.variant import train_variant

PROJECT = Path(__file__).parents[2]
STATISTICS = Statistics((0.49, 0.48, 0.45), (0.25, 0.24, 0.26), [f"class {i}" for i in range(10)])


@pytest.fixture(scope="session")
def variant_params() -> Callable[..., VariantParams]:
    """The settings of a variant of params.yaml with overrides, made small: 2 epochs, batches of 16, on the CPU."""
    project = read_yaml(PROJECT / "params.yaml")
    small = {"epochs": 2, "batch_size": 16, "device": "cpu", "seeds": [0]}

    def make(variant: str = "simple_nn", **overrides: Any) -> VariantParams:
        settings = merge(merge(project["train"], project["variants"][variant]), {**small, **overrides})
        return VariantParams.parse(settings, "test")

    return make


@pytest.fixture(scope="session")
def normalization() -> Normalization:
    return Normalization.of(STATISTICS, 32)


def plan_of(params: VariantParams, epoch: int, num_images: int) -> torch.Tensor:
    """What the steps of an epoch of seed 0 train on."""
    return epoch_plan(0, epoch, num_images, AUGMENTATIONS.get(params.augmentation, CROP_FLIP))


def images_of_classes(num_images: int, seed: int) -> Split:
    """Noise with a bright square whose position gives the class, so that there is something to learn."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 100, (num_images, 3, 32, 32), dtype=torch.uint8, generator=generator)
    labels = torch.arange(num_images) % 10
    for image, label in zip(images, labels.tolist(), strict=True):
        image[:, 6 * (label // 5) + 8 :, 4 * (label % 5) + 6 :][:, :6, :6] = 255
    return Split(images, labels)


@pytest.fixture(scope="session")
def train_split() -> Split:
    return images_of_classes(100, seed=1)


@pytest.fixture(scope="session")
def val_split() -> Split:
    return images_of_classes(40, seed=2)


@pytest.fixture
def splits_folder(tmp_path: Path, train_split: Split, val_split: Split) -> Path:
    folder = tmp_path / "data" / "splits"
    write_split(folder / "train.safetensors", *train_split)
    write_split(folder / "val.safetensors", *val_split)
    write_statistics(folder / "statistics.json", STATISTICS, {"train": 100, "val": 40, "test": 0})
    return folder


@pytest.fixture
def project(tmp_path: Path, splits_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder with its splits, set up as if a variant's stage were running in it."""
    (tmp_path / ".dvc").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(PROJECT / "stages/train.py")])  # one of the sources
    return tmp_path


@pytest.fixture
def params(variant_params) -> VariantParams:
    return variant_params("simple_nn_bn", augmentation="none")


def train(params: VariantParams, project: Path) -> None:
    """What the stage of the variant `test` does."""
    train_variant(params, project / "data/splits", project / "runs/test")


def checkpoints(project: Path) -> list[str]:
    return [path.name for path in (project / ".dvc/tmp/checkpoints").glob("*/seed-*/epoch-*.pt")]


@pytest.fixture
def no_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that has not loaded the CPU kernels yet, with the default compiler."""
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(cpu_kernels, "_library", None)


@pytest.fixture
def gcc(no_kernels: None) -> None:
    if sys.platform != "linux" or shutil.which("gcc") is None:
        pytest.skip("needs GCC")


@pytest.fixture(scope="session")
def kernels_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kernels")
