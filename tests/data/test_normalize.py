"""Stage normalize on small data: what it writes, from what, and what it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ablation.data.records import TRAIN_FILES, write_classes, write_records
from ablation.data.samples import GAP, GROUP_GAP, HEADER, NUM_IMAGES, NUM_VERSIONS, TILE
from ablation.data.splits import read_split, read_statistics
from ablation.data.stratify import split_indices

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
SETTINGS = {"train_size": 150, "val_size": 30, "split_seed": 0}


def random_images(n, seed):
    return np.random.default_rng(seed).integers(256, size=(n, 3, 32, 32), dtype=np.uint8)


@pytest.fixture
def raw(workspace):
    """200 training images in two files and 50 test images; returns the training images and labels."""
    folder = workspace / "data/raw"
    images, labels = random_images(200, 0), np.random.default_rng(1).permutation(np.arange(200, dtype=np.uint8) % 10)
    write_records(folder / TRAIN_FILES[0], images[:120], labels[:120])
    write_records(folder / TRAIN_FILES[1], images[120:], labels[120:])
    write_records(folder / "test_batch.bin", random_images(50, 2), np.arange(50, dtype=np.uint8) % 10)
    write_classes(folder / "batches.meta.txt", CLASSES)
    return images, labels


def test_writes_the_chosen_images(stage, workspace, raw, capsys):
    assert stage("normalize", SETTINGS) is None
    assert capsys.readouterr().out == "data/splits: 150 train, 30 val, 50 test images\n"
    images, labels = raw
    train, val = split_indices(labels, 150, 30, seed=0)
    for name, expected_images, expected_labels in (
        ("train", images[train], labels[train]),
        ("val", images[val], labels[val]),
        ("test", random_images(50, 2), np.arange(50) % 10),
    ):
        split = read_split(workspace / f"data/splits/{name}.safetensors")
        assert (split.images.numpy() == expected_images).all()
        assert (split.labels.numpy() == expected_labels).all()
    statistics = json.loads((workspace / "data/splits/statistics.json").read_text())
    assert statistics["num_images"] == {"train": 150, "val": 30, "test": 50}
    assert statistics["classes"] == CLASSES
    pixels = images[train] / 255
    assert statistics["mean"] == pytest.approx(pixels.mean((0, 2, 3)), rel=1e-12)
    assert statistics["std"] == pytest.approx(pixels.std((0, 2, 3)), rel=1e-12)
    assert sorted(p.name for p in Path("data").iterdir()) == ["raw", "samples.png", "splits"]
    assert sorted(p.name for p in Path("data/splits").iterdir()) == [
        "statistics.json", "test.safetensors", "train.safetensors", "val.safetensors",
    ]  # fmt: skip


def test_a_second_run_gives_the_same_bytes(stage, workspace, raw):
    def written():
        return {p: p.read_bytes() for p in Path("data").rglob("*") if p.is_file()}

    assert stage("normalize", SETTINGS) is None
    first = written()
    assert stage("normalize", SETTINGS) is None
    assert written() == first


def test_statistics_are_those_of_train_alone(stage, workspace, raw):
    images, labels = raw

    def statistics(changed):
        write_records(workspace / "data/raw" / TRAIN_FILES[0], changed[:120], labels[:120])
        write_records(workspace / "data/raw" / TRAIN_FILES[1], changed[120:], labels[120:])
        assert stage("normalize", SETTINGS) is None
        return read_statistics(workspace / "data/splits/statistics.json")

    before = statistics(images)
    train, _ = split_indices(labels, 150, 30, seed=0)
    others = np.delete(np.arange(200), train)  # val, and what train_size leaves out
    changed = images.copy()
    changed[others] = 255
    write_records(workspace / "data/raw/test_batch.bin", random_images(50, 9), np.arange(50, dtype=np.uint8) % 10)
    assert statistics(changed) == before
    changed[train[0], 1, 0, 0] ^= 128
    after = statistics(changed)
    assert after.mean[1] != before.mean[1] and after.mean[0] == before.mean[0]


def test_samples_show_raw_images_and_crops_of_them(stage, workspace, raw):
    assert stage("normalize", SETTINGS) is None
    picture = np.asarray(Image.open("data/samples.png"))
    images, labels = raw
    train, _ = split_indices(labels, 150, 30, seed=0)
    assert picture.shape[2] == 3 and 700 < picture.shape[1] < 1200 and 600 < picture.shape[0] < 1000
    pitch = (1 + NUM_VERSIONS) * (TILE + GAP) - GAP + GROUP_GAP
    left = picture.shape[1] - 16 - NUM_IMAGES * pitch + GROUP_GAP
    versions = set()
    for label in range(10):
        top = HEADER + label * (TILE + GAP)
        assert picture[top : top + TILE, :left].min() < 100, "the class is named"
        for group, index in enumerate(train[labels[train] == label][:NUM_IMAGES]):
            row = picture[top : top + TILE : 2, left + group * pitch :][:, ::2]  # each pixel was doubled
            tiles = [row[:, i * (TILE + GAP) // 2 :][:, :32] for i in range(1 + NUM_VERSIONS)]
            image = images[index].transpose(1, 2, 0)
            assert (tiles[0] == image).all()
            padded = [np.pad(x, ((4, 4), (4, 4), (0, 0))) for x in (image, image[:, ::-1])]
            for tile in tiles[1:]:
                found = [
                    (flip, y, x)
                    for flip in range(2)
                    for y in range(9)
                    for x in range(9)
                    if (padded[flip][y : y + 32, x : x + 32] == tile).all()
                ]
                assert len(found) == 1
                versions.add(found[0])
    assert len(versions) > 40 and {flip for flip, _, _ in versions} == {0, 1}


def test_fewer_images_of_a_class_than_the_picture_shows(stage, workspace, raw):
    assert stage("normalize", SETTINGS | {"train_size": 10, "val_size": 10}) is None
    assert Image.open("data/samples.png").size[0] > 700


def test_all_and_what_is_left(stage, workspace, raw):
    assert stage("normalize", SETTINGS | {"train_size": "all"}) is None
    assert len(read_split(workspace / "data/splits/train.safetensors").labels) == 170


def remove(name):
    return lambda folder: (folder / name).unlink()


def records(name, labels):
    return lambda folder: write_records(folder / name, random_images(len(labels), 5), np.array(labels, np.uint8))


def one_truck(folder):
    remove("data_batch_2.bin")(folder)
    records("data_batch_1.bin", [*(i % 9 for i in range(199)), 9])(folder)


def cut(folder):
    path = folder / "test_batch.bin"
    path.write_bytes(path.read_bytes()[:-1])


BROKEN = {
    "no raw data": (
        lambda folder: [path.unlink() for path in folder.iterdir()],
        {},
        "data/raw/batches.meta.txt: no such file; the stage download writes it",
    ),
    "no test file": (
        remove("test_batch.bin"),
        {},
        "data/raw/test_batch.bin: no such file; the stage download writes it",
    ),
    "no training file": (
        lambda folder: [path.unlink() for path in folder.glob("data_batch_*")],
        {},
        "data/raw/data_batch_1.bin: no such file; the stage download writes it",
    ),
    "half a record": (
        cut,
        {},
        "data/raw/test_batch.bin: 153,649 bytes; must be one or more records of 3,073 bytes each",
    ),
    "empty file": (
        lambda folder: (folder / "test_batch.bin").write_bytes(b""),
        {},
        "data/raw/test_batch.bin: 0 bytes; must be one or more records of 3,073 bytes each",
    ),
    "label": (
        records("data_batch_2.bin", [1, 2, 11]),
        {},
        "data/raw/data_batch_2.bin: record 2 (counted from 0): label 11; must be 0 to 9",
    ),
    "one class": (
        lambda folder: write_classes(folder / "batches.meta.txt", ["cat"]),
        {},
        "data/raw/batches.meta.txt: 1 lines with 1 different names; must name 10 classes, one a line",
    ),
    "test lacks a class": (
        records("test_batch.bin", [0, 1, 2, 3, 4, 5, 6, 7, 8, 8]),
        {},
        "data: the test split of 10 images has no image of class truck; every class needs at least one",
    ),
    "val lacks a class": (
        one_truck,
        {},
        "data: the val split of 30 images has no image of class truck; every class needs at least one",
    ),
    "too large": (
        lambda folder: None,
        {"val_size": 5000},
        "data.train_size 150 and data.val_size 5000 need 5,150 images; data/raw has 200 training images",
    ),
    "val takes all": (
        lambda folder: None,
        {"train_size": "all", "val_size": 200},
        "data.train_size all and data.val_size 200 need 201 images; data/raw has 200 training images",
    ),
    "unknown setting": (
        lambda folder: None,
        {"val": 3},
        "configs/normalize.yaml: val: unknown key, set to 3; did you mean val_size? "
        "known: train_size, val_size, split_seed",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_input(stage, workspace, raw, case):
    change, settings, message = BROKEN[case]
    change(workspace / "data/raw")
    assert stage("normalize", SETTINGS | settings) == f"error: {message}"
    assert sorted(p.name for p in Path("data").iterdir()) == ["raw"]


def test_arguments_are_refused(stage, raw):
    assert stage("normalize", SETTINGS, "train") == (
        "error: stages/normalize.py takes no arguments, got train; all settings are in params.yaml"
    )
