"""SimpleNN's convolutions and what follows them, with this CPU's SIMD width and with narrower ones."""

import copy
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ablation.models.layers import CpuKernel
from ablation.training import cpu_kernels
from ablation.training.cpu_kernels import conv_pool

SHAPES = {  # channels, height, width, filters, their size
    "simple_nn.conv1": (3, 32, 32, 8, 5),
    "simple_nn.conv2": (8, 14, 14, 16, 3),
    "odd": (5, 11, 8, 7, 2),  # outputs of 10 x 7: the last column is in no pooling window
    "odd height": (1, 6, 4, 3, 2),  # of 5 x 3
    "pointwise": (2, 3, 4, 1, 1),
    "large filters": (3, 14, 15, 2, 12),  # with more and longer rows than are processed at a time
}


@pytest.fixture(params=["native", "x86-64-v3", "x86-64-v2"])  # the latter without AVX
def kernels(request: pytest.FixtureRequest, gcc: None, kernels_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param != "native" and torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"):
        pytest.skip("needs an x86 processor with AVX2")
    monkeypatch.setattr(cpu_kernels, "FLAGS", [*cpu_kernels.FLAGS, f"-march={request.param}"])
    cpu_kernels.load(kernels_folder)


@pytest.fixture
def threads() -> Iterator[None]:
    """Restores the number of threads, which a test may set."""
    num_threads = torch.get_num_threads()
    yield
    torch.set_num_threads(num_threads)


Layers = tuple[nn.Conv2d, nn.BatchNorm2d | None]


def layers(shape: str, batch_norm: bool, whole: bool) -> Layers:
    """With random weights or, if `whole`, with whole numbers, whose sums are all exact and often equal."""
    channels, _, _, filters, size = SHAPES[shape]
    generator = torch.Generator().manual_seed(0)
    conv, bn = nn.Conv2d(channels, filters, size), nn.BatchNorm2d(filters) if batch_norm else None
    with torch.no_grad():
        for parameter in parameters((conv, bn)):
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
            if whole:
                parameter.round_()
    return conv, bn


def parameters(layers: Layers) -> list[nn.Parameter]:
    return [p for layer in layers if layer is not None for p in layer.parameters()]


def images(shape: str, num_images: int, whole: bool) -> Tensor:
    tensor = torch.randn(num_images, *SHAPES[shape][:3], generator=torch.Generator().manual_seed(1))
    return (tensor.round() if whole else tensor).requires_grad_()


def expected(input: Tensor, conv: nn.Conv2d, bn: nn.BatchNorm2d | None, slope: float | None) -> Tensor:
    output = conv(input) if bn is None else bn(conv(input))
    if slope is None:
        return F.max_pool2d(F.silu(output), 2)
    maxima = F.max_pool2d(output, 2)
    return F.leaky_relu(maxima, slope) if slope else F.relu(maxima)


def results(f: CpuKernel, input: Tensor, layers: Layers, slope: float | None) -> dict[str, Tensor]:
    """Output, gradients and running statistics; the output gradient is whole numbers and not channels-last."""
    output = f(input, *layers, slope)
    grad_output = torch.randint(-4, 5, output.shape, generator=torch.Generator().manual_seed(2)).to(output.dtype)
    names = ("input", "weight", "bias", "gamma", "beta")
    gradients = torch.autograd.grad(output, [input, *parameters(layers)], grad_output)
    buffers = {} if layers[1] is None else {name: b.to(output) for name, b in layers[1].named_buffers()}
    return {"output": output, **dict(zip(names, gradients, strict=False)), **buffers}


def doubled(input: Tensor, layers: Layers) -> tuple[Tensor, Layers]:
    conv, bn = copy.deepcopy(layers)
    return input.detach().double().requires_grad_(), (conv.double(), bn if bn is None else bn.double())


@pytest.mark.parametrize("slope", [0.0, 0.25])
@pytest.mark.parametrize("num_images", [1, 16, 37])
@pytest.mark.parametrize("shape", SHAPES)
def test_they_equal_pytorchs_on_whole_numbers(shape, num_images, slope, kernels) -> None:
    """Ties, zeros and windows without a positive value included."""
    input, both = images(shape, num_images, whole=True), layers(shape, batch_norm=False, whole=True)
    ours, theirs = (results(f, input, both, slope) for f in (conv_pool, expected))
    assert ours["output"].is_contiguous(memory_format=torch.channels_last)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("whole", [False, True])  # windows with ties, batch norm of no or a negative scale
@pytest.mark.parametrize(
    ("batch_norm", "slope"), [(False, 0.25), (False, None), (True, 0.0), (True, 0.25), (True, None)]
)
@pytest.mark.parametrize("num_images", [2, 100])
@pytest.mark.parametrize("shape", SHAPES)
def test_they_are_as_exact_as_float32_allows(shape, num_images, batch_norm, slope, whole, kernels) -> None:
    """Batch norm removes mean and scale, from gradients too: what is left of those is smaller than its error."""
    input, both = images(shape, num_images, whole), layers(shape, batch_norm, whole)
    exact = results(expected, *doubled(input, both), slope)
    ours = results(conv_pool, input, both, slope)
    assert ours.keys() == exact.keys()
    for name, tensor in exact.items():
        allowed = 3e-6 * max(tensor.norm(), exact["output"].norm()) if batch_norm else 1e-6 * tensor.norm()
        assert (ours[name].double() - tensor).norm() <= allowed, name
    assert not batch_norm or (ours["bias"] == 0).all()


def test_swish_is_exact_from_end_to_end_of_its_range(kernels) -> None:
    """And its derivative, which vanishes on the left: there the error is measured relative to one."""
    values = torch.linspace(-100, 100, 4_001)
    input = values[:, None, None, None].expand(-1, 1, 2, 2).clone().requires_grad_()
    conv = nn.Conv2d(1, 1, 1)
    nn.init.ones_(conv.weight)
    nn.init.zeros_(conv.bias)
    # An output of one pooling window, whose values are all equal: the first counts as the largest.
    output = conv_pool(input, conv, None, None)
    (gradient,) = torch.autograd.grad(output.sum(), input)
    exact = values.double().requires_grad_()
    swish = F.silu(exact)
    (derivative,) = torch.autograd.grad(swish.sum(), exact)
    assert ((output.flatten() - swish).abs() <= 3e-7 * swish.abs() + 1e-30).all()
    assert ((gradient[:, 0, 0, 0] - derivative).abs() <= 2e-6).all()
    assert (gradient.flatten(1)[:, 1:] == 0).all()


@pytest.mark.parametrize(("batch_norm", "slope"), [(False, 0.0), (True, 0.0), (True, None)])
def test_threads_and_repetition_leave_the_bits_alone(batch_norm, slope, kernels, threads) -> None:
    input, both = images("simple_nn.conv2", 100, whole=False), layers("simple_nn.conv2", batch_norm, whole=False)
    runs = []
    for num_threads in (1, 2, 2, 5):
        torch.set_num_threads(num_threads)
        runs.append(results(conv_pool, input, copy.deepcopy(both), slope))
    for others in runs[1:]:
        assert all(torch.equal(others[name], tensor) for name, tensor in runs[0].items())


@pytest.mark.parametrize("slope", [0.0, 0.25])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_goes_where_pytorch_lets_it_go(value, slope, kernels) -> None:
    """But what no pooling window has taken does not reach the weight gradient; PyTorch multiplies it by zero."""
    input, both = images("simple_nn.conv2", 2, whole=True), layers("simple_nn.conv2", batch_norm=False, whole=True)
    with torch.no_grad():
        input[1, 3, 5, 7] = value
        both[0].bias[0] = -float("inf")  # of a filter that is never active
    ours, theirs = (results(f, input, both, slope) for f in (conv_pool, expected))
    if math.isnan(value):  # a pooling window with a NaN takes it
        assert ours["weight"][1:, 3].isnan().flatten(1).any(1).all()
    only_theirs = theirs["weight"].isnan() & ~ours["weight"].isnan()
    theirs["weight"][only_theirs] = ours["weight"][only_theirs]
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("slope", [0.0, None])
def test_batch_norm_of_what_is_not_finite_is_not_a_number(slope, kernels) -> None:
    input, both = images("simple_nn.conv2", 20, whole=False), layers("simple_nn.conv2", batch_norm=True, whole=False)
    with torch.no_grad():
        input[17, 3, 5, 7] = float("inf")
    for name, tensor in results(conv_pool, input, both, slope).items():
        assert name in ("bias", "beta", "num_batches_tracked") or tensor.isnan().any(), name
    assert conv_pool(input, *both, slope).isnan().all()


def test_memory_format_and_gradients_that_nobody_asks_for(kernels) -> None:
    input, (conv, _) = images("simple_nn.conv1", 20, whole=True), layers("simple_nn.conv1", False, whole=True)
    theirs = results(conv_pool, input, (conv, None), 0.0)
    input, conv = (t.to(memory_format=torch.channels_last) for t in (input.detach(), conv))
    output = conv_pool(input, conv, None, 0.0)
    grad_output = torch.randint(-4, 5, output.shape, generator=torch.Generator().manual_seed(2)).float()
    weight, bias = torch.autograd.grad(output, [conv.weight, conv.bias], grad_output)
    assert torch.equal(weight, theirs["weight"]) and torch.equal(bias, theirs["bias"])
    assert weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", ["weight", "gamma"])
def test_a_parameter_that_changes_before_the_backward_pass_is_noticed(name, kernels) -> None:
    input, (conv, bn) = images("simple_nn.conv1", 2, whole=True), layers("simple_nn.conv1", True, whole=True)
    conv = conv.to(memory_format=torch.channels_last)  # as in training
    output = conv_pool(input, conv, bn, 0.0)
    with torch.no_grad():
        (conv if name == "weight" else bn).weight.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()


def test_a_second_derivative_is_refused(kernels) -> None:
    input, (conv, _) = images("odd", 2, whole=True), layers("odd", False, whole=True)
    output = conv_pool(input, conv, None, 0.0)
    grad_output = torch.ones_like(output, requires_grad=True)
    (gradient,) = torch.autograd.grad(output, conv.weight, grad_output, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()
