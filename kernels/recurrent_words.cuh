// Small things that both persistent recurrent kernels use: words of shared or global memory, and weight fragments.
#pragma once
#include "device.cuh"
#include "params.h"

// Kernels of clusters are compiled where there are clusters.
#if defined(SONGRNN_EMULATED) || SONGRNN_CLUSTERS
#define RECURRENT_CLUSTERS 1
#else
#define RECURRENT_CLUSTERS 0
#endif

// N words from or to memory aligned to min(N, 4) words.
template <int N> DEVICE void load_words(uint32_t (&w)[N], const void* from) {
  if constexpr (N == 1) {
    w[0] = *static_cast<const uint32_t*>(from);
  } else if constexpr (N == 2) {
    const uint2 v = *static_cast<const uint2*>(from);
    w[0] = v.x, w[1] = v.y;
  } else {
    static_assert(N % 4 == 0, "1, 2 or a multiple of 4 words");
#pragma unroll
    for (int i = 0; i < N; i += 4) {
      const uint4 v = static_cast<const uint4*>(from)[i / 4];
      w[i] = v.x, w[i + 1] = v.y, w[i + 2] = v.z, w[i + 3] = v.w;
    }
  }
}
template <int N> DEVICE void store_words(void* to, const uint32_t (&w)[N]) {
  if constexpr (N == 1) {
    *static_cast<uint32_t*>(to) = w[0];
  } else if constexpr (N == 2) {
    *static_cast<uint2*>(to) = make_uint2(w[0], w[1]);
  } else {
    static_assert(N % 4 == 0, "1, 2 or a multiple of 4 words");
#pragma unroll
    for (int i = 0; i < N; i += 4) static_cast<uint4*>(to)[i / 4] = make_uint4(w[i], w[i + 1], w[i + 2], w[i + 3]);
  }
}

// N short values (E) from or to memory aligned to min(2N, 16) bytes. N = 1 or even.
template <class E, int N> DEVICE void load_short(float (&v)[N], const void* from) {
  if constexpr (N == 1) {
    v[0] = dev::to_float(*static_cast<const E*>(from));
  } else {
    uint32_t w[N / 2];
    load_words(w, from);
#pragma unroll
    for (int i = 0; i < N; ++i) v[i] = i & 1 ? dev::high<E>(w[i / 2]) : dev::low<E>(w[i / 2]);
  }
}
template <class E, int N> DEVICE void store_short(void* to, const float (&v)[N]) {
  if constexpr (N == 1) {
    *static_cast<E*>(to) = dev::from_float<E>(v[0]);
  } else {
    uint32_t w[N / 2];
#pragma unroll
    for (int i = 0; i < N / 2; ++i) w[i] = dev::pack<E>(v[2 * i], v[2 * i + 1]);
    store_words(to, w);
  }
}
// N floats, aligned to min(N, 4) words.
template <int N> DEVICE void load_floats(float (&v)[N], const float* from) {
  uint32_t w[N];
  load_words(w, from);
#pragma unroll
  for (int i = 0; i < N; ++i) v[i] = __uint_as_float(w[i]);
}
template <int N> DEVICE void store_floats(float* to, const float (&v)[N]) {
  uint32_t w[N];
#pragma unroll
  for (int i = 0; i < N; ++i) w[i] = __float_as_uint(v[i]);
  store_words(to, w);
}

// A value that the compiler keeps in a register instead of computing it again in every step.
DEVICE uint32_t pinned(uint32_t v) {
  dev::pin(v);
  return v;
}
// Likewise an address in global memory. (An address in shared memory would lose its being known as one: pin offsets.)
template <class T> DEVICE T* pinned(T* pointer) {
  const uint64_t v = reinterpret_cast<uint64_t>(pointer);
  const uint32_t low = pinned(uint32_t(v)), high = pinned(uint32_t(v >> 32));
  T* const same = reinterpret_cast<T*>(uint64_t(high) << 32 | low);
#if defined(__CUDA_ARCH__)
  __builtin_assume(__isGlobal(same));
#endif
  return same;
}

// A warp's A fragments of m16n8k16: the first REGISTERS of COUNT in registers, the others in shared memory (512 bytes
// each, 16 a lane).
template <int COUNT, int REGISTERS> struct Fragments {
  static constexpr int SHARED = COUNT - REGISTERS, BYTES = SHARED * 512;
  static_assert(REGISTERS > 0 && SHARED >= 0, "between one and all fragments in registers");
  uint32_t held[REGISTERS][4];
  uint4* shared;            // this lane's part

  DEVICE void put(int f, const uint32_t (&a)[4]) {
    if (f < REGISTERS) {
      const int i = f < REGISTERS ? f : 0;
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        held[i][r] = a[r];
        dev::pin(held[i][r]);
      }
    } else {
      shared[(f - REGISTERS) * 32] = make_uint4(a[0], a[1], a[2], a[3]);
    }
  }
  template <class E> DEVICE void multiply(int f, float (&d)[4], uint32_t b0, uint32_t b1) const {
    if (f < REGISTERS) {
      const int i = f < REGISTERS ? f : 0;
      dev::mma<E>(d, held[i][0], held[i][1], held[i][2], held[i][3], b0, b1);
    } else {
      const uint4 a = shared[(f - REGISTERS) * 32];
      dev::mma<E>(d, a.x, a.y, a.z, a.w, b0, b1);
    }
  }
};

// Independent chains of mma a tile, so that the tensor cores always have work: about five a quarter of an SM.
constexpr int chains(int tiles, int warps) { return tiles * warps >= 20 ? 1 : tiles * warps >= 8 ? 2 : 4; }
// The least stride >= bytes that is `offset` more than a multiple of 128 bytes (all banks).
constexpr int stride_for(int bytes, int offset) { return bytes + ((offset - bytes) % 128 + 128) % 128; }
