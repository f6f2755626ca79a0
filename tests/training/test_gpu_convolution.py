"""Convolutions by Triton, in its interpreter and on a GPU."""

import json
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ablation.models import layers
from ablation.models.layers import Conv2d
from ablation.training.backend import use_kernels
from tests.training.interpreter import in_the_interpreter

SHAPES = {  # of the networks, and an odd one: channels, height, width, filters, their size, stride, padding
    "simple_nn.conv1": (3, 32, 32, 8, 5, 1, 0),
    "simple_nn.conv2": (8, 14, 14, 16, 3, 1, 0),
    "resnet20.stage1": (16, 32, 32, 16, 3, 1, 1),
    "resnet20.stage2": (16, 32, 32, 32, 3, 2, 1),
    "resnet20.stage3": (64, 8, 8, 64, 3, 1, 1),
    "squeezenet.fire6": (24, 16, 16, 96, 3, 1, 1),
    "pointwise": (48, 8, 8, 24, 1, 1, 0),
    "resnet20.shortcut": (16, 32, 32, 32, 1, 2, 0),
    "odd": (3, 9, 14, 5, 3, 2, 1),
    "skipping": (17, 11, 8, 70, 2, 3, 1),
}
GPU = torch.device("cuda:0")


def inputs(shape: str, num_images: int, device: str, dtype: torch.dtype) -> list[Tensor]:
    """Input, weight (float32 with values of `dtype`) and output gradient, none in the channels-last format."""
    channels, height, width, filters, size, stride, padding = SHAPES[shape]
    generator = torch.Generator().manual_seed(0)
    shapes = [(num_images, channels, height, width), (filters, channels, size, size)]
    shapes.append(F.conv2d(*(torch.empty(s, device="meta") for s in shapes), stride=stride, padding=padding).shape)
    input, weight, grad_output = (torch.randn(s, generator=generator).to(device, dtype) for s in shapes)
    return [input, weight.float(), grad_output]


def computed(shape: str, num_images: int, device: str, dtype: torch.dtype, channels_last: bool) -> list[Tensor]:
    """The kernels' output, input gradient and weight gradient."""
    from ablation.training import gpu_convolution as kernels

    tensors = inputs(shape, num_images, device, dtype)
    if channels_last:
        tensors = [t.to(memory_format=torch.channels_last) for t in tensors]
    input, weight, grad_output = tensors
    input.requires_grad_(), weight.requires_grad_()
    output = kernels.conv2d(input, weight, *SHAPES[shape][5:])
    assert output.dtype == dtype and output.is_contiguous(memory_format=torch.channels_last)
    gradients = torch.autograd.grad(output, (input, weight), grad_output)
    assert [g.dtype for g in gradients] == [dtype, torch.float32]
    return [output, *gradients]


def relative_errors(shape: str, num_images: int, device: str, dtype: torch.dtype, channels_last: bool) -> list[float]:
    """Of `computed`, against PyTorch in double precision."""
    actual = computed(shape, num_images, device, dtype, channels_last)
    input, weight, grad_output = (t.double() for t in inputs(shape, num_images, device, dtype))
    input.requires_grad_(), weight.requires_grad_()
    output = F.conv2d(input, weight, stride=SHAPES[shape][5], padding=SHAPES[shape][6])
    expected = [output, *torch.autograd.grad(output, (input, weight), grad_output)]
    return [((a.double() - e).norm() / e.norm()).item() for a, e in zip(actual, expected, strict=True)]


@pytest.mark.parametrize(
    ("num_programs", "channels_last"), [(264, True), (4, False)]
)  # few: more blocks of pixels each
def test_in_the_interpreter_the_kernels_are_a_convolution_and_its_gradients(num_programs, channels_last) -> None:
    out = in_the_interpreter(
        "from tests.training.test_gpu_convolution import SHAPES, relative_errors\n"
        f"from ablation.training import gpu_convolution as kernels; kernels.NUM_PROGRAMS = {num_programs}\n"
        f"print(json.dumps({{s: relative_errors(s, 2, 'cpu', torch.float32, {channels_last}) for s in SHAPES}}))"
    )
    errors = json.loads(out)
    assert errors.keys() == SHAPES.keys()
    assert max(max(of_shape) for of_shape in errors.values()) < 1e-5


def test_a_gradient_may_be_some_channels_of_a_larger_tensor() -> None:
    """As it is where outputs were concatenated; it is not copied."""
    out = in_the_interpreter(
        "from torch.nn.grad import conv2d_input, conv2d_weight\n"
        "from ablation.training import gpu_convolution as kernels\n"
        "torch.manual_seed(0)\n"
        "input, weight, whole = torch.randn(2, 8, 6, 5), torch.randn(16, 8, 3, 3), torch.randn(2, 40, 6, 5)\n"
        "part = whole.to(memory_format=torch.channels_last)[:, 24:]\n"
        "assert kernels.by_pixels(part)[0] is part and kernels.by_pixels(part)[1] == 40\n"
        "assert kernels.by_pixels(whole)[1] == 40\n"
        "close = torch.testing.assert_close\n"
        "close(kernels.input_gradient(part, weight, 6, 5, 1, 1), conv2d_input(input.shape, weight, part, padding=1))\n"
        "close(kernels.weight_gradient(input, part, 3, 1, 1), conv2d_weight(input, weight.shape, part, padding=1))\n"
        "print('close')"
    )
    assert out == "close\n"


def test_a_gradient_is_copied_where_32_bits_cannot_count_what_it_is_part_of() -> None:
    kernels = pytest.importorskip("ablation.training.gpu_convolution")
    whole = torch.empty(16_400, 128, 32, 32, device="meta", memory_format=torch.channels_last)
    assert kernels.by_pixels(whole[:16_000, 64:])[1] == 128
    assert kernels.by_pixels(whole[:, 64:])[1] == 64


def test_the_compiler_is_told_the_truth_about_them() -> None:
    """Shapes, memory format and gradients, as torch.library.opcheck compares them with what the kernels return."""
    out = in_the_interpreter(
        "from tests.training.test_gpu_convolution import SHAPES, inputs\n"
        "from ablation.training import gpu_convolution as k\n"
        "import functools\n"
        "for shape in ('resnet20.stage2', 'odd', 'simple_nn.conv2'):\n"
        "    check = torch.library.opcheck\n"
        "    input, weight, grad = inputs(shape, 2, 'cpu', torch.float32)\n"
        "    size, stride, padding = SHAPES[shape][4:]\n"
        "    check(k.conv2d, (input.requires_grad_(), weight.requires_grad_(), stride, padding))\n"
        "    check(k.weight_gradient, (input.detach(), grad, size, stride, padding))\n"
        "    check(k.gradients, (input.detach(), weight.detach(), grad, stride, padding))\n"
        "    check = functools.partial(check, test_utils=['test_schema', 'test_faketensor'])\n"  # not the values
        "    input, weight, grad = inputs(shape, 2, 'cpu', torch.bfloat16)\n"
        "    check(k.conv2d, (input, weight, stride, padding))\n"
        "    check(k.weight_gradient, (input, grad, size, stride, padding))\n"
        "    check(k.gradients, (input, weight, grad, stride, padding))\n"
        "print('checked')"
    )
    assert out == "checked\n"


@pytest.mark.parametrize(
    ("available", "num_bytes", "wanted", "stages"),
    [(232_448, 32_768, 4, 4), (101_376, 32_768, 4, 3), (101_376, 2**17, 4, 1)],
)
def test_a_smaller_gpu_has_fewer_blocks_under_way(available, num_bytes, wanted, stages, monkeypatch) -> None:
    kernels = pytest.importorskip("ablation.training.gpu_convolution")
    properties = SimpleNamespace(shared_memory_per_block_optin=available)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    assert kernels._stages(num_bytes, wanted, torch.device("cuda:0")) == stages


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("num_images", "channels_last"), [(128, True), (72, True), (73, False)])
def test_on_a_gpu_they_are_as_exact_as_tensor_cores_and_repeat_their_bits(
    num_images, channels_last, shape, dtype
) -> None:
    bound = 2e-3 if dtype == torch.float32 else 6e-3
    assert all(0 < error < bound for error in relative_errors(shape, num_images, "cuda", dtype, channels_last))
    runs = [computed(shape, num_images, "cuda", dtype, channels_last) for _ in range(2)]
    assert all(torch.equal(*pair) for pair in zip(*runs, strict=True))


def late(value: float) -> Tensor:
    """Float [10_000], filled with `value` after the current stream has slept for some 50 milliseconds."""
    torch.cuda._sleep(100_000_000)
    return torch.full((10_000,), value, device=GPU)


def nothing() -> Tensor:
    return torch.zeros(1, device=GPU)


@pytest.mark.cuda
def test_a_captured_step_waits_for_what_another_stream_computes_concurrently() -> None:
    from ablation.training.gpu_convolution import concurrently

    streams, graph = [], torch.cuda.CUDAGraph()

    def second() -> Tensor:
        streams.append(torch.cuda.current_stream())
        return late(3.0)

    with torch.cuda.graph(graph):
        current = torch.cuda.current_stream()
        used = concurrently(nothing, second, GPU)[1] + 1
    graph.replay()

    assert used.eq(4.0).all()
    assert streams != [current]


@pytest.mark.cuda
def test_a_gradient_in_use_is_not_overwritten_by_the_next_ones() -> None:
    from ablation.training.gpu_convolution import concurrently

    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        gradient = concurrently(nothing, lambda: late(1.0), GPU)[1]
        torch.cuda._sleep(100_000_000)
        used = gradient.clone()
        del gradient
        concurrently(nothing, lambda: torch.full_like(used, 2.0), GPU)
    graph.replay()

    assert used.eq(1.0).all()


@pytest.mark.cuda
def test_memory_that_is_full_on_the_current_stream_ends_the_capture_on_both() -> None:
    from ablation.training.gpu_convolution import concurrently

    with pytest.raises(torch.OutOfMemoryError), torch.cuda.graph(torch.cuda.CUDAGraph()):
        concurrently(lambda: torch.empty(2**50, dtype=torch.uint8, device=GPU), nothing, GPU)


@pytest.mark.cuda
def test_outside_a_capture_one_gradient_follows_the_other() -> None:
    """On a second stream a seed's gradients would be overwritten by those of another seed."""
    from ablation.training.gpu_convolution import concurrently

    streams = []
    concurrently(nothing, lambda: (streams.append(torch.cuda.current_stream()), nothing())[1], GPU)
    assert streams == [torch.cuda.current_stream()]


@pytest.mark.cuda
@pytest.mark.parametrize(
    ("tf32", "gradients", "autocast", "taken"),
    [(True, True, False, True), (False, True, True, True), (False, True, False, False), (True, False, False, False)],
)
def test_a_layer_takes_them_in_training_and_where_its_factors_may_be_cut(
    tf32, gradients, autocast, taken, variant_params, monkeypatch
) -> None:
    use_kernels(variant_params("resnet20"), GPU, 100)
    calls, kernels = [], layers._gpu_kernels
    counted = kernels._replace(conv2d=lambda *arguments: (calls.append(1), kernels.conv2d(*arguments))[1])
    layers.train_with(gpu=counted)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", tf32)
    torch.manual_seed(0)
    layer = Conv2d(16, 32, 3, padding=1).to(GPU, memory_format=torch.channels_last)
    input = torch.randn(64, 16, 16, 16, device=GPU).to(memory_format=torch.channels_last)
    with torch.set_grad_enabled(gradients), torch.autocast("cuda", torch.bfloat16, enabled=autocast):
        output = layer(input)
    assert len(calls) == taken
    assert output.dtype == (torch.bfloat16 if autocast else torch.float32)
    exact = nn.Conv2d(16, 32, 3, padding=1).to(GPU, torch.double)
    exact.load_state_dict(layer.state_dict())
    expected = exact(input.double())
    torch.testing.assert_close(output.double(), expected, rtol=2e-2, atol=2e-2)
    if gradients:
        output.float().square().mean().backward()
        expected.square().mean().backward()
        for ours, theirs in zip(layer.parameters(), exact.parameters(), strict=True):
            assert ours.grad.dtype == torch.float32
            assert (ours.grad - theirs.grad).norm() < 2e-2 * theirs.grad.norm()


@pytest.mark.parametrize(
    ("num_images", "channels", "suits"), [(128, 64, True), (128, 65, False), (58_000, 16, True), (59_000, 16, False)]
)
def test_they_suit_few_channels_and_elements(num_images: int, channels: int, suits: bool) -> None:
    input = torch.empty(num_images, channels, 32, 32, device="meta")
    assert Conv2d(channels, 32, 3, padding=1).suits_kernel(input) == suits
