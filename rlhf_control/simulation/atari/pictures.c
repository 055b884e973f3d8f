// What is done to Atari's screens, many times a second; `pictures.py` is the same in NumPy, to the bit.

#include <math.h>
#include <stdint.h>

#ifdef __clang__
#pragma clang fp contract(off)
#define PLAIN
#else
#define PLAIN __attribute__((optimize("fp-contract=off")))  // a product and a sum are rounded apart
#endif

// Each pixel of an output is the weighted mean of `taps` pixels in a row, from first[i] on: weights (n, taps).
PLAIN void atari_shrink(const uint8_t *a, const uint8_t *b, int64_t height, int64_t width, int64_t out_height,
                        int64_t out_width, int64_t taps_y, int64_t taps_x, const int32_t *first_y,
                        const float *weight_y, const int32_t *first_x, const float *weight_x, float *rows,
                        uint8_t *out)
{
    uint8_t line[width + taps_x];
    for (int64_t x = 0; x < taps_x; x++)
        line[width + x] = 0;  // read with a weight of zero
    for (int64_t y = 0; y < height; y++) {
        const uint8_t *one = a + y * width, *two = b + y * width;
        for (int64_t x = 0; x < width; x++)
            line[x] = one[x] > two[x] ? one[x] : two[x];
        float *row = rows + y * out_width;
        for (int64_t x = 0; x < out_width; x++) {
            const uint8_t *from = line + first_x[x];
            float sum = 0;
            for (int64_t k = 0; k < taps_x; k++)
                sum += (float)from[k] * weight_x[x * taps_x + k];
            row[x] = sum;
        }
    }
    float sum[out_width];
    for (int64_t y = 0; y < out_height; y++) {
        for (int64_t x = 0; x < out_width; x++)
            sum[x] = 0;
        for (int64_t k = 0; k < taps_y; k++) {
            int64_t from = first_y[y] + k < height ? first_y[y] + k : height - 1;
            const float *row = rows + from * out_width, weight = weight_y[y * taps_y + k];
            for (int64_t x = 0; x < out_width; x++)
                sum[x] += weight * row[x];
        }
        for (int64_t x = 0; x < out_width; x++)
            out[y * out_width + x] = (uint8_t)rintf(sum[x]);
    }
}

// Shifts stacks (n, pixels, depth) by one and puts new pictures (n, pixels) last.
void atari_push(uint8_t *stacks, const uint8_t *pictures, int64_t n, int64_t pixels, int64_t depth)
{
    for (int64_t i = 0; i < n * pixels; i++) {
        uint8_t *stack = stacks + i * depth;
        if (depth == 4) {
            uint32_t word;
            __builtin_memcpy(&word, stack, 4);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
            word = word >> 8 | (uint32_t)pictures[i] << 24;
#else
            word = word << 8 | pictures[i];
#endif
            __builtin_memcpy(stack, &word, 4);
        } else {
            for (int64_t k = 0; k + 1 < depth; k++)
                stack[k] = stack[k + 1];
            stack[depth - 1] = pictures[i];
        }
    }
}
