"""scikit-learn's handwritten digits in the layout of CIFAR-10: real images that need no download."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from ablation.data.records import CLASSES_FILE, TEST_FILE, TRAIN_FILES, write_classes, write_records

NUM_TEST_IMAGES = 360  # of 1,797
CLASSES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def write_digits(folder: Path) -> None:
    """One training file of 1,437 images, a test file of 360 and the class names; the split is fixed and stratified."""
    digits = load_digits()
    images = np.stack([enlarge(image) for image in digits.images])
    labels = digits.target.astype(np.uint8)
    train, test = train_test_split(
        np.arange(len(labels)), test_size=NUM_TEST_IMAGES, stratify=labels, shuffle=True, random_state=0
    )
    write_records(folder / TRAIN_FILES[0], images[train], labels[train])
    write_records(folder / TEST_FILE, images[test], labels[test])
    write_classes(folder / CLASSES_FILE, CLASSES)


def enlarge(image: NDArray[np.floating]) -> NDArray[np.uint8]:
    """An 8 x 8 digit of values 0..16 as uint8 [3, 32, 32] of 0..255: bilinear, the same in every channel."""
    gray = Image.fromarray(np.rint(image * (255 / 16)).astype(np.uint8))
    large = np.asarray(gray.resize((32, 32), Image.Resampling.BILINEAR))
    return np.repeat(large[None], 3, axis=0)
