"""Which of their kernels layers train with, by a stand-in for that of a CPU."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ablation.models import convolution
from ablation.models.convolution import UnpaddedConv2d


def pooled(input: Tensor, weight: Tensor, bias: Tensor, slope: float | None) -> Tensor:
    output = F.conv2d(input, weight, bias)
    return output if slope is None else F.leaky_relu(F.max_pool2d(output, 2), slope)


@pytest.fixture
def calls() -> list[float | None]:
    """The slopes with which layers call the kernel, which they may take from now on; it returns zeros."""
    slopes: list[float | None] = []
    convolution.train_with(
        cpu=lambda *arguments: (slopes.append(arguments[3]), torch.zeros_like(pooled(*arguments)))[1]
    )
    return slopes


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
def test_a_layer_trains_with_them_in_float32_and_uncompiled(
    dtype, gradients, autocast, compiling, taken, calls, monkeypatch
) -> None:
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: compiling)
    layer, input, slopes = UnpaddedConv2d(3, 8, 5).to(dtype), torch.randn(2, 3, 9, 10, dtype=dtype), (None, 0.0, 0.01)
    with torch.set_grad_enabled(gradients), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        outputs = layer(input), layer.pooled(input, 0.0), layer.pooled(input, 0.01)
    assert calls == (list(slopes) if taken else [])
    for output, slope in zip(outputs, slopes, strict=True):
        theirs = pooled(input, layer.weight, layer.bias, slope)
        close = {"rtol": 2e-2, "atol": 2e-2} if autocast else {"rtol": 1e-4, "atol": 1e-5}
        torch.testing.assert_close(output.to(dtype), torch.zeros_like(theirs) if taken else theirs, **close)


@pytest.mark.parametrize(
    ("layer", "input"),
    [
        (UnpaddedConv2d(3, 8, 5), torch.ones(2, 1, 8, 8)),  # another number of channels
        (UnpaddedConv2d(3, 8, 5), torch.ones(2, 3, 4, 9)),  # less than the filter
        (UnpaddedConv2d(3, 8, 5).double(), torch.ones(2, 3, 8, 8)),
    ],
)
def test_what_does_not_fit_a_layer_is_refused_by_pytorch(layer, input, calls) -> None:
    with pytest.raises(RuntimeError):
        layer(input)
    assert calls == []


@pytest.mark.parametrize(
    ("layer", "input"),
    [
        (UnpaddedConv2d(3, 8, 5), torch.ones(0, 3, 8, 8)),
        (UnpaddedConv2d(3, 8, 5), torch.ones(3, 8, 8)),  # an image that is no batch
        (UnpaddedConv2d(3, 8, 5), torch.ones(2, 3, 5, 8)),  # a map of one row, which has no window
        (UnpaddedConv2d(3, 8, 5).to("meta"), torch.ones(2, 3, 8, 8, device="meta")),
        (UnpaddedConv2d(3, 8, 5).to("meta"), torch.ones(2, 3, 8, 8)),
    ],
)
def test_what_the_kernel_does_not_take_pytorch_takes(layer, input, calls) -> None:
    assert layer(input).shape == F.conv2d(input, layer.weight, layer.bias).shape
    assert calls == []


def test_a_block_without_kernels_ends() -> None:
    convolution.train_with(gpu="gpu", cpu="cpu")
    with convolution.without_kernels():
        assert convolution._gpu_kernel is convolution._cpu_kernel is None
    assert (convolution._gpu_kernel, convolution._cpu_kernel) == ("gpu", "cpu")
