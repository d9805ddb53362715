// Dropout in place, on a layer's output (forward) and on its gradient (backward): masks are drawn again, never kept.
#include "device.cuh"
#include "params.h"
#include "philox.cuh"
#include "quad.cuh"

// x [T][B][H]. Any grid, 256 threads; a thread takes four units, which are one Philox block. Padded units hold zeros,
// which no mask changes; nothing reads padded streams.
template <class E>
DEVICE void dropout(const DropoutParams& p) {
  const StepHyper& hyper = *p.hyper;
  const uint32_t lo = hyper.seed_lo, hi = hyper.seed_hi, time = hyper.time, least = hyper.dropout_threshold;
  const float scale = hyper.dropout_scale;
  const uint32_t quads = uint32_t(p.H) / 4, n = uint32_t(p.T) * p.B * quads, stride = gridDim.x * 256;
  for (uint32_t i = blockIdx.x * 256 + threadIdx.x; i < n; i += stride) {
    const uint32_t row = i / quads, t = row / p.B;
    const uint4 words = philox::dropout_words(lo, hi, p.layer, time + t, row - t * p.B, i - row * quads);
    E* at = static_cast<E*>(p.x) + size_t(i) * 4;
    float4 x = load_quad(at);
    x.x = words.x >= least ? x.x * scale : 0.0f;
    x.y = words.y >= least ? x.y * scale : 0.0f;
    x.z = words.z >= least ? x.z * scale : 0.0f;
    x.w = words.w >= least ? x.w * scale : 0.0f;
    store_quad(at, x);
  }
}

KERNEL(dropout_f32, DropoutParams, 256) { dropout<float>(p); }
KERNEL(dropout_bf16, DropoutParams, 256) { dropout<bf16>(p); }
KERNEL(dropout_f16, DropoutParams, 256) { dropout<f16>(p); }
