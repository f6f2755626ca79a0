/* SIMD vectors of floats from LANES images, one image per lane. */

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef __AVX512F__
enum { LANES = 16, WIDEST = 6 };
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
enum { TILE = 4 }; /* TILE times WIDEST sums stay in registers */
typedef float lanes __attribute__((vector_size(4 * LANES)));
typedef int32_t flags __attribute__((vector_size(4 * LANES))); /* result of a comparison: -1 where it is true, else 0 */
#define INLINE static inline __attribute__((always_inline))

static void *allocate(size_t bytes) {
    void *memory = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (!memory) {
        fputs("error: out of memory; lower the batch size of this variant\n", stderr);
        abort();
    }
    return memory;
}

static int at_most(int most, int number) { return number < most ? number : most; }

INLINE lanes load(const float *from) {
    lanes a;
    memcpy(&a, from, sizeof a);
    return a;
}

INLINE void store(lanes a, float *to) { memcpy(to, &a, sizeof a); }

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

/* The inverse of `pack`: `length` vectors, of floats or flags -> `length` numbers of each of the first `num` lanes. */
static void unpack(const void *vectors, int num, ptrdiff_t length, void *images) {
    const lanes *in = vectors;
    float *out = images;
    ptrdiff_t i = 0;
    for (; i + LANES <= length; i += LANES) {
        lanes rows[LANES];
        memcpy(rows, in + i, sizeof rows);
        transpose(rows);
        for (int l = 0; l < LANES; l++)
            if (l < num) memcpy(out + l * length + i, &rows[l], sizeof(lanes));
    }
    for (; i < length; i++)
        for (int l = 0; l < num; l++) memcpy(out + l * length + i, (const float *)(in + i) + l, sizeof(float));
}

/* The sum over the lanes of each of `length` vectors, in an allocation with room for LANES more. */
static void sum_lanes(const lanes *in, int length, float *out) {
    for (int i = 0; i < length; i += LANES) {
        lanes rows[LANES], sums = {0};
        memcpy(rows, in + i, sizeof rows);
        transpose(rows);
        for (int l = 0; l < LANES; l++) sums += rows[l];
        memcpy(out + i, &sums, (length - i < LANES ? length - i : LANES) * sizeof(float));
    }
}

/* `a` with the lanes from `num` on set to zero. */
INLINE lanes only(int num, lanes a) {
    for (int l = num; l < LANES; l++) a[l] = 0;
    return a;
}

/* 1 / (1 + exp(-x)), the exponential as Cephes' expf (S. Moshier, netlib.org/cephes). */
INLINE lanes sigmoid(lanes x) {
    lanes bound = (lanes){0} + 87;
    x = choose(x > bound, -bound, choose(x < -bound, bound, -x));
    lanes shifted = x * 1.44269504f + 0x1.8p23f, power = shifted - 0x1.8p23f; /* x / ln 2, rounded */
    x = x - power * 0.693359375f + power * 2.12194440e-4f;
    lanes sum = (1.9875691500e-4f * x + 1.3981999507e-3f) * x + 8.3334519073e-3f;
    sum = ((sum * x + 4.1665795894e-2f) * x + 1.6666665459e-1f) * x + 5.0000001201e-1f;
    sum = sum * x * x + x + 1;
    return 1 / (1 + (lanes)((flags)sum + ((flags)shifted << 23)));
}
