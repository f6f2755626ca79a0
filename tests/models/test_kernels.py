import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ablation.models import convolution
from ablation.models.convolution import Conv2d, use_kernels

PROJECT = Path(__file__).parents[2]
SHAPES = {  # of the networks, and odd ones: channels, height and width, filters, their size, stride, padding
    "simple_nn.conv1": (3, 32, 8, 5, 1, 0),
    "simple_nn.conv2": (8, 14, 16, 3, 1, 0),
    "resnet20.stage1": (16, 32, 16, 3, 1, 1),
    "resnet20.stage2": (16, 32, 32, 3, 2, 1),
    "resnet20.stage3": (64, 8, 64, 3, 1, 1),
    "squeezenet.fire6": (24, 16, 96, 3, 1, 1),
    "pointwise": (48, 8, 24, 1, 1, 0),
    "odd": (3, 9, 5, 3, 2, 1),
}


def inputs(shape: str, num_images: int, device: str, dtype: torch.dtype) -> list[Tensor]:
    """Images, filters and gradients in the maps, of which the first two want gradients."""
    channels, length, filters, size, stride, padding = SHAPES[shape]
    generator = torch.Generator().manual_seed(0)
    shapes = [(num_images, channels, length, length), (filters, channels, size, size)]
    shapes.append(F.conv2d(*(torch.empty(s, device="meta") for s in shapes), stride=stride, padding=padding).shape)
    tensors = [torch.randn(s, generator=generator).to(device, dtype) for s in shapes]
    return [t.to(memory_format=torch.channels_last).requires_grad_(i < 2) for i, t in enumerate(tensors)]


def computed(shape: str, num_images: int, device: str, dtype: torch.dtype) -> list[Tensor]:
    """The kernels' maps and gradients in images and filters."""
    from ablation.models import kernels

    images, filters, gradients = inputs(shape, num_images, device, dtype)
    maps = kernels.convolution(images, filters, *SHAPES[shape][4:])
    assert maps.dtype == dtype and maps.is_contiguous(memory_format=torch.channels_last)
    return [maps, *torch.autograd.grad(maps, (images, filters), gradients)]


def relative_errors(shape: str, num_images: int, device: str, dtype: torch.dtype) -> list[float]:
    """Of `computed`, against PyTorch in double precision."""
    actual = computed(shape, num_images, device, dtype)
    images, filters, gradients = (t.detach().double() for t in inputs(shape, num_images, device, dtype))
    images.requires_grad_(), filters.requires_grad_()
    maps = F.conv2d(images, filters, stride=SHAPES[shape][4], padding=SHAPES[shape][5])
    expected = [maps, *torch.autograd.grad(maps, (images, filters), gradients)]
    return [((a.double() - e).norm() / e.norm()).item() for a, e in zip(actual, expected, strict=True)]


def test_in_tritons_interpreter_the_kernels_are_a_convolution_and_its_gradients() -> None:
    """On the CPU, in a process of its own: Triton decides when it is imported."""
    code = (
        "import json, torch\n"
        "from tests.models.test_kernels import SHAPES, relative_errors\n"
        "print(json.dumps({shape: relative_errors(shape, 3, 'cpu', torch.float32) for shape in SHAPES}))"
    )
    pytest.importorskip("triton")
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": f"{PROJECT / 'src'}{os.pathsep}{PROJECT}"}
    out = subprocess.run([sys.executable, "-c", code], env=environment, check=True, stdout=subprocess.PIPE, text=True)
    errors = json.loads(out.stdout)
    assert errors.keys() == SHAPES.keys()
    assert max(max(of_shape) for of_shape in errors.values()) < 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("num_images", [128, 72])
@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_on_a_gpu_they_round_as_tensor_cores_do_and_repeat_their_bits(shape, num_images, dtype) -> None:
    bound = 2e-3 if dtype == torch.float32 else 6e-3
    assert all(0 < error < bound for error in relative_errors(shape, num_images, "cuda", dtype))
    runs = [computed(shape, num_images, "cuda", dtype) for _ in range(2)]
    assert all(torch.equal(*pair) for pair in zip(*runs, strict=True))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize(
    ("tf32", "gradients", "autocast", "taken"),
    [(True, True, False, True), (False, True, True, True), (False, True, False, False), (True, False, False, False)],
)
def test_a_layer_takes_them_in_training_and_where_its_products_may_be_rounded(
    tf32, gradients, autocast, taken, monkeypatch
) -> None:
    monkeypatch.setattr(convolution, "_kernels", None)
    assert use_kernels(torch.device("cuda:0")) is None
    calls, kernel = [], convolution._kernels.convolution
    monkeypatch.setattr(convolution._kernels, "convolution", lambda *a: (calls.append(1), kernel(*a))[1])
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", tf32)
    torch.manual_seed(0)
    layer = Conv2d(16, 32, 3, padding=1).cuda().to(memory_format=torch.channels_last)
    images = torch.randn(64, 16, 16, 16, device="cuda").to(memory_format=torch.channels_last)
    with torch.set_grad_enabled(gradients), torch.autocast("cuda", torch.bfloat16, enabled=autocast):
        maps = layer(images)
    assert len(calls) == taken
    assert maps.dtype == (torch.bfloat16 if autocast else torch.float32)
    exact = F.conv2d(images.double(), layer.weight.double(), layer.bias.double(), padding=1)
    torch.testing.assert_close(maps.double(), exact, rtol=2e-2, atol=2e-2)


def test_without_triton_the_reason_is_told(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(convolution, "_kernels", None)
    assert use_kernels(torch.device("cuda:0")) == "Triton is not installed"
    assert convolution._kernels is None


def test_an_old_gpu_has_nothing_to_gain(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    monkeypatch.setattr(convolution, "_kernels", None)
    assert use_kernels(torch.device("cuda:0")) is None
    assert convolution._kernels is None


@pytest.mark.parametrize(
    ("num_images", "channels", "suits"), [(128, 64, True), (128, 65, False), (2**16 - 1, 16, True), (2**16, 16, False)]
)
def test_they_suit_few_channels_and_pixels(num_images: int, channels: int, suits: bool) -> None:
    images = torch.empty(num_images, channels, 32, 32, device="meta")
    assert Conv2d(channels, 32, 3, padding=1).suits_kernels(images) == suits
