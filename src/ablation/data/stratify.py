"""The stratified division of the training images into train and val, and the channel statistics of train."""

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import resample

from ablation.common.errors import InvalidInput


def split_indices(
    labels: NDArray[np.uint8], train_size: int | Literal["all"], val_size: int, seed: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Sorted, disjoint indices of the train and val images, each split with the class proportions of `labels`.

    val is drawn first: it holds the same images whatever `train_size` is, so that accuracies on it are comparable.
    Raises InvalidInput where there are too few images.
    """
    wanted = val_size + (1 if train_size == "all" else train_size)
    if wanted > len(labels):
        raise InvalidInput(
            f"data.train_size {train_size} and data.val_size {val_size} need {wanted:,} images; "
            f"data/raw has {len(labels):,} training images"
        )
    everything = np.arange(len(labels))
    val = _stratified(everything, labels, val_size, seed)
    rest = np.setdiff1d(everything, val)
    train = rest if train_size == "all" else _stratified(rest, labels, train_size, seed)
    return train, val


def check_classes(labels: NDArray[np.uint8], split: str, classes: list[str]) -> None:
    """Raises InvalidInput where a split has no image of some class: the accuracy of that class would be undefined."""
    for name, count in zip(classes, np.bincount(labels, minlength=len(classes)), strict=True):
        if count == 0:
            raise InvalidInput(
                f"data: the {split} split of {len(labels):,} images has no image of class {name}; "
                "every class needs at least one"
            )


def channel_statistics(
    images: NDArray[np.uint8],
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and standard deviation (of the population) per channel of images uint8 [N, 3, H, W] / 255.

    Exact up to the final rounding, as the sums are over integers. Raises InvalidInput on a constant channel.
    """
    values = np.arange(256)
    means, stds = [], []
    for channel, name in enumerate(("red", "green", "blue")):
        counts = np.zeros(256, np.int64)
        for i in range(0, len(images), 1000):  # in chunks: bincount converts all of its input to 8-byte integers
            counts += np.bincount(images[i : i + 1000, channel].ravel(), minlength=256)
        n, total, squares = int(counts.sum()), int((counts * values).sum()), int((counts * values**2).sum())
        variance = n * squares - total**2  # scaled by n squared
        if variance == 0:
            raise InvalidInput(
                f"data/raw: all {name} pixels of the training images are {total // n}; cannot be normalised"
            )
        means.append(total / (n * 255))
        stds.append(math.sqrt(variance) / (n * 255))
    return (means[0], means[1], means[2]), (stds[0], stds[1], stds[2])


def _stratified(indices: NDArray[np.intp], labels: NDArray[np.uint8], size: int, seed: int) -> NDArray[np.intp]:
    # Not train_test_split, which refuses to leave fewer images than there are classes.
    chosen = resample(indices, replace=False, n_samples=size, stratify=labels[indices], random_state=seed)
    return np.sort(chosen)
