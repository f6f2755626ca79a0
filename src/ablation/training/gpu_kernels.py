"""Convolutions of few channels on a GPU, forward and backward, as Triton kernels.

cuDNN's are made for many channels. With those of the networks here, 3 to 64, most of these are faster: on an H100 they
bring a step of SimpleNN to half its time and one of ResNet-20 to two thirds (docs/performance.md). In the channels-last
format the input under one row of a filter is one run of memory, so a convolution is a product of such runs with the
weight, summed over the filter's rows. Every sum has a fixed order: the same GPU and version of Triton give the same
bits.

Tensor cores cut float32 factors to tf32 and sum in float32; bfloat16 factors they take as they are.
"""

from typing import Any

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor
from torch.nn.grad import conv2d_input

VERSION: str = triton.__version__
NUM_PROGRAMS = 528  # that share the work of a weight's gradient, about: four per multiprocessor of an H100


@triton.jit
def _convolve(
    input,
    weight,
    output,
    num_pixels,  # of the output
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    CHANNELS: tl.constexpr,
    OUT_HEIGHT: tl.constexpr,
    OUT_WIDTH: tl.constexpr,
    OUT_CHANNELS: tl.constexpr,
    SIZE: tl.constexpr,  # of a filter, high and wide
    STRIDE: tl.constexpr,
    PADDING: tl.constexpr,
    TRANSPOSED: tl.constexpr,  # the weight is that of the convolution whose gradient this is
    BLOCK_PIXELS: tl.constexpr,
    BLOCK_RUN: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
):
    pixel = tl.program_id(0) * BLOCK_PIXELS + tl.arange(0, BLOCK_PIXELS)
    out = tl.program_id(1) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    image, y, x = pixel // (OUT_HEIGHT * OUT_WIDTH), (pixel // OUT_WIDTH) % OUT_HEIGHT, pixel % OUT_WIDTH
    left = x * STRIDE - PADDING
    total = tl.zeros([BLOCK_PIXELS, BLOCK_OUT], tl.float32)
    for row in tl.static_range(SIZE):
        top = y * STRIDE - PADDING + row
        inside = (pixel < num_pixels) & (top >= 0) & (top < HEIGHT)
        begin = ((image * HEIGHT + top) * WIDTH + left) * CHANNELS
        for part in tl.static_range((SIZE * CHANNELS + BLOCK_RUN - 1) // BLOCK_RUN):
            place = part * BLOCK_RUN + tl.arange(0, BLOCK_RUN)
            in_run = place < SIZE * CHANNELS
            column = left[:, None] + (place // CHANNELS)[None, :]
            run = tl.load(
                input + begin[:, None] + place[None, :],
                mask=inside[:, None] & in_run[None, :] & (column >= 0) & (column < WIDTH),
                other=0.0,
            )
            if TRANSPOSED:
                tap = SIZE * (SIZE - 1 - row) + SIZE - 1 - place // CHANNELS
                begins = ((place % CHANNELS) * (SIZE * SIZE) + tap) * OUT_CHANNELS
                factors = weight + begins[:, None] + out[None, :]
            else:
                rows = (out * SIZE + row) * (SIZE * CHANNELS)
                factors = weight + rows[None, :] + place[:, None]
            factor = tl.load(factors, mask=in_run[:, None] & (out < OUT_CHANNELS)[None, :], other=0.0)
            total = tl.dot(run, factor, total, input_precision="tf32")
    tl.store(
        output + pixel[:, None] * OUT_CHANNELS + out[None, :],
        total.to(output.dtype.element_ty),
        mask=(pixel < num_pixels)[:, None] & (out < OUT_CHANNELS)[None, :],
    )


@triton.jit
def _weight_gradient(
    input,
    grad_output,
    sums,  # [programs along the first axis, OUT_CHANNELS, SIZE, SIZE, CHANNELS]
    num_pixels,
    pixels_each,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    CHANNELS: tl.constexpr,
    OUT_HEIGHT: tl.constexpr,
    OUT_WIDTH: tl.constexpr,
    OUT_CHANNELS: tl.constexpr,
    SIZE: tl.constexpr,
    STRIDE: tl.constexpr,
    PADDING: tl.constexpr,
    BLOCK_PIXELS: tl.constexpr,
    BLOCK_RUN: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
):
    split, row = tl.program_id(0), tl.program_id(1) % SIZE
    place = tl.program_id(1) // SIZE * BLOCK_RUN + tl.arange(0, BLOCK_RUN)
    out = tl.program_id(2) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    in_run = place < SIZE * CHANNELS
    total = tl.zeros([BLOCK_OUT, BLOCK_RUN], tl.float32)
    for start in range(0, pixels_each, BLOCK_PIXELS):
        pixel = split * pixels_each + start + tl.arange(0, BLOCK_PIXELS)
        image, y, x = pixel // (OUT_HEIGHT * OUT_WIDTH), (pixel // OUT_WIDTH) % OUT_HEIGHT, pixel % OUT_WIDTH
        top, left = y * STRIDE - PADDING + row, x * STRIDE - PADDING
        inside = (pixel < num_pixels) & (top >= 0) & (top < HEIGHT)
        column = left[:, None] + (place // CHANNELS)[None, :]
        run = tl.load(
            input + (((image * HEIGHT + top) * WIDTH + left) * CHANNELS)[:, None] + place[None, :],
            mask=inside[:, None] & in_run[None, :] & (column >= 0) & (column < WIDTH),
            other=0.0,
        )
        gradient = tl.load(
            grad_output + pixel[:, None] * OUT_CHANNELS + out[None, :],
            mask=(pixel < num_pixels)[:, None] & (out < OUT_CHANNELS)[None, :],
            other=0.0,
        )
        total = tl.dot(tl.trans(gradient), run, total, input_precision="tf32")
    begins = ((split * OUT_CHANNELS + out) * SIZE + row) * (SIZE * CHANNELS)
    tl.store(sums + begins[:, None] + place[None, :], total, mask=(out < OUT_CHANNELS)[:, None] & in_run[None, :])


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


def _block(length: int, most: int) -> int:
    """A power of two of 16 at the least, as Triton's products ask for."""
    return int(min(max(16, triton.next_power_of_2(length)), most))


def _convolved(
    input: Tensor, weight: Tensor, out_channels: int, stride: int, padding: int, transposed: bool = False
) -> Tensor:
    input, weight = (t.contiguous(memory_format=torch.channels_last) for t in (input, weight))
    num_images, channels, *lengths = input.shape
    size = weight.shape[-1]
    shape = (num_images, out_channels, *((length + 2 * padding - size) // stride + 1 for length in lengths))
    output = torch.empty(shape, dtype=input.dtype, device=input.device, memory_format=torch.channels_last)
    num_pixels = output.numel() // out_channels
    pixels, out = 128 if num_pixels > 128 * 128 else 64, _block(out_channels, 64)
    _convolve[triton.cdiv(num_pixels, pixels), triton.cdiv(out_channels, out)](
        input,
        weight,
        output,
        num_pixels,
        **_constants(input, output, size, stride, padding),
        TRANSPOSED=transposed,
        BLOCK_PIXELS=pixels,
        BLOCK_RUN=_block(size * channels, 64),
        BLOCK_OUT=out,
    )
    return output


@torch.library.custom_op("ablation::conv2d", mutates_args=())
def conv2d(input: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """`F.conv2d` of input [N, C, H, W] with square filters, weight [K, C, S, S], both float32 or both bfloat16.

    The output is in the channels-last format.
    """
    assert weight.shape[1:] == (input.shape[1], weight.shape[3], weight.shape[3])
    return _convolved(input, weight, weight.shape[0], stride, padding)


@torch.library.custom_op("ablation::conv2d_input_gradient", mutates_args=())
def input_gradient(grad_output: Tensor, weight: Tensor, padding: int) -> Tensor:
    """The gradient in the input, [N, C, H, W], of a `conv2d` of stride 1, itself a convolution.

    grad_output: [N, K, H', W']; weight: [K, C, S, S]; padding: pixels, that of the `conv2d`.
    """
    return _convolved(grad_output, weight, weight.shape[1], 1, weight.shape[3] - 1 - padding, transposed=True)


@torch.library.custom_op("ablation::conv2d_weight_gradient", mutates_args=())
def weight_gradient(input: Tensor, grad_output: Tensor, size: int, stride: int, padding: int) -> Tensor:
    """The gradient in the weight, [K, C, S, S], of a `conv2d`, in the type of the input.

    input: [N, C, H, W]; grad_output: [N, K, H', W']; size: S; stride, padding: pixels.
    """
    input, grad_output = (t.contiguous(memory_format=torch.channels_last) for t in (input, grad_output))
    channels, out_channels = input.shape[1], grad_output.shape[1]
    num_pixels = grad_output.numel() // out_channels
    # Few output channels at a time for tf32: on Hopper a wider product takes an instruction that is slow for it here.
    run, out = _block(size * channels, 64), _block(out_channels, 32 if input.dtype == torch.float32 else 64)
    runs, outs = size * triton.cdiv(size * channels, run), triton.cdiv(out_channels, out)
    pixels_each = max(64, triton.cdiv(num_pixels * runs * outs, NUM_PROGRAMS) // 64 * 64)
    splits = triton.cdiv(num_pixels, pixels_each)
    sums = torch.empty(splits, out_channels, size, size, channels, device=input.device)
    _weight_gradient[splits, runs, outs](
        input,
        grad_output,
        sums,
        num_pixels,
        pixels_each,
        **_constants(input, grad_output, size, stride, padding),
        BLOCK_PIXELS=64,
        BLOCK_RUN=run,
        BLOCK_OUT=out,
    )
    return sums.sum(0).permute(0, 3, 1, 2).to(input.dtype)


@conv2d.register_fake
def _(input: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    return F.conv2d(input, weight, stride=stride, padding=padding).contiguous(memory_format=torch.channels_last)


@input_gradient.register_fake
def _(grad_output: Tensor, weight: Tensor, padding: int) -> Tensor:
    return F.conv_transpose2d(grad_output, weight, padding=padding).contiguous(memory_format=torch.channels_last)


@weight_gradient.register_fake
def _(input: Tensor, grad_output: Tensor, size: int, stride: int, padding: int) -> Tensor:
    return input.new_empty(grad_output.shape[1], size, size, input.shape[1]).permute(0, 3, 1, 2)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    input, weight, ctx.stride, ctx.padding = inputs
    ctx.save_for_backward(input, weight)


def _backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
    input, weight = ctx.saved_tensors
    grad_input: Tensor | None = None
    if ctx.needs_input_grad[0] and ctx.stride == 1:
        grad_input = input_gradient(grad_output, weight, ctx.padding)
    elif ctx.needs_input_grad[0]:
        grad_input = conv2d_input(input.shape, weight, grad_output, ctx.stride, ctx.padding)
    grad_weight: Tensor | None = None
    if ctx.needs_input_grad[1]:
        grad_weight = weight_gradient(input, grad_output, weight.shape[3], ctx.stride, ctx.padding)
    return grad_input, grad_weight, None, None


conv2d.register_autograd(_backward, setup_context=_setup_context)
