"""Convolutions of few channels on a GPU, forward and backward, as Triton kernels.

cuDNN's are made for many channels. With those of the networks here, 3 to 64, these are faster: on an H100 they bring a
step of SimpleNN to half its time and one of ResNet-20 to two thirds (docs/performance.md). An image is rows of pixels
with their channels next to each other, so all that a row of a filter covers is one run of memory: a convolution is a
product of such runs with the filters, summed over the filter's rows. Every sum has a fixed order, so a result has the
same bits on every run.
"""

from typing import Any

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor
from torch.nn.grad import conv2d_input

PROGRAMS = 528  # that share the work of a gradient in filters, at least: four per multiprocessor of an H100


@triton.jit
def _convolve(
    images,
    filters,
    maps,
    num_pixels,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    CHANNELS: tl.constexpr,
    MAP_HEIGHT: tl.constexpr,
    MAP_WIDTH: tl.constexpr,
    MAP_CHANNELS: tl.constexpr,
    SIZE: tl.constexpr,  # of a filter, high and wide
    STRIDE: tl.constexpr,
    PADDING: tl.constexpr,
    TRANSPOSED: tl.constexpr,  # the filters are those of the convolution whose gradient this is
    PIXELS: tl.constexpr,
    RUN: tl.constexpr,
    OUT: tl.constexpr,
):
    pixel = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    out = tl.program_id(1) * OUT + tl.arange(0, OUT)
    image, y, x = pixel // (MAP_HEIGHT * MAP_WIDTH), (pixel // MAP_WIDTH) % MAP_HEIGHT, pixel % MAP_WIDTH
    left = x * STRIDE - PADDING
    total = tl.zeros([PIXELS, OUT], tl.float32)
    for row in tl.static_range(SIZE):
        top = y * STRIDE - PADDING + row
        inside = (pixel < num_pixels) & (top >= 0) & (top < HEIGHT)
        begin = ((image * HEIGHT + top) * WIDTH + left) * CHANNELS
        for part in tl.static_range((SIZE * CHANNELS + RUN - 1) // RUN):
            place = part * RUN + tl.arange(0, RUN)
            in_run = place < SIZE * CHANNELS
            column = left[:, None] + (place // CHANNELS)[None, :]
            run = tl.load(
                images + begin[:, None] + place[None, :],
                mask=inside[:, None] & in_run[None, :] & (column >= 0) & (column < WIDTH),
                other=0.0,
            )
            if TRANSPOSED:
                tap = SIZE * (SIZE - 1 - row) + SIZE - 1 - place // CHANNELS
                begins = ((place % CHANNELS) * (SIZE * SIZE) + tap) * MAP_CHANNELS
                weights = filters + begins[:, None] + out[None, :]
            else:
                rows = (out * SIZE + row) * (SIZE * CHANNELS)
                weights = filters + rows[None, :] + place[:, None]
            weight = tl.load(weights, mask=in_run[:, None] & (out < MAP_CHANNELS)[None, :], other=0.0)
            total = tl.dot(run, weight, total, input_precision="tf32")
    tl.store(
        maps + pixel[:, None] * MAP_CHANNELS + out[None, :],
        total.to(maps.dtype.element_ty),
        mask=(pixel < num_pixels)[:, None] & (out < MAP_CHANNELS)[None, :],
    )


@triton.jit
def _filter_gradient(
    images,
    gradients,  # of the maps
    sums,  # [programs of the first axis, MAP_CHANNELS, SIZE, SIZE, CHANNELS]
    num_pixels,
    pixels_each,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    CHANNELS: tl.constexpr,
    MAP_HEIGHT: tl.constexpr,
    MAP_WIDTH: tl.constexpr,
    MAP_CHANNELS: tl.constexpr,
    SIZE: tl.constexpr,  # of a filter, high and wide
    STRIDE: tl.constexpr,
    PADDING: tl.constexpr,
    PIXELS: tl.constexpr,
    RUN: tl.constexpr,
    OUT: tl.constexpr,
):
    split, row = tl.program_id(0), tl.program_id(1) % SIZE
    place = tl.program_id(1) // SIZE * RUN + tl.arange(0, RUN)
    out = tl.program_id(2) * OUT + tl.arange(0, OUT)
    in_run = place < SIZE * CHANNELS
    total = tl.zeros([OUT, RUN], tl.float32)
    for start in range(0, pixels_each, PIXELS):
        pixel = split * pixels_each + start + tl.arange(0, PIXELS)
        image, y, x = pixel // (MAP_HEIGHT * MAP_WIDTH), (pixel // MAP_WIDTH) % MAP_HEIGHT, pixel % MAP_WIDTH
        top, left = y * STRIDE - PADDING + row, x * STRIDE - PADDING
        inside = (pixel < num_pixels) & (top >= 0) & (top < HEIGHT)
        column = left[:, None] + (place // CHANNELS)[None, :]
        run = tl.load(
            images + (((image * HEIGHT + top) * WIDTH + left) * CHANNELS)[:, None] + place[None, :],
            mask=inside[:, None] & in_run[None, :] & (column >= 0) & (column < WIDTH),
            other=0.0,
        )
        gradient = tl.load(
            gradients + pixel[:, None] * MAP_CHANNELS + out[None, :],
            mask=(pixel < num_pixels)[:, None] & (out < MAP_CHANNELS)[None, :],
            other=0.0,
        )
        total = tl.dot(tl.trans(gradient), run, total, input_precision="tf32")
    begins = ((split * MAP_CHANNELS + out) * SIZE + row) * (SIZE * CHANNELS)
    tl.store(sums + begins[:, None] + place[None, :], total, mask=(out < MAP_CHANNELS)[:, None] & in_run[None, :])


def _shapes(images: Tensor, maps: Tensor, size: int, stride: int, padding: int) -> dict[str, int]:
    names = ("CHANNELS", "HEIGHT", "WIDTH")
    shapes = dict(zip(names, images.shape[1:], strict=True))
    shapes |= {f"MAP_{name}": length for name, length in zip(names, maps.shape[1:], strict=True)}
    return shapes | {"SIZE": size, "STRIDE": stride, "PADDING": padding}


def _block(length: int, most: int) -> int:
    """A power of two of 16 at the least, as Triton's products ask for."""
    return int(min(max(16, triton.next_power_of_2(length)), most))


def _convolved(
    images: Tensor, filters: Tensor, channels: int, stride: int, padding: int, transposed: bool = False
) -> Tensor:
    images, filters = (t.contiguous(memory_format=torch.channels_last) for t in (images, filters))
    num_images, in_channels, *lengths = images.shape
    size = filters.shape[-1]
    shape = (num_images, channels, *((length + 2 * padding - size) // stride + 1 for length in lengths))
    maps = torch.empty(shape, dtype=images.dtype, device=images.device, memory_format=torch.channels_last)
    num_pixels = maps.numel() // channels
    pixels, out = 128 if num_pixels > 128 * 128 else 64, _block(channels, 64)
    _convolve[triton.cdiv(num_pixels, pixels), triton.cdiv(channels, out)](
        images,
        filters,
        maps,
        num_pixels,
        **_shapes(images, maps, size, stride, padding),
        TRANSPOSED=transposed,
        PIXELS=pixels,
        RUN=_block(size * in_channels, 64),
        OUT=out,
    )
    return maps


@torch.library.custom_op("ablation::convolution", mutates_args=())
def convolution(images: Tensor, filters: Tensor, stride: int, padding: int) -> Tensor:
    """`F.conv2d` of images [N, C, H, W] with square filters [K, C, S, S]; the maps are in the channels-last format.

    Both are float32, whose products are rounded to tf32, or bfloat16.
    """
    return _convolved(images, filters, filters.shape[0], stride, padding)


@torch.library.custom_op("ablation::image_gradient", mutates_args=())
def image_gradient(gradients: Tensor, filters: Tensor, padding: int) -> Tensor:
    """The gradient in the images of a `convolution` of stride 1, given that in its maps."""
    return _convolved(gradients, filters, filters.shape[1], 1, filters.shape[-1] - 1 - padding, transposed=True)


@torch.library.custom_op("ablation::filter_gradient", mutates_args=())
def filter_gradient(images: Tensor, gradients: Tensor, size: int, stride: int, padding: int) -> Tensor:
    """The gradient in the filters of a `convolution`, given that in its maps, in the type of the images."""
    images, gradients = (t.contiguous(memory_format=torch.channels_last) for t in (images, gradients))
    channels, out_channels = images.shape[1], gradients.shape[1]
    num_pixels = gradients.numel() // out_channels
    # Few output channels at a time for tf32: on Hopper a wider product takes an instruction that is slow for it here.
    run, out = _block(size * channels, 64), _block(out_channels, 32 if images.dtype == torch.float32 else 64)
    runs, outs = size * triton.cdiv(size * channels, run), triton.cdiv(out_channels, out)
    pixels_each = max(64, triton.cdiv(num_pixels * runs * outs, PROGRAMS) // 64 * 64)
    splits = triton.cdiv(num_pixels, pixels_each)
    sums = torch.empty(splits, out_channels, size, size, channels, device=images.device)
    _filter_gradient[splits, runs, outs](
        images,
        gradients,
        sums,
        num_pixels,
        pixels_each,
        **_shapes(images, gradients, size, stride, padding),
        PIXELS=64,
        RUN=run,
        OUT=out,
    )
    return sums.sum(0).permute(0, 3, 1, 2).to(images.dtype)


@convolution.register_fake
def _(images: Tensor, filters: Tensor, stride: int, padding: int) -> Tensor:
    return F.conv2d(images, filters, stride=stride, padding=padding).contiguous(memory_format=torch.channels_last)


@image_gradient.register_fake
def _(gradients: Tensor, filters: Tensor, padding: int) -> Tensor:
    images = F.conv_transpose2d(gradients, filters, padding=padding)
    return images.contiguous(memory_format=torch.channels_last)


@filter_gradient.register_fake
def _(images: Tensor, gradients: Tensor, size: int, stride: int, padding: int) -> Tensor:
    return images.new_empty(gradients.shape[1], size, size, images.shape[1]).permute(0, 3, 1, 2)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    images, filters, ctx.stride, ctx.padding = inputs
    ctx.save_for_backward(images, filters)


def _backward(ctx: Any, gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
    images, filters = ctx.saved_tensors
    stride, padding = ctx.stride, ctx.padding
    of_images: Tensor | None = None
    if ctx.needs_input_grad[0] and stride == 1:
        of_images = image_gradient(gradients, filters, padding)
    elif ctx.needs_input_grad[0]:
        of_images = conv2d_input(images.shape, filters, gradients, stride, padding)
    of_filters: Tensor | None = None
    if ctx.needs_input_grad[1]:
        of_filters = filter_gradient(images, gradients, filters.shape[-1], stride, padding)
    return of_images, of_filters, None, None


convolution.register_autograd(_backward, setup_context=_keep)
