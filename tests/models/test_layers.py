"""Which of their kernels layers train with, by a stand-in for that of a CPU."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ablation.models import convolution
from ablation.models.convolution import ACTIVATIONS, SLOPES, Conv2d, conv_pool


def textbook(input: Tensor, conv: Conv2d, bn: nn.Module, activation: str) -> Tensor:
    return F.max_pool2d(ACTIVATIONS[activation](bn(conv(input))), 2)


@pytest.fixture
def calls() -> list[tuple[bool, float | None]]:
    """Batch norm or none, and slopes, with which layers call the kernel, which they may take from now on."""
    arguments: list[tuple[bool, float | None]] = []

    def kernel(input: Tensor, conv: nn.Conv2d, bn: nn.BatchNorm2d | None, slope: float | None) -> Tensor:
        arguments.append((bn is not None, slope))
        return torch.zeros_like(F.max_pool2d(conv(input), 2))

    convolution.train_with(cpu=kernel)
    return arguments


@pytest.mark.parametrize(
    ("dtype", "gradients", "autocast", "compiling", "taken"),
    [
        (torch.float32, True, False, False, True),
        (torch.float64, True, False, False, False),
        (torch.float32, False, False, False, False),
        (torch.float32, True, True, False, False),
        (torch.float32, True, False, True, False),
    ],
)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("batch_norm", [False, True])
def test_layers_train_with_them_in_float32_and_uncompiled(
    batch_norm, activation, dtype, gradients, autocast, compiling, taken, calls, monkeypatch
) -> None:
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: compiling)
    conv, bn = Conv2d(3, 8, 5).to(dtype), (nn.BatchNorm2d(8) if batch_norm else nn.Identity()).to(dtype)
    input = torch.randn(2, 3, 9, 10, dtype=dtype)
    with torch.set_grad_enabled(gradients), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        output = conv_pool(input, conv, bn, activation)
        theirs = textbook(input, conv, bn, activation)
    assert calls == ([(batch_norm, SLOPES.get(activation))] if taken else [])
    torch.testing.assert_close(output, torch.zeros_like(theirs) if taken else theirs)


def test_running_statistics_are_for_pytorch(calls) -> None:
    conv, bn = Conv2d(3, 8, 5), nn.BatchNorm2d(8).eval()
    input = torch.randn(2, 3, 9, 10)
    torch.testing.assert_close(conv_pool(input, conv, bn, "swish"), textbook(input, conv, bn, "swish"))
    assert calls == []


@pytest.mark.parametrize(
    ("layer", "input"),
    [
        (Conv2d(3, 8, 5), torch.ones(2, 1, 8, 8)),  # another number of channels
        (Conv2d(3, 8, 5), torch.ones(2, 3, 4, 9)),  # less than the filter
        (Conv2d(3, 8, 5).double(), torch.ones(2, 3, 8, 8)),
        (Conv2d(3, 8, 5), torch.ones(2, 3, 5, 8)),  # a map of one row, which has no window
    ],
)
def test_what_does_not_fit_a_layer_is_refused_by_pytorch(layer, input, calls) -> None:
    with pytest.raises(RuntimeError):
        conv_pool(input, layer, nn.Identity(), "relu")
    assert calls == []


@pytest.mark.parametrize(
    ("layer", "input"),
    [
        (Conv2d(3, 8, 5), torch.ones(0, 3, 8, 8)),
        (Conv2d(3, 8, 5), torch.ones(3, 8, 8)),  # an image that is no batch
        (Conv2d(3, 8, 5).to("meta"), torch.ones(2, 3, 8, 8, device="meta")),
        (Conv2d(3, 8, 5).to("meta"), torch.ones(2, 3, 8, 8)),
    ],
)
def test_what_the_kernel_does_not_take_pytorch_takes(layer, input, calls) -> None:
    output = conv_pool(input, layer, nn.Identity(), "relu")
    assert output.shape == textbook(input, layer, nn.Identity(), "relu").shape
    assert calls == []


def test_a_block_without_kernels_ends() -> None:
    convolution.train_with(gpu="gpu", cpu="cpu")
    with convolution.without_kernels():
        assert convolution._gpu_kernel is convolution._cpu_kernel is None
    assert (convolution._gpu_kernel, convolution._cpu_kernel) == ("gpu", "cpu")
