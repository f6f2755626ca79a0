import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as reference
from scipy.stats import chisquare

from ablation.data.augmentation import AUGMENTATIONS, CROP_FLIP, take_crops, unaugmented, windows
from ablation.training.randomness import epoch_plan


def noise(num_images: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (num_images, 3, 32, 32), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_batched_crop_and_flip_equal_torchvision_image_by_image(name: str) -> None:
    augmentation, images = AUGMENTATIONS[name], noise(300)
    edges = torch.tensor([0, augmentation.padding, 2 * augmentation.padding])
    corners = torch.cartesian_prod(torch.arange(2), torch.arange(3), edges, edges)
    plans = [epoch_plan(seed, epoch, 300, augmentation) for seed, epoch in ((0, 1), (7, 2), (1, 300))]
    plan = torch.cat([corners.T, *plans], dim=1)

    batch = take_crops(windows(images, augmentation), *plan)

    mode = "reflect" if augmentation.reflect else "constant"
    for crop, (flip, index, top, left) in zip(batch, plan.T.tolist(), strict=True):
        image = images[index]
        image = reference.horizontal_flip(image) if flip else image
        padded = reference.pad(image, [augmentation.padding] * 4, padding_mode=mode)
        assert torch.equal(crop.permute(2, 0, 1), reference.crop(padded, top, left, 32, 32))


def test_reflection_equals_numpys() -> None:
    """At every offset, so that rows, columns and corners of the padding are all seen."""
    augmentation, image = AUGMENTATIONS["shift_alternating_flip"], noise(1)
    padded = np.pad(image[0].permute(1, 2, 0).numpy(), ((2, 2), (2, 2), (0, 0)), mode="reflect")
    view = windows(image, augmentation)
    assert view.shape == (2, 1, 5, 5, 32, 32, 3)
    for top in range(5):
        for left in range(5):
            assert np.array_equal(view[0, 0, top, left].numpy(), padded[top : top + 32, left : left + 32])


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_center_offset_without_flip_is_the_image(name: str) -> None:
    augmentation, images = AUGMENTATIONS[name], noise(5)
    index, view = torch.arange(5), windows(images, augmentation)
    center = torch.full((5,), augmentation.padding)
    crops = take_crops(view, torch.zeros(5, dtype=torch.int64), index, center, center)
    assert torch.equal(crops.permute(0, 3, 1, 2), images)
    assert torch.equal(unaugmented(view).permute(0, 3, 1, 2), images)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_offsets_are_uniform_over_a_square_and_flips_are_even(name: str) -> None:
    augmentation = AUGMENTATIONS[name]
    plans = [epoch_plan(3, epoch, 45_000, augmentation) for epoch in range(1, 5)]
    flips, _, tops, lefts = torch.cat(plans, dim=1)
    k = augmentation.num_offsets
    cells = torch.bincount((flips * k + tops) * k + lefts, minlength=2 * k**2)
    assert len(cells) == 2 * {"crop_flip": 81, "shift_alternating_flip": 25}[name]
    assert chisquare(cells.numpy()).pvalue > 1e-4


def test_padding_of_crop_flip_is_black() -> None:
    white = torch.full((1, 3, 32, 32), 255, dtype=torch.uint8)
    corner = windows(white, CROP_FLIP)[0, 0, 0, 0, :, :, 0]
    assert (corner == 0).sum().item() == 32 * 32 - 28 * 28
