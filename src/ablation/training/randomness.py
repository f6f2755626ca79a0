"""Random streams: each is a function of (seed, purpose, epoch) alone, so that resuming or skipping changes nothing."""

import numpy as np
import torch
from torch import Tensor

from ablation.data.augmentation import CROP_FLIP, Augmentation

PURPOSES = ("initialization", "order", "augmentation", "dropout", "flip")  # append only: the index is part of a seed


def derive(seed: int, purpose: str, epoch: int = 0) -> int:
    """A 64-bit seed for one purpose and epoch, independent of all others (numpy.random.SeedSequence)."""
    sequence = np.random.SeedSequence(seed, spawn_key=(PURPOSES.index(purpose), epoch))
    return int(sequence.generate_state(1, np.uint64)[0])


def epoch_plan(seed: int, epoch: int, num_images: int, augmentation: Augmentation = CROP_FLIP) -> Tensor:
    """What each step of an epoch trains on: int64 [4, num_images], rows flip (0/1), index, top, left (0..2 * padding).

    An alternating flip is drawn per image for epoch 1 and reversed in each following epoch (Jordan 2024, arXiv
    2404.00498, section 3.6). The plan is drawn on the CPU: every device sees the same images in the same order.
    """
    order = torch.Generator().manual_seed(derive(seed, "order", epoch))
    places = torch.Generator().manual_seed(derive(seed, "augmentation", epoch))
    flips = torch.randint(2, (num_images,), generator=places)
    index = torch.randperm(num_images, generator=order)
    offsets = torch.randint(augmentation.num_offsets, (2, num_images), generator=places)
    if augmentation.alternating_flip:
        coins = torch.randint(2, (num_images,), generator=torch.Generator().manual_seed(derive(seed, "flip")))
        flips = (coins[index] + epoch) % 2
    return torch.stack([flips, index, *offsets])
