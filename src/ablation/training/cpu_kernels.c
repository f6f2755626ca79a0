/* Convolutions with few channels on a CPU, fused with what follows them: batch norm, activation, max-pooling.

   The images of a block are interleaved, one per SIMD lane, so that every lane is used however few the channels are
   (cpu_maps.h). Where only one value in four has a gradient, the backward pass instead follows the max-pooling indices,
   image by image (cpu_places.h). Every sum has a fixed order, whatever the number of threads: within a block, then over
   the blocks. Inputs, outputs and their gradients are channels-last, [num_images][height][width][channels]. */

#if !defined(__GNUC__) || defined(__clang__)
#error "GCC is required" /* clang's code takes three times as long */
#endif

#include "cpu_places.h"

const char *compiler(void) { return __VERSION__; }

int num_lanes(void) { return LANES; }

static int images_in(int block, int num_images) { return at_most(LANES, num_images - block * LANES); }

/* statistics: [4][filters], mean and variance of the feature map over images and pixels, then the scale and shift that
   batch norm applies (Ioffe & Szegedy 2015, arXiv 1502.03167). parts: [blocks][2][filters] of `moments_block`, combined
   as in Chan, Golub & LeVeque 1979. */
static void normalise(const float *parts, int blocks, int num_images, int places, int filters, const float *gamma,
                      const float *beta, float eps, float *statistics) {
    for (int k = 0; k < filters; k++) {
        double count = 0, mean = 0, squares = 0;
        for (int block = 0; block < blocks; block++) {
            const float *part = parts + (ptrdiff_t)block * 2 * filters + k;
            double added = (double)places * images_in(block, num_images);
            double step = *part - mean, total = count + added;
            mean += step * added / total;
            squares += part[filters] + step * step * count * added / total;
            count = total;
        }
        double scale = gamma[k] / __builtin_sqrt(squares / count + eps);
        statistics[k] = mean;
        statistics[filters + k] = squares / count;
        statistics[2 * filters + k] = scale;
        statistics[3 * filters + k] = beta[k] - mean * scale;
    }
}

/* The gradients of batch norm. parts: [blocks][2][filters] of `activation_gradient`; factors: [3][filters] for
   `unpool_block`. */
static void normalise_gradients(const float *parts, int blocks, double count, int filters, const float *statistics,
                                float eps, float *grad_gamma, float *grad_beta, float *factors) {
    for (int k = 0; k < filters; k++) {
        double sum = 0, products = 0; /* of the gradient and the deviation from the mean */
        for (int block = 0; block < blocks; block++) {
            sum += parts[(ptrdiff_t)block * 2 * filters + k];
            products += parts[((ptrdiff_t)block * 2 + 1) * filters + k];
        }
        double variance = statistics[filters + k] + eps, scale = statistics[2 * filters + k];
        double slope = -scale * products / (variance * count);
        grad_gamma[k] = products / __builtin_sqrt(variance);
        grad_beta[k] = sum;
        factors[k] = scale;
        factors[filters + k] = slope;
        factors[2 * filters + k] = -scale * sum / count - slope * statistics[k];
    }
}

/* Convolution, batch norm (where gamma and beta, [filters], are not null), activation (Swish, or a leaky ReLU of this
   slope) and 2x2 max-pooling.
   weight: [filters][size][size][channels]; output: [num_images][(height - size + 1) / 2][(width - size + 1) / 2]
   [filters], not empty. Saved for the backward pass: slopes and codes of `pool_block`, for each block as many vectors
   as an image of the output has values; statistics, [4][filters]; with batch norm (else null) maps, the outputs of the
   convolution. */
void convolve(const float *input, const float *weight, const float *bias, const float *gamma, const float *beta,
              float *output, lanes *slopes, flags *codes, lanes *maps, float *statistics, int num_images, int height,
              int width, int channels, int filters, int size, int swish, float slope, float eps, int num_threads) {
    int out_height = height - size + 1, out_width = width - size + 1, places = out_height * out_width;
    int blocks = (num_images + LANES - 1) / LANES, taps = size * size * channels;
    ptrdiff_t in_length = (ptrdiff_t)height * width * channels, map_length = (ptrdiff_t)places * filters;
    ptrdiff_t out_length = (ptrdiff_t)(out_height / 2) * (out_width / 2) * filters;
    float *parts = allocate((size_t)blocks * 2 * filters * sizeof(float));
    float *factors = allocate((size_t)taps * filters * sizeof(float));
    for (int k = 0; k < filters; k++) {
        for (int i = 0; i < taps; i++) factors[i * filters + k] = weight[k * taps + i];
        statistics[k] = statistics[filters + k] = 0; /* unused without batch norm */
        statistics[2 * filters + k] = 1;
        statistics[3 * filters + k] = 0;
    }
#pragma omp parallel num_threads(num_threads)
    {
        lanes *in = allocate(in_length * sizeof(lanes)), *out = allocate(out_length * sizeof(lanes));
        lanes *own = maps ? NULL : allocate(map_length * sizeof(lanes));
#pragma omp for schedule(dynamic)
        for (int block = 0; block < blocks; block++) {
            int num = images_in(block, num_images);
            lanes *map = maps ? maps + block * map_length : own;
            float *mean = parts + (ptrdiff_t)block * 2 * filters;
            pack(input + block * LANES * in_length, in_length, num, in_length, in);
            convolve_block(in, width, channels, factors, bias, filters, size, map, out_height, out_width);
            if (gamma) {
                moments_block(map, places, filters, num, mean, mean + filters);
                continue;
            }
            pool_block(map, out_height, out_width, filters, statistics, swish, slope, out, slopes + block * out_length,
                       codes + block * out_length);
            unpack(out, num, out_length, output + block * LANES * out_length);
        }
        if (gamma) {
#pragma omp single
            normalise(parts, blocks, num_images, places, filters, gamma, beta, eps, statistics);
#pragma omp for schedule(dynamic)
            for (int block = 0; block < blocks; block++) {
                pool_block(maps + block * map_length, out_height, out_width, filters, statistics, swish, slope, out,
                           slopes + block * out_length, codes + block * out_length);
                unpack(out, images_in(block, num_images), out_length, output + block * LANES * out_length);
            }
        }
        free(own);
        free(out);
        free(in);
    }
    free(factors);
    free(parts);
}

/* Backward pass of `convolve` without batch norm: the gradients with respect to input (where grad_input is not null),
   weight and bias. */
void gradients(const float *input, const float *weight, const float *grad_output, const lanes *slopes,
               const flags *codes, float *grad_input, float *grad_weight, float *grad_bias, int num_images, int height,
               int width, int channels, int filters, int size, int num_threads) {
    int high = (height - size + 1) / 2, wide = (width - size + 1) / 2, blocks = (num_images + LANES - 1) / LANES;
    int run = size * channels, pitch = padded(run + 2 * channels), num_sums = filters * size * padded(run);
    ptrdiff_t in_length = (ptrdiff_t)height * width * channels, out_length = (ptrdiff_t)high * wide * filters;
    size_t bordered_length = (size_t)filters * (size + 2) * pitch;
    float *bordered = allocate(bordered_length * sizeof(float));
    memset(bordered, 0, bordered_length * sizeof(float));
    for (int k = 0; k < filters; k++)
        for (int r = 0; r < size; r++)
            memcpy(bordered + (k * (size + 2) + r + 1) * pitch + channels, weight + (k * size + r) * run,
                   run * sizeof(float));
    float *parts = allocate((size_t)blocks * (num_sums + filters) * sizeof(float));
    memset(parts, 0, (size_t)blocks * (num_sums + filters) * sizeof(float));
#pragma omp parallel num_threads(num_threads)
    {
        lanes *grad = allocate(out_length * sizeof(lanes));
        flags *begin = allocate(out_length * sizeof(flags)), *shift = allocate(out_length * sizeof(flags));
        float *grads = allocate(out_length * sizeof(lanes)); /* the same three, image by image */
        int32_t *begins = allocate(out_length * sizeof(flags)), *shifts = allocate(out_length * sizeof(flags));
        float *image = allocate((in_length + LANES) * sizeof(float));
        memset(image + in_length, 0, LANES * sizeof(float));
#pragma omp for schedule(dynamic)
        for (int block = 0; block < blocks; block++) {
            int num = images_in(block, num_images);
            float *sums = parts + (size_t)block * (num_sums + filters);
            pack(grad_output + block * LANES * out_length, out_length, num, out_length, grad);
            locate_block(slopes + block * out_length, codes + block * out_length, high, wide, filters, width, channels,
                         pitch, grad, begin, shift, sums + num_sums);
            unpack(grad, num, out_length, grads);
            unpack(begin, num, out_length, begins);
            if (grad_input) unpack(shift, num, out_length, shifts);
            for (int l = 0; l < num; l++) {
                ptrdiff_t n = block * LANES + l, own = l * out_length;
                memcpy(image, input + n * in_length, in_length * sizeof(float));
                add_filter_gradient(image, width, channels, begins + own, grads + own, high * wide, filters, size,
                                    sums);
                if (!grad_input) continue;
                memset(image, 0, in_length * sizeof(float));
                add_image_gradient(bordered, pitch, shifts + own, grads + own, high, wide, filters, size, image, width,
                                   channels);
                memcpy(grad_input + n * in_length, image, in_length * sizeof(float));
            }
        }
        free(image);
        free(shifts);
        free(begins);
        free(grads);
        free(shift);
        free(begin);
        free(grad);
    }
    for (int block = 1; block < blocks; block++)
        for (int i = 0; i < num_sums + filters; i++) parts[i] += parts[(size_t)block * (num_sums + filters) + i];
    for (int i = 0; i < filters * size; i++)
        memcpy(grad_weight + i * run, parts + i * padded(run), run * sizeof(float));
    memcpy(grad_bias, parts + num_sums, filters * sizeof(float));
    free(parts);
    free(bordered);
}

/* Backward pass of `convolve` with batch norm, which cancels the bias: the gradients with respect to input (where
   grad_input is not null), weight, gamma and beta. Here every value of the feature map has a gradient. */
void batch_norm_gradients(const float *input, const float *weight, const float *grad_output, const lanes *slopes,
                          const flags *codes, const lanes *maps, const float *statistics, float *grad_input,
                          float *grad_weight, float *grad_gamma, float *grad_beta, int num_images, int height,
                          int width, int channels, int filters, int size, float eps, int num_threads) {
    int out_height = height - size + 1, out_width = width - size + 1, run = size * channels, taps = size * size;
    int blocks = (num_images + LANES - 1) / LANES, border = grad_input ? size - 1 : 0, num_sums = size * run * filters;
    ptrdiff_t in_length = (ptrdiff_t)height * width * channels;
    ptrdiff_t map_length = (ptrdiff_t)out_height * out_width * filters;
    ptrdiff_t row = (ptrdiff_t)(out_width + 2 * border) * filters, grad_length = (out_height + 2 * border) * row;
    ptrdiff_t out_length = (ptrdiff_t)(out_height / 2) * (out_width / 2) * filters;
    float *factors = allocate(num_sums * sizeof(float)); /* for the transposed convolution, [taps][filters][channels] */
    for (int tap = 0; tap < taps; tap++)
        for (int k = 0; k < filters; k++)
            for (int c = 0; c < channels; c++)
                factors[(tap * filters + k) * channels + c] = weight[(k * taps + taps - 1 - tap) * channels + c];
    lanes *grads = allocate(blocks * out_length * sizeof(lanes)); /* of `activation_gradient` */
    float *norm_parts = allocate((size_t)blocks * 2 * filters * sizeof(float));
    float *norm_factors = allocate(3 * filters * sizeof(float));
    float *parts = allocate((size_t)blocks * num_sums * sizeof(float));
#pragma omp parallel num_threads(num_threads)
    {
        lanes *in = allocate(in_length * sizeof(lanes)), *sums = allocate((num_sums + LANES) * sizeof(lanes));
        lanes *grad = allocate(grad_length * sizeof(lanes)), *inside = grad + border * (row + filters);
        memset(grad, 0, grad_length * sizeof(lanes));
#pragma omp for schedule(dynamic)
        for (int block = 0; block < blocks; block++)
            activation_gradient(grad_output + block * LANES * out_length, images_in(block, num_images),
                                slopes + block * out_length, codes + block * out_length, maps + block * map_length,
                                out_height, out_width, filters, statistics, grads + block * out_length,
                                norm_parts + (ptrdiff_t)block * 2 * filters);
#pragma omp single
        normalise_gradients(norm_parts, blocks, (double)num_images * out_height * out_width, filters, statistics, eps,
                            grad_gamma, grad_beta, norm_factors);
#pragma omp for schedule(dynamic)
        for (int block = 0; block < blocks; block++) {
            int num = images_in(block, num_images);
            pack(input + block * LANES * in_length, in_length, num, in_length, in);
            unpool_block(grads + block * out_length, codes + block * out_length, maps + block * map_length, out_height,
                         out_width, filters, norm_factors, inside, row);
            memset(sums, 0, (num_sums + LANES) * sizeof(lanes));
            add_weight_gradient(in, width, channels, inside, row, filters, size, out_height, out_width, sums);
            sum_lanes(sums, num_sums, parts + (size_t)block * num_sums);
            if (grad_input) {
                convolve_block(grad, out_width + 2 * border, filters, factors, NULL, channels, size, in, height, width);
                unpack(in, num, in_length, grad_input + block * LANES * in_length);
            }
        }
        free(grad);
        free(sums);
        free(in);
    }
    for (int block = 1; block < blocks; block++)
        for (int i = 0; i < num_sums; i++) parts[i] += parts[(size_t)block * num_sums + i];
    for (int k = 0; k < filters; k++)
        for (int r = 0; r < size; r++)
            memcpy(grad_weight + (k * size + r) * run, parts + (r * filters + k) * run, run * sizeof(float));
    free(parts);
    free(norm_factors);
    free(norm_parts);
    free(grads);
    free(factors);
}
