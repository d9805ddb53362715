// Short float formats by integer arithmetic: round to nearest, ties to even, as the conversion instructions do.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

namespace emulated {

inline uint32_t float_bits(float f) { uint32_t u; memcpy(&u, &f, 4); return u; }
inline float bits_float(uint32_t u) { float f; memcpy(&f, &u, 4); return f; }

inline uint16_t to_bf16(float f) {
  uint32_t u = float_bits(f);
  if ((u & 0x7fffffffu) > 0x7f800000u) return 0x7fff;       // the canonical NaN
  return uint16_t((u + 0x7fffu + (u >> 16 & 1u)) >> 16);
}
inline float from_bf16(uint16_t h) { return bits_float(uint32_t(h) << 16); }

inline uint16_t to_f16(float f) {
  uint32_t u = float_bits(f), sign = u >> 16 & 0x8000u;
  u &= 0x7fffffffu;
  if (u > 0x7f800000u) return 0x7fff;
  if (u >= 0x477ff000u) return uint16_t(sign | 0x7c00u);    // 65520 and above round to infinity
  if (u < 0x38800000u)                                      // below 2^-14: a multiple of 2^-24
    return uint16_t(sign | uint32_t(std::nearbyintf(std::fabs(f) * 16777216.0f)));
  return uint16_t(sign | ((u - 0x38000000u + 0xfffu + (u >> 13 & 1u)) >> 13));
}
inline float from_f16(uint16_t h) {
  uint32_t sign = uint32_t(h & 0x8000u) << 16, exponent = h >> 10 & 31u, mantissa = h & 1023u;
  if (exponent == 31) return bits_float(sign | 0x7f800000u | mantissa << 13);
  if (exponent == 0) return bits_float(sign | float_bits(float(mantissa) * 5.9604644775390625e-8f));
  return bits_float(sign | (exponent + 112u) << 23 | mantissa << 13);
}

}  // namespace emulated
