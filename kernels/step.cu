// What one training step decides on the device: scale of the gradient, norm, whether to update, loss scale, statistics.
// The rules are those of the CPU engine (src/engine/cpu/mod.rs); every sum is in a fixed order.
#include "device.cuh"
#include "params.h"
#include "quad.cuh"

// f16's dynamic loss scale: doubled after this many good steps, never above the limit.
constexpr uint32_t GOOD_STEPS = 2000;
constexpr float MOST_LOSS_SCALE = 65536.0f * 65536.0f;

template <class T>
DEVICE bool is_finite(T x) {
  return x - x == 0;
}

// One thread. Before the backward pass.
KERNEL(prepare, StepParams, 32) {
  if (threadIdx.x > 0) return;
  const uint32_t predicted = p.hyper->predicted;
  p.decision->head_scale = p.scaler->loss_scale / float(predicted > 0 ? predicted : 1);
}

// The sum over a block of WARPS warps, in every thread; `room` holds WARPS numbers, and is free again after the call's
// last barrier alone, so a second call needs a room of its own.
template <int WARPS>
DEVICE double block_sum(double x, double* room) {
  x = dev::warp_sum(x);
  if (dev::lane() == 0) room[threadIdx.x / 32] = x;
  __syncthreads();
  double sum = 0;
#pragma unroll 1
  for (int i = 0; i < WARPS; ++i) sum += room[i];
  return sum;
}

// squares[block] = sum of the squares of every gridDim-th group of 1024 gradients. Squares in double: a scaled
// gradient's square overflows float.
KERNEL(norm_partials, NormParams, 256) {
  using Room = double[8];
  STATIC_SMEM(Room, room);
  const float4* grads = reinterpret_cast<const float4*>(p.grads);
  const int64_t quads = p.n / 4, stride = int64_t(gridDim.x) * 256;
  double sum = 0;
  for (int64_t i = int64_t(blockIdx.x) * 256 + threadIdx.x; i < quads; i += stride) {
    const float4 g = grads[i];
    sum += double(g.x) * g.x + double(g.y) * g.y;
    sum += double(g.z) * g.z + double(g.w) * g.w;
  }
  sum = block_sum<8>(sum, room);
  if (threadIdx.x == 0) p.squares[blockIdx.x] = sum;
}

// base^n by squaring: the library's pow needs more registers than a block of 1024 threads has.
DEVICE double power(double base, uint64_t n) {
  double result = 1;
  for (; n > 0; n >>= 1, base *= base)
    if (n & 1) result *= base;
  return result;
}

// Constants of the update number scaler.updates + 1.
DEVICE void decide_update(const StepHyper& hyper, float norm, float loss_scale, uint64_t number, Decision& out) {
  const float clip = hyper.clip > 0 ? fminf(hyper.clip / (norm + 1e-6f), 1.0f) : 1.0f;
  const bool adam = hyper.optimizer <= 1;
  out.factor = clip * (1.0f / loss_scale);
  out.step_size = adam ? float(hyper.lr / (1 - power(hyper.k0, number))) : hyper.lr;
  out.root_correction = adam ? float(sqrt(1 / (1 - power(hyper.k1, number)))) : 1.0f;
}

DEVICE void adapt_loss_scale(Scaler& scaler, bool finite) {
  if (!finite) {
    scaler.good_steps = 0;
    scaler.loss_scale = fmaxf(scaler.loss_scale * 0.5f, 1.0f);
  } else if (++scaler.good_steps == GOOD_STEPS) {
    scaler.good_steps = 0;
    scaler.loss_scale = fminf(scaler.loss_scale * 2.0f, MOST_LOSS_SCALE);
  }
}

// One block. Sums, then one thread decides.
KERNEL(decide, StepParams, 1024) {
  using Room = double[32];
  STATIC_SMEM(Room, loss_room);
  STATIC_SMEM(Room, square_room);
  const bool evaluation = p.training == 0;
  double loss = 0, square = 0;
  const float4* losses = reinterpret_cast<const float4*>(p.losses);
  for (int i = threadIdx.x; i < p.rows / 4; i += 1024) {
    const float4 l = losses[i];
    loss += (double(l.x) + l.y) + (double(l.z) + l.w);
  }
  if (!evaluation)
    for (int i = threadIdx.x; i < p.blocks; i += 1024) square += p.squares[i];
  loss = block_sum<32>(loss, loss_room);
  square = block_sum<32>(square, square_room);
  if (threadIdx.x > 0) return;

  const StepHyper hyper = *p.hyper;
  Scaler scaler = *p.scaler;
  StepStats stats = {loss, 0, scaler.loss_scale, hyper.predicted, 0};
  const double mean = hyper.predicted > 0 ? loss / hyper.predicted : 0;
  if (!evaluation) stats.grad_norm = float(sqrt(square) / scaler.loss_scale);
  const bool finite = is_finite(stats.grad_norm) && is_finite(mean);
  if (p.training == 1) {
    stats.updated = finite && mean <= double(hyper.skip_above);
    if (stats.updated) {
      decide_update(hyper, stats.grad_norm, scaler.loss_scale, scaler.updates + 1, *p.decision);
      ++scaler.updates;
    }
    // A loss that is not finite is not the scale's doing.
    if (p.dynamic && is_finite(mean)) adapt_loss_scale(scaler, finite);
    *p.scaler = scaler;
  }
  p.decision->update = stats.updated;
  *p.stats = stats;
}

// grads *= 1/loss_scale, for calls that hand the gradient out. Any grid, 256 threads.
KERNEL(unscale, UnscaleParams, 256) {
  float4* grads = reinterpret_cast<float4*>(p.grads);
  const float factor = 1.0f / p.scaler->loss_scale;
  const int64_t quads = p.n / 4, stride = int64_t(gridDim.x) * 256;
  for (int64_t i = int64_t(blockIdx.x) * 256 + threadIdx.x; i < quads; i += stride) {
    const float4 g = grads[i];
    grads[i] = make_float4(g.x * factor, g.y * factor, g.z * factor, g.w * factor);
  }
}

template <class E>
DEVICE bool finite_quads(const E* values, int64_t n) {
  bool finite = true;
  for (int64_t i = int64_t(threadIdx.x) * 4; i < n; i += 4096) {
    const float4 v = load_quad(values + i);
    finite = finite && is_finite(v.x) && is_finite(v.y) && is_finite(v.z) && is_finite(v.w);
  }
  return finite;
}

// A carried state that is not finite would make every later step not finite too. Behind a step that updated nothing it
// is forgotten, all of it, as the CPU engine does: give all layers to one launch.
template <class E>
DEVICE void mend(const MendParams& p) {
  using Flags = uint32_t[32];
  STATIC_SMEM(Flags, flags);
  if (p.decision->update) return;
  E* h = static_cast<E*>(p.h);
  bool finite = finite_quads(h, p.n);
  if (p.c) finite = finite_quads(p.c, p.n) && finite;
  const float bad = dev::warp_sum(finite ? 0.0f : 1.0f);
  if (dev::lane() == 0) flags[threadIdx.x / 32] = bad > 0;
  __syncthreads();
  uint32_t any = 0;
  for (int i = 0; i < 32; ++i) any |= flags[i];
  if (!any) return;
  const float4 zero = make_float4(0, 0, 0, 0);
  for (int64_t i = int64_t(threadIdx.x) * 4; i < p.n; i += 4096) {
    store_quad(h + i, zero);
    if (p.c) store_quad(p.c + i, zero);
  }
}

KERNEL(mend_f32, MendParams, 1024) { mend<float>(p); }
KERNEL(mend_bf16, MendParams, 1024) { mend<bf16>(p); }
KERNEL(mend_f16, MendParams, 1024) { mend<f16>(p); }
