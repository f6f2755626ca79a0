"""The binary layout of CIFAR-10 (https://www.cs.toronto.edu/~kriz/cifar.html): files of records, and a list of classes.

A record is one label byte (0..9) and 3,072 pixel bytes: 32 x 32 of red, then of green, then of blue.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ablation.common.errors import InvalidInput
from ablation.common.files import write_bytes, write_text
from ablation.data.params import NUM_CLASSES

IMAGE_SHAPE = (3, 32, 32)
RECORD_BYTES = 1 + 3 * 32 * 32
TRAIN_FILES = tuple(f"data_batch_{i}.bin" for i in range(1, 6))  # other data may have only the first
TEST_FILE = "test_batch.bin"
CLASSES_FILE = "batches.meta.txt"


def parse_records(data: NDArray[np.uint8], name: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images uint8 [N, 3, 32, 32] and labels uint8 [N] of the records in `data`, uint8 [bytes], as views.

    Raises InvalidInput, naming `name`, where there are no whole records or a label is not one of 0..9.
    """
    if len(data) == 0 or len(data) % RECORD_BYTES:
        raise InvalidInput(f"{name}: {len(data):,} bytes; must be one or more records of {RECORD_BYTES:,} bytes each")
    records = data.reshape(-1, RECORD_BYTES)
    labels = records[:, 0]
    wrong = np.flatnonzero(labels >= NUM_CLASSES)
    if wrong.size:
        raise InvalidInput(
            f"{name}: record {wrong[0]} (counted from 0): label {labels[wrong[0]]}; must be 0 to {NUM_CLASSES - 1}"
        )
    return records[:, 1:].reshape(-1, *IMAGE_SHAPE), labels


def parse_classes(data: bytes, name: str) -> list[str]:
    """The class names in `data`, one per line. Raises InvalidInput, naming `name`, unless there are ten."""
    try:
        classes = [line.strip() for line in data.decode().splitlines() if line.strip()]
    except UnicodeDecodeError:
        raise InvalidInput(f"{name}: not UTF-8 text; must name {NUM_CLASSES} classes, one a line") from None
    if len(classes) != NUM_CLASSES or len(set(classes)) != NUM_CLASSES:
        found = f"{len(classes)} lines with {len(set(classes))} different names"
        raise InvalidInput(f"{name}: {found}; must name {NUM_CLASSES} classes, one a line")
    return classes


def read_train(folder: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images uint8 [N, 3, 32, 32] and labels uint8 [N] of the training files in `folder`, in their order."""
    present = [folder / name for name in TRAIN_FILES if (folder / name).exists()]
    batches = [_read(path) for path in present or [folder / TRAIN_FILES[0]]]
    return np.concatenate([images for images, _ in batches]), np.concatenate([labels for _, labels in batches])


def read_test(folder: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images uint8 [N, 3, 32, 32] and labels uint8 [N] of the test file in `folder`."""
    return _read(folder / TEST_FILE)


def read_classes(folder: Path) -> list[str]:
    """The ten class names of the data in `folder`, by label."""
    return parse_classes(_bytes(folder / CLASSES_FILE).tobytes(), str(folder / CLASSES_FILE))


def write_records(path: Path, images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
    """One file of records from images uint8 [N, 3, 32, 32] and labels uint8 [N]."""
    records = np.concatenate([labels[:, None], images.reshape(len(images), -1)], axis=1)
    assert records.dtype == np.uint8 and records.shape[1] == RECORD_BYTES
    write_bytes(path, records.tobytes())


def write_classes(path: Path, classes: list[str]) -> None:
    write_text(path, "\n".join(classes) + "\n")


def _read(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    return parse_records(_bytes(path), str(path))


def _bytes(path: Path) -> NDArray[np.uint8]:
    try:
        return np.fromfile(path, np.uint8)
    except FileNotFoundError:
        raise InvalidInput(f"{path}: no such file; the stage download writes it") from None
