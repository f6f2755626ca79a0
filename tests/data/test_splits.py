"""Splits and statistics on disk, and normalisation by them."""

import json
import re

import numpy as np
import pytest
import safetensors.torch
import torch
from safetensors import safe_open

from ablation.common.errors import InvalidInput
from ablation.data.splits import (
    Normalization,
    Statistics,
    channels_last,
    read_split,
    read_statistics,
    write_split,
    write_statistics,
)

STATISTICS = Statistics((0.1, 0.25, 1 / 3), (0.2, 0.3, 0.7), [f"class {i}" for i in range(10)])


def random_split(n=7):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (n, 3, 32, 32), generator=generator, dtype=torch.uint8)
    return images, torch.randint(10, (n,), generator=generator)


def test_split_round_trip(tmp_path):
    images, labels = random_split()
    write_split(tmp_path / "train.safetensors", images, labels)
    split = read_split(tmp_path / "train.safetensors")
    assert split.images.dtype == torch.uint8 and torch.equal(split.images, images)
    assert split.labels.dtype == torch.int64 and torch.equal(split.labels, labels)
    with safe_open(tmp_path / "train.safetensors", "numpy") as file:  # what others read
        assert sorted(file.keys()) == ["images", "labels"]
        assert np.array_equal(file.get_tensor("images"), images.numpy())
        assert file.get_tensor("labels").dtype == np.uint8 and file.get_tensor("labels").tolist() == labels.tolist()


def test_split_of_views_gives_the_same_bytes(tmp_path):
    images, labels = random_split(8)
    write_split(tmp_path / "a", images[::2], labels[::2])
    write_split(tmp_path / "b", images[::2].clone(), labels[::2].to(torch.uint8).clone())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_statistics_round_trip(tmp_path):
    path = tmp_path / "statistics.json"
    write_statistics(path, STATISTICS, {"train": 5, "val": 2, "test": 3})
    assert read_statistics(path) == STATISTICS
    assert json.loads(path.read_text()) == {
        "mean": [0.1, 0.25, 1 / 3],
        "std": [0.2, 0.3, 0.7],
        "num_images": {"train": 5, "val": 2, "test": 3},
        "classes": STATISTICS.classes,
    }


def test_normalization_pixel_by_pixel():
    images = torch.randint(256, (2, 3, 5, 7), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    before = images.clone()
    result = Normalization.of(STATISTICS, width=7)(channels_last(images))
    assert result.dtype == torch.float32 and result.shape == images.shape
    assert result.is_contiguous(memory_format=torch.channels_last)
    for index in np.ndindex(*images.shape):
        mean, std = STATISTICS.mean[index[1]], STATISTICS.std[index[1]]
        assert result[index].item() == pytest.approx((int(images[index]) / 255 - mean) / std, rel=1e-5, abs=1e-6)
    assert torch.equal(images, before)


def truncated(path):
    write_split(path, *random_split())
    path.write_bytes(path.read_bytes()[:-100])


def tensors(**values):
    return lambda path: path.write_bytes(safetensors.torch.save(values))


LAYOUT = r"must hold images, uint8 \[N, 3, 32, 32\], and labels, uint8 \[N\]"


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "no such file; the stage normalize writes it"),
        (truncated, "truncated or damaged: .*"),
        (lambda path: path.write_text("hello, this is no tensor file"), "truncated or damaged: .*"),
        (tensors(images=random_split()[0]), LAYOUT),
        (tensors(images=random_split()[0].float(), labels=torch.zeros(7, dtype=torch.uint8)), LAYOUT),
        (tensors(images=random_split()[0], labels=torch.zeros(6, dtype=torch.uint8)), LAYOUT),
        (tensors(images=random_split()[0], labels=torch.zeros(7, 1, dtype=torch.uint8)), LAYOUT),
    ],
)
def test_broken_split(tmp_path, write, message):
    path = tmp_path / "val.safetensors"
    write(path)
    with pytest.raises(InvalidInput) as error:
        read_split(path)
    assert re.fullmatch(f"{re.escape(str(path))}: {message}", str(error.value)), error.value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such file; the stage normalize writes it"),
        ("{", "must be JSON with mean, std and classes, as the stage normalize writes it"),
        ("[]", "must be JSON with mean, std and classes, as the stage normalize writes it"),
        ('{"mean": [0, 0, 0]}', "must be JSON with mean, std and classes, as the stage normalize writes it"),
    ],
)
def test_broken_statistics(tmp_path, text, message):
    path = tmp_path / "statistics.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InvalidInput) as error:
        read_statistics(path)
    assert str(error.value) == f"{path}: {message}"
