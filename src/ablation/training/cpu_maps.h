/* Operations on the feature maps of one block of images, each [height][width][channels] of vectors. */

#include "cpu_lanes.h"

/* Expand `call` with the compile-time constants WIDTH, for a number from 1 to MOST, and FILTERS, for 1 or TILE, so that
   loops over them are unrolled. */
enum { MOST = 6 };
#define CASE(number, call) case number: { enum { WIDTH = number }; call; } break;
#define WITH_WIDTH(number, call) \
    switch (number) { CASE(1, call) CASE(2, call) CASE(3, call) CASE(4, call) CASE(5, call) CASE(6, call) }
#define WITH_TILE(width, filters, call) \
    if ((filters) == TILE) { enum { FILTERS = TILE }; WITH_WIDTH(width, call) } \
    else { enum { FILTERS = 1 }; WITH_WIDTH(width, call) }

/* The width of the next tile when `left` elements remain, so that all tiles have about the same width. */
static int width_of_tile(int left) {
    int tiles = (left + WIDEST - 1) / WIDEST;
    return (left + tiles - 1) / tiles;
}

INLINE void convolve_tile(const lanes *in, ptrdiff_t row, int channels, const float *weight, const float *bias,
                          int filters, int size, lanes *out, const int num_columns, const int num_filters) {
    lanes sums[MOST][TILE];
    for (int x = 0; x < num_columns; x++)
        for (int k = 0; k < num_filters; k++) sums[x][k] = (lanes){0} + (bias ? bias[k] : 0);
    for (int r = 0; r < size; r++)
        for (int i = 0; i < size * channels; i++) {
            lanes values[MOST];
            for (int x = 0; x < num_columns; x++) values[x] = in[r * row + x * channels + i];
            for (int k = 0; k < num_filters; k++) {
                float factor = weight[(r * size * channels + i) * filters + k];
                for (int x = 0; x < num_columns; x++) sums[x][k] += values[x] * factor;
            }
        }
    for (int x = 0; x < num_columns; x++)
        for (int k = 0; k < num_filters; k++) out[x * filters + k] = sums[x][k];
}

/* in: [.][width][channels]; weight: [size][size][channels][filters]; bias: [filters] or null; out: [out_height]
   [out_width][filters]. */
static void convolve_block(const lanes *in, int width, int channels, const float *weight, const float *bias,
                           int filters, int size, lanes *out, int out_height, int out_width) {
    ptrdiff_t row = (ptrdiff_t)width * channels;
    for (int y = 0; y < out_height; y++)
        for (int x = 0, columns; x < out_width; x += columns) {
            columns = width_of_tile(out_width - x);
            const lanes *corner = in + y * row + x * channels;
            lanes *target = out + ((ptrdiff_t)y * out_width + x) * filters;
            for (int k = 0, taken; k < filters; k += taken) {
                const float *shift = bias ? bias + k : NULL;
                taken = filters - k < TILE ? 1 : TILE;
                WITH_TILE(columns, taken, convolve_tile(corner, row, channels, weight + k, shift, filters, size,
                                                        target + k, WIDTH, FILTERS))
            }
        }
}

INLINE void weight_gradient_tile(const lanes *in, int channels, const lanes *grad, int filters, int out_width,
                                 lanes *sums, int run, const int num_places, const int num_filters) {
    lanes tile[MOST][TILE];
    for (int i = 0; i < num_places; i++)
        for (int k = 0; k < num_filters; k++) tile[i][k] = sums[k * run + i];
    for (int x = 0; x < out_width; x++) {
        /* volatile, so that each is loaded once: GCC would reload a value for every product. */
        const volatile lanes *places = in + x * channels, *factors = grad + x * filters;
        lanes values[MOST];
        for (int i = 0; i < num_places; i++) values[i] = places[i];
        for (int k = 0; k < num_filters; k++) {
            lanes factor = factors[k];
            for (int i = 0; i < num_places; i++) tile[i][k] += values[i] * factor;
        }
    }
    for (int i = 0; i < num_places; i++)
        for (int k = 0; k < num_filters; k++) sums[k * run + i] = tile[i][k];
}

/* Adds the weight gradient to sums, [size][filters][size * channels]. grad: [out_height][out_width][filters], rows
   `grad_row` apart. */
static void add_weight_gradient(const lanes *in, int width, int channels, const lanes *grad, ptrdiff_t grad_row,
                                int filters, int size, int out_height, int out_width, lanes *sums) {
    int run = size * channels;
    for (int y = 0; y < out_height; y++)
        for (int r = 0; r < size; r++)
            for (int k = 0, taken; k < filters; k += taken) {
                taken = filters - k < TILE ? 1 : TILE;
                for (int i = 0, places; i < run; i += places) {
                    places = width_of_tile(run - i);
                    const lanes *from = in + (ptrdiff_t)(y + r) * width * channels + i, *to = grad + y * grad_row + k;
                    lanes *target = sums + (r * filters + k) * run + i;
                    WITH_TILE(places, taken, weight_gradient_tile(from, channels, to, filters, out_width, target, run,
                                                                  WIDTH, FILTERS))
                }
            }
}

/* Per channel, over `num` images: the mean, and the sum of squared deviations from it. */
static void moments_block(const lanes *map, int places, int channels, int num, float *mean, float *squares) {
    lanes sums[channels + LANES];
    memset(sums, 0, sizeof sums);
    for (int i = 0; i < places; i++)
        for (int c = 0; c < channels; c++) sums[c] += map[(ptrdiff_t)i * channels + c];
    for (int c = 0; c < channels; c++) sums[c] = only(num, sums[c]);
    sum_lanes(sums, channels, mean);
    memset(sums, 0, sizeof sums);
    for (int c = 0; c < channels; c++) mean[c] /= (float)places * num;
    for (int i = 0; i < places; i++)
        for (int c = 0; c < channels; c++) {
            lanes deviation = map[(ptrdiff_t)i * channels + c] - mean[c];
            sums[c] += deviation * deviation;
        }
    for (int c = 0; c < channels; c++) sums[c] = only(num, sums[c]);
    sum_lanes(sums, channels, squares);
}

/* 2x2 max-pooling of the activations of scale * map + shift (rows 2 and 3 of `statistics`): Swish, or leaky ReLU (ReLU
   if slope is 0), which is monotonic and so only applied to the maximum. slopes: the activation's derivative at the
   maximum; codes: the index, 0 to 3, of the maximum in its window, the first of equals. A NaN counts as the largest
   value, and propagates as in PyTorch. */
static void pool_block(const lanes *map, int height, int width, int channels, const float *statistics, int swish,
                       float slope, lanes *out, lanes *slopes, flags *codes) {
    const float *scale = statistics + 2 * channels, *shift = statistics + 3 * channels;
    for (int y = 0; y < height / 2; y++)
        for (int x = 0; x < width / 2; x++)
            for (int c = 0; c < channels; c++) {
                const lanes *corner = map + ((ptrdiff_t)2 * y * width + 2 * x) * channels + c;
                lanes largest = (lanes){0} - __builtin_inff(), derivative = {0};
                flags code = {0};
                for (int i = 0; i < 4; i++) {
                    lanes value = corner[(i / 2 * width + i % 2) * channels] * scale[c] + shift[c], gate = {0};
                    if (swish) value *= gate = sigmoid(value);
                    flags larger = (value > largest) | (value != value);
                    largest = choose(larger, value, largest);
                    derivative = choose(larger, gate, derivative);
                    code = (larger & i) | (~larger & code);
                }
                if (swish) {
                    derivative += largest * (1 - derivative);
                } else {
                    flags inactive = slope ? ~(largest > 0) : largest <= 0;
                    derivative = choose(inactive, (lanes){0} + slope, (lanes){0} + 1);
                    largest = choose(inactive, slope ? largest * slope : (lanes){0}, largest);
                }
                *out++ = largest;
                *slopes++ = derivative;
                *codes++ = code;
            }
}

/* For `num` images: the gradient with respect to the output of `pool_block` -> with respect to the values that it took
   as maxima, before the activation. sums: [2][channels], of the latter, and of its product with those values' deviation
   from the mean. */
static void activation_gradient(const float *grad_output, int num, const lanes *slopes, const flags *codes,
                                const lanes *map, int height, int width, int channels, const float *mean, lanes *grad,
                                float *sums) {
    ptrdiff_t length = (ptrdiff_t)(height / 2) * (width / 2) * channels;
    pack(grad_output, length, num, length, grad);
    lanes parts[2 * channels + LANES];
    memset(parts, 0, sizeof parts);
    for (int y = 0; y < height / 2; y++)
        for (int x = 0; x < width / 2; x++)
            for (int c = 0; c < channels; c++, grad++) {
                const lanes *corner = map + ((ptrdiff_t)2 * y * width + 2 * x) * channels + c;
                lanes value = *corner;
                flags code = *codes++;
                for (int i = 1; i < 4; i++)
                    value = choose(code == i, corner[(i / 2 * width + i % 2) * channels], value);
                *grad *= *slopes++;
                parts[c] += *grad;
                parts[channels + c] += *grad * (value - mean[c]);
            }
    sum_lanes(parts, 2 * channels, sums);
}

/* The gradient from `activation_gradient` -> with respect to the map, in rows `row` apart. factors: [3][channels], the
   coefficients of that gradient, of the map and of 1. */
static void unpool_block(const lanes *grad, const flags *codes, const lanes *map, int height, int width, int channels,
                         const float *factors, lanes *out, ptrdiff_t row) {
    const float *own = factors, *slope = factors + channels, *shift = factors + 2 * channels;
    for (int y = 0; y < height / 2; y++)
        for (int x = 0; x < width / 2; x++)
            for (int c = 0; c < channels; c++) {
                lanes value = *grad++ * own[c];
                flags code = *codes++;
                for (int i = 0; i < 4; i++) {
                    ptrdiff_t j = 2 * y + i / 2, k = (ptrdiff_t)(2 * x + i % 2) * channels + c;
                    lanes there = (lanes)((code == i) & (flags)value);
                    out[j * row + k] = there + (map[j * width * channels + k] * slope[c] + shift[c]);
                }
            }
    for (int y = 0; y < height; y++)
        for (int x = y < height / 2 * 2 ? width / 2 * 2 : 0; x < width; x++)
            for (int c = 0; c < channels; c++)
                out[y * row + x * channels + c] = map[((ptrdiff_t)y * width + x) * channels + c] * slope[c] + shift[c];
}
