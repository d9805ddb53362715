// Every operation of device.cuh, used rightly. Each kernel adds what is wrong to out[0]; it must stay 0.
#include "device.cuh"
#include "params.h"

DEVICE void expect(const TestParams& p, bool right) {
  if (!right) atomicAdd(p.out, 1u);
}

// Two warps. Rows of 8 values: matrix m, row r, column c holds 64 m + 8 r + c.
KERNEL(op_ldmatrix, TestParams, 64) {
  DYN_SMEM(uint16_t, s);
  for (int i = int(threadIdx.x); i < 256; i += int(blockDim.x)) s[i] = uint16_t(i);
  __syncthreads();
  int l = dev::lane(), g = l >> 2, q = l & 3;
  uint32_t a[4], b[4], c[2], d[2];
  dev::ldmatrix_x4(a, s + l * 8);
  dev::ldmatrix_x4_trans(b, s + l * 8);
  dev::ldmatrix_x2(c, s + (l & 15) * 8);
  dev::ldmatrix_x2_trans(d, s + (l & 15) * 8);
  for (int m = 0; m < 4; ++m) {
    uint32_t straight = uint32_t(m * 64 + g * 8 + 2 * q), across = uint32_t(m * 64 + 2 * q * 8 + g);
    expect(p, a[m] == (straight | (straight + 1) << 16));
    expect(p, b[m] == (across | (across + 8) << 16));
    if (m < 2) expect(p, c[m] == a[m] && d[m] == b[m]);
  }
}

// D = A B + 1 with small whole numbers, exact in every format.
template <class E> DEVICE void mma_body(const TestParams& p) {
  int g = dev::lane() >> 2, q = dev::lane() & 3;
  auto a = [](int i, int k) { return float((i * 3 + k * 5) % 7 - 3); };
  auto b = [](int k, int j) { return float((k * 2 + j) % 5 - 2); };
  uint32_t fa[4], fb[2];
  for (int r = 0; r < 4; ++r) {
    int i = g + (r & 1) * 8, k = 2 * q + (r >> 1) * 8;
    fa[r] = dev::pack<E>(a(i, k), a(i, k + 1));
  }
  for (int r = 0; r < 2; ++r) fb[r] = dev::pack<E>(b(2 * q + 8 * r, g), b(2 * q + 8 * r + 1, g));
  float d[4] = {1, 1, 1, 1};
  dev::pin(fa[0]);
  dev::mma<E>(d, fa[0], fa[1], fa[2], fa[3], fb[0], fb[1]);
  for (int r = 0; r < 4; ++r) {
    float sum = 1;
    for (int k = 0; k < 16; ++k) sum += a(g + (r >> 1) * 8, k) * b(k, 2 * q + (r & 1));
    expect(p, d[r] == sum);
  }
}
KERNEL(op_mma_bf16, TestParams, 64) { mma_body<bf16>(p); }
KERNEL(op_mma_f16, TestParams, 64) { mma_body<f16>(p); }

KERNEL(op_warp, TestParams, 64) {
  int l = dev::lane();
  expect(p, dev::shfl_xor(uint32_t(l), 5) == uint32_t(l ^ 5));
  expect(p, dev::shfl_idx(float(l), 7) == 7.0f);
  expect(p, dev::shfl_up(float(l), 3) == float(l < 3 ? l : l - 3));
  expect(p, dev::shfl_down(uint32_t(l), 3) == uint32_t(l > 28 ? l : l + 3));
  expect(p, __shfl_sync(~0u, l, 1, 8) == (l & 24) + 1);
  expect(p, dev::warp_sum(float(l)) == 496.0f);
  expect(p, dev::warp_sum(double(l) * 0.5) == 248.0);
  expect(p, dev::warp_max(-float(l)) == 0.0f);
  expect(p, __ballot_sync(~0u, l < 3) == 7u && __any_sync(~0u, l == 9) && !__all_sync(~0u, l != 9));
  uint32_t half = (l & 1) != 0 ? 0xaaaaaaaau : 0x55555555u;
  expect(p, __shfl_xor_sync(half, l, 2) == (l ^ 2));
}

// 128 threads: two halves with a named barrier each, several rounds; then votes, atomics, static shared memory.
template <class T, int N> DEVICE void reversed(const TestParams& p) {
  using Values = T[N];
  STATIC_SMEM(Values, values);
  int t = int(threadIdx.x);
  if (t < N) values[t] = T(t);
  __syncthreads();
  if (t < N) expect(p, values[N - 1 - t] == T(N - 1 - t));
  __syncthreads();
}
KERNEL(op_block, TestParams, 128) {
  DYN_SMEM(uint32_t, s);
  STATIC_SMEM(uint32_t, counter);
  int t = int(threadIdx.x), half = t / 64;
  for (uint32_t round = 0; round < 4; ++round) {
    s[t] = uint32_t(t) + round;
    dev::named_barrier(1 + half, 64);
    expect(p, s[half * 64 + (t + 33) % 64] == uint32_t(half * 64 + (t + 33) % 64) + round);
    dev::named_barrier(1 + half, 64);
  }
  if (t == 0) counter = 0;
  __syncthreads();
  atomicAdd(&counter, 3u);
  atomicSub(&counter, 1u);
  __syncthreads();
  expect(p, counter == 256u);
  expect(p, __syncthreads_count(t < 5) == 5 && __syncthreads_or(t == 99) && !__syncthreads_and(t != 99));
  reversed<float, 100>(p);
  reversed<uint16_t, 128>(p);
}

// A ring of three stages, copied two ahead.
KERNEL(op_cp_async, TestParams, 64) {
  DYN_SMEM(uint32_t, ring);                             // [3][64][4]
  int t = int(threadIdx.x), stages = p.n;
  auto fetch = [&](int i) {
    if (i < stages) dev::cp_async16(ring + (i % 3 * 64 + t) * 4, p.in + (i * 64 + t) * 4);
    dev::cp_async_commit();
  };
  fetch(0);
  fetch(1);
  for (int i = 0; i < stages; ++i) {
    dev::cp_async_wait<1>();
    __syncthreads();
    fetch(i + 2);
    int from = (t * 7 + i) % 64;
    for (int k = 0; k < 4; ++k) expect(p, ring[(i % 3 * 64 + from) * 4 + k] == uint32_t((i * 64 + from) * 4 + k));
  }
  dev::cp_async_wait<0>();
  __syncthreads();
  dev::cp_async8(ring + t * 4, p.in + t * 4);
  dev::cp_async4(ring + t * 4 + 2, p.in + t * 4);
  dev::cp_async16_zfill(ring + 256 + t * 4, p.in + t * 4, t % 5 * 4);
  dev::cp_async_commit();
  dev::cp_async_wait<0>();
  expect(p, ring[t * 4] == uint32_t(t * 4) && ring[t * 4 + 1] == uint32_t(t * 4 + 1) && ring[t * 4 + 2] == uint32_t(t * 4));
  for (int k = 0; k < 4; ++k) expect(p, ring[256 + t * 4 + k] == (k < t % 5 ? uint32_t(t * 4 + k) : 0u));
}

// Every block pushes to all others each round, two buffers, a cluster barrier between.
KERNEL(op_cluster, TestParams, 64) {
  DYN_SMEM(uint32_t, s);                                // [2][16 ranks][64 threads][4]
  int t = int(threadIdx.x), me = dev::cluster_rank(), size = dev::cluster_size();
  dev::cluster_arrive();
  dev::cluster_wait();
  for (int round = 0; round < 5; ++round) {
    uint32_t* buffer = s + (round & 1) * 16 * 256;
    uint32_t v = uint32_t(round * 10000 + me * 100 + t);
    for (int r = 0; r < size; ++r) {
      uint32_t* to = buffer + (me * 64 + t) * 4;
      if (t % 3 == 0) dev::remote_store16(to, r, make_uint4(v, v + 1, v + 2, v + 3));
      else if (t % 3 == 1) dev::remote_store8(to, r, make_uint2(v, v + 1));
      else dev::remote_store4(to, r, v);
    }
    dev::cluster_arrive();
    dev::cluster_wait();
    for (int r = 0; r < size; ++r) {
      int from = (t + 13) % 64;
      expect(p, buffer[(r * 64 + from) * 4] == uint32_t(round * 10000 + r * 100 + from));
    }
  }
}

// The same by asynchronous stores that complete a barrier of the receiver; no block waits for another otherwise.
KERNEL(op_st_async, TestParams, 64) {
  DYN_SMEM(uint32_t, s);                                // [2][16 ranks][64 threads][4]
  using Bars = uint64_t[2];
  STATIC_SMEM(Bars, bar);
  int t = int(threadIdx.x), me = dev::cluster_rank(), size = dev::cluster_size();
  int bytes = size * (32 * 16 + 32 * 8);
  if (t == 0) {
    dev::mbar_init(&bar[0], 1);
    dev::mbar_init(&bar[1], 1);
    dev::mbar_fence_init();
    dev::mbar_expect_tx(&bar[0], bytes);
    dev::mbar_expect_tx(&bar[1], bytes);
  }
  dev::cluster_arrive();
  dev::cluster_wait();
  for (int round = 0; round < 6; ++round) {
    uint32_t* buffer = s + (round & 1) * 16 * 256;
    uint32_t v = uint32_t(round * 10000 + me * 100 + t);
    for (int r = 0; r < size; ++r) {
      uint32_t* to = buffer + (me * 64 + t) * 4;
      if (t < 32) dev::st_async16(to, r, make_uint4(v, v, v, v), &bar[round & 1]);
      else dev::st_async8(to, r, make_uint2(v, v), &bar[round & 1]);
    }
    dev::mbar_wait(&bar[round & 1], round >> 1 & 1);
    for (int r = 0; r < size; ++r) {
      int from = (t + 13) % 64;
      expect(p, buffer[(r * 64 + from) * 4 + 1] == uint32_t(round * 10000 + r * 100 + from));
    }
    __syncthreads();                                    // all have read before this block says the buffer is free,
    if (t == 0 && round + 2 < 6) dev::mbar_expect_tx(&bar[round & 1], bytes);
    __syncthreads();                                    // which its next push does: peers wait for that
  }
  dev::cluster_arrive();
  dev::cluster_wait();
}
