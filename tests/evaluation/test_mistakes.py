"""The most confident mistakes: which they are, and that the pictures are of those images."""

import base64
import io
import math
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image

from ablation.evaluation.mistakes import NUM_IMAGES, confident_mistakes

CLASSES = ["ant", "bee", "cat"]


def table(*rows: tuple[int, int, int, int, float]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["seed", "index", "label", "prediction", "confidence"])
    return frame.assign(split="test")


def images(num_images: int) -> torch.Tensor:
    """Smooth ones, as photographs are: a ramp that starts at another value in each."""
    ramp = torch.arange(32).repeat(3, 32, 1) * 4
    return torch.stack([ramp + 5 * i for i in range(num_images)]).clamp(max=255).to(torch.uint8)


def test_the_most_confident_come_first_and_each_image_once() -> None:
    predictions = table(
        (0, 0, 0, 0, 0.99),  # right
        (0, 1, 0, 1, 0.60),
        (0, 2, 1, 2, 0.90),
        (0, 3, 2, 0, math.nan),  # of a network that diverged
        (1, 0, 0, 2, 0.70),
        (1, 1, 0, 2, 0.80),  # more confident than seed 0
        (1, 2, 1, 2, 0.90),  # as confident as seed 0
        (1, 3, 2, 0, 0.70),
    )

    found = confident_mistakes(predictions, images(4), CLASSES)

    keys = ["index", "seed", "label", "prediction", "confidence"]
    assert [[entry[key] for key in keys] for entry in found] == [
        [2, 0, "bee", "cat", 0.9],
        [1, 1, "ant", "cat", 0.8],
        [0, 1, "ant", "cat", 0.7],
        [3, 1, "cat", "ant", 0.7],
    ]


def test_against_a_search_image_by_image() -> None:
    random = np.random.default_rng(0)
    rows = [
        (seed, index, int(label), int(guess), float(confidence))
        for seed in range(3)
        for index, (label, guess, confidence) in enumerate(
            zip(random.integers(3, size=60), random.integers(3, size=60), random.uniform(0.34, 1, 60), strict=True)
        )
    ]
    highest: dict[int, float] = {}
    for _, index, label, guess, confidence in rows:
        if label != guess:
            highest[index] = max(confidence, highest.get(index, 0.0))

    found = confident_mistakes(table(*rows), images(60), CLASSES)

    assert [entry["index"] for entry in found] == sorted(highest, key=lambda index: -highest[index])[:NUM_IMAGES]
    assert [entry["confidence"] for entry in found] == [round(highest[entry["index"]], 6) for entry in found]


def test_the_picture_is_that_image() -> None:
    pictures = images(3)
    (found,) = confident_mistakes(table((0, 2, 0, 1, 0.5)), pictures, CLASSES)

    with Image.open(io.BytesIO(base64.b64decode(found["jpeg"]))) as picture:
        assert picture.format == "JPEG"
        pixels = np.asarray(picture).astype(int)
    assert pixels.shape == (32, 32, 3)
    differences = [np.abs(pixels - image.permute(1, 2, 0).numpy()).mean() for image in pictures]
    assert differences[2] < 1 < 4 < min(differences[:2])


def test_a_variant_without_a_mistake_or_with_nothing_but_diverged_runs_has_none() -> None:
    right: Any = table((0, 0, 1, 1, 0.9))
    diverged: Any = table((0, 0, 1, 0, math.nan))

    assert confident_mistakes(right, images(1), CLASSES) == []
    assert confident_mistakes(diverged, images(1), CLASSES) == []
