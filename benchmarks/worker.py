"""One contender in a process of its own: sets itself up, warms up, and measures whenever a line comes in.

Usage: python -m benchmarks.worker WORK ARGUMENTS, a function below and its keyword arguments as JSON.
"""

import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from ablation.configuration.study import resolve
from ablation.data.augmentation import take_crops, windows
from ablation.data.splits import Normalization, Split, Statistics, channels_last, read_split, read_statistics
from ablation.models.build import build_model
from ablation.models.params import SimpleNNParams
from ablation.training.backend import prepare
from ablation.training.batches import Data, load_data
from ablation.training.clock import Clock
from ablation.training.loop import new_run, train_epochs
from ablation.training.params import VariantParams
from ablation.training.processes import num_processes, run_in_processes
from ablation.training.randomness import epoch_plan
from ablation.training.streams import run_on_streams

Measure = Callable[[], float]
BATCH_SIZE = 128  # images
UNTIMED_BATCHES = 3  # of a DataLoader, while its workers start and its queue fills


def ours(variant: str, splits: str, num_images: int, device: str, **overrides: int) -> Measure:
    """Training images/s of one seed, an epoch at a time."""
    params, data = prepared(variant, splits, num_images, device, **overrides)
    torch.set_num_threads(params.num_threads)
    epochs = filter(None, train_epochs(new_run(params, 0, data), params, 0, data, Clock()))
    return lambda: next(epochs).images_per_second


def ours_seeds(
    variant: str, splits: str, num_images: int, device: str, num_seeds: int, epochs: int, **overrides: int
) -> Measure:
    """Total images/s of all seeds, including the start of their processes or the capture of their graphs."""
    params, data = prepared(variant, splits, num_images, device, **overrides, epochs=epochs)
    place = data.train_labels.device

    def train(clock: Clock, seed: int) -> Iterator[None]:
        for _ in train_epochs(new_run(params, seed, data), params, seed, data, clock):
            yield

    def train_alone(seed: int) -> None:
        torch.set_num_threads(params.num_threads)
        for _ in train(Clock(), seed):
            pass

    def measure() -> float:
        start = time.perf_counter()
        if place.type == "cuda":
            run_on_streams(train, range(num_seeds), place)
        else:
            run_in_processes(train_alone, list(range(num_seeds)), num_processes(num_seeds, params.num_threads))
        return num_seeds * epochs * num_images / (time.perf_counter() - start)

    return measure


def prepared(variant: str, splits: str, num_images: int, device: str, **overrides: int) -> tuple[VariantParams, Data]:
    """Settings and data of a variant on its first `num_images` training images; this process is set up for it."""
    settings = resolve("params.yaml")[1][variant].model_dump() | {"device": device, "epochs": 10_000} | overrides
    params = VariantParams.parse(settings, "benchmark")
    place = prepare(params, num_images)
    train, statistics = _split(splits, num_images)
    val = Split(train.images[:10], train.labels[:10])  # as good as none
    return params, load_data(train, val, Normalization.of(statistics, 32), params, place)


def _split(splits: str, num_images: int) -> tuple[Split, Statistics]:
    train = read_split(Path(splits) / "train.safetensors")
    statistics = read_statistics(Path(splits) / "statistics.json")
    return Split(train.images[:num_images].clone(), train.labels[:num_images]), statistics


def _normalized(split: Split, statistics: Statistics) -> Tensor:
    return Normalization.of(statistics, 32)(channels_last(split.images)).contiguous()  # float [N, 3, 32, 32]


def dataloader_loop(
    variant: str,
    splits: str,
    num_images: int,
    device: str,
    image_type: str,
    num_workers: int,
    num_threads: int | None = None,
) -> Measure:
    """Training images/s of the textbook loop over a DataLoader with a torchvision transform per image."""
    from benchmarks import baselines

    train, statistics = _split(splits, num_images + UNTIMED_BATCHES * BATCH_SIZE)
    place = torch.device(device)
    images = baselines.Images(train, statistics, image_type, augmented=True)
    loader = DataLoader(images, BATCH_SIZE, shuffle=True, num_workers=num_workers, pin_memory=place.type == "cuda")
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    step = _textbook(variant, place)

    def measure() -> float:
        batches = iter(loader)
        step(itertools.islice(batches, UNTIMED_BATCHES))
        return num_images / _seconds(lambda: step(batches), place)

    return measure


def tensor_loop(variant: str, splits: str, num_images: int, device: str) -> Measure:
    """Training images/s of the textbook loop over a data set held as one float tensor."""
    from benchmarks import baselines

    train, statistics = _split(splits, num_images)
    place = torch.device(device)
    images, labels = _normalized(train, statistics).to(place), train.labels.to(place)
    step = _textbook(variant, place)
    return lambda: (
        num_images / _seconds(lambda: step(baselines.tensor_batches(images, labels, True, BATCH_SIZE)), place)
    )


def _textbook(variant: str, device: torch.device) -> Callable[..., object]:
    from benchmarks import baselines

    params = resolve("params.yaml")[1][variant]
    build = baselines.simple_nn if isinstance(params.model, SimpleNNParams) else build_model
    model = build(params.model).to(device)
    optimizer = torch.optim.SGD(model.parameters(), params.lr, momentum=0.9, weight_decay=params.weight_decay)
    return lambda batches: baselines.train(model, optimizer, batches, device)


def augment_ours(splits: str, num_images: int, device: str, num_threads: int) -> Measure:
    """Augmented, normalised images/s, including the drawing of the random numbers."""
    torch.set_num_threads(num_threads)
    train, statistics = _split(splits, num_images)
    place = torch.device(device)
    view, normalization = windows(train.images.to(place)), Normalization.of(statistics, 32).to(place)

    def epoch() -> None:
        for plan in epoch_plan(0, 1, num_images).to(place).split(BATCH_SIZE, dim=1):
            normalization(take_crops(view, *plan))

    return lambda: num_images / _seconds(epoch, place)


def augment_torchvision(splits: str, num_images: int, image_type: str) -> Measure:
    """The same with torchvision's transforms, image by image, stacked into batches."""
    from benchmarks import baselines

    images = baselines.Images(*_split(splits, num_images), image_type, augmented=True)

    def epoch() -> None:
        for index in torch.randperm(num_images).split(BATCH_SIZE):
            torch.stack([images[i][0] for i in index.tolist()])

    return lambda: num_images / _seconds(epoch, torch.device("cpu"))


def augment_tensor_loop(splits: str, num_images: int, device: str) -> Measure:
    """The same for whole batches of normalised images, cropped by indexing with grids."""
    from benchmarks import baselines

    train, statistics = _split(splits, num_images)
    images, labels = _normalized(train, statistics).to(device), train.labels.to(device)

    def epoch() -> None:
        for _ in baselines.tensor_batches(images, labels, True, BATCH_SIZE):
            pass

    return lambda: num_images / _seconds(epoch, torch.device(device))


def augment_kornia(splits: str, num_images: int, device: str) -> Measure:
    """The same with kornia, which also works on whole batches with a crop of its own for each image."""
    import kornia.augmentation as K  # as its documentation has it

    train, statistics = _split(splits, num_images)
    images = train.images.to(device)
    mean, std = torch.tensor(statistics.mean), torch.tensor(statistics.std)
    augment = nn.Sequential(
        K.RandomCrop((32, 32), padding=4), K.RandomHorizontalFlip(), K.Normalize(mean=mean, std=std)
    ).to(device)

    def epoch() -> None:
        for index in torch.randperm(num_images, device=images.device).split(BATCH_SIZE):
            augment(images[index].float() / 255)

    return lambda: num_images / _seconds(epoch, torch.device(device))


def matmul(device: str, num_threads: int) -> Measure:
    """FLOP/s of a large matrix product in float32, on CUDA in TF32 as in training."""
    torch.set_num_threads(num_threads)
    torch.backends.cuda.matmul.allow_tf32 = True
    size = 1024 if device == "cpu" else 8192
    a, b = torch.randn(2, size, size, device=device)
    out = torch.empty_like(a)
    return lambda: max(2 * size**3 / _seconds(lambda: torch.mm(a, b, out=out), a.device) for _ in range(10))


def convolution(device: str, num_threads: int) -> Measure:
    """FLOP/s of a 3x3 convolution, 64 channels to 64.

    It may exceed that of a matrix product, which another library computes: twice as high on an AMD EPYC.
    """
    torch.set_num_threads(num_threads)
    torch.backends.cudnn.allow_tf32 = True
    images, weights = torch.randn(64, 64, 32, 32, device=device), torch.randn(64, 64, 3, 3, device=device)
    images, weights = images.to(memory_format=torch.channels_last), weights.to(memory_format=torch.channels_last)
    work = 2 * images.numel() * weights[0].numel()
    return lambda: max(
        work / _seconds(lambda: nn.functional.conv2d(images, weights, padding=1), images.device) for _ in range(10)
    )


def copy(device: str, num_threads: int) -> Measure:
    """Bytes/s read and written by a copy far larger than the caches."""
    torch.set_num_threads(num_threads)
    source = torch.randint(256, (2**28,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return lambda: max(2 * source.nbytes / _seconds(lambda: target.copy_(source), source.device) for _ in range(5))


def flop(variant: str) -> Measure:
    """Floating-point operations of training on one image, forward and backward, counted by torch."""
    model = build_model(resolve("params.yaml")[1][variant].model).to("meta")
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(BATCH_SIZE, 3, 32, 32, device="meta")).sum().backward()
    return lambda: counter.get_total_flops() / BATCH_SIZE


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    wait()
    start = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - start


WORK: dict[str, Callable[..., Measure]] = {
    work.__name__: work
    for work in (
        ours,
        ours_seeds,
        dataloader_loop,
        tensor_loop,
        augment_ours,
        augment_torchvision,
        augment_tensor_loop,
        augment_kornia,
        matmul,
        convolution,
        copy,
        flop,
    )
}


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print goes to stderr, so that stdout holds answers alone
    try:
        measure = WORK[sys.argv[1]](**json.loads(sys.argv[2]))
    except ModuleNotFoundError as error:
        print(f"missing {error.name}", file=answers)
        return
    measure()
    print("ready", file=answers)
    for _ in sys.stdin:
        print(measure(), file=answers)


if __name__ == "__main__":
    main()
