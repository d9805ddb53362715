// Four neighbouring elements of storage type E, read and written at once: 16 bytes of float, 8 of bf16 and f16.
// Pointers are aligned to that.
#pragma once
#include "device.cuh"

template <class E>
DEVICE float4 load_quad(const E* from) {
  if constexpr (sizeof(E) == 4) {
    return *reinterpret_cast<const float4*>(from);
  } else {
    const uint2 words = *reinterpret_cast<const uint2*>(from);
    return make_float4(dev::low<E>(words.x), dev::high<E>(words.x), dev::low<E>(words.y), dev::high<E>(words.y));
  }
}

template <class E>
DEVICE void store_quad(E* to, float4 v) {
  if constexpr (sizeof(E) == 4)
    *reinterpret_cast<float4*>(to) = v;
  else
    *reinterpret_cast<uint2*>(to) = make_uint2(dev::pack<E>(v.x, v.y), dev::pack<E>(v.z, v.w));
}
