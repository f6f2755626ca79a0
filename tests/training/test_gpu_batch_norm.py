"""Batch norm by Triton, with a shortcut and an activation, in its interpreter and on a GPU."""

import copy
import json

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ablation.models import layers
from ablation.models.build import build_model
from ablation.models.layers import norm_activation
from ablation.training.backend import use_kernels
from tests.training.interpreter import in_the_interpreter

CASES = {  # channels, height and width, slope of the activation below zero (None: Swish), whether there is a shortcut
    "resnet20.stage1": (16, 32, 0.0, True),
    "resnet20.stage3": (64, 8, 0.0, False),
    "resnet20.shortcut": (32, 16, 1.0, False),
    "simple_nn.conv1": (8, 28, None, False),
    "squeezenet.fire6": (192, 4, 0.0, False),
    "leaky": (24, 5, 0.01, True),
    "swish and shortcut": (48, 3, None, True),
    "odd": (3, 7, 0.0, True),
}
CORNER = 1e-4  # far more than the error of a float32 there
GPU = torch.device("cuda:0")


def inputs(case: str, num_images: int, device: str, dtype: torch.dtype) -> tuple[Tensor, Tensor | None, Tensor]:
    """Input, with a mean far from zero, shortcut and output gradient, all in the default memory format.

    The gradient is zero where a rounding error could fall on the other side of a ReLU's kink.
    """
    channels, length, _, with_shortcut = CASES[case]
    generator = torch.Generator().manual_seed(0)
    shape = num_images, channels, length, length
    made = [torch.randn(shape, generator=generator).to(device, dtype) for _ in range(3)]
    input, shortcut = 3 * made[0] + 50, made[1] if with_shortcut else None
    with torch.no_grad():
        z = layer(case, device).double()(input.double())
    z = z if shortcut is None else z + shortcut
    return input, shortcut, made[2].where(z.abs() > CORNER, 0.0)


def layer(case: str, device: str) -> nn.BatchNorm2d:
    bn = nn.BatchNorm2d(CASES[case][0])
    generator = torch.Generator().manual_seed(1)
    for tensor in (bn.weight.data, bn.bias.data, bn.running_mean):
        tensor.normal_(generator=generator)
    return bn.to(device)


def computed(case: str, num_images: int, device: str, dtype: torch.dtype) -> list[Tensor]:
    """The kernels' output, gradients of input, weight, bias and shortcut, and running statistics."""
    from ablation.training.gpu_batch_norm import batch_norm

    input, shortcut, grad_output = inputs(case, num_images, device, dtype)
    bn = layer(case, device)
    leaves = [t.requires_grad_() for t in (input, bn.weight, bn.bias, shortcut) if t is not None]
    output = batch_norm(input, bn, CASES[case][2], shortcut)
    assert output.dtype == dtype and output.is_contiguous(memory_format=torch.channels_last)
    gradients = torch.autograd.grad(output, leaves, grad_output)
    assert bn.num_batches_tracked == 1
    return [output, *gradients, bn.running_mean, bn.running_var]


def relative_errors(case: str, num_images: int, device: str, dtype: torch.dtype) -> list[float]:
    """Of `computed`, against PyTorch in double precision."""
    actual = computed(case, num_images, device, dtype)
    input, shortcut, grad_output = (None if t is None else t.double() for t in inputs(case, num_images, device, dtype))
    bn, slope = layer(case, device).double(), CASES[case][2]
    leaves = [t.requires_grad_() for t in (input, bn.weight, bn.bias, shortcut) if t is not None]
    z = bn(input) if shortcut is None else bn(input) + shortcut
    output = F.silu(z) if slope is None else F.leaky_relu(z, slope)
    expected = [output, *torch.autograd.grad(output, leaves, grad_output), bn.running_mean, bn.running_var]
    return [((a.double() - e).norm() / e.norm()).item() for a, e in zip(actual, expected, strict=True)]


@pytest.mark.parametrize(("parts", "programs"), [(256, 528), (3, 2)])  # few: each takes several blocks of rows
def test_in_the_interpreter_the_kernels_are_batch_norm_and_what_follows(parts, programs) -> None:
    out = in_the_interpreter(
        "from tests.training.test_gpu_batch_norm import CASES, relative_errors\n"
        "from ablation.training import gpu_batch_norm as kernels\n"
        f"kernels.NUM_PARTS, kernels.NUM_PROGRAMS, kernels.BLOCK = {parts}, {programs}, {4096 if parts > 3 else 256}\n"
        "print(json.dumps({case: relative_errors(case, 3, 'cpu', torch.float32) for case in CASES}))"
    )
    errors = json.loads(out)
    assert errors.keys() == CASES.keys()
    assert max(max(of_case) for of_case in errors.values()) < 5e-6


def test_an_atypical_corner_costs_no_digits_and_minus_infinity_is_for_relu_zero() -> None:
    out = in_the_interpreter(
        "from torch import nn\n"
        "from ablation.training.gpu_batch_norm import batch_norm\n"
        "torch.manual_seed(0)\n"
        "input, bn = 5 + 0.005 * torch.randn(4, 8, 6, 6), nn.BatchNorm2d(8)\n"
        "input[0, :, 0, 0] = 0\n"
        "torch.testing.assert_close(batch_norm(input, bn, 1.0), nn.BatchNorm2d(8)(input), rtol=1e-3, atol=1e-4)\n"
        "nn.init.constant_(bn.bias, -torch.inf)\n"
        "output = batch_norm(input.requires_grad_(), bn, 0.0)\n"
        "output.backward(torch.full_like(output, torch.inf))\n"
        "print(output.abs().max().item(), bn.bias.grad.abs().max().item())"
    )
    assert out == "0.0 0.0\n"


@pytest.mark.cuda
@pytest.mark.parametrize("num_images", [128, 73])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 5e-6), (torch.bfloat16, 5e-3)], ids=str)
def test_on_a_gpu_they_are_exact_and_repeat_their_bits(dtype, bound, case, num_images) -> None:
    assert max(relative_errors(case, num_images, "cuda", dtype)) < bound
    runs = [computed(case, num_images, "cuda", dtype) for _ in range(2)]
    assert all(torch.equal(*pair) for pair in zip(*runs, strict=True))


@pytest.mark.cuda
@pytest.mark.parametrize(
    ("training", "gradients", "compiling", "taken"),
    [(True, True, False, True), (False, True, False, False), (True, False, False, False), (True, True, True, False)],
)
def test_a_layer_takes_them_in_training(training, gradients, compiling, taken, variant_params, monkeypatch) -> None:
    use_kernels(variant_params("resnet20"), GPU, 100)
    calls, kernels = [], layers._gpu_kernels
    counted = kernels._replace(batch_norm=lambda *arguments: (calls.append(1), kernels.batch_norm(*arguments))[1])
    layers.train_with(gpu=counted)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: compiling)
    input, shortcut, _ = (t.requires_grad_() for t in inputs("resnet20.stage1", 8, "cuda", torch.float32))
    bn = layer("resnet20.stage1", "cuda").train(training)
    expected = F.silu(copy.deepcopy(bn)(input) + shortcut)
    with torch.set_grad_enabled(gradients):
        torch.testing.assert_close(norm_activation(input, bn, "swish", shortcut), expected)
    assert len(calls) == taken


@pytest.mark.cuda
@pytest.mark.parametrize("variant", ["simple_nn_bn_swish", "simple_nn_bn", "resnet20", "resnet20_dws", "squeezenet"])
def test_whole_networks_have_the_gradients_of_double_precision(variant, variant_params, monkeypatch) -> None:
    """With cuDNN's convolutions in fp32. Some ReLUs near zero switch by rounding: PyTorch's own are up to 0.02 off."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    use_kernels(variant_params(variant), GPU, 100)
    torch.manual_seed(0)
    network = build_model(variant_params(variant).model).to(GPU, memory_format=torch.channels_last)
    exact = copy.deepcopy(network).double()
    images, labels = torch.randn(64, 3, 32, 32, device=GPU), torch.arange(64, device=GPU) % 10
    F.cross_entropy(network(images), labels).backward()
    with layers.without_kernels():
        F.cross_entropy(exact(images.double()), labels).backward()
    ours, theirs = (torch.cat([p.grad.flatten().double() for p in n.parameters()]) for n in (network, exact))
    assert (ours - theirs).norm() < 5e-2 * theirs.norm()
    for buffer, other in zip(network.buffers(), exact.buffers(), strict=True):
        torch.testing.assert_close(buffer.double(), other.double(), rtol=1e-4, atol=1e-4)
