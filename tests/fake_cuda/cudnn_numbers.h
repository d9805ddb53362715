// The data types of the fake cuDNN: rounded to the nearest, ties to even, with subnormal numbers and infinity.
#pragma once
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cudnn_inside.h"

static inline float from_bits(uint32_t word) {
  float value;
  memcpy(&value, &word, 4);
  return value;
}
static inline uint32_t bits(float value) {
  uint32_t word;
  memcpy(&word, &value, 4);
  return word;
}

static inline double from_half(uint16_t half) {
  int exponent = half >> 10 & 31, fraction = half & 1023;
  double value = exponent == 31 ? (fraction ? NAN : INFINITY) : exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24);
  return half >> 15 ? -value : value;
}

// To the nearest, ties to even; the step is 2^-24 below the smallest normal number.
static inline uint16_t to_half(double value) {
  uint16_t sign = signbit(value) ? 0x8000 : 0;
  if (isnan(value)) return sign | 0x7e00;
  double size = fabs(value);
  if (size >= 65520) return sign | 0x7c00;
  if (size < 0x1p-14) return (uint16_t)(sign | (int)nearbyint(ldexp(size, 24)));
  int exponent;
  int fraction = (int)nearbyint(ldexp(frexp(size, &exponent), 11)); // 1024 to 2048: a carry goes into the exponent
  return (uint16_t)(sign | (((exponent + 14) << 10) + fraction - 1024));
}

// From double at once: rounding to float on the way could round twice.
static inline uint16_t to_bfloat(double value) {
  float nearest = (float)value;
  if (isnan(nearest)) return 0x7fc0;
  uint32_t word = bits(nearest), half = word >> 16, rest = word & 0xffff;
  if (isinf(nearest)) return (uint16_t)half;
  // Exactly between two: the side is the one where the double is.
  double beyond = fabs(value) - fabs((double)nearest);
  int up = rest > 0x8000 || (rest == 0x8000 && (beyond > 0 || (beyond == 0 && (half & 1))));
  return (uint16_t)(half + (uint32_t)up);
}

static inline double load(const void *data, cudnnDataType_t type, size_t index) {
  if (type == CUDNN_DATA_FLOAT) return ((const float *)data)[index];
  uint16_t half = ((const uint16_t *)data)[index];
  return type == CUDNN_DATA_HALF ? from_half(half) : from_bits((uint32_t)half << 16);
}
static inline void store(void *data, cudnnDataType_t type, size_t index, double value) {
  if (type == CUDNN_DATA_FLOAT) ((float *)data)[index] = (float)value;
  else ((uint16_t *)data)[index] = type == CUDNN_DATA_HALF ? to_half(value) : to_bfloat(value);
}
static inline float rounded(cudnnDataType_t type, double value) {
  if (type == CUDNN_DATA_FLOAT) return (float)value;
  return type == CUDNN_DATA_HALF ? (float)from_half(to_half(value)) : from_bits((uint32_t)to_bfloat(value) << 16);
}

// A copy as doubles; zeros for NULL.
static inline double *loaded(const void *data, cudnnDataType_t type, size_t count) {
  double *values = calloc(count + 1, sizeof *values);
  for (size_t i = 0; data && i < count; i++) values[i] = load(data, type, i);
  return values;
}
static inline void store_all(void *data, cudnnDataType_t type, const double *values, size_t count) {
  for (size_t i = 0; data && i < count; i++) store(data, type, i, values[i]);
}
