// The machine operations of device.cuh as PTX. sm_80 and up; clusters from sm_90 (below, a cluster is one block: its
// barrier is nothing, a store to rank 0 is a plain store, and what needs transaction barriers traps).
#pragma once
#include <cuda_runtime.h>

#define DEVICE __device__ __forceinline__
#define SITE_PARAMETER
#define SITE_ARGUMENT
// Arrays of one name and different types would not compile in one file: the raw array has a name of its own.
#define DYN_SMEM(T, name)                                                                                             \
  extern __shared__ __align__(1024) unsigned char name##_raw_[];                                                      \
  T* const name = reinterpret_cast<T*>(name##_raw_)
#define STATIC_SMEM(T, name) __shared__ T name
#define KERNEL(name, Params, THREADS)                                                                                 \
  extern "C" __global__ void __launch_bounds__(THREADS, 1) name(const __grid_constant__ Params p)
#define KERNEL_SHAPED(name, Params, THREADS, SMEM_BYTES) KERNEL(name, Params, THREADS)
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
#define SONGRNN_CLUSTERS 1
#else
#define SONGRNN_CLUSTERS 0
#endif

namespace dev {

DEVICE int lane() { return int(threadIdx.x & 31u); }
DEVICE uint32_t shared_address(const void* p) { return uint32_t(__cvta_generic_to_shared(p)); }

// --- formats -------------------------------------------------------------------------------------------------------
template <class E> DEVICE uint32_t pack(float lo, float hi);
template <> DEVICE uint32_t pack<bf16>(float lo, float hi) {
  uint32_t r;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo));
  return r;
}
template <> DEVICE uint32_t pack<f16>(float lo, float hi) {
  uint32_t r;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo));
  return r;
}
template <class E> DEVICE float low(uint32_t u);
template <class E> DEVICE float high(uint32_t u);
template <> DEVICE float low<bf16>(uint32_t u) { return __uint_as_float(u << 16); }
template <> DEVICE float high<bf16>(uint32_t u) { return __uint_as_float(u & 0xffff0000u); }
template <> DEVICE float low<f16>(uint32_t u) {
  float f;
  asm("{.reg .b16 l, h; mov.b32 {l, h}, %1; cvt.f32.f16 %0, l;}" : "=f"(f) : "r"(u));
  return f;
}
template <> DEVICE float high<f16>(uint32_t u) {
  float f;
  asm("{.reg .b16 l, h; mov.b32 {l, h}, %1; cvt.f32.f16 %0, h;}" : "=f"(f) : "r"(u));
  return f;
}
DEVICE float to_float(float x) { return x; }
DEVICE float to_float(bf16 x) { return __uint_as_float(uint32_t(x.v) << 16); }
DEVICE float to_float(f16 x) {
  float f;
  asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(x.v));
  return f;
}
template <class E> DEVICE E from_float(float x);
template <> DEVICE float from_float<float>(float x) { return x; }
template <> DEVICE bf16 from_float<bf16>(float x) {
  bf16 r;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(r.v) : "f"(x));
  return r;
}
template <> DEVICE f16 from_float<f16>(float x) {
  f16 r;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(r.v) : "f"(x));
  return r;
}

DEVICE float tanh_fast(float x) {
  float y;
  asm("tanh.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
// 1/x to about the last bit, for x in [2^-126, 2^126].
DEVICE float reciprocal(float x) {
  float r;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
  return fmaf(r, fmaf(-x, r, 1.0f), r);
}
DEVICE void pin(uint32_t& x) { asm volatile("" : "+r"(x)); }

// --- warp ----------------------------------------------------------------------------------------------------------
// D[16x8] += A[16x16] B[16x8]: A row-major fragments a0..a3, B column fragments b0, b1, f32 accumulators.
template <class E>
DEVICE void mma(float (&d)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1);
template <>
DEVICE void mma<bf16>(float (&d)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
template <>
DEVICE void mma<f16>(float (&d)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
// Lane i gives the row i of 8 short values (matrix i / 8); for x2 lanes 0 to 15 count.
DEVICE void ldmatrix_x4(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(row)) : "memory");
}
DEVICE void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(row)) : "memory");
}
DEVICE void ldmatrix_x2(uint32_t (&r)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
               : "=r"(r[0]), "=r"(r[1]) : "r"(shared_address(row)) : "memory");
}
DEVICE void ldmatrix_x2_trans(uint32_t (&r)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
               : "=r"(r[0]), "=r"(r[1]) : "r"(shared_address(row)) : "memory");
}
template <class T> DEVICE T shfl_xor(T v, int bits) { return __shfl_xor_sync(~0u, v, bits); }
template <class T> DEVICE T shfl_idx(T v, int source) { return __shfl_sync(~0u, v, source); }
template <class T> DEVICE T shfl_up(T v, int delta) { return __shfl_up_sync(~0u, v, unsigned(delta)); }
template <class T> DEVICE T shfl_down(T v, int delta) { return __shfl_down_sync(~0u, v, unsigned(delta)); }

// --- block ---------------------------------------------------------------------------------------------------------
// Barrier `id` (1 to 15; 0 is __syncthreads) for `threads` threads, whole warps.
DEVICE void named_barrier(int id, int threads) { asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory"); }
DEVICE void cp_async16(void* smem, const void* global) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(smem)), "l"(global) : "memory");
}
DEVICE void cp_async8(void* smem, const void* global) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 8;" ::"r"(shared_address(smem)), "l"(global) : "memory");
}
DEVICE void cp_async4(void* smem, const void* global) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(shared_address(smem)), "l"(global) : "memory");
}
// The first `bytes` (0 to 16) from memory, the rest zero; with 0 the address is not read.
DEVICE void cp_async16_zfill(void* smem, const void* global, int bytes) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(smem)), "l"(global), "r"(bytes)
               : "memory");
}
DEVICE void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int N> DEVICE void cp_async_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory"); }

// --- cluster -------------------------------------------------------------------------------------------------------
#if SONGRNN_CLUSTERS
DEVICE int cluster_rank() {
  uint32_t r;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(r));
  return int(r);
}
DEVICE int cluster_size() {
  uint32_t r;
  asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(r));
  return int(r);
}
DEVICE void cluster_arrive() { asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory"); }
DEVICE void cluster_wait() { asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory"); }
DEVICE uint32_t remote_address(const void* local, int rank) {
  uint32_t r;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(r) : "r"(shared_address(local)), "r"(rank));
  return r;
}
DEVICE void remote_store16(void* local, int rank, uint4 v) {
  asm volatile("st.shared::cluster.v4.u32 [%0], {%1,%2,%3,%4};" ::"r"(remote_address(local, rank)), "r"(v.x), "r"(v.y),
               "r"(v.z), "r"(v.w) : "memory");
}
DEVICE void remote_store8(void* local, int rank, uint2 v) {
  asm volatile("st.shared::cluster.v2.u32 [%0], {%1,%2};" ::"r"(remote_address(local, rank)), "r"(v.x), "r"(v.y)
               : "memory");
}
DEVICE void remote_store4(void* local, int rank, uint32_t v) {
  asm volatile("st.shared::cluster.u32 [%0], %1;" ::"r"(remote_address(local, rank)), "r"(v) : "memory");
}
// Stores that count their bytes off the receiver's barrier: `local` and `bar` are own addresses, mapped to `rank`.
DEVICE void st_async16(void* local, int rank, uint4 v, uint64_t* bar) {
  asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [%0], {%1,%2,%3,%4}, [%5];" ::"r"(
                   remote_address(local, rank)), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w), "r"(remote_address(bar, rank))
               : "memory");
}
DEVICE void st_async8(void* local, int rank, uint2 v, uint64_t* bar) {
  asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.v2.b32 [%0], {%1,%2}, [%3];" ::"r"(
                   remote_address(local, rank)), "r"(v.x), "r"(v.y), "r"(remote_address(bar, rank))
               : "memory");
}
DEVICE void mbar_init(uint64_t* bar, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(bar)), "r"(arrivals) : "memory");
}
DEVICE void mbar_fence_init() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
// Arrives once and expects `bytes` more in this phase. Relaxed: it publishes nothing (a release to the cluster would wait
// for the thread's stores to global memory).
DEVICE void mbar_expect_tx(uint64_t* bar, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.relaxed.cluster.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(bar)),
               "r"(bytes) : "memory");
}
// Waits until the phase of this parity is complete (the first phase has parity 0); what st_async brought is visible then.
// The fence is of shared memory alone: acquiring from the cluster in full would throw the L1 cache away.
DEVICE void mbar_wait(uint64_t* bar, int parity) {
  asm volatile(
      "{\n.reg .pred P;\nTRY_%=:\nmbarrier.try_wait.parity.relaxed.cluster.shared::cta.b64 P, [%0], %1;\n"
      "@P bra DONE_%=;\nbra TRY_%=;\nDONE_%=:\n}" ::"r"(shared_address(bar)), "r"(parity) : "memory");
  asm volatile("fence.acquire.sync_restrict::shared::cluster.cluster;" ::: "memory");
}
#else
DEVICE int cluster_rank() { return 0; }
DEVICE int cluster_size() { return 1; }
// Of one block: the barrier still is a barrier of its threads.
DEVICE void cluster_arrive() { __threadfence_block(); }
DEVICE void cluster_wait() { __syncthreads(); }
template <class T> DEVICE void store_own(void* local, int rank, T v) {
  if (rank != 0) __trap();
  *static_cast<T*>(local) = v;
}
DEVICE void remote_store16(void* local, int rank, uint4 v) { store_own(local, rank, v); }
DEVICE void remote_store8(void* local, int rank, uint2 v) { store_own(local, rank, v); }
DEVICE void remote_store4(void* local, int rank, uint32_t v) { store_own(local, rank, v); }
DEVICE void st_async16(void*, int, uint4, uint64_t*) { __trap(); }
DEVICE void st_async8(void*, int, uint2, uint64_t*) { __trap(); }
DEVICE void mbar_init(uint64_t*, int) { __trap(); }
DEVICE void mbar_fence_init() {}
DEVICE void mbar_expect_tx(uint64_t*, int) { __trap(); }
DEVICE void mbar_wait(uint64_t*, int) { __trap(); }
#endif

}  // namespace dev
