"""Which kernels layers train with, shown by stand-ins for those of a CPU and of a GPU."""

from collections import Counter
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ablation.configuration.study import resolve
from ablation.models import layers
from ablation.models.build import build_model
from ablation.models.layers import ACTIVATIONS, SLOPES, Conv2d, conv_pool

VARIANTS = resolve(str(Path(__file__).parents[2] / "params.yaml"))[1]


def textbook(input: Tensor, conv: Conv2d, bn: nn.Module, activation: str) -> Tensor:
    return F.max_pool2d(ACTIVATIONS[activation](bn(conv(input))), 2)


@pytest.fixture
def calls() -> list[tuple[bool, float | None]]:
    """Lets layers use a CPU kernel from now on; lists its calls: whether with batch norm, and the slope."""
    arguments: list[tuple[bool, float | None]] = []

    def kernel(input: Tensor, conv: nn.Conv2d, bn: nn.BatchNorm2d | None, slope: float | None) -> Tensor:
        arguments.append((bn is not None, slope))
        return torch.zeros_like(F.max_pool2d(conv(input), 2))

    layers.train_with(cpu=kernel)
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
        (Conv2d(3, 8, 5), torch.ones(2, 3, 4, 9)),  # smaller than the filter
        (Conv2d(3, 8, 5).double(), torch.ones(2, 3, 8, 8)),
        (Conv2d(3, 8, 5), torch.ones(2, 3, 5, 8)),  # an output of one row, too small for a pooling window
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
        (Conv2d(3, 8, 5), torch.ones(3, 8, 8)),  # an image without a batch dimension
        (Conv2d(3, 8, 5).to("meta"), torch.ones(2, 3, 8, 8, device="meta")),
        (Conv2d(3, 8, 5).to("meta"), torch.ones(2, 3, 8, 8)),
    ],
)
def test_what_the_kernel_does_not_take_pytorch_takes(layer, input, calls) -> None:
    output = conv_pool(input, layer, nn.Identity(), "relu")
    assert output.shape == textbook(input, layer, nn.Identity(), "relu").shape
    assert calls == []


def test_a_block_without_kernels_ends() -> None:
    layers.train_with(gpu="gpu", cpu="cpu")
    with layers.without_kernels():
        assert layers._gpu_kernels is layers._cpu_kernel is None
    assert (layers._gpu_kernels, layers._cpu_kernel) == ("gpu", "cpu")


@pytest.fixture
def gpu_calls(monkeypatch) -> list[str]:
    """The GPU kernels that layers call from now on, as if on a GPU."""
    names: list[str] = []

    def conv2d(input: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
        names.append("conv2d")
        return F.conv2d(input, weight, stride=stride, padding=padding)

    def depthwise_conv2d(input: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
        names.append("depthwise_conv2d")
        return F.conv2d(input, weight, stride=stride, padding=padding, groups=len(weight))

    def batch_norm(input: Tensor, bn: nn.BatchNorm2d, slope: float | None, shortcut: Tensor | None) -> Tensor:
        names.append("batch_norm")
        x = bn(input) if shortcut is None else bn(input) + shortcut
        return F.silu(x) if slope is None else F.leaky_relu(x, slope)

    monkeypatch.setattr(layers, "_trains_on_gpu", lambda input: torch.is_grad_enabled())
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    layers.train_with(gpu=layers.GpuKernels(conv2d, depthwise_conv2d, batch_norm))
    return names


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        ("simple_nn_aug", {"conv2d": 2}),
        ("simple_nn_bn", {"conv2d": 2, "batch_norm": 2}),
        ("simple_nn_bn_swish", {"conv2d": 2, "batch_norm": 2}),
        ("resnet20", {"conv2d": 21, "batch_norm": 21}),  # with two projections
        ("plain20", {"conv2d": 19, "batch_norm": 19}),
        ("resnet20_dws", {"conv2d": 21, "depthwise_conv2d": 18, "batch_norm": 39}),
        ("squeezenet", {"conv2d": 17, "batch_norm": 17}),  # conv1 and the expanding ones
        ("speedrun", {}),
    ],
)
def test_networks_train_with_a_gpus_and_compute_the_same(variant, expected, gpu_calls) -> None:
    torch.manual_seed(0)
    network, images = build_model(VARIANTS[variant].model), torch.randn(4, 3, 32, 32)
    logits = network(images)
    assert Counter(gpu_calls) == expected
    with layers.without_kernels():
        torch.testing.assert_close(logits, network(images))
    with torch.no_grad():
        network(images)
    network.eval()(images)
    assert Counter(gpu_calls)["batch_norm"] == expected.get("batch_norm", 0)  # in training alone


@pytest.mark.parametrize(
    ("input", "taken"),
    [
        (torch.empty(2, 8, 4, 4), True),
        (torch.empty(2, 8, 4, 4, dtype=torch.bfloat16), True),
        (torch.empty(2, 8, 4, 4, dtype=torch.float64), False),
        (torch.empty(0, 8, 4, 4), False),
        (torch.empty(1, 8, 1, 1), False),  # a single value of each channel, which PyTorch refuses
        (torch.empty(2**17, 8, 64, 64, device="meta"), False),  # too many elements for 32-bit indices
    ],
)
def test_what_a_gpus_do_not_take_pytorch_takes(input, taken, monkeypatch) -> None:
    class OnGpu:
        is_cuda = True

        def __getattr__(self, name: str) -> object:
            return getattr(input, name)

    layers.train_with(gpu=layers.GpuKernels(None, None, None))
    assert layers._norms_on_gpu(OnGpu(), nn.BatchNorm2d(8)) == taken
    with layers.without_kernels():
        assert not layers._norms_on_gpu(OnGpu(), nn.BatchNorm2d(8))


@pytest.mark.parametrize(
    ("tf32", "compiling", "expected"), [(False, False, {"batch_norm": 21}), (True, True, {"conv2d": 21})]
)
def test_not_all_of_a_gpus_suit_every_setting(tf32, compiling, expected, gpu_calls, monkeypatch) -> None:
    """fp32 truncates no operands; torch's compiler has a batch norm of its own."""
    network = build_model(VARIANTS["resnet20"].model)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", tf32)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: compiling)
    network(torch.randn(2, 3, 32, 32))
    assert Counter(gpu_calls) == expected
