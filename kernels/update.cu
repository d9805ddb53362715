// The optimiser over the parameter arena: unscale and clip, update, shadow copy, in one pass; and the shadow copy alone.
// Formulas and their order are those of src/engine/cpu/update.rs (PyTorch's documentation). n is a multiple of 4.
#include "device.cuh"
#include "params.h"
#include "quad.cuh"

// The constants of one update, the same for every element.
struct Rule {
  uint32_t optimizer;
  float k0, k1, k2;
  float factor;            // of the gradient: unscale and clip
  float rate, root;        // lr, for Adam lr / (1 - beta1^t); 1 / sqrt(1 - beta2^t)
  float decay, shrink;     // L2, and decoupled decay (AdamW)
};

DEVICE Rule rule_of(const StepHyper& hyper, const Decision& decision) {
  const bool decoupled = hyper.optimizer == 1;
  Rule r = {hyper.optimizer, hyper.k0, hyper.k1, hyper.k2, decision.factor, decision.step_size,
            decision.root_correction, hyper.weight_decay, 1.0f};
  if (decoupled) {
    r.decay = 0;
    r.shrink = fmaf(-hyper.lr, hyper.weight_decay, 1.0f);
  }
  return r;
}

DEVICE void adam(const Rule& r, float& p, float g, float& m, float& v) {
  const float shrunk = p * r.shrink;
  g = fmaf(shrunk, r.decay, g * r.factor);
  m = fmaf(r.k0, m, (1.0f - r.k0) * g);
  v = fmaf(r.k1, v, (1.0f - r.k1) * (g * g));
  p = fmaf(-r.rate, m / fmaf(sqrtf(v), r.root, r.k2), shrunk);
}

DEVICE void sgd(const Rule& r, float& p, float g, float& m) {
  g = fmaf(p, r.decay, g * r.factor);
  m = fmaf(r.k0, m, g);
  p = fmaf(-r.rate, m, p);
}

DEVICE void rmsprop(const Rule& r, float& p, float g, float& m, float& v) {
  g = fmaf(p, r.decay, g * r.factor);
  m = fmaf(r.k0, m, (1.0f - r.k0) * (g * g));
  v = fmaf(r.k2, v, g / (sqrtf(m) + r.k1));
  p = fmaf(-r.rate, v, p);
}

template <class E>
DEVICE void update(const UpdateParams& u) {
  if (!u.decision->update) return;
  const Rule r = rule_of(*u.hyper, *u.decision);
  const bool two = r.optimizer != 2;                 // SGD has no second moment: not read, not written
  const int64_t stride = int64_t(gridDim.x) * 1024;
  for (int64_t i = (int64_t(blockIdx.x) * 256 + threadIdx.x) * 4; i < u.n; i += stride) {
    float4 p = load_quad(u.params + i), m = load_quad(u.first + i), v = make_float4(0, 0, 0, 0);
    const float4 g = load_quad(u.grads + i);
    if (two) v = load_quad(u.second + i);
    if (r.optimizer <= 1) {
      adam(r, p.x, g.x, m.x, v.x);
      adam(r, p.y, g.y, m.y, v.y);
      adam(r, p.z, g.z, m.z, v.z);
      adam(r, p.w, g.w, m.w, v.w);
    } else if (r.optimizer == 2) {
      sgd(r, p.x, g.x, m.x);
      sgd(r, p.y, g.y, m.y);
      sgd(r, p.z, g.z, m.z);
      sgd(r, p.w, g.w, m.w);
    } else {
      rmsprop(r, p.x, g.x, m.x, v.x);
      rmsprop(r, p.y, g.y, m.y, v.y);
      rmsprop(r, p.z, g.z, m.z, v.z);
      rmsprop(r, p.w, g.w, m.w, v.w);
    }
    store_quad(u.params + i, p);
    store_quad(u.first + i, m);
    if (two) store_quad(u.second + i, v);
    if (u.shadow) store_quad(static_cast<E*>(u.shadow) + i, p);
  }
}

KERNEL(update_f32, UpdateParams, 256) { update<float>(p); }
KERNEL(update_bf16, UpdateParams, 256) { update<bf16>(p); }
KERNEL(update_f16, UpdateParams, 256) { update<f16>(p); }

// shadow = E(params). Any grid, 256 threads.
template <class E>
DEVICE void convert(const ConvertParams& c) {
  const int64_t stride = int64_t(gridDim.x) * 1024;
  for (int64_t i = (int64_t(blockIdx.x) * 256 + threadIdx.x) * 4; i < c.n; i += stride)
    store_quad(static_cast<E*>(c.shadow) + i, load_quad(c.params + i));
}

KERNEL(convert_bf16, ConvertParams, 256) { convert<bf16>(p); }
KERNEL(convert_f16, ConvertParams, 256) { convert<f16>(p); }
