"""Which images go where, and the channel statistics against a slow reference."""

import math

import numpy as np
import pytest

from ablation.common.errors import InvalidInput
from ablation.data.stratify import channel_statistics, check_classes, split_indices

LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(10, dtype=np.uint8), 200))
UNEVEN = np.random.default_rng(1).choice(10, 1437, p=np.arange(1, 11) / 55).astype(np.uint8)


@pytest.mark.parametrize("labels", [LABELS, UNEVEN], ids=["even", "uneven"])
@pytest.mark.parametrize(("train_size", "val_size"), [("all", 200), (500, 200), (317, 83), (1000, 400), (10, 37)])
def test_exact_sizes_disjoint_and_stratified(labels, train_size, val_size):
    train, val = split_indices(labels, train_size, val_size, seed=0)
    assert len(val) == val_size and len(train) == (len(labels) - val_size if train_size == "all" else train_size)
    assert len({*train.tolist(), *val.tolist()}) == len(train) + len(val)
    assert (np.diff(train) > 0).all() and (np.diff(val) > 0).all()
    rest = np.delete(np.arange(len(labels)), val)
    for chosen, pool in ((val, np.arange(len(labels))), (train, rest)):
        share = np.bincount(labels[pool], minlength=10) * len(chosen) / len(pool)
        assert np.abs(np.bincount(labels[chosen], minlength=10) - share).max() < 1


def test_official_sizes():
    labels = np.tile(np.arange(10, dtype=np.uint8), 5000)
    train, val = split_indices(labels, "all", 5000, seed=0)
    assert np.bincount(labels[train]).tolist() == [4500] * 10
    assert np.bincount(labels[val]).tolist() == [500] * 10


def test_val_does_not_depend_on_train_size():
    expected = split_indices(LABELS, "all", 200, seed=3)[1]
    for train_size in (10, 500, 1799, 1800):
        assert (split_indices(LABELS, train_size, 200, seed=3)[1] == expected).all()


def test_seeded():
    first, again, other = (split_indices(LABELS, 500, 200, seed) for seed in (0, 0, 1))
    for i in range(2):
        assert (first[i] == again[i]).all()
        assert len(np.intersect1d(first[i], other[i])) < 0.6 * len(first[i])


def test_all_that_val_leaves_may_be_named_by_its_number():
    assert (split_indices(LABELS, 1800, 200, 0)[0] == split_indices(LABELS, "all", 200, 0)[0]).all()
    assert len(split_indices(LABELS, 1795, 200, 0)[0]) == 1795  # leaves fewer images than there are classes


@pytest.mark.parametrize(
    ("train_size", "val_size", "needed"), [("all", 2000, "2,001"), (1801, 200, "2,001"), (10, 5000, "5,010")]
)
def test_too_few_images(train_size, val_size, needed):
    with pytest.raises(InvalidInput) as error:
        split_indices(LABELS, train_size, val_size, seed=0)
    assert str(error.value) == (
        f"data.train_size {train_size} and data.val_size {val_size} need {needed} images; "
        "data/raw has 2,000 training images"
    )


def test_a_class_without_images():
    names = [f"c{i}" for i in range(10)]
    check_classes(LABELS, "val", names)
    with pytest.raises(InvalidInput) as error:
        check_classes(LABELS[LABELS != 7], "val", names)
    assert (
        str(error.value)
        == "data: the val split of 1,800 images has no image of class c7; every class needs at least one"
    )


@pytest.mark.parametrize("n", [1, 3, 999, 1001])
def test_channel_statistics_against_the_textbook(n):
    random = np.random.default_rng(n)
    images = random.integers([[[10]], [[0]], [[250]]], 256, (n, 3, 8, 8)).astype(np.uint8)
    mean, std = channel_statistics(images)
    for channel in range(3):
        # Image by image, in float64, in two passes
        pixels = [image[channel].astype(np.float64) / 255 for image in images]
        expected = math.fsum(p.sum() for p in pixels) / (64 * n)
        deviation = math.sqrt(math.fsum(((p - expected) ** 2).sum() for p in pixels) / (64 * n))
        assert mean[channel] == pytest.approx(expected, rel=1e-13)
        assert std[channel] == pytest.approx(deviation, rel=1e-13)


def test_a_constant_channel_is_refused():
    images = np.random.default_rng(0).integers(256, size=(5, 3, 8, 8), dtype=np.uint8)
    images[:, 1] = 7
    with pytest.raises(InvalidInput) as error:
        channel_statistics(images)
    assert str(error.value) == "data/raw: all green pixels of the training images are 7; cannot be normalised"
