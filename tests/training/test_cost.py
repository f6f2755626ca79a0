from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from ablation.common.settings import read_yaml
from ablation.models.build import build_model
from ablation.training.cost import activation_bytes, multiply_adds

STUDY = read_yaml(Path(__file__).parents[2] / "params.yaml")["study"]


def test_multiply_adds_of_simple_nn_are_those_counted_by_hand(variant_params) -> None:
    convolutions = 8 * 28 * 28 * (3 * 5 * 5) + 16 * 12 * 12 * (8 * 3 * 3)
    assert multiply_adds(variant_params("simple_nn").model) == convolutions + 576 * 120 + 120 * 84 + 84 * 10


def test_activation_bytes_of_simple_nn_are_those_counted_by_hand(variant_params) -> None:
    """float32 for what a layer's gradient needs, and int64 for max-pooling indices."""
    convolution1 = 4 * 3 * 32 * 32  # its input
    pool1 = 4 * 8 * 28 * 28 + 8 * 8 * 14 * 14
    relu1 = 4 * 8 * 14 * 14  # and convolution2's input
    pool2 = 4 * 16 * 12 * 12 + 8 * 16 * 6 * 6
    relu2 = 4 * 576
    flattened = 4 * 576  # a copy in another order, fc1's input
    relu3, relu4 = 4 * 120, 4 * 84
    expected = convolution1 + pool1 + relu1 + pool2 + relu2 + flattened + relu3 + relu4
    assert activation_bytes(variant_params("simple_nn").model) == expected


def test_late_downsampling_keeps_larger_maps_and_separable_convolutions_compute_less(variant_params) -> None:
    late, early = (variant_params(name).model for name in ("squeezenet", "squeezenet_early"))
    assert activation_bytes(late) > 3 * activation_bytes(early)
    standard, separable = (variant_params(name).model for name in ("resnet20", "resnet20_dws"))
    assert multiply_adds(separable) == pytest.approx(multiply_adds(standard) / 6, rel=0.3)


@pytest.mark.parametrize("name", STUDY)
def test_multiply_adds_of_every_variant_are_those_that_torch_counts(name: str, variant_params) -> None:
    params = variant_params(name).model
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        build_model(params).to("meta").eval()(torch.zeros(1, 3, 32, 32, device="meta"))
    assert multiply_adds(params) == counter.get_total_flops() / 2
