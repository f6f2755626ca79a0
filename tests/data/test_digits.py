"""The digits: counts, pixels against another implementation, and the layout on disk."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from ablation.data.digits import CLASSES, enlarge
from ablation.data.records import read_classes, read_test, read_train, write_records

SETTINGS = {"source": "digits", "url": "https://unused.invalid/a.tar.gz", "md5": "0" * 32}


@pytest.fixture
def digits(stage):
    assert stage("download", SETTINGS) is None


def test_counts_and_classes(digits, workspace):
    raw = workspace / "data/raw"
    assert sorted(p.name for p in raw.iterdir()) == ["batches.meta.txt", "data_batch_1.bin", "test_batch.bin"]
    assert read_classes(raw) == CLASSES
    (images, labels), (test_images, test_labels) = read_train(raw), read_test(raw)
    assert images.shape == (1437, 3, 32, 32) and test_images.shape == (360, 3, 32, 32)
    both = np.bincount(labels) + np.bincount(test_labels)
    assert both.tolist() == np.bincount(load_digits().target).tolist()
    assert np.abs(np.bincount(test_labels) - both * 360 / 1797).max() < 1, "stratified"


def test_output_says_what_it_is(stage, capsys):
    assert stage("download", SETTINGS) is None
    assert capsys.readouterr().out == (
        "data/raw: 1,437 training and 360 test images: handwritten digits of scikit-learn, NOT CIFAR-10\n"
    )


def test_every_digit_is_there_once_with_its_label(digits, workspace):
    (images, labels), (test_images, test_labels) = read_train(workspace / "data/raw"), read_test(workspace / "data/raw")
    written = sorted(
        (label, image.tobytes()) for label, image in zip([*labels, *test_labels], [*images, *test_images], strict=True)
    )
    original = load_digits()
    expected = sorted(
        (label, enlarge(image).tobytes()) for label, image in zip(original.target, original.images, strict=True)
    )
    assert written == expected


def test_a_second_download_is_the_same(digits, stage, workspace):
    first = {p.name: p.read_bytes() for p in (workspace / "data/raw").iterdir()}
    assert stage("download", SETTINGS) is None
    assert {p.name: p.read_bytes() for p in (workspace / "data/raw").iterdir()} == first


def test_enlarged_bilinearly():
    images = load_digits().images[:200]
    ours = np.stack([enlarge(image) for image in images])
    reference = torch.nn.functional.interpolate(
        torch.from_numpy(images)[:, None] * 255 / 16, scale_factor=4, mode="bilinear", align_corners=False
    )
    assert ours.dtype == np.uint8 and ours.max() == 255 and ours.min() == 0
    assert np.abs(ours - reference.numpy()).max() <= 1.5  # Pillow rounds after each of its two passes
    assert (ours == ours[:, :1]).all(), "the same in every channel"


def test_record_layout_by_hand(tmp_path):
    images = np.random.default_rng(0).integers(256, size=(4, 3, 32, 32), dtype=np.uint8)
    labels = np.array([3, 0, 9, 1], np.uint8)
    write_records(tmp_path / "test_batch.bin", images, labels)
    expected = bytearray()
    for image, label in zip(images, labels, strict=True):
        expected.append(label)
        for channel in range(3):
            for row in range(32):
                expected += bytes(image[channel, row, column] for column in range(32))
    assert (tmp_path / "test_batch.bin").read_bytes() == expected
    read_images, read_labels = read_test(tmp_path)
    assert (read_images == images).all() and (read_labels == labels).all()


def test_pixels_are_rounded_and_not_cut() -> None:
    assert (enlarge(np.full((8, 8), 7.0)) == 112).all()  # of 111.6
