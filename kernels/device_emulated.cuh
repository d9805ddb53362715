// The machine operations of device.cuh as calls of the emulator.
#pragma once
#include "emulated/runtime.h"

// Inlined for certain: two sources may have different functions of one name, which a linker would merge.
#define DEVICE inline __attribute__((always_inline))
#define SITE_PARAMETER , const char *file = __builtin_FILE(), int line = __builtin_LINE()
#define SITE_ARGUMENT , file, line
#define SITE_ emulated::Site{file, line}

namespace dev {

inline int lane() { return emulated::place->lane; }

// --- formats -------------------------------------------------------------------------------------------------------
template <class E> E from_float(float x);
template <> inline float from_float<float>(float x) { return x; }
template <> inline bf16 from_float<bf16>(float x) { return {emulated::to_bf16(x)}; }
template <> inline f16 from_float<f16>(float x) { return {emulated::to_f16(x)}; }
inline float to_float(float x) { return x; }
inline float to_float(bf16 x) { return emulated::from_bf16(x.v); }
inline float to_float(f16 x) { return emulated::from_f16(x.v); }
template <class E> inline uint32_t pack(float lo, float hi) {
  return uint32_t(from_float<E>(lo).v) | uint32_t(from_float<E>(hi).v) << 16;
}
template <class E> inline float low(uint32_t u) { return to_float(E{uint16_t(u)}); }
template <class E> inline float high(uint32_t u) { return to_float(E{uint16_t(u >> 16)}); }

// The instruction's error is up to 2^-11 of the value: so is that of a mantissa of 10 bits.
inline float tanh_fast(float x) {
  return emulated::bits_float((emulated::float_bits(tanhf(x)) + 0x1000u) & ~0x1fffu);
}
inline float reciprocal(float x) { return 1.0f / x; }
inline void pin(uint32_t&) {}

// --- warp ----------------------------------------------------------------------------------------------------------
template <class E>
inline void mma(float (&d)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0,
                uint32_t b1 SITE_PARAMETER);
template <>
inline void mma<bf16>(float (&d)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1,
                      const char* file, int line) {
  emulated::mma(false, d, {a0, a1, a2, a3, b0, b1}, SITE_);
}
template <>
inline void mma<f16>(float (&d)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1,
                     const char* file, int line) {
  emulated::mma(true, d, {a0, a1, a2, a3, b0, b1}, SITE_);
}
inline void ldmatrix_x4(uint32_t (&r)[4], const void* row SITE_PARAMETER) {
  emulated::ldmatrix(r, 4, row, false, SITE_);
}
inline void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row SITE_PARAMETER) {
  emulated::ldmatrix(r, 4, row, true, SITE_);
}
inline void ldmatrix_x2(uint32_t (&r)[2], const void* row SITE_PARAMETER) {
  emulated::ldmatrix(r, 2, row, false, SITE_);
}
inline void ldmatrix_x2_trans(uint32_t (&r)[2], const void* row SITE_PARAMETER) {
  emulated::ldmatrix(r, 2, row, true, SITE_);
}
template <class T> inline T shfl_xor(T v, int bits SITE_PARAMETER) {
  return __shfl_xor_sync(~0u, v, bits, 32, file, line);
}
template <class T> inline T shfl_idx(T v, int source SITE_PARAMETER) {
  return __shfl_sync(~0u, v, source, 32, file, line);
}
template <class T> inline T shfl_up(T v, int delta SITE_PARAMETER) {
  return __shfl_up_sync(~0u, v, unsigned(delta), 32, file, line);
}
template <class T> inline T shfl_down(T v, int delta SITE_PARAMETER) {
  return __shfl_down_sync(~0u, v, unsigned(delta), 32, file, line);
}

// --- block ---------------------------------------------------------------------------------------------------------
inline void named_barrier(int id, int threads SITE_PARAMETER) {
  emulated::block_barrier(id, threads, "named_barrier", SITE_);
}
inline void cp_async16(void* smem, const void* global SITE_PARAMETER) {
  emulated::copy_async(smem, global, 16, 16, SITE_);
}
inline void cp_async8(void* smem, const void* global SITE_PARAMETER) {
  emulated::copy_async(smem, global, 8, 8, SITE_);
}
inline void cp_async4(void* smem, const void* global SITE_PARAMETER) {
  emulated::copy_async(smem, global, 4, 4, SITE_);
}
inline void cp_async16_zfill(void* smem, const void* global, int bytes SITE_PARAMETER) {
  emulated::copy_async(smem, global, 16, bytes, SITE_);
}
inline void cp_async_commit() { emulated::copy_commit(); }
template <int N> inline void cp_async_wait() { emulated::copy_wait(N); }

// --- cluster -------------------------------------------------------------------------------------------------------
inline int cluster_rank() { return emulated::place->rank; }
inline int cluster_size() { return emulated::cluster_blocks; }
inline void cluster_arrive(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  emulated::cluster_arrive(SITE_);
}
inline void cluster_wait(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  emulated::cluster_wait(SITE_);
}
inline void remote_store16(void* local, int rank, uint4 v SITE_PARAMETER) {
  emulated::remote_store(local, rank, &v, 16, SITE_);
}
inline void remote_store8(void* local, int rank, uint2 v SITE_PARAMETER) {
  emulated::remote_store(local, rank, &v, 8, SITE_);
}
inline void remote_store4(void* local, int rank, uint32_t v SITE_PARAMETER) {
  emulated::remote_store(local, rank, &v, 4, SITE_);
}
inline void st_async16(void* local, int rank, uint4 v, uint64_t* bar SITE_PARAMETER) {
  emulated::store_async(local, rank, &v, 16, bar, SITE_);
}
inline void st_async8(void* local, int rank, uint2 v, uint64_t* bar SITE_PARAMETER) {
  emulated::store_async(local, rank, &v, 8, bar, SITE_);
}
inline void mbar_init(uint64_t* bar, int arrivals SITE_PARAMETER) { emulated::barrier_init(bar, arrivals, SITE_); }
inline void mbar_fence_init() {}
inline void mbar_expect_tx(uint64_t* bar, int bytes SITE_PARAMETER) { emulated::barrier_expect(bar, bytes, SITE_); }
inline void mbar_wait(uint64_t* bar, int parity SITE_PARAMETER) { emulated::barrier_wait(bar, parity, SITE_); }

}  // namespace dev
