// softmax_{f32,bf16,f16} (HeadParams): log-softmax, loss and gradient from finished logits, any number of classes. One
// block of 256 threads a row; the row is read three times, the later times from the caches.
#include "head.cuh"
#include "quad.cuh"

namespace {
constexpr int THREADS = 256, WARPS = THREADS / 32;

template <class E>
DEVICE void softmax(const HeadParams& p) {
  using Parts = float[4][WARPS];
  STATIC_SMEM(Parts, parts);
  const int row = blockIdx.x, warp = threadIdx.x / 32;
  if (row >= p.rows) return;
  const int target = p.targets[row], quads = p.VP / 4;
  const bool ignored = target == int(IGNORE_TARGET);
  const float4* logits = (const float4*)(p.logits + size_t(row) * p.VP);

  RowSoftmax r{RowSoftmax::nothing(), 0, RowSoftmax::nothing(), 0};
  for (int i = threadIdx.x; i < quads; i += THREADS) {
    const float4 q = logits[i];
    const float x[4] = {q.x, q.y, q.z, q.w};
#pragma unroll
    for (int e = 0; e < 4; ++e)
      if (i * 4 + e < p.V) {                                   // padded classes have no probability
        r.max = fmaxf(r.max, x[e]);
        r.fault = fmaf(x[e], 0.0f, r.fault);
        if (i * 4 + e == target) r.target_logit = x[e];
      }
  }
  r.max = lanes_max<32>(r.max);
  r.target_logit = lanes_max<32>(r.target_logit);              // the other threads have -inf
  r.fault = lanes_sum<32>(r.fault);
  if (dev::lane() == 0) {
    parts[0][warp] = r.max;
    parts[1][warp] = r.target_logit;
    parts[2][warp] = r.fault;
  }
  __syncthreads();
#pragma unroll
  for (int w = 0; w < WARPS; ++w) {
    r.max = fmaxf(r.max, parts[0][w]);
    r.target_logit = fmaxf(r.target_logit, parts[1][w]);
    r.fault += parts[2][w];                                    // 0 or NaN: adding twice changes nothing
  }

  for (int i = threadIdx.x; i < quads; i += THREADS) {
    const float4 q = logits[i];
    const float x[4] = {q.x, q.y, q.z, q.w};
#pragma unroll
    for (int e = 0; e < 4; ++e)
      if (i * 4 + e < p.V) r.sum += expf(x[e] - r.max);
  }
  r.sum = lanes_sum<32>(r.sum);
  if (dev::lane() == 0) parts[3][warp] = r.sum;
  __syncthreads();
  r.sum = 0;
#pragma unroll
  for (int w = 0; w < WARPS; ++w) r.sum += parts[3][w];

  if (threadIdx.x == 0) p.losses[row] = ignored ? 0.0f : r.loss();
  if (!p.dlogits) return;
  const float scale = p.scale ? *p.scale : 0.0f, inverse = r.inverse();
  E* out = (E*)p.dlogits + size_t(row) * p.VP;
  for (int i = threadIdx.x; i < quads; i += THREADS) {
    const float4 q = logits[i];
    const float x[4] = {q.x, q.y, q.z, q.w};
    float d[4];
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const float g = scale * (expf(x[e] - r.max) * inverse - (i * 4 + e == target ? 1.0f : 0.0f));
      d[e] = ignored || i * 4 + e >= p.V ? 0.0f : g;
    }
    store_quad(out + i * 4, make_float4(d[0], d[1], d[2], d[3]));
  }
}
}  // namespace

KERNEL(softmax_f32, HeadParams, THREADS) { softmax<float>(p); }
KERNEL(softmax_bf16, HeadParams, THREADS) { softmax<bf16>(p); }
KERNEL(softmax_f16, HeadParams, THREADS) { softmax<f16>(p); }
