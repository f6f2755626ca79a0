"""The Triton kernels of gpu_batch_norm.

A feature map in the channels-last format is a table with a row per pixel and a column per channel; a program processes
some rows of some columns. Rows are reduced to partial sums, which every program that applies them adds up for itself.
"""

import triton
import triton.language as tl


@triton.jit
def some_row(input, num_rows, channel, CHANNELS: tl.constexpr):
    """Subtracted before summing, so that a mean far from zero costs no precision; not row 0, which padding affects."""
    return tl.load(input + num_rows // 17 * 8 * CHANNELS + channel).to(tl.float32)


@triton.jit
def input_sums(
    input,
    sums,  # float [2, parts, CHANNELS]: of the input minus its `some_row`, and of the square of that
    num_rows,
    rows_each,
    CHANNELS: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
):
    part, num_parts = tl.program_id(0), tl.num_programs(0)
    channel = tl.program_id(1) * BLOCK_CHANNELS + tl.arange(0, BLOCK_CHANNELS)
    some = some_row(input, num_rows, channel, CHANNELS)
    total = tl.zeros([BLOCK_ROWS, BLOCK_CHANNELS], tl.float32)
    square = tl.zeros([BLOCK_ROWS, BLOCK_CHANNELS], tl.float32)
    for start in range(0, rows_each, BLOCK_ROWS):
        row = part * rows_each + start + tl.arange(0, BLOCK_ROWS)
        inside = (row < num_rows)[:, None]
        x = tl.load(input + row[:, None] * CHANNELS + channel[None, :], mask=inside, other=0.0).to(tl.float32)
        difference = tl.where(inside, x - some[None, :], 0.0)
        total += difference
        square += difference * difference
    tl.store(sums + part * CHANNELS + channel, tl.sum(total, 0))
    tl.store(sums + (num_parts + part) * CHANNELS + channel, tl.sum(square, 0))


@triton.jit
def _over_parts(sums, num_parts, channel, CHANNELS: tl.constexpr, MAX_PARTS: tl.constexpr):
    part = tl.arange(0, MAX_PARTS)
    at = part[:, None] * CHANNELS + channel[None, :]
    exists = (part < num_parts)[:, None]
    first = tl.load(sums + at, mask=exists, other=0.0)
    second = tl.load(sums + num_parts * CHANNELS + at, mask=exists, other=0.0)
    return tl.sum(first, 0), tl.sum(second, 0)


@triton.jit
def normalize(
    input,
    shortcut,
    weight,
    bias,
    sums,  # of `input_sums`
    running_mean,
    running_variance,
    num_batches,
    statistics,  # float [2, CHANNELS]: mean and inverse standard deviation
    output,
    num_rows,
    rows_each,
    num_parts,
    momentum,
    epsilon,
    CHANNELS: tl.constexpr,
    SHORTCUT: tl.constexpr,  # whether there is one
    SLOPE: tl.constexpr,  # of the activation below zero; None: Swish
    MAX_PARTS: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
):
    channel = tl.program_id(1) * BLOCK_CHANNELS + tl.arange(0, BLOCK_CHANNELS)
    total, square = _over_parts(sums, num_parts, channel, CHANNELS, MAX_PARTS)
    shift = total / num_rows
    mean = some_row(input, num_rows, channel, CHANNELS) + shift
    variance = tl.maximum(square / num_rows - shift * shift, 0.0)
    scale = 1.0 / tl.sqrt(variance + epsilon)
    if tl.program_id(0) == 0:
        tl.store(statistics + channel, mean)
        tl.store(statistics + CHANNELS + channel, scale)
        before = tl.load(running_mean + channel)
        tl.store(running_mean + channel, before + momentum * (mean - before))
        before = tl.load(running_variance + channel)
        unbiased = variance * (num_rows / (num_rows - 1.0))
        tl.store(running_variance + channel, before + momentum * (unbiased - before))
        if tl.program_id(1) == 0:
            tl.store(num_batches, tl.load(num_batches) + 1)
    gain, offset = tl.load(weight + channel), tl.load(bias + channel)
    for start in range(0, rows_each, BLOCK_ROWS):
        row = tl.program_id(0) * rows_each + start + tl.arange(0, BLOCK_ROWS)
        inside = (row < num_rows)[:, None]
        at = row[:, None] * CHANNELS + channel[None, :]
        x = tl.load(input + at, mask=inside, other=0.0).to(tl.float32)
        z = (x - mean[None, :]) * scale[None, :] * gain[None, :] + offset[None, :]
        if SHORTCUT:
            z += tl.load(shortcut + at, mask=inside, other=0.0).to(tl.float32)
        if SLOPE is None:
            y = z * tl.sigmoid(z)
        elif SLOPE == 1:
            y = z
        elif SLOPE == 0:
            y = tl.where(z <= 0, 0.0, z)  # -inf gives 0 too; NaN stays
        else:
            y = tl.where(z > 0, z, SLOPE * z)
        tl.store(output + at, y.to(output.dtype.element_ty), mask=inside)


@triton.jit
def _before_activation(
    input,
    shortcut,
    grad_output,
    at,
    inside,
    mean,
    scale,
    gain,
    offset,
    SHORTCUT: tl.constexpr,
    SLOPE: tl.constexpr,
):
    """The normalised input, and the gradient with respect to the activation's input, which is zero outside."""
    normal = (tl.load(input + at, mask=inside, other=0.0).to(tl.float32) - mean[None, :]) * scale[None, :]
    gradient = tl.load(grad_output + at, mask=inside, other=0.0).to(tl.float32)
    if SLOPE is None or SLOPE != 1:
        z = normal * gain[None, :] + offset[None, :]
        if SHORTCUT:
            z += tl.load(shortcut + at, mask=inside, other=0.0).to(tl.float32)
        if SLOPE is None:
            sigmoid = tl.sigmoid(z)
            gradient *= sigmoid * (1.0 + z * (1.0 - sigmoid))
        elif SLOPE == 0:
            gradient = tl.where(z <= 0, 0.0, gradient)
        else:
            gradient = tl.where(z > 0, gradient, SLOPE * gradient)
    return normal, gradient


@triton.jit
def gradient_sums(
    input,
    shortcut,
    grad_output,
    weight,
    bias,
    statistics,
    sums,  # float [2, parts, CHANNELS]: of the gradient from `_before_activation`, and of it times the normalised input
    num_rows,
    rows_each,
    CHANNELS: tl.constexpr,
    SHORTCUT: tl.constexpr,
    SLOPE: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
):
    part, num_parts = tl.program_id(0), tl.num_programs(0)
    channel = tl.program_id(1) * BLOCK_CHANNELS + tl.arange(0, BLOCK_CHANNELS)
    mean, scale = tl.load(statistics + channel), tl.load(statistics + CHANNELS + channel)
    gain, offset = tl.load(weight + channel), tl.load(bias + channel)
    total = tl.zeros([BLOCK_ROWS, BLOCK_CHANNELS], tl.float32)
    product = tl.zeros([BLOCK_ROWS, BLOCK_CHANNELS], tl.float32)
    for start in range(0, rows_each, BLOCK_ROWS):
        row = part * rows_each + start + tl.arange(0, BLOCK_ROWS)
        at, inside = row[:, None] * CHANNELS + channel[None, :], (row < num_rows)[:, None]
        normal, gradient = _before_activation(
            input, shortcut, grad_output, at, inside, mean, scale, gain, offset, SHORTCUT, SLOPE
        )
        total += gradient
        product += gradient * normal
    tl.store(sums + part * CHANNELS + channel, tl.sum(total, 0))
    tl.store(sums + (num_parts + part) * CHANNELS + channel, tl.sum(product, 0))


@triton.jit
def gradients(
    input,
    shortcut,
    grad_output,
    weight,
    bias,
    statistics,
    sums,  # of `gradient_sums`
    grad_input,
    grad_shortcut,
    grad_weight,
    grad_bias,
    num_rows,
    rows_each,
    num_parts,
    CHANNELS: tl.constexpr,
    SHORTCUT: tl.constexpr,
    SLOPE: tl.constexpr,
    MAX_PARTS: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
):
    channel = tl.program_id(1) * BLOCK_CHANNELS + tl.arange(0, BLOCK_CHANNELS)
    total, product = _over_parts(sums, num_parts, channel, CHANNELS, MAX_PARTS)
    if tl.program_id(0) == 0:
        tl.store(grad_bias + channel, total)
        tl.store(grad_weight + channel, product)
    mean, scale = tl.load(statistics + channel), tl.load(statistics + CHANNELS + channel)
    gain, offset = tl.load(weight + channel), tl.load(bias + channel)
    total, product = total / num_rows, product / num_rows
    for start in range(0, rows_each, BLOCK_ROWS):
        row = tl.program_id(0) * rows_each + start + tl.arange(0, BLOCK_ROWS)
        at, inside = row[:, None] * CHANNELS + channel[None, :], (row < num_rows)[:, None]
        normal, gradient = _before_activation(
            input, shortcut, grad_output, at, inside, mean, scale, gain, offset, SHORTCUT, SLOPE
        )
        if SHORTCUT:
            tl.store(grad_shortcut + at, gradient.to(grad_shortcut.dtype.element_ty), mask=inside)
        gradient = (gradient - total[None, :] - normal * product[None, :]) * (scale * gain)[None, :]
        tl.store(grad_input + at, gradient.to(grad_input.dtype.element_ty), mask=inside)
