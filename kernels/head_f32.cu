// head_f32: the output layer in exact f32. A thread computes 8 rows and, of every 64 classes, 4; a row's logits lie in
// 16 neighbouring lanes. Stages of 8 k, two in shared memory, the next in registers.
#include "head.cuh"
#include "tile_f32.cuh"

namespace {
constexpr int K = 8, LANES = 16;                               // lanes that share a row

template <int GROUPS>                                          // of 64 classes
struct HeadF32 {
  static constexpr int CLASSES = GROUPS * 64, STAGE = (HEAD_ROWS + CLASSES) * K;
  static_assert(2 * STAGE * 4 <= HEAD_SMEM_F32, "params.h");
  using TileY = TileF32<HEAD_ROWS, K, HEAD_THREADS, true>;
  using TileW = TileF32<CLASSES, K, HEAD_THREADS, true>;

  static DEVICE void run(const HeadParams& p, float* smem) {
    const int row0 = blockIdx.x * HEAD_ROWS, stages = p.H / K;                  // H is a multiple of 16
    const int ty = threadIdx.x / LANES, tx = threadIdx.x % LANES;
    TileY y;
    TileW w;
    y.start((const float*)p.y, p.H, row0, p.rows, 0, p.H, threadIdx.x);
    w.start((const float*)p.w, p.H, 0, p.VP, 0, p.H, threadIdx.x);
    float acc[8][GROUPS][4] = {};
    y.fetch();
    w.fetch();
    y.store(smem);
    w.store(smem + HEAD_ROWS * K);
    for (int s = 0; s < stages; ++s) {
      __syncthreads();
      if (s + 1 < stages) {
        y.fetch();
        w.fetch();
      }
      const float* tile_y = smem + (s & 1) * STAGE;
      const float* tile_w = tile_y + HEAD_ROWS * K;
#pragma unroll
      for (int k = 0; k < K; ++k) {
        const float4 x0 = *(const float4*)(tile_y + TileY::at(k, ty * 8));
        const float4 x1 = *(const float4*)(tile_y + TileY::at(k, ty * 8 + 4));
        const float x[8] = {x0.x, x0.y, x0.z, x0.w, x1.x, x1.y, x1.z, x1.w};
#pragma unroll
        for (int j = 0; j < GROUPS; ++j) {
          const float4 v = *(const float4*)(tile_w + TileW::at(k, j * 64 + tx * 4));
#pragma unroll
          for (int i = 0; i < 8; ++i) {
            acc[i][j][0] = fmaf(x[i], v.x, acc[i][j][0]);
            acc[i][j][1] = fmaf(x[i], v.y, acc[i][j][1]);
            acc[i][j][2] = fmaf(x[i], v.z, acc[i][j][2]);
            acc[i][j][3] = fmaf(x[i], v.w, acc[i][j][3]);
          }
        }
      }
      if (s + 1 < stages) {
        float* other = smem + ((s + 1) & 1) * STAGE;
        y.store(other);
        w.store(other + HEAD_ROWS * K);
      }
    }
    const float scale = p.scale ? *p.scale : 0.0f;
#pragma unroll
    for (int i = 0; i < 8; ++i) finish(p, acc[i], row0 + ty * 8 + i, tx, scale);
  }

  // One row: x[j][e] is the logit of class 64 j + 4 tx + e, without its bias.
  static DEVICE void finish(const HeadParams& p, float (&x)[GROUPS][4], int row, int tx, float scale) {
    const bool inside = row < p.rows;
    const int target = inside ? p.targets[row] : int(IGNORE_TARGET);
    const bool ignored = target == int(IGNORE_TARGET);
    RowSoftmax r{RowSoftmax::nothing(), 0, RowSoftmax::nothing(), 0};
#pragma unroll
    for (int j = 0; j < GROUPS; ++j) {
      const int first = j * 64 + tx * 4;
      if (first < p.VP) {
        const float4 bias = *(const float4*)(p.bias + first);
        x[j][0] += bias.x;
        x[j][1] += bias.y;
        x[j][2] += bias.z;
        x[j][3] += bias.w;
        if (p.logits && inside)
          *(float4*)(p.logits + size_t(row) * p.VP + first) = make_float4(x[j][0], x[j][1], x[j][2], x[j][3]);
      }
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        if (first + e >= p.V) x[j][e] = RowSoftmax::nothing();                  // padded classes have no probability
        else r.fault = fmaf(x[j][e], 0.0f, r.fault);
        if (first + e == target) r.target_logit = x[j][e];
        r.max = fmaxf(r.max, x[j][e]);
      }
    }
    r.max = lanes_max<LANES>(r.max);
    r.target_logit = lanes_max<LANES>(r.target_logit);                          // the other lanes have -inf
    r.fault = lanes_sum<LANES>(r.fault);
#pragma unroll
    for (int j = 0; j < GROUPS; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        x[j][e] = expf(x[j][e] - r.max);
        r.sum += x[j][e];
      }
    r.sum = lanes_sum<LANES>(r.sum);
    if (!inside) return;
    if (tx == 0) p.losses[row] = ignored ? 0.0f : r.loss();
    if (!p.dlogits) return;
    const float inverse = r.inverse();
#pragma unroll
    for (int j = 0; j < GROUPS; ++j) {
      const int first = j * 64 + tx * 4;
      float d[4];
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const float g = scale * (x[j][e] * inverse - (first + e == target ? 1.0f : 0.0f));
        d[e] = ignored || first + e >= p.V ? 0.0f : g;
      }
      if (first < p.VP)
        *(float4*)((float*)p.dlogits + size_t(row) * p.VP + first) = make_float4(d[0], d[1], d[2], d[3]);
    }
  }
};
}  // namespace

KERNEL_SHAPED(head_f32, HeadParams, HEAD_THREADS, HEAD_SMEM_F32) {
  DYN_SMEM(float, smem);
  if (p.VP <= 128) HeadF32<2>::run(p, smem);
  else HeadF32<4>::run(p, smem);
}
