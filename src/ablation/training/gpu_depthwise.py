"""Depthwise convolutions on a GPU: cuDNN's, except for the weight gradient, by far its slowest part.

A Triton kernel computes its partial sums, which are added in a fixed order: the same GPU and version of Triton give the
same bits.
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from ablation.training.gpu_convolution import concurrently, sum_parts

NUM_PARTS = 528  # at most: four per multiprocessor of an H100
BLOCK = 1024  # elements of a feature map that a program processes at a time


@triton.jit
def _weight_gradient(
    input,
    grad_output,
    sums,  # partial: [programs along the first axis, CHANNELS, SIZE * SIZE]
    num_pixels,  # of the output
    pixels_each,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    CHANNELS: tl.constexpr,
    OUT_HEIGHT: tl.constexpr,
    OUT_WIDTH: tl.constexpr,
    SIZE: tl.constexpr,
    STRIDE: tl.constexpr,
    PADDING: tl.constexpr,
    BLOCK_PIXELS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
):
    channel = tl.program_id(1) * BLOCK_CHANNELS + tl.arange(0, BLOCK_CHANNELS)
    totals = (tl.zeros([BLOCK_PIXELS, BLOCK_CHANNELS], tl.float32),) * (SIZE * SIZE)
    for start in range(0, pixels_each, BLOCK_PIXELS):
        pixel = tl.program_id(0) * pixels_each + start + tl.arange(0, BLOCK_PIXELS)
        exists = pixel < num_pixels
        image, y, x = pixel // (OUT_HEIGHT * OUT_WIDTH), (pixel // OUT_WIDTH) % OUT_HEIGHT, pixel % OUT_WIDTH
        top, left = y * STRIDE - PADDING, x * STRIDE - PADDING
        at = input + (((image * HEIGHT + top) * WIDTH + left) * CHANNELS)[:, None] + channel[None, :]
        gradient = tl.load(
            grad_output + pixel[:, None] * CHANNELS + channel[None, :], mask=exists[:, None], other=0.0
        ).to(tl.float32)
        sums_so_far = ()
        for tap in tl.static_range(SIZE * SIZE):
            row, column = tap // SIZE, tap % SIZE
            inside = exists & (top + row >= 0) & (top + row < HEIGHT) & (left + column >= 0) & (left + column < WIDTH)
            value = tl.load(at + (row * WIDTH + column) * CHANNELS, mask=inside[:, None], other=0.0)
            sums_so_far += (totals[tap] + gradient * value.to(tl.float32),)  # type: ignore[assignment]
        totals = sums_so_far
    for tap in tl.static_range(SIZE * SIZE):
        at = (tl.program_id(0) * CHANNELS + channel) * (SIZE * SIZE) + tap
        tl.store(sums + at, tl.sum(totals[tap], 0))


def weight_gradient(input: Tensor, grad_output: Tensor, size: int, stride: int, padding: int) -> Tensor:
    """The weight gradient, [C, 1, S, S], float32, of a depthwise convolution with square filters.

    input: [N, C, H, W]; grad_output: [N, C, H', W']; size: S; stride, padding: pixels.
    """
    input, grad_output = (t.contiguous(memory_format=torch.channels_last) for t in (input, grad_output))
    channels = input.shape[1]
    block_channels = min(channels & -channels, 64)
    block_pixels, num_blocks = BLOCK // block_channels, channels // block_channels
    num_pixels = grad_output.numel() // channels
    pixels_each = triton.cdiv(num_pixels * num_blocks, NUM_PARTS * block_pixels) * block_pixels
    num_parts = triton.cdiv(num_pixels, pixels_each)
    sums = torch.empty(num_parts, channels, size * size, device=input.device)
    _weight_gradient[num_parts, num_blocks](
        input,
        grad_output,
        sums,
        num_pixels,
        pixels_each,
        HEIGHT=input.shape[2],
        WIDTH=input.shape[3],
        CHANNELS=channels,
        OUT_HEIGHT=grad_output.shape[2],
        OUT_WIDTH=grad_output.shape[3],
        SIZE=size,
        STRIDE=stride,
        PADDING=padding,
        BLOCK_PIXELS=block_pixels,
        BLOCK_CHANNELS=block_channels,
    )
    return sum_parts(sums).view(channels, 1, size, size)


class _DepthwiseConv2d(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
        weight = weight.to(input.dtype)
        ctx.save_for_backward(input, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(input, weight, None, stride, padding, groups=len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        input, weight = ctx.saved_tensors
        settings = (ctx.stride,) * 2, (ctx.padding,) * 2, (1, 1), False, (0, 0), len(weight)

        def input_gradient() -> Tensor:
            gradients = torch.ops.aten.convolution_backward(
                grad_output, input, weight, None, *settings, [True, False, False]
            )
            return cast(Tensor, gradients[0])

        gradients = concurrently(
            input_gradient,
            lambda: weight_gradient(input, grad_output, weight.shape[3], ctx.stride, ctx.padding),
            input.device,
        )
        return *gradients, None, None


def depthwise_conv2d(input: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """Depthwise `F.conv2d` of input [N, C, H, W], float32 or bfloat16, with float32 weight [C, 1, S, S]."""
    output: Tensor = _DepthwiseConv2d.apply(input, weight, stride, padding)
    return output
