"""The three splits on disk, and the channel statistics that normalise their images."""

from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from ablation.common.errors import InvalidInput
from ablation.common.files import read_json, write_bytes, write_json


class Split(NamedTuple):
    images: Tensor  # uint8 [N, 3, 32, 32]
    labels: Tensor  # int64 [N]


class Statistics(NamedTuple):
    """Per-channel statistics of the training split's pixels, each divided by 255."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    classes: list[str]  # by label


class Normalization(NamedTuple):
    """(pixel / 255 - mean) / std as one multiplication and one addition over whole rows of an image."""

    scale: Tensor  # float32 [W * 3]
    offset: Tensor  # float32 [W * 3]

    @classmethod
    def of(cls, statistics: Statistics, width: int) -> "Normalization":
        """For images `width` pixels wide."""
        mean, std = (torch.tensor(values, dtype=torch.float64) for values in (statistics.mean, statistics.std))
        return cls((1 / (255 * std)).float().repeat(width), (-mean / std).float().repeat(width))

    def to(self, device: torch.device) -> "Normalization":
        return Normalization(self.scale.to(device), self.offset.to(device))

    def __call__(self, images: Tensor) -> Tensor:
        """uint8 [B, H, W, 3] -> float32 [B, 3, H, W] in channels-last memory format."""
        b, h, w, c = images.shape
        # Rows, since a last dimension of 3 is too short to vectorise.
        rows = images.view(b, h, w * c).to(self.scale.dtype)
        return rows.mul_(self.scale).add_(self.offset).view(b, h, w, c).permute(0, 3, 1, 2)


def write_split(path: Path, images: Tensor, labels: Tensor) -> None:
    """images: uint8 [N, 3, 32, 32]; labels: integers [N] of 0..9, kept as uint8."""
    tensors = {"images": images.contiguous(), "labels": labels.to(torch.uint8).contiguous()}
    assert _is_split(tensors)
    write_bytes(path, safetensors.torch.save(tensors))


def read_split(path: Path) -> Split:
    """The split at `path`; its images are memory-mapped. Raises InvalidInput where there is none."""
    try:
        tensors = safetensors.torch.load_file(path)
    except FileNotFoundError:
        raise InvalidInput(f"{path}: no such file; the stage normalize writes it") from None
    except SafetensorError as error:
        raise InvalidInput(f"{path}: truncated or damaged: {error}") from None
    if not _is_split(tensors):
        raise InvalidInput(f"{path}: must hold images, uint8 [N, 3, 32, 32], and labels, uint8 [N]")
    return Split(tensors["images"], tensors["labels"].long())


def write_statistics(path: Path, statistics: Statistics, num_images: dict[str, int]) -> None:
    """num_images: split -> number of images."""
    values = statistics._asdict()
    write_json(
        path, {"mean": values["mean"], "std": values["std"], "num_images": num_images, "classes": values["classes"]}
    )


def read_statistics(path: Path) -> Statistics:
    """The statistics at `path`. Raises InvalidInput where there are none."""
    try:
        values: dict[str, Any] = read_json(path)
        return Statistics(tuple(values["mean"]), tuple(values["std"]), values["classes"])
    except FileNotFoundError:
        raise InvalidInput(f"{path}: no such file; the stage normalize writes it") from None
    except (ValueError, KeyError, TypeError):
        raise InvalidInput(
            f"{path}: must be JSON with mean, std and classes, as the stage normalize writes it"
        ) from None


def read_num_images(path: Path) -> dict[str, int]:
    """Split -> number of images, from statistics that `read_statistics` accepts."""
    return dict(read_json(path)["num_images"])


def channels_last(images: Tensor) -> Tensor:
    """[N, C, H, W] -> contiguous [N, H, W, C]."""
    return images.permute(0, 2, 3, 1).contiguous()


def _is_split(tensors: dict[str, Tensor]) -> bool:
    images, labels = tensors.get("images"), tensors.get("labels")
    return (
        images is not None
        and labels is not None
        and images.dtype == labels.dtype == torch.uint8
        and images.shape == (len(labels), 3, 32, 32)
        and labels.dim() == 1
    )
