"""A picture of the data: one row per class, with a few images, raw and as a network sees them when augmented."""

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ablation.data.augmentation import CROP_FLIP, take_crops, windows

NUM_IMAGES = 3  # per class
NUM_VERSIONS = 3  # augmented, per image
TILE = 64  # pixels: an image of 32, doubled
GAP, GROUP_GAP, MARGIN, HEADER = 4, 20, 16, 96  # pixels
INK, PAPER = (32, 32, 32), (255, 255, 255)
NOTE = (
    f"raw, then {NUM_VERSIONS} times augmented: random crop of the image padded by {CROP_FLIP.padding}, flipped or not"
)


def draw_samples(images: NDArray[np.uint8], labels: NDArray[np.uint8], classes: list[str]) -> Image.Image:
    """The first images of each class in `images`, uint8 [N, 3, 32, 32], each followed by augmented versions of it."""
    large, medium, small = (ImageFont.load_default(size) for size in (20, 16, 14))
    left = 2 * MARGIN + round(max(medium.getlength(name) for name in classes))
    group_width = (1 + NUM_VERSIONS) * (TILE + GAP) - GAP + GROUP_GAP
    width = left + NUM_IMAGES * group_width - GROUP_GAP + MARGIN
    picture = Image.new("RGB", (width, HEADER + len(classes) * (TILE + GAP) - GAP + MARGIN), PAPER)
    draw = ImageDraw.Draw(picture)
    draw.text((MARGIN, 12), "Training images, one row per class", INK, large)
    draw.text((MARGIN, 40), NOTE, INK, small)
    for x in range(left, width - MARGIN, group_width):
        draw.text((x + TILE // 2, HEADER - 8), "raw", INK, small, anchor="ms")
        draw.text((x + TILE + GAP, HEADER - 8), "augmented", INK, small, anchor="ls")
    generator = torch.Generator().manual_seed(0)
    for label, name in enumerate(classes):
        y = HEADER + label * (TILE + GAP)
        draw.text((MARGIN, y + TILE // 2), name, INK, medium, anchor="lm")
        for group, index in enumerate(np.flatnonzero(labels == label)[:NUM_IMAGES]):
            x = left + group * group_width
            for i, tile in enumerate(_tiles(images[index], generator)):
                doubled = Image.fromarray(tile).resize((TILE, TILE), Image.Resampling.NEAREST)
                picture.paste(doubled, (x + i * (TILE + GAP), y))
    return picture


def _tiles(image: NDArray[np.uint8], generator: torch.Generator) -> list[NDArray[np.uint8]]:
    """The image uint8 [3, H, W] itself and its augmented versions, each uint8 [H, W, 3]."""
    index = torch.zeros(NUM_VERSIONS, dtype=torch.int64)
    flips = torch.randint(2, (NUM_VERSIONS,), generator=generator)
    tops, lefts = torch.randint(CROP_FLIP.num_offsets, (2, NUM_VERSIONS), generator=generator)
    view = windows(torch.from_numpy(image[None]))
    augmented = take_crops(view, index=index, flips=flips, tops=tops, lefts=lefts)
    return [image.transpose(1, 2, 0), *augmented.numpy()]
