"""Throughput of training and augmentation, against what a user would write and against the machine's limits."""

import os
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablation.reporting.words import counted
from benchmarks.harness import Contender, Results, measure, table

TWO_SEEDS = "ours, 2 seeds side by side, total"
TWO_LOOPS = "DataLoader, tensor images, 2 processes of 1 thread, total"
DEFAULT_ALLOCATOR = "ours, 1 seed, 1 thread, default allocator"
ALL_IMAGES = 45_000  # of CIFAR-10 for training
BYTES_AUGMENTED = 3 * 32 * 32 * (1 + 4)  # memory traffic of an image at the least: uint8 read, float32 written


@dataclass(frozen=True)
class Setting:
    """Where to measure, and how often."""

    splits: Path
    device: str  # cpu | cuda
    rounds: int

    def arguments(self, **more: Any) -> dict[str, Any]:
        return {"splits": str(self.splits.resolve()), "device": self.device, **more}

    @property
    def threads(self) -> list[int]:
        return [1, 2] if self.device == "cpu" else [1]

    def epochs(self, on_cpu: int) -> int:
        """Epochs of a measurement that includes start-up: of processes on a CPU, of graph capture on CUDA."""
        return on_cpu if self.device == "cpu" else 10


def training(setting: Setting, variant: str, ours: int, theirs: int, epochs: int) -> tuple[Results, list[str]]:
    """Training images/s of every contender, and the names of the DataLoader loops.

    ours, theirs: images per measurement (on CUDA ours takes all); epochs: of two seeds in parallel, on a CPU.
    """
    own = setting.arguments(variant=variant, num_images=ours if setting.device == "cpu" else ALL_IMAGES)
    long = {**own, "num_images": min(8 * ours, ALL_IMAGES), "epochs": setting.epochs(epochs)}
    other = setting.arguments(variant=variant, num_images=theirs)
    loops = [
        Contender(
            f"DataLoader, {kind} images, {counted(workers, 'worker')}",
            "dataloader_loop",
            {**other, "image_type": kind, "num_workers": workers},
        )
        for kind in ("PIL", "tensor")
        for workers in (0, 1, 2, 8)
        if workers <= (os.cpu_count() or 1)
    ]
    two_loops = Contender(
        TWO_LOOPS,
        "dataloader_loop",
        {**other, "image_type": "tensor", "num_workers": 0, "num_threads": 1},
        processes=2,
    )
    contenders = [
        *(Contender(one_seed(n), "ours", {**own, "num_threads": n}, as_stage=True) for n in setting.threads),
        Contender(TWO_SEEDS, "ours_seeds", {**long, "num_threads": 1, "num_seeds": 2}, as_stage=True),
        Contender(DEFAULT_ALLOCATOR, "ours", {**own, "num_threads": 1}),
        *loops,
        *([two_loops] if setting.device == "cpu" else []),
        Contender("eager loop over one float tensor", "tensor_loop", other),
    ]
    return measure(contenders, setting.rounds), [loop.name for loop in loops]


def one_seed(num_threads: int) -> str:
    return f"ours, 1 seed, {counted(num_threads, 'thread')}"


def augmented_by(num_threads: int) -> str:
    return f"ours, {counted(num_threads, 'thread')}"


def augmentation(setting: Setting) -> Results:
    """Augmented images/s."""
    many, few = setting.arguments(num_images=15_000), setting.arguments(num_images=2_560)
    splits = {"splits": few["splits"], "num_images": few["num_images"]}
    return measure(
        [
            *(
                Contender(augmented_by(n), "augment_ours", {**many, "num_threads": n}, as_stage=True)
                for n in setting.threads
            ),
            *(
                Contender(
                    f"torchvision v2 per image, {kind} images", "augment_torchvision", {**splits, "image_type": kind}
                )
                for kind in ("PIL", "tensor")
            ),
            Contender("kornia, batches", "augment_kornia", few),
            Contender("batches cut by indexing with grids", "augment_tensor_loop", few),
        ],
        setting.rounds,
    )


def seeds(setting: Setting) -> Results:
    """Total images/s of 1 to 4 seeds of one variant, the start of their processes included."""
    arguments = setting.arguments(variant="simple_nn_aug", num_images=15_000, num_threads=1, epochs=10)
    return measure(
        [
            Contender(counted(n, "seed"), "ours_seeds", {**arguments, "num_seeds": n}, as_stage=True)
            for n in (1, 2, 3, 4)
        ],
        setting.rounds,
    )


def costs(setting: Setting) -> Results:
    """Training images/s of one seed by batch size and by number of training images."""
    arguments = setting.arguments(variant="simple_nn_aug", num_threads=1)
    return measure(
        [
            *(
                Contender(f"batch size {size}", "ours", {**arguments, "num_images": 15_000, "batch_size": size}, True)
                for size in (32, 128, 512, 2048)
            ),
            *(
                Contender(f"{images:,} training images", "ours", {**arguments, "num_images": images}, True)
                for images in (5_000, 45_000)
            ),
        ],
        setting.rounds,
    )


def peaks(setting: Setting, variants: list[str]) -> Results:
    """FLOP/s of a matrix product and a convolution, bytes/s of a copy, by threads; FLOP per image, by variant."""
    return measure(
        [
            *(
                Contender(f"{work} {n}", work, {"device": setting.device, "num_threads": n}, as_stage=True)
                for work in ("matmul", "convolution", "copy")
                for n in setting.threads
            ),
            *(Contender(variant, "flop", {"variant": variant}) for variant in variants),
        ],
        setting.rounds,
    )


def peak_table(peak: Results, trained: dict[str, Results], augmented: Results, threads: list[int]) -> str:
    """Shares of the machine's measured peak that training and augmentation reach."""
    top = {name: max(figures) for name, figures in peak.items()}
    rows = []
    for variant, results in trained.items():
        for n in threads:
            rate = statistics.median(results[one_seed(n)]) * top[variant]
            cost = f"{top[variant] / 1e6:.2f} MFLOP an image"
            what = f"{variant}, {counted(n, 'thread')}: {cost}"
            limit = max(top[f"matmul {n}"], top[f"convolution {n}"])
            rows.append([what, f"{rate / 1e9:.1f} GFLOP/s", f"{limit / 1e9:.1f} GFLOP/s", f"{rate / limit:.0%}"])
    for n in threads:
        rate, limit = statistics.median(augmented[augmented_by(n)]) * BYTES_AUGMENTED, top[f"copy {n}"]
        what = f"augmentation, {counted(n, 'thread')}: {BYTES_AUGMENTED / 1024:.0f} KiB an image"
        rows.append([what, f"{rate / 1e9:.1f} GB/s", f"{limit / 1e9:.1f} GB/s", f"{rate / limit:.0%}"])
    return table(["", "reached", "measured peak", "share"], rows)
