// Sums in a fixed order: reduce_splits adds the slices of a split product, column_sum_* adds rows.
#include "device.cuh"
#include "params.h"

KERNEL(reduce_splits, ReduceParams, 256) {
  const int64_t size = int64_t(p.m) * p.n, at = int64_t(blockIdx.x) * 256 + threadIdx.x;
  if (at >= size) return;
  const int i = int(at / p.n), j = int(at % p.n);
  float sum = 0;
#pragma unroll 4
  for (int z = 0; z < p.splits; ++z) sum += p.partial[z * size + at];
  const bool banned = (i & 3) == p.banned_row || (j & 3) == p.banned_column;
  p.out[at] = banned ? 0.0f : sum;
}

namespace {
constexpr int COLUMNS = 128;                                                    // of a block

// Sixteen bytes of E as floats.
DEVICE void load_vector(float (&v)[4], const float* from) {
  const float4 x = *(const float4*)from;
  v[0] = x.x, v[1] = x.y, v[2] = x.z, v[3] = x.w;
}
template <class E>
DEVICE void load_vector(float (&v)[8], const E* from) {
  const uint4 x = *(const uint4*)from;
  const uint32_t w[4] = {x.x, x.y, x.z, x.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) v[2 * i] = dev::low<E>(w[i]), v[2 * i + 1] = dev::high<E>(w[i]);
}

// A thread adds every LANES-th row of VECTOR columns; then a column's LANES sums are added in order.
template <class E>
DEVICE void column_sum(const ColumnSumParams& p) {
  constexpr int VECTOR = 16 / sizeof(E), GROUPS = COLUMNS / VECTOR, LANES = 128 / GROUPS;
  using Sums = float[LANES][COLUMNS];
  STATIC_SMEM(Sums, sums);
  const int group = threadIdx.x % GROUPS, lane = threadIdx.x / GROUPS;
  const int column = blockIdx.x * COLUMNS + group * VECTOR;
  const int64_t begin = int64_t(blockIdx.y) * p.rows_split;
  const int64_t end = begin + p.rows_split < p.rows ? begin + p.rows_split : p.rows;
  float sum[VECTOR] = {};
  if (column < p.columns) {                                                     // columns are a multiple of VECTOR
    const E* a = (const E*)p.a + column;
#pragma unroll 4
    for (int64_t i = begin + lane; i < end; i += LANES) {
      float v[VECTOR];
      load_vector(v, a + i * p.columns);
#pragma unroll
      for (int e = 0; e < VECTOR; ++e) sum[e] += v[e];
    }
  }
#pragma unroll
  for (int e = 0; e < VECTOR; ++e) sums[lane][group * VECTOR + e] = sum[e];
  __syncthreads();
  const int mine = blockIdx.x * COLUMNS + threadIdx.x;
  if (mine >= p.columns) return;
  float total = 0;
#pragma unroll
  for (int i = 0; i < LANES; ++i) total += sums[i][threadIdx.x];
  p.partial[size_t(blockIdx.y) * p.columns + mine] = total;
}
}  // namespace

KERNEL(column_sum_f32, ColumnSumParams, 128) { column_sum<float>(p); }
KERNEL(column_sum_bf16, ColumnSumParams, 128) { column_sum<bf16>(p); }
KERNEL(column_sum_f16, ColumnSumParams, 128) { column_sum<f16>(p); }
