"""A speed is the number of images that were processed, no more and no fewer, over the seconds that this took."""

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ablation.data.splits import Statistics, write_split, write_statistics
from benchmarks import baselines, speed, worker

NUM_IMAGES = 200  # one full batch, and a smaller one
PROJECT = Path(__file__).parents[2]


@pytest.fixture
def splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """More images than are asked for, and the project's settings."""
    images = torch.randint(256, (700, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    write_split(tmp_path / "splits/train.safetensors", images, torch.arange(700) % 10)
    statistics = Statistics((0.49, 0.48, 0.45), (0.25, 0.24, 0.26), [f"class {i}" for i in range(10)])
    write_statistics(tmp_path / "splits/statistics.json", statistics, {"train": 700, "val": 0, "test": 0})
    shutil.copy(PROJECT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return "splits"


class Counter:
    """Counts images while the fake clock runs, which gives two seconds for whatever is timed."""

    def __init__(self) -> None:
        self.num_images, self.running = 0, False

    def seconds(self, work: Callable[[], object], device: torch.device) -> float:
        self.running = True
        work()
        self.running = False
        return 2.0

    def wrap(self, module: Any, name: str, images: Callable[..., int], monkeypatch: pytest.MonkeyPatch) -> None:
        function = getattr(module, name)

        def counted(*arguments: Any, **keywords: Any) -> Any:
            self.num_images += images(*arguments) if self.running else 0
            return function(*arguments, **keywords)

        monkeypatch.setattr(module, name, counted)


@pytest.fixture
def counter(monkeypatch: pytest.MonkeyPatch) -> Counter:
    counter = Counter()
    monkeypatch.setattr(worker, "_seconds", counter.seconds)
    return counter


@pytest.mark.parametrize(
    ("work", "arguments"),
    [
        ("dataloader_loop", {"variant": "simple_nn_aug", "device": "cpu", "image_type": "PIL", "num_workers": 0}),
        ("dataloader_loop", {"variant": "simple_nn_aug", "device": "cpu", "image_type": "tensor", "num_workers": 0}),
        ("tensor_loop", {"variant": "simple_nn_aug", "device": "cpu"}),
    ],
)
def test_a_loop_trains_on_the_images_that_it_counts(work, arguments, splits, counter, monkeypatch) -> None:
    counter.wrap(baselines.F, "cross_entropy", lambda logits, labels: len(labels), monkeypatch)
    measure = worker.WORK[work](splits=splits, num_images=NUM_IMAGES, **arguments)
    for _ in range(2):
        counter.num_images = 0
        assert measure() == NUM_IMAGES / 2
        assert counter.num_images == NUM_IMAGES


@pytest.mark.parametrize(
    ("work", "arguments", "module", "name", "images"),
    [
        ("augment_ours", {"device": "cpu", "num_threads": 1}, worker, "take_crops", lambda view, flips, *_: len(flips)),
        ("augment_torchvision", {"image_type": "PIL"}, baselines.Images, "__getitem__", lambda *_: 1),
        ("augment_torchvision", {"image_type": "tensor"}, baselines.Images, "__getitem__", lambda *_: 1),
        ("augment_tensor_loop", {"device": "cpu"}, baselines, "crop", lambda images, *_: len(images)),
    ],
)
def test_an_augmentation_is_of_the_images_that_it_counts(
    work, arguments, module, name, images, splits, counter, monkeypatch
) -> None:
    counter.wrap(module, name, images, monkeypatch)
    measure = worker.WORK[work](splits=splits, num_images=NUM_IMAGES, **arguments)
    assert measure() == NUM_IMAGES / 2
    assert counter.num_images == NUM_IMAGES


def test_seeds_train_all_their_epochs_on_the_images_that_are_counted(splits, monkeypatch) -> None:
    trained = []
    train_epochs = worker.train_epochs

    def counted(run, params, seed, data, clock):
        yield from train_epochs(run, params, seed, data, clock)
        trained.extend((seed, epoch.number, len(data.train_labels)) for epoch in run.epochs)

    monkeypatch.setattr(worker, "train_epochs", counted)
    monkeypatch.setattr(worker, "run_in_processes", lambda train, seeds, at_a_time: [train(seed) for seed in seeds])
    monkeypatch.setattr(worker, "time", SimpleNamespace(perf_counter=itertools.count(step=4).__next__))
    measure = worker.ours_seeds("simple_nn_aug", splits, NUM_IMAGES, "cpu", num_seeds=3, epochs=2)
    assert measure() == 3 * 2 * NUM_IMAGES / 4
    assert trained == [(seed, epoch, NUM_IMAGES) for seed in range(3) for epoch in (1, 2)]


def test_our_speed_is_the_epochs_own(splits, monkeypatch) -> None:
    steps = iter([None, SimpleNamespace(images_per_second=100.0), None, SimpleNamespace(images_per_second=120.0)])
    monkeypatch.setattr(worker, "train_epochs", lambda *_: steps)
    measure = worker.ours("simple_nn_aug", splits, NUM_IMAGES, "cpu")
    assert (measure(), measure()) == (100.0, 120.0)


def test_it_prepares_as_many_images_and_the_settings_that_are_asked_for(splits) -> None:
    params, data = worker.prepared("simple_nn_aug", splits, NUM_IMAGES, "cpu", batch_size=50)
    assert (params.batch_size, len(data.train_labels)) == (50, NUM_IMAGES)


def test_an_image_costs_simple_nn_what_its_table_says(splits) -> None:
    """By hand: backward costs twice forward, except that conv1 computes no gradient of the image."""
    forward = 8 * 28 * 28 * 75 + 16 * 12 * 12 * 72 + 576 * 120 + 120 * 84 + 84 * 10
    assert worker.flop("simple_nn_aug")() == 2 * (3 * forward - 8 * 28 * 28 * 75)


def test_the_share_of_the_peak_is_that_of_the_better_limit() -> None:
    peak = {"matmul 1": [90e9, 100e9], "convolution 1": [50e9], "copy 1": [10e9], "net": [2e6]}
    speeds = {speed.one_seed(1): [20_000.0, 25_000.0, 90_000.0]}
    augmented = {speed.augmented_by(1): [1e5]}
    table = speed.peak_table(peak, {"net": speeds}, augmented, [1])
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
    assert cells == [
        ["net, 1 thread: 2.00 MFLOP an image", "50.0 GFLOP/s", "100.0 GFLOP/s", "50%"],
        ["augmentation, 1 thread: 15 KiB an image", "1.5 GB/s", "10.0 GB/s", "15%"],
    ]
