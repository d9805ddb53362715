// gemm_{nt,nn,tn,onehot}_f32 (GemmParams): exact f32 products. Tiles of 64 x 64, a thread computes 8 x 4; 16 k a stage,
// two stages in shared memory, the third on its way in registers.
#include "params.h"
#include "tile_f32.cuh"

namespace {
enum class Form { NT, NN, TN, ONEHOT };
constexpr int K = 16, TILE = GEMM_TILE, STAGE = 2 * TILE * K;                   // floats: A, then B
static_assert(2 * STAGE * 4 == GEMM_SMEM_F32 && GEMM_TILE_K % K == 0, "params.h");

template <Form FORM>
DEVICE void gemm_f32(const GemmParams& p, float* smem) {
  const int m0 = blockIdx.y * TILE, n0 = blockIdx.x * TILE;
  const int64_t begin = int64_t(blockIdx.z) * p.k_split;
  const int k_begin = begin < p.k ? int(begin) : p.k;
  const int k_end = p.k - k_begin < p.k_split ? p.k : k_begin + p.k_split;
  const int stages = (k_end - k_begin + K - 1) / K;
  const int ty = threadIdx.x / 16, tx = threadIdx.x % 16;                       // rows ty*8.., columns tx*4..

  TileF32<TILE, K, GEMM_THREADS, FORM == Form::NT || FORM == Form::NN> a;
  TileF32<TILE, K, GEMM_THREADS, FORM == Form::NT> b;
  a.start((const float*)p.a, p.lda, m0, p.m, k_begin, k_end, threadIdx.x);      // one-hot: the place alone is used
  b.start((const float*)p.b, p.ldb, n0, p.n, k_begin, k_end, threadIdx.x);
  const auto fetch = [&] {
    if (FORM == Form::ONEHOT) a.fetch_onehot(p.ids, m0);
    else a.fetch();
    b.fetch();
  };

  float acc[8][4] = {};
  if (stages > 0) {
    fetch();
    a.store(smem);
    b.store(smem + TILE * K);
  }
  for (int s = 0; s < stages; ++s) {
    __syncthreads();                                           // stage s is stored, stage s-1 read
    if (s + 1 < stages) fetch();
    const float* tile_a = smem + (s & 1) * STAGE;
    const float* tile_b = tile_a + TILE * K;
#pragma unroll
    for (int k = 0; k < K; ++k) {
      const float4 x0 = *(const float4*)(tile_a + a.at(k, ty * 8));
      const float4 x1 = *(const float4*)(tile_a + a.at(k, ty * 8 + 4));
      const float4 w = *(const float4*)(tile_b + b.at(k, tx * 4));
      const float x[8] = {x0.x, x0.y, x0.z, x0.w, x1.x, x1.y, x1.z, x1.w};
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        acc[i][0] = fmaf(x[i], w.x, acc[i][0]);
        acc[i][1] = fmaf(x[i], w.y, acc[i][1]);
        acc[i][2] = fmaf(x[i], w.z, acc[i][2]);
        acc[i][3] = fmaf(x[i], w.w, acc[i][3]);
      }
    }
    if (s + 1 < stages) {
      float* other = smem + ((s + 1) & 1) * STAGE;
      a.store(other);
      b.store(other + TILE * K);
    }
  }

  const int col = n0 + tx * 4;
  if (col >= p.n) return;
  const float4 bias = p.bias && blockIdx.z == 0 ? *(const float4*)(p.bias + col) : make_float4(0, 0, 0, 0);
  float* c = (float*)p.c + size_t(blockIdx.z) * p.m * p.ldc;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const int row = m0 + ty * 8 + i;
    if (row < p.m)
      *(float4*)(c + size_t(row) * p.ldc + col) =
          make_float4(acc[i][0] + bias.x, acc[i][1] + bias.y, acc[i][2] + bias.z, acc[i][3] + bias.w);
  }
}
}  // namespace

#define GEMM(name, FORM)                                                \
  KERNEL_SHAPED(name, GemmParams, GEMM_THREADS, GEMM_SMEM_F32) {        \
    DYN_SMEM(float, smem);                                              \
    gemm_f32<FORM>(p, smem);                                            \
  }

GEMM(gemm_nt_f32, Form::NT)
GEMM(gemm_nn_f32, Form::NN)
GEMM(gemm_tn_f32, Form::TN)
GEMM(gemm_onehot_f32, Form::ONEHOT)
