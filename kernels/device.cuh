// The machine as the kernels see it: element types, conversions, activations, warp sums, and one name for each
// operation that is PTX under nvcc (device_ptx.cuh) and a call of the emulator in a C++ build with SONGRNN_EMULATED
// (device_emulated.cuh). What stands in this file is the same arithmetic in both.
#pragma once
#include <stdint.h>

struct bf16 { uint16_t v; };
struct f16 { uint16_t v; };

// The type of a saved gate: f16 is finer near 1 than bf16.
template <class E> struct Gate { using type = f16; };
template <> struct Gate<float> { using type = float; };

#if defined(SONGRNN_EMULATED)
#include "device_emulated.cuh"
#else
#include "device_ptx.cuh"
#endif

namespace dev {

DEVICE float sigmoid_fast(float x) { return fmaf(0.5f, tanh_fast(0.5f * x), 0.5f); }

// exp(x) - 1 = scale * q + (scale - 1) with scale = 2^n, |x - n ln 2| <= ln 2 / 2 (+ rounding): q = exp(r) - 1 is small
// and keeps its relative accuracy. |x| < 88.
DEVICE void expm1_parts(float x, float& scale, float& q) {
  const float shift = 12582912.0f;                    // 1.5 * 2^23: adding it rounds to an integer in the low bits
  float t = fmaf(x, 1.44269504088896f, shift);
  float n = t - shift;
  float r = fmaf(n, -0.693145751953125f, x);          // ln 2 in two parts, the first short: n times it is exact
  r = fmaf(n, -1.42860682030941723e-6f, r);
  scale = __uint_as_float((__float_as_uint(t) << 23) + 0x3f800000u);
  float p = 1.9841270e-4f;
  p = fmaf(p, r, 1.3888889e-3f);
  p = fmaf(p, r, 8.3333333e-3f);
  p = fmaf(p, r, 4.1666667e-2f);
  p = fmaf(p, r, 1.6666667e-1f);
  p = fmaf(p, r, 0.5f);
  q = fmaf(r * r, p, r);
}
// tanh(a) = e / (e + 2), e = exp(2a) - 1: no cancellation at any size. A NaN stays a NaN.
DEVICE float tanh_exact(float x) {
  float a = fabsf(x);
  a = a > 10.0f ? 10.0f : a;                          // tanh(10) rounds to 1
  float scale, q;
  expm1_parts(a + a, scale, q);
  float e = fmaf(scale, q, scale - 1.0f);
  return copysignf(e * reciprocal(e + 2.0f), x);
}
// 1 / (1 + exp(-x)); below -87 the value at -87 (1.6e-38, about the least normal number).
DEVICE float sigmoid_exact(float x) {
  float z = x < -87.0f ? 87.0f : x > 80.0f ? -80.0f : -x;
  float scale, q;
  expm1_parts(z, scale, q);
  return reciprocal(fmaf(scale, q, scale) + 1.0f);
}

template <class E> DEVICE float activate_tanh(float x) { return tanh_fast(x); }
template <> DEVICE float activate_tanh<float>(float x) { return tanh_exact(x); }
template <class E> DEVICE float activate_sigmoid(float x) { return sigmoid_fast(x); }
template <> DEVICE float activate_sigmoid<float>(float x) { return sigmoid_exact(x); }

// Sums over a warp, the same bits in every lane: each level adds two numbers, and addition commutes.
DEVICE float warp_sum(float v SITE_PARAMETER) {
#pragma unroll
  for (int i = 16; i > 0; i >>= 1) v += shfl_xor(v, i SITE_ARGUMENT);
  return v;
}
DEVICE double warp_sum(double v SITE_PARAMETER) {
#pragma unroll
  for (int i = 16; i > 0; i >>= 1) v += shfl_xor(v, i SITE_ARGUMENT);
  return v;
}
DEVICE float warp_max(float v SITE_PARAMETER) {
#pragma unroll
  for (int i = 16; i > 0; i >>= 1) v = fmaxf(v, shfl_xor(v, i SITE_ARGUMENT));
  return v;
}

}  // namespace dev
