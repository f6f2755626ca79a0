/* Gradients of one image by its max-pooling indices: pooling has taken one of the values in each 2x2 window of a
   feature map, and without batch norm that value alone has a gradient.

   Here SIMD lanes hold neighbouring values of one image: channels are innermost, so that a row of a filter is one run
   of contiguous floats, both in the image and in the filter. grad: [places_high][places_wide][filters], the gradient
   with respect to the maximum of each window. */

#include "cpu_maps.h"

/* The length to allocate for a run of floats that is processed vector by vector from its start. */
static int padded(int run) { return run + LANES; }

/* For a block of images, in place: grad, after the activation -> before it. sums: [filters], of the latter; begins,
   shifts: for every window, the offsets that `add_filter_gradient` and `add_image_gradient` take. */
static void locate_block(const lanes *slopes, const flags *codes, int high, int wide, int filters, int width,
                         int channels, int pitch, lanes *grad, flags *begins, flags *shifts, float *sums) {
    lanes parts[filters + LANES];
    memset(parts, 0, sizeof parts);
    for (int y = 0; y < high; y++)
        for (int x = 0; x < wide; x++)
            for (int k = 0; k < filters; k++) {
                flags down = *codes >> 1, right = *codes++ & 1;
                *grad *= *slopes++;
                parts[k] += *grad++;
                *begins++ = ((2 * y + down) * width + 2 * x + right) * channels;
                *shifts++ = (1 - down) * pitch + (1 - right) * channels;
            }
    sum_lanes(parts, filters, sums);
}

INLINE void filter_gradient_tile(const float *image, ptrdiff_t row, const int32_t *begins, const float *grad,
                                 int places, int filters, float *sums, ptrdiff_t pitch, const int num_rows) {
    lanes tile[MOST] = {0};
    for (int i = 0; i < places; i++) {
        const float *from = image + begins[i * filters];
        for (int r = 0; r < num_rows; r++) tile[r] += load(from + r * row) * grad[i * filters];
    }
    for (int r = 0; r < num_rows; r++) store(load(sums + r * pitch) + tile[r], sums + r * pitch);
}

/* Adds the weight gradient to sums, [filters][size][padded(size * channels)]. image: [.][width][channels], in an
   allocation with room for LANES more; begins: the offsets in it at which the filter gave each maximum. */
static void add_filter_gradient(const float *image, int width, int channels, const int32_t *begins, const float *grad,
                                int places, int filters, int size, float *sums) {
    ptrdiff_t row = (ptrdiff_t)width * channels, pitch = padded(size * channels);
    for (int k = 0; k < filters; k++)
        for (int r = 0; r < size; r += MOST)
            for (int i = 0; i < size * channels; i += LANES) {
                const float *from = image + r * row + i;
                float *target = sums + (k * size + r) * pitch + i;
                WITH_WIDTH(at_most(MOST, size - r), filter_gradient_tile(from, row, begins + k, grad + k, places,
                                                                         filters, target, pitch, WIDTH))
            }
}

INLINE void image_gradient_tile(const float *bordered, ptrdiff_t pitch, ptrdiff_t length, const int32_t *shifts,
                                const float *grad, int places_high, int places_wide, int filters, float *out,
                                int width, int channels, const int num_rows) {
    ptrdiff_t row = (ptrdiff_t)width * channels;
    for (int y = 0; y < places_high; y++)
        for (int x = 0; x < places_wide; x++, shifts += filters, grad += filters) {
            lanes tile[MOST] = {0};
            for (int k = 0; k < filters; k++) {
                const float *from = bordered + k * length + shifts[k];
                for (int r = 0; r < num_rows; r++) tile[r] += load(from + r * pitch) * grad[k];
            }
            float *to = out + 2 * y * row + 2 * x * channels;
            for (int r = 0; r < num_rows; r++) store(load(to + r * row) + tile[r], to + r * row);
        }
}

/* Adds the input gradient to out, [.][width][channels], in an allocation with room for LANES more. bordered: [filters]
   [size + 2][pitch], filters within a border of zeros; shifts: the offset in a bordered filter of the part that covers
   the receptive field of the whole window when the filter itself is at the position of the maximum. */
static void add_image_gradient(const float *bordered, ptrdiff_t pitch, const int32_t *shifts, const float *grad,
                               int places_high, int places_wide, int filters, int size, float *out, int width,
                               int channels) {
    for (int r = 0; r < size + 1; r += MOST)
        for (int i = 0; i < (size + 1) * channels; i += LANES) {
            const float *from = bordered + r * pitch + i;
            float *target = out + (ptrdiff_t)r * width * channels + i;
            WITH_WIDTH(at_most(MOST, size + 1 - r),
                       image_gradient_tile(from, pitch, (size + 2) * pitch, shifts, grad, places_high, places_wide,
                                           filters, target, width, channels, WIDTH))
        }
}
