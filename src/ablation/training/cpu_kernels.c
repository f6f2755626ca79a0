/* Convolutions of few channels on a CPU, with max-pooling and a leaky ReLU behind them or without.

   The images of a block stand side by side, one in each lane of a vector, so that however few the channels are, every
   lane works. Within a block a map is [height][width][channels] of such vectors, as in PyTorch's channels-last format.
   Every sum has a fixed order, whatever the number of threads: in the lanes, then over them, then over the blocks. */

#if !defined(__GNUC__) || defined(__clang__)
#error "GCC is needed" /* clang's code takes three times as long */
#endif

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef __AVX512F__
enum { LANES = 16, WIDEST = 6 }; /* with TILE, as many sums as stay in registers */
#define LOW {0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23}
#define HIGH {8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31}
#elif defined(__AVX__)
enum { LANES = 8, WIDEST = 3 };
#define LOW {0, 8, 1, 9, 2, 10, 3, 11}
#define HIGH {4, 12, 5, 13, 6, 14, 7, 15}
#else /* SSE, NEON */
enum { LANES = 4, WIDEST = 3 };
#define LOW {0, 4, 1, 5}
#define HIGH {2, 6, 3, 7}
#endif
enum { TILE = 4 };
typedef float lanes __attribute__((vector_size(4 * LANES)));
typedef int32_t flags __attribute__((vector_size(4 * LANES))); /* of a comparison: -1 where it is true, else 0 */
#define INLINE static inline __attribute__((always_inline))

/* Calls with the constants WIDTH in place of a number of 1 to MOST and FILTERS in place of 1 or TILE, so that loops over
   them are unrolled. */
enum { MOST = 6 };
#define CASE(number, call) case number: { enum { WIDTH = number }; call; } break;
#define WITH_WIDTH(number, call) \
    switch (number) { CASE(1, call) CASE(2, call) CASE(3, call) CASE(4, call) CASE(5, call) CASE(6, call) }
#define WITH_TILE(width, filters, call) \
    if ((filters) == TILE) { enum { FILTERS = TILE }; WITH_WIDTH(width, call) } \
    else { enum { FILTERS = 1 }; WITH_WIDTH(width, call) }

const char *compiler(void) { return __VERSION__; }

int num_lanes(void) { return LANES; }

static void *allocate(size_t bytes) {
    void *memory = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (!memory) abort();
    return memory;
}

INLINE lanes choose(flags condition, lanes a, lanes b) {
    return (lanes)((condition & (flags)a) | (~condition & (flags)b));
}

INLINE void transpose(lanes rows[LANES]) {
    lanes mixed[LANES];
    for (int stage = 1; stage < LANES; stage *= 2) {
        for (int i = 0; i < LANES / 2; i++) {
            lanes a = rows[i], b = rows[i + LANES / 2];
            mixed[2 * i] = __builtin_shuffle(a, b, (flags)LOW);
            mixed[2 * i + 1] = __builtin_shuffle(a, b, (flags)HIGH);
        }
        memcpy(rows, mixed, sizeof mixed);
    }
}

/* `length` floats of each of `num` images, `stride` apart -> vectors; lanes without an image are zero. */
static void pack(const float *images, ptrdiff_t stride, int num, ptrdiff_t length, lanes *out) {
    ptrdiff_t i = 0;
    for (; i + LANES <= length; i += LANES) {
        lanes rows[LANES];
        for (int l = 0; l < LANES; l++)
            if (l < num)
                memcpy(&rows[l], images + l * stride + i, sizeof(lanes));
            else
                rows[l] = (lanes){0};
        transpose(rows);
        memcpy(out + i, rows, sizeof rows);
    }
    for (; i < length; i++)
        for (int l = 0; l < LANES; l++) out[i][l] = l < num ? images[l * stride + i] : 0;
}

static void unpack(const lanes *in, int num, ptrdiff_t length, float *images) {
    ptrdiff_t i = 0;
    for (; i + LANES <= length; i += LANES) {
        lanes rows[LANES];
        memcpy(rows, in + i, sizeof rows);
        transpose(rows);
        for (int l = 0; l < LANES; l++)
            if (l < num) memcpy(images + l * length + i, &rows[l], sizeof(lanes));
    }
    for (; i < length; i++)
        for (int l = 0; l < num; l++) images[l * length + i] = in[i][l];
}

/* How many of `left` to take at a time, so that all tiles are of about one width. */
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
    for (int x = 0; x < out_width; x++)
        for (int i = 0; i < num_places; i++) {
            lanes value = in[x * channels + i];
            for (int k = 0; k < num_filters; k++) tile[i][k] += value * grad[x * filters + k];
        }
    for (int i = 0; i < num_places; i++)
        for (int k = 0; k < num_filters; k++) sums[k * run + i] = tile[i][k];
}

/* Adds to sums, [size][filters][size * channels]. grad: [out_height][out_width][filters], rows `grad_row` apart. */
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

/* The sum over the lanes of each of `length` vectors, whose memory goes on for LANES more. */
static void sum_lanes(const lanes *in, int length, float *out) {
    for (int i = 0; i < length; i += LANES) {
        lanes rows[LANES], sums = {0};
        memcpy(rows, in + i, sizeof rows);
        transpose(rows);
        for (int l = 0; l < LANES; l++) sums += rows[l];
        memcpy(out + i, &sums, (length - i < LANES ? length - i : LANES) * sizeof(float));
    }
}

/* A leaky ReLU, or with slope 0 a ReLU, of the maximum of every 2x2 window; codes: which of the four it was, the first
   of equals, and 4 more where the slope applies. A NaN is the maximum, and goes where PyTorch lets it go. */
static void pool_block(const lanes *map, int height, int width, int channels, float slope, lanes *out, flags *codes) {
    for (int y = 0; y < height / 2; y++)
        for (int x = 0; x < width / 2; x++)
            for (int c = 0; c < channels; c++) {
                const lanes *corner = map + ((ptrdiff_t)2 * y * width + 2 * x) * channels + c;
                lanes largest = corner[0];
                flags code = {0};
                for (int i = 1; i < 4; i++) {
                    lanes value = corner[(i / 2 * width + i % 2) * channels];
                    flags larger = (value > largest) | (value != value);
                    largest = choose(larger, value, largest);
                    code = (larger & i) | (~larger & code);
                }
                flags inactive = slope ? ~(largest > 0) : largest <= 0;
                *out++ = choose(inactive, slope ? largest * slope : (lanes){0}, largest);
                *codes++ = code | (inactive & 4);
            }
}

/* Its gradient: [height][width][channels], rows `row` apart, of which an odd last row or column stays as it is. */
static void unpool_block(const lanes *grad, const flags *codes, int height, int width, int channels, float slope,
                         lanes *map, ptrdiff_t row) {
    for (int y = 0; y < height / 2; y++)
        for (int x = 0; x < width / 2; x++)
            for (int c = 0; c < channels; c++) {
                lanes value = *grad++;
                flags code = *codes++;
                value = choose(code < 4, value, slope ? value * slope : (lanes){0});
                for (int i = 0; i < 4; i++)
                    map[(2 * y + i / 2) * row + (2 * x + i % 2) * channels + c] =
                        (lanes)(((code & 3) == i) & (flags)value);
            }
}

/* All maps are channels-last: input [num_images][height][width][channels], weight [filters][size][size][channels],
   output [num_images][height - size + 1][width - size + 1][filters] or, pooled, half as high and wide. None is empty.
   codes: a vector for each vector of the output in each block, where it is pooled. */
void convolve(const float *input, const float *weight, const float *bias, float *output, flags *codes, int num_images,
              int height, int width, int channels, int filters, int size, int pooled, float slope, int num_threads) {
    int out_height = height - size + 1, out_width = width - size + 1, taps = size * size * channels;
    ptrdiff_t in_length = (ptrdiff_t)height * width * channels;
    ptrdiff_t map_length = (ptrdiff_t)out_height * out_width * filters;
    ptrdiff_t out_length = pooled ? (ptrdiff_t)(out_height / 2) * (out_width / 2) * filters : map_length;
    float *factors = allocate(taps * filters * sizeof(float));
    for (int k = 0; k < filters; k++)
        for (int i = 0; i < taps; i++) factors[i * filters + k] = weight[k * taps + i];
#pragma omp parallel num_threads(num_threads)
    {
        lanes *in = allocate(in_length * sizeof(lanes)), *map = allocate(map_length * sizeof(lanes));
        lanes *out = pooled ? allocate(out_length * sizeof(lanes)) : map;
#pragma omp for schedule(dynamic)
        for (int first = 0; first < num_images; first += LANES) {
            int num = num_images - first < LANES ? num_images - first : LANES;
            pack(input + first * in_length, in_length, num, in_length, in);
            convolve_block(in, width, channels, factors, bias, filters, size, map, out_height, out_width);
            if (pooled)
                pool_block(map, out_height, out_width, filters, slope, out, codes + first / LANES * out_length);
            unpack(out, num, out_length, output + first * out_length);
        }
        if (pooled) free(out);
        free(map);
        free(in);
    }
    free(factors);
}

/* The gradients in input (where it is not null), weight and bias, from the one in the output of `convolve`. */
void gradients(const float *input, const float *weight, const float *grad_output, const flags *codes,
               float *grad_input, float *grad_weight, float *grad_bias, int num_images, int height, int width,
               int channels, int filters, int size, int pooled, float slope, int num_threads) {
    int out_height = height - size + 1, out_width = width - size + 1, run = size * channels;
    int blocks = (num_images + LANES - 1) / LANES, border = grad_input ? size - 1 : 0, num_sums = size * run * filters;
    ptrdiff_t in_length = (ptrdiff_t)height * width * channels;
    ptrdiff_t row = (ptrdiff_t)(out_width + 2 * border) * filters, grad_length = (out_height + 2 * border) * row;
    ptrdiff_t out_length = (ptrdiff_t)(out_height >> pooled) * (out_width >> pooled) * filters;
    int taps = size * size;
    float *factors = allocate(num_sums * sizeof(float)); /* of the transposed convolution, [taps][filters][channels] */
    for (int tap = 0; tap < taps; tap++)
        for (int k = 0; k < filters; k++)
            for (int c = 0; c < channels; c++)
                factors[(tap * filters + k) * channels + c] = weight[(k * taps + taps - 1 - tap) * channels + c];
    float *parts = allocate((size_t)blocks * (num_sums + filters) * sizeof(float));
#pragma omp parallel num_threads(num_threads)
    {
        lanes *in = allocate(in_length * sizeof(lanes)), *out = allocate(out_length * sizeof(lanes));
        lanes *grad = allocate(grad_length * sizeof(lanes)), *inside = grad + border * (row + filters);
        lanes *sums = allocate((num_sums + filters + LANES) * sizeof(lanes)), *bias_sums = sums + num_sums;
        memset(grad, 0, grad_length * sizeof(lanes));
#pragma omp for schedule(dynamic)
        for (int first = 0; first < num_images; first += LANES) {
            int num = num_images - first < LANES ? num_images - first : LANES, block = first / LANES;
            pack(input + first * in_length, in_length, num, in_length, in);
            if (pooled) {
                pack(grad_output + first * out_length, out_length, num, out_length, out);
                unpool_block(out, codes + block * out_length, out_height, out_width, filters, slope, inside, row);
            } else
                for (int y = 0, length = out_width * filters; y < out_height; y++) {
                    const float *start = grad_output + first * out_length + (ptrdiff_t)y * length;
                    pack(start, out_length, num, length, inside + y * row);
                }
            memset(sums, 0, (num_sums + filters + LANES) * sizeof(lanes));
            add_weight_gradient(in, width, channels, inside, row, filters, size, out_height, out_width, sums);
            for (int y = 0; y < out_height; y++)
                for (int x = 0; x < out_width; x++)
                    for (int k = 0; k < filters; k++) bias_sums[k] += inside[y * row + x * filters + k];
            sum_lanes(sums, num_sums + filters, parts + (size_t)block * (num_sums + filters));
            if (grad_input) {
                convolve_block(grad, out_width + 2 * border, filters, factors, NULL, channels, size, in, height, width);
                unpack(in, num, in_length, grad_input + first * in_length);
            }
        }
        free(sums);
        free(grad);
        free(out);
        free(in);
    }
    for (int block = 1; block < blocks; block++)
        for (int i = 0; i < num_sums + filters; i++) parts[i] += parts[(size_t)block * (num_sums + filters) + i];
    for (int k = 0; k < filters; k++)
        for (int r = 0; r < size; r++)
            memcpy(grad_weight + (k * size + r) * run, parts + (r * filters + k) * run, run * sizeof(float));
    memcpy(grad_bias, parts + num_sums, filters * sizeof(float));
    free(parts);
    free(factors);
}
