// Matrix products of the short types on the tensor cores (GemmParams): bf16 or f16 in, f32 accumulators.
//
// A block computes a tile of TM x TN, each warp a part of (TM/WARPS_M) x (TN/WARPS_N). Stages of 32 k travel through
// a ring of GEMM_STAGES buffers by asynchronous copies, one barrier a stage. gemm_onehot has no A in memory: its
// fragments are made from the ids of the stage.
#pragma once
#include "fragment.cuh"
#include "params.h"

enum class Form { NT, NN, TN, ONEHOT };

template <class E, Form FORM, int TM, int TN, int WARPS_M, int WARPS_N>
struct GemmShort {
  static constexpr int THREADS = WARPS_M * WARPS_N * 32;
  static constexpr int MT = TM / WARPS_M / 16, NT = TN / WARPS_N / 8;           // 16x8 tiles of a warp
  static constexpr int A_BYTES = TM * STAGE_K * 2, STAGE_BYTES = A_BYTES + TN * STAGE_K * 2;
  static constexpr int SMEM = GEMM_STAGES * STAGE_BYTES;
  static constexpr bool A_K = FORM == Form::NT || FORM == Form::NN, B_K = FORM == Form::NT;  // k contiguous
  static_assert(STAGE_K == GEMM_TILE_K && NT % 2 == 0, "stages divide the splits; tiles are stored in pairs");
  using CopyA = TileCopy<E, TM, THREADS, A_K>;
  using CopyB = TileCopy<E, TN, THREADS, B_K>;

  // ids of a stage: 64 bytes, the first four threads copy them.
  static DEVICE void issue_ids(unsigned char* to, const uint16_t* ids, int k, int k_end) {
    if (threadIdx.x < 4) {
      const int at = k + threadIdx.x * 8;
      const bool inside = at < k_end;
      dev::cp_async16_zfill(to + threadIdx.x * 16, ids + (inside ? at : 0), inside ? 16 : 0);
    }
  }

  // A fragment of (ids[k] == row). An id beyond the last row matches nothing; k beyond the split has B = 0.
  static DEVICE void onehot_a(uint32_t (&a)[4], const unsigned char* ids, int row0, int kk) {
    const uint32_t one = dev::from_float<E>(1.0f).v;
    const int l = dev::lane();
    const uint32_t row = uint32_t(row0 + (l >> 2));
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const uint32_t pair = *(const uint32_t*)(ids + (kk * 16 + half * 8 + (l & 3) * 2) * 2);
      const uint32_t first = pair & 0xffff, second = pair >> 16;
      a[half * 2] = (first == row ? one : 0) | (second == row ? one << 16 : 0);
      a[half * 2 + 1] = (first == row + 8 ? one : 0) | (second == row + 8 ? one << 16 : 0);
    }
  }

  static DEVICE void run(const GemmParams& p, unsigned char* smem) {
    const int m0 = blockIdx.y * TM, n0 = blockIdx.x * TN;
    const int64_t begin = int64_t(blockIdx.z) * p.k_split;
    const int k_begin = begin < p.k ? int(begin) : p.k;
    const int k_end = p.k - k_begin < p.k_split ? p.k : k_begin + p.k_split;
    const int stages = (k_end - k_begin + STAGE_K - 1) / STAGE_K;
    const int warp = threadIdx.x / 32, wm = warp / WARPS_N * (MT * 16), wn = warp % WARPS_N * (NT * 8);

    CopyA copy_a;
    CopyB copy_b;
    if (FORM != Form::ONEHOT) copy_a.start((const E*)p.a, p.lda, m0, p.m, k_begin, k_end, threadIdx.x);
    copy_b.start((const E*)p.b, p.ldb, n0, p.n, k_begin, k_end, threadIdx.x);
    int issued = 0;
    const auto issue = [&] {
      if (issued < stages) {
        unsigned char* stage = smem + issued % GEMM_STAGES * STAGE_BYTES;
        if (FORM == Form::ONEHOT) issue_ids(stage, p.ids, k_begin + issued * STAGE_K, k_end);
        else copy_a.issue(stage);
        copy_b.issue(stage + A_BYTES);
      }
      ++issued;
      dev::cp_async_commit();                                  // also when empty: the waits count groups
    };

    float acc[MT][NT][4];
#pragma unroll
    for (int i = 0; i < MT; ++i)
#pragma unroll
      for (int j = 0; j < NT; ++j)
#pragma unroll
        for (int e = 0; e < 4; ++e) acc[i][j][e] = 0;

#pragma unroll
    for (int i = 0; i < GEMM_STAGES - 1; ++i) issue();
    for (int s = 0; s < stages; ++s) {
      dev::cp_async_wait<GEMM_STAGES - 2>();                   // stage s of this thread is here,
      __syncthreads();                                         // of every thread; and stage s-1 is read
      issue();
      const unsigned char* tile_a = smem + s % GEMM_STAGES * STAGE_BYTES;
      const unsigned char* tile_b = tile_a + A_BYTES;
#pragma unroll
      for (int kk = 0; kk < STAGE_K / 16; ++kk) {
        uint32_t a[MT][4], b[NT / 2][4];
#pragma unroll
        for (int i = 0; i < MT; ++i) {
          if (FORM == Form::ONEHOT) onehot_a(a[i], tile_a, m0 + wm + i * 16, kk);
          else load_a<TM, A_K>(a[i], tile_a, wm + i * 16, kk);
        }
#pragma unroll
        for (int j = 0; j < NT / 2; ++j) load_b_pair<TN, B_K>(b[j], tile_b, wn + j * 16, kk);
#pragma unroll
        for (int i = 0; i < MT; ++i)
#pragma unroll
          for (int j = 0; j < NT; ++j)
            dev::mma<E>(acc[i][j], a[i][0], a[i][1], a[i][2], a[i][3], b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]);
      }
    }

    if (p.bias && blockIdx.z == 0) {                           // once, whatever the number of splits
#pragma unroll
      for (int j = 0; j < NT; ++j) {
        const int col = n0 + wn + j * 8 + (dev::lane() & 3) * 2;
        const float2 bias = col < p.n ? *(const float2*)(p.bias + col) : make_float2(0, 0);
#pragma unroll
        for (int i = 0; i < MT; ++i) {
          acc[i][j][0] += bias.x;
          acc[i][j][1] += bias.y;
          acc[i][j][2] += bias.x;
          acc[i][j][3] += bias.y;
        }
      }
    }
    const size_t slice = size_t(blockIdx.z) * p.m * p.ldc;
#pragma unroll
    for (int i = 0; i < MT; ++i)
#pragma unroll
      for (int j = 0; j < NT; j += 2) {
        const int row0 = m0 + wm + i * 16, col0 = n0 + wn + j * 8;
        if (p.c_float) store_float_pair((float*)p.c + slice, p.ldc, row0, col0, p.m, p.n, acc[i][j], acc[i][j + 1]);
        else store_short_pair((E*)p.c + slice, p.ldc, row0, col0, p.m, p.n, acc[i][j], acc[i][j + 1]);
      }
  }
};
