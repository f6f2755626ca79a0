"""Convolutions with few channels on a GPU, forward and backward, in Triton kernels.

cuDNN's kernels are made for many channels. With the 3 to 64 of the networks here, most of ours are faster
(docs/performance.md). Every sum has a fixed order: the same GPU and version of Triton give the same bits.
"""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import torch
import triton
from torch import Tensor

from ablation.training import gpu_convolution_kernels as kernels

R = TypeVar("R")
VERSION: str = triton.__version__
FEW_CHANNELS = 16  # below this, one tap (filter position) underfills a matrix product: rows of a filter are taken whole
# About this many programs share the weight gradient of a block of filters: two per multiprocessor of an H100. More
# would leave more partial sums to add up.
NUM_PROGRAMS = 264
MIN_BLOCKS = 4  # of pixels, in a program
BLOCK_PIXELS = 32


def sum_parts(parts: Tensor) -> Tensor:
    """The sum over the first axis of partial sums `parts`, contiguous float32 [P, ...] with a small P."""
    output = torch.empty_like(parts[0])
    max_parts = triton.next_power_of_2(len(parts))
    block = max(4, min(64, 8192 // max_parts))
    kernels.sum_parts[(triton.cdiv(output.numel(), block),)](
        parts, output, len(parts), LENGTH=output.numel(), MAX_PARTS=max_parts, BLOCK=block
    )
    return output


@functools.cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)


def concurrently(
    first: Callable[[], Tensor], second: Callable[[], Tensor], device: torch.device
) -> tuple[Tensor, Tensor]:
    """The results of both: of two gradients, neither of which keeps a GPU busy alone.

    In a captured step the second runs on a side stream, whose memory is reused only after it has next waited for the
    current stream. Elsewhere it follows the first: seeds would share the side stream without waiting for each other.
    """
    if device.type != "cuda" or not torch.cuda.is_current_stream_capturing():
        return first(), second()
    current, side = torch.cuda.current_stream(device), _side_stream(device)
    side.wait_stream(current)
    try:
        with torch.cuda.stream(side):
            result = second()
        return first(), result
    finally:
        current.wait_stream(side)  # also if one of them fails: a capture cannot end with an unjoined stream


def by_pixels(tensor: Tensor) -> tuple[Tensor, int]:
    """`tensor` [N, C, H, W] with the channels of a pixel contiguous, and the elements from one pixel to the next.

    A slice of the channels of a channels-last tensor is so already, and not copied if 32 bits can index its elements.
    """
    num_images, channels, height, width = tensor.shape
    pitch = tensor.stride(3)
    strides = height * width * pitch, 1, width * pitch, pitch
    if pitch >= channels and tensor.stride() == strides and num_images * strides[0] < 2**31:
        return tensor, pitch
    return tensor.contiguous(memory_format=torch.channels_last), channels


def _constants(input: Tensor, output: Tensor, size: int, stride: int, padding: int) -> dict[str, int]:
    return {
        "HEIGHT": input.shape[2],
        "WIDTH": input.shape[3],
        "CHANNELS": input.shape[1],
        "OUT_HEIGHT": output.shape[2],
        "OUT_WIDTH": output.shape[3],
        "OUT_CHANNELS": output.shape[1],
        "SIZE": size,
        "STRIDE": stride,
        "PADDING": padding,
    }


def _stages(num_bytes: int, wanted: int, device: torch.device) -> int:
    """Software-pipelining stages of a loop: `wanted`, or fewer if shared memory lacks room at `num_bytes` each."""
    if device.type != "cuda":  # Triton's interpreter
        return wanted
    properties = torch.cuda.get_device_properties(device)
    available: int = properties.shared_memory_per_block_optin  # type: ignore[attr-defined]
    return max(1, min(wanted, available // num_bytes))


def _empty(shape: tuple[int, ...], like: Tensor) -> Tensor:
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)


def _cast(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """weight [K, C, S, S] converted to `dtype` and the channels-last format, with one copy at most."""
    if weight.dtype == dtype:
        return weight.contiguous(memory_format=torch.channels_last)
    return weight.to(dtype, memory_format=torch.channels_last)


def _block(length: int, most: int) -> int:
    """A block size for `length`: a power of two, at least 16, as `tl.dot` requires, and at most `most`."""
    return int(min(max(16, triton.next_power_of_2(length)), most))


def _convolve_into(output: Tensor, input: Tensor, weight: Tensor, stride: int, padding: int, transposed: bool) -> None:
    """output: [N, K, H', W'] in the channels-last format; weight: [K, C, S, S]."""
    input, pitch = by_pixels(input)
    weight = _cast(weight, input.dtype)
    channels, size, out_channels = input.shape[1], weight.shape[3], weight.shape[0]
    num_phases = stride**2 if transposed else 1
    lengths = [triton.cdiv(length, stride) if transposed else length for length in output.shape[2:]]
    num_pixels = len(output) * lengths[0] * lengths[1]
    taps = size if channels < FEW_CHANNELS and pitch == channels and not transposed else 1
    many = num_pixels >= 256 * 128  # for about two programs per multiprocessor of an H100
    # With few programs loads are pipelined deeper, since no other program computes while one waits. Rows of few
    # channels are no multiple of 16 bytes: with prefetching they took half as long again.
    stages = 1 if taps > 1 else 2 if many else 4
    pixels, run, out = 128 if many else 64, _block(taps * channels, 64), _block(out_channels, 64)
    kernels.convolve[triton.cdiv(num_pixels, pixels), triton.cdiv(out_channels, out), num_phases](
        input,
        weight,
        output,
        num_pixels,
        **_constants(input, output, size, stride, padding),
        PITCH=pitch,
        TRANSPOSED=transposed,
        TAPS=taps,
        BLOCK_PIXELS=pixels,
        BLOCK_RUN=run,
        BLOCK_OUT=out,
        num_stages=_stages((pixels + out) * run * input.element_size(), stages, input.device),
    )


def _operator(name: str) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Like torch.library.custom_op, which spends a second importing torch's compiler on the first call."""

    def decorate(function: Callable[..., R]) -> Callable[..., R]:
        torch.library.define(f"ablation::{name}", torch.library.infer_schema(function, mutates_args=()))
        torch.library.impl(f"ablation::{name}", "default", function)
        operator: Callable[..., R] = getattr(torch.ops.ablation, name).default
        return operator

    return decorate


def _output_shape(input: Tensor, weight: Tensor, stride: int, padding: int) -> tuple[int, ...]:
    lengths = ((length + 2 * padding - weight.shape[3]) // stride + 1 for length in input.shape[2:])
    return len(input), len(weight), *lengths


@_operator("conv2d")
def conv2d(input: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """`F.conv2d` of input [N, C, H, W], float32 or bfloat16, with square filters, weight [K, C, S, S], float32.

    The output has the input's dtype and the channels-last format.
    """
    assert weight.shape[1:] == (input.shape[1], weight.shape[3], weight.shape[3])
    output = _empty(_output_shape(input, weight, stride, padding), input)
    _convolve_into(output, input, weight, stride, padding, transposed=False)
    return output


def input_gradient(grad_output: Tensor, weight: Tensor, height: int, width: int, stride: int, padding: int) -> Tensor:
    """The input gradient, [N, C, height, width], of a `conv2d`.

    grad_output: [N, K, H', W']; weight: [K, C, S, S]; stride, padding: pixels, those of the `conv2d`.
    """
    shape = len(grad_output), weight.shape[1], height, width
    output = _empty(shape, grad_output)
    _convolve_into(output, grad_output, weight.transpose(0, 1), stride, padding, transposed=True)
    return output


@_operator("conv2d_weight_gradient")
def weight_gradient(input: Tensor, grad_output: Tensor, size: int, stride: int, padding: int) -> Tensor:
    """The weight gradient, [K, C, S, S], of a `conv2d`, float32.

    input: [N, C, H, W]; grad_output: [N, K, H', W']; size: S; stride, padding: pixels.
    """
    input = input.contiguous(memory_format=torch.channels_last)
    grad_output, pitch = by_pixels(grad_output)
    channels, out_channels = input.shape[1], grad_output.shape[1]
    num_pixels = grad_output.numel() // out_channels
    few = channels < FEW_CHANNELS
    # Fewer output channels at a time for tf32: on Hopper a wider product uses an instruction that is slow for it here.
    run, out = _block(size * channels, 64), _block(out_channels, 32 if input.dtype == torch.float32 else 64)
    rows = 3 if size == 3 else 1
    num_runs = size // rows * triton.cdiv(size * channels, run)
    blocks_each = num_pixels * num_runs // (NUM_PROGRAMS * (2 if few else 1) * BLOCK_PIXELS)
    pixels_each = max(MIN_BLOCKS, blocks_each) * BLOCK_PIXELS
    num_splits = triton.cdiv(num_pixels, pixels_each)
    sums = torch.empty(num_splits, out_channels, size, size, channels, device=input.device)
    kernels.weight_gradient[num_splits, num_runs, triton.cdiv(out_channels, out)](
        input,
        grad_output,
        sums,
        num_pixels,
        pixels_each,
        **_constants(input, grad_output, size, stride, padding),
        PITCH=pitch,
        ROWS=rows,
        BLOCK_PIXELS=BLOCK_PIXELS,
        BLOCK_RUN=run,
        BLOCK_OUT=out,
        num_warps=2 if few else 4,
        num_stages=_stages((rows * run + out) * BLOCK_PIXELS * input.element_size(), 1 if few else 3, input.device),
    )
    return sum_parts(sums).permute(0, 3, 1, 2)


@_operator("conv2d_gradients")
def gradients(input: Tensor, weight: Tensor, grad_output: Tensor, stride: int, padding: int) -> tuple[Tensor, Tensor]:
    """The `input_gradient`, [N, C, H, W], and the `weight_gradient`, [K, C, S, S], of a `conv2d`.

    input: [N, C, H, W]; weight: [K, C, S, S]; grad_output: [N, K, H', W']; stride, padding: pixels.
    """
    return concurrently(
        lambda: input_gradient(grad_output, weight, input.shape[2], input.shape[3], stride, padding),
        lambda: weight_gradient(input, grad_output, weight.shape[3], stride, padding),
        input.device,
    )


@torch.library.register_fake("ablation::conv2d")  # type: ignore[untyped-decorator]
def _(input: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    return _empty(_output_shape(input, weight, stride, padding), input)


@torch.library.register_fake("ablation::conv2d_weight_gradient")  # type: ignore[untyped-decorator]
def _(input: Tensor, grad_output: Tensor, size: int, stride: int, padding: int) -> Tensor:
    shape = grad_output.shape[1], size, size, input.shape[1]
    return input.new_empty(shape, dtype=torch.float32).permute(0, 3, 1, 2)


@torch.library.register_fake("ablation::conv2d_gradients")  # type: ignore[untyped-decorator]
def _(input: Tensor, weight: Tensor, grad_output: Tensor, stride: int, padding: int) -> tuple[Tensor, Tensor]:
    return _empty(tuple(input.shape), input), _empty(tuple(weight.shape), weight)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    input, weight, ctx.stride, ctx.padding = inputs
    ctx.save_for_backward(input, weight)


def _backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, Tensor, None, None]:
    input, weight = ctx.saved_tensors
    if ctx.needs_input_grad[0]:
        return *gradients(input, weight, grad_output, ctx.stride, ctx.padding), None, None
    return None, weight_gradient(input, grad_output, weight.shape[3], ctx.stride, ctx.padding), None, None


torch.library.register_autograd("ablation::conv2d", _backward, setup_context=_setup_context)
