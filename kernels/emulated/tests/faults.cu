// Kernels with one fault each: what the emulator must refuse, or show as a wrong result within five seeds.
#include "device.cuh"
#include "params.h"

KERNEL(fault_exit_before_barrier, TestParams, 64) {
  if (threadIdx.x == 5) return;
  __syncthreads();
}
KERNEL(fault_different_barriers, TestParams, 64) {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}
KERNEL(fault_divergent_shuffle, TestParams, 64) {
  uint32_t v = threadIdx.x;
  if ((threadIdx.x & 1) != 0) {
    v = __shfl_xor_sync(~0u, v, 2);
  } else {
    v = __shfl_xor_sync(~0u, v, 4);
  }
  p.out[threadIdx.x] = v;
}
KERNEL(fault_lanes_missing, TestParams, 64) {
  if ((threadIdx.x & 1) != 0) p.out[threadIdx.x] = __shfl_xor_sync(~0u, p.in[threadIdx.x], 2);
}
KERNEL(fault_shuffle_outside_mask, TestParams, 64) {
  if ((threadIdx.x & 1) != 0) p.out[threadIdx.x] = __shfl_xor_sync(0xaaaaaaaau, p.in[threadIdx.x], 1);
}
KERNEL(fault_named_barrier_short, TestParams, 64) {
  if (threadIdx.x < 32) dev::named_barrier(1, 64);
}
KERNEL(fault_ldmatrix_misaligned, TestParams, 32) {
  DYN_SMEM(uint16_t, s);
  uint32_t r[4];
  dev::ldmatrix_x4(r, s + dev::lane() * 8 + 4);
}
KERNEL(fault_copy_misaligned, TestParams, 32) {
  DYN_SMEM(uint32_t, s);
  dev::cp_async16(s + dev::lane() * 4, p.in + 1 + dev::lane() * 4);
}
KERNEL(fault_mbarrier_never_completes, TestParams, 32) {
  STATIC_SMEM(uint64_t, bar);
  if (threadIdx.x == 0) {
    dev::mbar_init(&bar, 1);
    dev::mbar_expect_tx(&bar, 16);
  }
  __syncthreads();
  dev::mbar_wait(&bar, 0);
}
KERNEL(fault_mbarrier_not_initialised, TestParams, 32) {
  STATIC_SMEM(uint64_t, bar);
  dev::mbar_wait(&bar, 0);
}
KERNEL(fault_too_much_static, TestParams, 32) {
  using Large = float[12 * 1024 + 1];
  STATIC_SMEM(Large, large);
  large[threadIdx.x] = 0;
}

// --- clusters ------------------------------------------------------------------------------------------------------
KERNEL(fault_cluster_wait_missing, TestParams, 32) {
  dev::cluster_arrive();
  if (blockIdx.x == 0) dev::cluster_wait();
}
// A store to a peer that may not have started.
KERNEL(fault_no_cluster_start, TestParams, 32) {
  DYN_SMEM(uint4, s);
  dev::remote_store16(s + dev::lane(), 1 - dev::cluster_rank(), make_uint4(1, 2, 3, 4));
  dev::cluster_arrive();
  dev::cluster_wait();
}
// A store to a peer that may have exited.
KERNEL(fault_no_cluster_end, TestParams, 32) {
  DYN_SMEM(uint4, s);
  dev::cluster_arrive();
  dev::cluster_wait();
  if (dev::cluster_rank() == 0) dev::remote_store16(s + dev::lane(), 1, make_uint4(1, 2, 3, 4));
}
KERNEL(fault_rank_out_of_range, TestParams, 32) {
  DYN_SMEM(uint4, s);
  dev::cluster_arrive();
  dev::cluster_wait();
  dev::remote_store16(s, dev::cluster_rank() + 1, make_uint4(1, 2, 3, 4));
}
// The last push is not waited for.
KERNEL(fault_push_to_exited, TestParams, 32) {
  DYN_SMEM(uint4, s);
  STATIC_SMEM(uint64_t, bar);
  if (threadIdx.x == 0) {
    dev::mbar_init(&bar, 1);
    dev::mbar_expect_tx(&bar, 32 * 16);
  }
  dev::cluster_arrive();
  dev::cluster_wait();
  dev::st_async16(s + dev::lane(), 1 - dev::cluster_rank(), make_uint4(1, 2, 3, 4), &bar);
}

// --- wrong results: out[0] counts what a thread did not find as its neighbour left it ------------------------------
// NEVER is a barrier left out; the race check names the same fault.
DEVICE void neighbours(const TestParams& p, bool barrier_before, bool barrier_after) {
  DYN_SMEM(uint32_t, s);
  uint32_t t = threadIdx.x, n = blockDim.x;
  for (uint32_t round = 0; round < 6; ++round) {
    s[t] = round * 1000 + t;
    if (barrier_before) __syncthreads();
    uint32_t from = (t + 37) % n;
    if (s[from] != round * 1000 + from) atomicAdd(p.out, 1u);
    if (barrier_after) __syncthreads();
  }
}
KERNEL(right_neighbours, TestParams, 128) { neighbours(p, true, true); }
KERNEL(fault_no_barrier_before_read, TestParams, 128) { neighbours(p, false, true); }
KERNEL(fault_no_barrier_before_write, TestParams, 128) { neighbours(p, true, false); }

DEVICE void within_warp(const TestParams& p, bool barrier) {
  DYN_SMEM(uint32_t, s);
  uint32_t t = threadIdx.x;
  s[t] = t;
  if (barrier) __syncwarp();
  if (s[t ^ 1] != (t ^ 1)) atomicAdd(p.out, 1u);
}
KERNEL(right_syncwarp, TestParams, 64) { within_warp(p, true); }
KERNEL(fault_no_syncwarp, TestParams, 64) { within_warp(p, false); }

template <int LEFT> DEVICE void copied(const TestParams& p) {
  DYN_SMEM(uint32_t, s);
  uint32_t t = threadIdx.x;
  for (int i = 0; i < 2; ++i) {
    dev::cp_async16(s + (uint32_t(i) * 64 + t) * 4, p.in + (uint32_t(i) * 64 + t) * 4);
    dev::cp_async_commit();
  }
  dev::cp_async_wait<LEFT>();
  __syncthreads();
  uint32_t from = (64 + (t + 9) % 64) * 4;
  if (s[from] != from) atomicAdd(p.out, 1u);
}
KERNEL(right_copy_wait, TestParams, 64) { copied<0>(p); }
KERNEL(fault_copy_wait_too_lax, TestParams, 64) { copied<1>(p); }
KERNEL(fault_shared_not_initialised, TestParams, 64) {
  DYN_SMEM(float, s);
  float sum = dev::warp_sum(s[threadIdx.x]);
  if (!(sum == 0.0f)) atomicAdd(p.out, 1u);
}

// --- for the sanitizers --------------------------------------------------------------------------------------------
KERNEL(fault_dynamic_out_of_bounds, TestParams, 64) {
  DYN_SMEM(uint32_t, s);
  s[threadIdx.x] = p.in[0];
  __syncthreads();
  if (threadIdx.x == 0) p.out[0] = s[p.n];
}
KERNEL(fault_static_out_of_bounds, TestParams, 64) {
  using Small = uint32_t[64];
  STATIC_SMEM(Small, small);
  uint32_t* s = small;
  s[threadIdx.x] = p.in[0];
  __syncthreads();
  if (threadIdx.x == 0) p.out[0] = s[p.n];
}
KERNEL(fault_global_out_of_bounds, TestParams, 64) { p.out[threadIdx.x] = p.in[p.n]; }
