"""Random streams: each is a function of (seed, purpose, epoch) alone, so that resuming or skipping changes nothing."""

import numpy as np
import torch
from torch import Tensor

from ablation.data.augmentation import NUM_OFFSETS

PURPOSES = ("initialization", "order", "augmentation", "dropout")


def derive(seed: int, purpose: str, epoch: int = 0) -> int:
    """A 64-bit seed for one purpose and epoch, independent of all others (numpy.random.SeedSequence)."""
    sequence = np.random.SeedSequence(seed, spawn_key=(PURPOSES.index(purpose), epoch))
    return int(sequence.generate_state(1, np.uint64)[0])


def epoch_plan(seed: int, epoch: int, num_images: int) -> Tensor:
    """What each step of an epoch trains on: int64 [4, num_images], rows flip (0/1), index, top, left (0..8).

    Drawn on the CPU, so that every device sees the same images in the same order.
    """
    order = torch.Generator().manual_seed(derive(seed, "order", epoch))
    augmentation = torch.Generator().manual_seed(derive(seed, "augmentation", epoch))
    return torch.stack(
        [
            torch.randint(2, (num_images,), generator=augmentation),
            torch.randperm(num_images, generator=order),
            *torch.randint(NUM_OFFSETS, (2, num_images), generator=augmentation),
        ]
    )
