"""The weight gradient of a depthwise convolution by Triton, in its interpreter and on a GPU."""

import json

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.training.interpreter import in_the_interpreter

SHAPES = {  # channels, height, width, stride
    "resnet20_dws.stage1": (16, 32, 32, 1),
    "resnet20_dws.stage2": (16, 32, 32, 2),
    "resnet20_dws.stage3": (64, 8, 8, 1),
    "odd": (24, 9, 14, 2),
}


def outputs(shape: str, num_images: int, device: str, dtype: torch.dtype, textbook: bool) -> list[Tensor]:
    """Output, input gradient, weight gradient; textbook: PyTorch's, in double precision."""
    from ablation.training.gpu_depthwise import depthwise_conv2d

    channels, height, width, stride = SHAPES[shape]
    generator = torch.Generator().manual_seed(0)
    input, weight = (
        torch.randn(s, generator=generator) for s in [(num_images, channels, height, width), (channels, 1, 3, 3)]
    )
    input, weight = (t.to(device, dtype) for t in (input, weight))
    input, weight = (input.double(), weight.double()) if textbook else (input, weight.float())
    input.requires_grad_(), weight.requires_grad_()
    if textbook:
        output = F.conv2d(input, weight, stride=stride, padding=1, groups=channels)
    else:
        output = depthwise_conv2d(input, weight, stride, 1)
    grad_output = torch.randn(output.shape, generator=generator).to(device, dtype).to(output.dtype)
    return [output, *torch.autograd.grad(output, (input, weight), grad_output)]


def relative_errors(shape: str, num_images: int, device: str, dtype: torch.dtype) -> list[float]:
    runs = (outputs(shape, num_images, device, dtype, textbook) for textbook in (False, True))
    return [((a.double() - e).norm() / e.norm()).item() for a, e in zip(*runs, strict=True)]


@pytest.mark.parametrize("parts", [528, 3])
def test_in_the_interpreter_it_is_the_gradient(parts) -> None:
    out = in_the_interpreter(
        "from tests.training.test_gpu_depthwise import SHAPES, relative_errors\n"
        f"from ablation.training import gpu_depthwise as kernels; kernels.NUM_PARTS = {parts}\n"
        "print(json.dumps({shape: relative_errors(shape, 2, 'cpu', torch.float32) for shape in SHAPES}))"
    )
    errors = json.loads(out)
    assert errors.keys() == SHAPES.keys()
    assert max(max(of_shape) for of_shape in errors.values()) < 2e-6


@pytest.mark.cuda
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 2e-3), (torch.bfloat16, 6e-3)], ids=str)
def test_on_a_gpu_it_is_exact_and_repeats_its_bits(dtype, bound, shape) -> None:
    """To tf32 precision, which cuDNN may use for the rest."""
    assert max(relative_errors(shape, 73, "cuda", dtype)) < bound
    runs = [outputs(shape, 73, "cuda", dtype, textbook=False) for _ in range(2)]
    assert torch.equal(runs[0][2], runs[1][2])
