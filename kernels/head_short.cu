// head_{bf16,f16}: logits on the tensor cores, then log-softmax, loss and gradient from the accumulators.
//
// A block has HEAD_ROWS rows, a warp 16 of them with all classes: up to 32 tiles of 16 x 8, 128 registers. A row's
// logits lie in the four lanes of a quad.
#include "fragment.cuh"
#include "head.cuh"

namespace {
constexpr int STAGES = 3;

template <class E, int TILES>                                  // tiles of 8 classes; even
struct HeadShort {
  static constexpr int Y_BYTES = HEAD_ROWS * STAGE_K * 2, STAGE_BYTES = Y_BYTES + TILES * 8 * STAGE_K * 2;
  static_assert(STAGES * STAGE_BYTES <= HEAD_SMEM_SHORT, "params.h");
  using CopyY = TileCopy<E, HEAD_ROWS, HEAD_THREADS, true>;
  using CopyW = TileCopy<E, TILES * 8, HEAD_THREADS, true>;

  static DEVICE void run(const HeadParams& p, unsigned char* smem) {
    const int row0 = blockIdx.x * HEAD_ROWS, stages = (p.H + STAGE_K - 1) / STAGE_K, pairs = p.VP / 16;
    CopyY copy_y;
    CopyW copy_w;
    copy_y.start((const E*)p.y, p.H, row0, p.rows, 0, p.H, threadIdx.x);
    copy_w.start((const E*)p.w, p.H, 0, p.VP, 0, p.H, threadIdx.x);
    int issued = 0;
    const auto issue = [&] {
      if (issued < stages) {
        unsigned char* stage = smem + issued % STAGES * STAGE_BYTES;
        copy_y.issue(stage);
        copy_w.issue(stage + Y_BYTES);
      }
      ++issued;
      dev::cp_async_commit();
    };

    float acc[TILES][4];
#pragma unroll
    for (int j = 0; j < TILES; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e) acc[j][e] = 0;
    const int warp_row = threadIdx.x / 32 * 16;
#pragma unroll
    for (int i = 0; i < STAGES - 1; ++i) issue();
    for (int s = 0; s < stages; ++s) {
      dev::cp_async_wait<STAGES - 2>();
      __syncthreads();
      issue();
      const unsigned char* tile_y = smem + s % STAGES * STAGE_BYTES;
      const unsigned char* tile_w = tile_y + Y_BYTES;
#pragma unroll
      for (int kk = 0; kk < STAGE_K / 16; ++kk) {
        uint32_t a[4];
        load_a<HEAD_ROWS, true>(a, tile_y, warp_row, kk);
#pragma unroll
        for (int j = 0; j < TILES / 2; ++j) {
          if (j < pairs) {
            uint32_t b[4];
            load_b_pair<TILES * 8, true>(b, tile_w, j * 16, kk);
            dev::mma<E>(acc[2 * j], a[0], a[1], a[2], a[3], b[0], b[1]);
            dev::mma<E>(acc[2 * j + 1], a[0], a[1], a[2], a[3], b[2], b[3]);
          }
        }
      }
    }
    finish(p, acc, row0 + warp_row, pairs);
  }

  // acc[j]: rows first + lane/4 (elements 0, 1) and 8 more (2, 3), classes 8 j + 2 (lane%4) and the next.
  static DEVICE void finish(const HeadParams& p, float (&acc)[TILES][4], int first, int pairs) {
    const int quad = dev::lane() & 3;
#pragma unroll
    for (int j = 0; j < TILES; ++j)
      if (j < pairs * 2) {
        const float2 bias = *(const float2*)(p.bias + j * 8 + quad * 2);
        acc[j][0] += bias.x;
        acc[j][1] += bias.y;
        acc[j][2] += bias.x;
        acc[j][3] += bias.y;
      }
    if (p.logits) {
#pragma unroll
      for (int j = 0; j < TILES; j += 2)
        if (j < pairs * 2) store_float_pair(p.logits, p.VP, first, j * 8, p.rows, p.VP, acc[j], acc[j + 1]);
    }

    const float scale = p.scale ? *p.scale : 0.0f;
    float inverse[2];                                          // of exp(x - max) in the softmax
    int target[2];                                             // -1: ignored
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int row = first + (dev::lane() >> 2) + h * 8;
      target[h] = row < p.rows ? p.targets[row] : int(IGNORE_TARGET);
      const bool ignored = target[h] == int(IGNORE_TARGET);
      RowSoftmax r{RowSoftmax::nothing(), 0, RowSoftmax::nothing(), 0};
#pragma unroll
      for (int j = 0; j < TILES; ++j)
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const int c = j * 8 + quad * 2 + e;
          float& x = acc[j][2 * h + e];
          if (c >= p.V) x = RowSoftmax::nothing();             // padded classes have no probability
          else r.fault = fmaf(x, 0.0f, r.fault);
          if (c == target[h]) r.target_logit = x;
          r.max = fmaxf(r.max, x);
        }
      r.max = lanes_max<4>(r.max);
      r.target_logit = lanes_max<4>(r.target_logit);           // the other lanes have -inf
      r.fault = lanes_sum<4>(r.fault);
#pragma unroll
      for (int j = 0; j < TILES; ++j)
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          float& x = acc[j][2 * h + e];
          x = j < pairs * 2 ? expf(x - r.max) : 0.0f;
          r.sum += x;
        }
      r.sum = lanes_sum<4>(r.sum);
      inverse[h] = r.inverse();
      if (row < p.rows && quad == 0) p.losses[row] = ignored ? 0.0f : r.loss();
      if (ignored) target[h] = -1;
    }
    if (!p.dlogits) return;
#pragma unroll
    for (int j = 0; j < TILES; j += 2)
      if (j < pairs * 2) {
        float d[2][4];
#pragma unroll
        for (int t = 0; t < 2; ++t)
#pragma unroll
          for (int e = 0; e < 4; ++e) {
            const int h = e / 2, c = (j + t) * 8 + quad * 2 + e % 2;
            const float g = scale * (acc[j + t][e] * inverse[h] - (c == target[h] ? 1.0f : 0.0f));
            d[t][e] = target[h] < 0 || c >= p.V ? 0.0f : g;
          }
        store_short_pair((E*)p.dlogits, p.VP, first, j * 8, p.rows, p.VP, d[0], d[1]);
      }
  }
};

template <class E>
DEVICE void head(const HeadParams& p, unsigned char* smem) {
  if (p.VP <= 128) HeadShort<E, 16>::run(p, smem);
  else HeadShort<E, 32>::run(p, smem);
}
}  // namespace

KERNEL_SHAPED(head_bf16, HeadParams, HEAD_THREADS, HEAD_SMEM_SHORT) {
  DYN_SMEM(unsigned char, smem);
  head<bf16>(p, smem);
}
KERNEL_SHAPED(head_f16, HeadParams, HEAD_THREADS, HEAD_SMEM_SHORT) {
  DYN_SMEM(unsigned char, smem);
  head<f16>(p, smem);
}
