import torch
import torchvision.transforms.v2.functional as reference
from scipy.stats import chisquare

from ablation.data.augmentation import NUM_OFFSETS, PADDING, crop_flip, windows
from ablation.training.randomness import epoch_plan


def test_batched_crop_and_flip_equal_torchvision_image_by_image() -> None:
    images = torch.randint(0, 256, (300, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    corners = torch.cartesian_prod(
        torch.arange(2), torch.arange(3), torch.tensor([0, PADDING, 8]), torch.tensor([0, PADDING, 8])
    )
    plan = torch.cat([corners.T, epoch_plan(0, 1, 300), epoch_plan(7, 2, 300), epoch_plan(1, 300, 300)], dim=1)

    batch = crop_flip(windows(images), *plan)

    for crop, (flip, index, top, left) in zip(batch, plan.T.tolist(), strict=True):
        image = images[index]
        image = reference.horizontal_flip(image) if flip else image
        expected = reference.crop(reference.pad(image, [PADDING] * 4), top, left, 32, 32)
        assert torch.equal(crop.permute(2, 0, 1), expected)


def test_center_offset_without_flip_is_the_image() -> None:
    images = torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8)
    index = torch.arange(5)
    center = torch.full((5,), PADDING)
    assert torch.equal(
        crop_flip(windows(images), torch.zeros(5, dtype=torch.int64), index, center, center).permute(0, 3, 1, 2), images
    )


def test_offsets_are_uniform_over_9_by_9_and_flips_are_even() -> None:
    flips, _, tops, lefts = torch.cat([epoch_plan(3, epoch, 45_000) for epoch in range(1, 5)], dim=1)
    cells = torch.bincount((flips * NUM_OFFSETS + tops) * NUM_OFFSETS + lefts, minlength=2 * NUM_OFFSETS**2)
    assert len(cells) == 2 * 81
    assert chisquare(cells.numpy()).pvalue > 1e-4
