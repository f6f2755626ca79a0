"""The Triton kernels of gpu_convolution.

In the channels-last format the input under a tap (one position) of a filter, or under one row of it, is one contiguous
run of memory, so a convolution is a matrix product of such runs with the weight, summed over the taps. Tensor cores
truncate float32 operands to tf32 and accumulate in float32; bfloat16 operands are used as they are.
"""

import triton
import triton.language as tl


@triton.jit
def convolve(
    input,
    weight,  # [OUT_CHANNELS, SIZE, SIZE, CHANNELS]
    output,
    num_pixels,  # of the output, in each phase
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    CHANNELS: tl.constexpr,
    PITCH: tl.constexpr,  # elements from a pixel of the input to the next
    OUT_HEIGHT: tl.constexpr,
    OUT_WIDTH: tl.constexpr,
    OUT_CHANNELS: tl.constexpr,
    SIZE: tl.constexpr,  # height and width of a filter
    STRIDE: tl.constexpr,
    PADDING: tl.constexpr,
    TRANSPOSED: tl.constexpr,  # from the output gradient of the convolution to its input gradient
    TAPS: tl.constexpr,  # in a run: 1, or SIZE for a whole row
    BLOCK_PIXELS: tl.constexpr,
    BLOCK_RUN: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
):
    pixel = tl.program_id(0) * BLOCK_PIXELS + tl.arange(0, BLOCK_PIXELS)
    out = tl.program_id(1) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    step: tl.constexpr = -1 if TRANSPOSED else 1  # over the input, from a tap to the next
    tap_step: tl.constexpr = STRIDE if TRANSPOSED else 1
    if TRANSPOSED:
        # A phase holds the pixels that the same taps have reached: every STRIDE-th one.
        phase_y, phase_x = tl.program_id(2) // STRIDE, tl.program_id(2) % STRIDE
        phase_height: tl.constexpr = (OUT_HEIGHT + STRIDE - 1) // STRIDE
        phase_width: tl.constexpr = (OUT_WIDTH + STRIDE - 1) // STRIDE
        image = pixel // (phase_height * phase_width)
        y = (pixel // phase_width) % phase_height * STRIDE + phase_y
        x = pixel % phase_width * STRIDE + phase_x
        first_row, first_column = (phase_y + PADDING) % STRIDE, (phase_x + PADDING) % STRIDE
        num_rows, num_columns = tl.cdiv(SIZE - first_row, STRIDE), tl.cdiv(SIZE - first_column, STRIDE)
        top, left = (y + PADDING - first_row) // STRIDE, (x + PADDING - first_column) // STRIDE
        exists = (pixel < num_pixels) & (y < OUT_HEIGHT) & (x < OUT_WIDTH)
    else:
        image, y, x = pixel // (OUT_HEIGHT * OUT_WIDTH), (pixel // OUT_WIDTH) % OUT_HEIGHT, pixel % OUT_WIDTH
        first_row, first_column = 0, 0
        num_rows, num_columns = SIZE, SIZE // TAPS
        top, left = y * STRIDE - PADDING, x * STRIDE - PADDING
        exists = pixel < num_pixels
    begin = ((image * HEIGHT + top) * WIDTH + left) * PITCH
    run_length: tl.constexpr = TAPS * CHANNELS
    parts: tl.constexpr = (run_length + BLOCK_RUN - 1) // BLOCK_RUN
    total = tl.zeros([BLOCK_PIXELS, BLOCK_OUT], tl.float32)
    for i in tl.range(0, num_rows * num_columns * parts):
        row, column = i // parts // tl.maximum(num_columns, 1), i // parts % tl.maximum(num_columns, 1)
        place = i % parts * BLOCK_RUN + tl.arange(0, BLOCK_RUN)
        in_row = exists & (top + step * row >= 0) & (top + step * row < HEIGHT)
        across = (left + step * column)[:, None]
        if TAPS > 1:
            across += (place // CHANNELS)[None, :]
        run = tl.load(
            input + (begin + step * (row * WIDTH + column) * PITCH)[:, None] + place[None, :],
            mask=in_row[:, None] & (place < run_length)[None, :] & (across >= 0) & (across < WIDTH),
            other=0.0,
        )
        tap = (first_row + tap_step * row) * SIZE + first_column + tap_step * column
        factor = tl.load(
            weight + ((out * (SIZE * SIZE) + tap) * CHANNELS)[None, :] + place[:, None],
            mask=(place < run_length)[:, None] & (out < OUT_CHANNELS)[None, :],
            other=0.0,
        )
        total = tl.dot(run, factor, total, input_precision="tf32")
    tl.store(
        output + (((image * OUT_HEIGHT + y) * OUT_WIDTH + x) * OUT_CHANNELS)[:, None] + out[None, :],
        total.to(output.dtype.element_ty),
        mask=exists[:, None] & (out < OUT_CHANNELS)[None, :],
    )


@triton.jit
def weight_gradient(
    input,
    grad_output,
    sums,  # partial: [programs along the first axis, OUT_CHANNELS, SIZE, SIZE, CHANNELS]
    num_pixels,
    pixels_each,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    CHANNELS: tl.constexpr,
    OUT_HEIGHT: tl.constexpr,
    OUT_WIDTH: tl.constexpr,
    OUT_CHANNELS: tl.constexpr,
    PITCH: tl.constexpr,  # elements from a pixel of the gradient to the next
    SIZE: tl.constexpr,
    STRIDE: tl.constexpr,
    PADDING: tl.constexpr,
    ROWS: tl.constexpr,  # of the filter, per program
    BLOCK_PIXELS: tl.constexpr,
    BLOCK_RUN: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
):
    split, first_row = tl.program_id(0), tl.program_id(1) % (SIZE // ROWS) * ROWS
    place = tl.program_id(1) // (SIZE // ROWS) * BLOCK_RUN + tl.arange(0, BLOCK_RUN)
    out = tl.program_id(2) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    in_run = place < SIZE * CHANNELS
    totals = (tl.zeros([BLOCK_OUT, BLOCK_RUN], tl.float32),) * ROWS
    for start in range(0, pixels_each, BLOCK_PIXELS):
        pixel = split * pixels_each + start + tl.arange(0, BLOCK_PIXELS)
        image, y, x = pixel // (OUT_HEIGHT * OUT_WIDTH), (pixel // OUT_WIDTH) % OUT_HEIGHT, pixel % OUT_WIDTH
        top, left = y * STRIDE - PADDING + first_row, x * STRIDE - PADDING
        column = left[:, None] + (place // CHANNELS)[None, :]
        across = (pixel < num_pixels)[:, None] & in_run[None, :] & (column >= 0) & (column < WIDTH)
        begin = ((image * HEIGHT + top) * WIDTH + left) * CHANNELS
        gradient = tl.load(
            grad_output + pixel[None, :] * PITCH + out[:, None],
            mask=(pixel < num_pixels)[None, :] & (out < OUT_CHANNELS)[:, None],
            other=0.0,
        )
        sums_so_far = ()
        for row in tl.static_range(ROWS):
            run = tl.load(
                input + (begin + row * WIDTH * CHANNELS)[:, None] + place[None, :],
                mask=across & ((top + row >= 0) & (top + row < HEIGHT))[:, None],
                other=0.0,
            )
            sums_so_far += (tl.dot(gradient, run, totals[row], input_precision="tf32"),)  # type: ignore[assignment]
        totals = sums_so_far
    for row in tl.static_range(ROWS):
        begins = ((split * OUT_CHANNELS + out) * SIZE + first_row + row) * (SIZE * CHANNELS)
        mask = (out < OUT_CHANNELS)[:, None] & in_run[None, :]
        tl.store(sums + begins[:, None] + place[None, :], totals[row], mask=mask)


@triton.jit
def sum_parts(
    parts,  # [num_parts, LENGTH]
    output,
    num_parts,
    LENGTH: tl.constexpr,
    MAX_PARTS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    part, place = tl.arange(0, MAX_PARTS), tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = (part < num_parts)[:, None] & (place < LENGTH)[None, :]
    total = tl.sum(tl.load(parts + part[:, None] * LENGTH + place[None, :], mask=mask, other=0.0), 0)
    tl.store(output + place, total, mask=place < LENGTH)
