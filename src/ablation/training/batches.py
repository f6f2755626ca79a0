"""A variant's images on the device, and the batches that steps take from them."""

from typing import NamedTuple

import torch
from torch import Tensor

from ablation.data.augmentation import AUGMENTATIONS, Augmentation, take_crops, windows
from ablation.data.splits import Normalization, Split, channels_last
from ablation.training.params import TrainParams


class Data(NamedTuple):
    """Images of a variant's runs, on the device, shared by its seeds."""

    train_images: Tensor  # uint8: `windows` of them with augmentation, [N, H, W, 3] without
    train_labels: Tensor  # int64 [N]
    val_images: Tensor  # uint8 [N, H, W, 3]
    val_labels: Tensor  # int64 [N]
    normalization: Normalization
    augmentation: Augmentation | None


def load_data(
    train: Split, val: Split, normalization: Normalization, params: TrainParams, device: torch.device
) -> Data:
    """The splits on `device`, laid out for `params.augmentation`."""
    images, augmentation = train.images.to(device), AUGMENTATIONS.get(params.augmentation)
    return Data(
        train_images=windows(images, augmentation) if augmentation else channels_last(images),
        train_labels=train.labels.to(device),
        val_images=channels_last(val.images.to(device)),
        val_labels=val.labels.to(device),
        normalization=normalization.to(device),
        augmentation=augmentation,
    )


def make_batch(plan: Tensor, data: Data) -> tuple[Tensor, Tensor]:
    """Inputs float [B, 3, H, W] and labels [B] of one step; plan: int64 [4, B] as from `epoch_plan`."""
    flips, index, tops, lefts = plan
    images = data.train_images
    batch = take_crops(images, flips, index, tops, lefts) if data.augmentation else images.index_select(0, index)
    return data.normalization(batch), data.train_labels[index]
