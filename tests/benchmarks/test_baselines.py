"""The loops that the benchmarks compare compute the same; otherwise a ratio of speeds would mean nothing."""

from pathlib import Path

import pytest
import torch
import torchvision.transforms.v2.functional as reference
from torch.utils.data import DataLoader

from ablation.configuration.study import resolve
from ablation.data.augmentation import CROP_FLIP
from ablation.data.splits import Normalization, Split, Statistics, channels_last
from ablation.training.batches import load_data
from ablation.training.clock import Clock
from ablation.training.loop import new_run, train_epochs
from ablation.training.params import VariantParams
from ablation.training.randomness import derive
from benchmarks import baselines

CPU = torch.device("cpu")
PARAMS = Path(__file__).parents[2] / "params.yaml"
STATISTICS = Statistics((0.49, 0.48, 0.45), (0.25, 0.24, 0.26), [f"class {i}" for i in range(10)])
NORMALIZATION = Normalization.of(STATISTICS, 32)


@pytest.fixture(scope="module")
def split() -> Split:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (64, 3, 32, 32), dtype=torch.uint8, generator=generator)
    return Split(images, torch.arange(64) % 10)


@pytest.fixture(scope="module", params=[False, True])
def params(request: pytest.FixtureRequest) -> VariantParams:
    """SimpleNN as it is, and with batch norm and Swish; no augmentation, whose random numbers would differ."""
    settings = resolve(str(PARAMS))[1]["simple_nn"].model_dump()
    settings["model"] |= {"batch_norm": True, "activation": "swish"} if request.param else {}
    return VariantParams.parse(settings | {"batch_size": 64, "epochs": 1, "device": "cpu"}, "test")


@pytest.fixture(scope="module")
def ours(split, params):
    """Our run after its one batch, all 64 images."""
    data = load_data(split, split, NORMALIZATION, params, CPU)
    run = new_run(params, 0, data)
    list(train_epochs(run, params, 0, data, Clock()))
    return run


def batches(kind: str, split: Split):
    if kind == "one tensor":
        images = NORMALIZATION(channels_last(split.images)).contiguous()
        return baselines.tensor_batches(images, split.labels, False, 64)
    return DataLoader(baselines.Images(split, STATISTICS, kind, augmented=False), 64, shuffle=True)


@pytest.mark.parametrize("kind", ["PIL", "tensor", "one tensor"])
def test_a_textbook_loop_takes_the_same_first_step_as_ours(kind, split, params, ours) -> None:
    torch.manual_seed(derive(0, "initialization"))
    model = baselines.simple_nn(params.model)
    optimizer = torch.optim.SGD(model.parameters(), params.lr, momentum=0.9, weight_decay=params.weight_decay)
    loss, accuracy = baselines.train(model, optimizer, batches(kind, split), CPU)
    assert loss == pytest.approx(ours.first_batch_loss, rel=1e-5)
    assert accuracy == ours.epochs[0].train_accuracy
    for theirs, our in zip(model.parameters(), ours.model.parameters(), strict=True):
        torch.testing.assert_close(theirs, our, rtol=1e-4, atol=1e-6)


def test_cropping_with_grids_equals_torchvision_image_by_image(split) -> None:
    images = split.images.float()
    tops, lefts = torch.randint(9, (2, 64), generator=torch.Generator().manual_seed(1))
    for crop, image, top, left in zip(
        baselines.crop(images, tops, lefts), images, tops.tolist(), lefts.tolist(), strict=True
    ):
        assert torch.equal(crop, reference.crop(reference.pad(image, [CROP_FLIP.padding] * 4), top, left, 32, 32))
