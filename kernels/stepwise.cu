// The stepwise tier of the recurrent layers, for shapes that no persistent kernel takes: a product for all streams, then
// one of these kernels, step by step. Grid ceil(B*H / 256), 256 threads; a thread owns one unit of one stream.
#include "cells.cuh"
#include "params.h"
#include "slots.cuh"

// Before step 0: hp[0] = the carried state, zero where reset; c[0] = the carried cell state.
template <class E>
DEVICE void stepwise_begin(const RecurrentParams& p) {
  const int i = int(blockIdx.x * 256 + threadIdx.x);
  if (i >= p.B * p.H) return;
  const bool reset = p.resets[i / p.H];
  static_cast<E*>(p.hp)[i] = reset ? dev::from_float<E>(0) : static_cast<const E*>(p.h_carry)[i];
  if (p.c_carry) p.c[i] = p.c_carry[i];
}

// Step t: pre-activations = input part + product; c[t], hp[t] -> gates[t], c[t+1], y[t], hp[t+1].
template <class C, class E>
DEVICE void stepwise_forward(const CellStepParams& s) {
  constexpr int S = C::SLOTS;
  const RecurrentParams& p = s.r;
  const int n = p.B * p.H, i = int(blockIdx.x * 256 + threadIdx.x);
  if (i >= n) return;
  const int b = i / p.H, t = s.t;
  const size_t at = size_t(t) * n + i;               // [t][b][u]
  E* pre_at = static_cast<E*>(p.gates) + at * S;
  float pre[S], product[S], gates[S];
  if (p.table)
    load_slots(static_cast<const E*>(p.table) + (size_t(p.ids[t * p.B + b]) * p.H + (i - b * p.H)) * S, pre);
  else
    load_slots(pre_at, pre);
  load_slots(s.product + size_t(i) * S, product);
#pragma unroll
  for (int k = 0; k < S; ++k) pre[k] += product[k];

  float c = 0;
  if constexpr (C::CELL_STATE) c = p.resets[t * p.B + b] ? 0.0f : p.c[at];
  const float h_prev = C::DIRECT ? dev::to_float(static_cast<const E*>(p.hp)[at]) : 0.0f;
  const E h = dev::from_float<E>(C::template forward<E>(pre, h_prev, c, gates));

  const bool last = t + 1 == p.T;
  if (p.store) store_slots(static_cast<typename Gate<E>::type*>(p.gates) + at * S, gates);
  if constexpr (C::CELL_STATE) {
    p.c[at + n] = c;
    if (last) p.c_carry[i] = c;
  }
  static_cast<E*>(p.y)[at] = h;
  const bool reset_next = !last && p.resets[(t + 1) * p.B + b];
  static_cast<E*>(p.hp)[at + n] = reset_next ? dev::from_float<E>(0) : h;
  if (last) static_cast<E*>(p.h_carry)[i] = h;
}

// Step t backwards: the gradient of the state after it is dy[t] and what came from step t+1, unless that step reset.
template <class C, class E>
DEVICE void stepwise_backward(const CellStepParams& s) {
  constexpr int S = C::SLOTS;
  const RecurrentParams& p = s.r;
  const int n = p.B * p.H, i = int(blockIdx.x * 256 + threadIdx.x);
  if (i >= n) return;
  const int b = i / p.H, t = s.t;
  const size_t at = size_t(t) * n + i;
  const bool linked = t + 1 < p.T && !p.resets[(t + 1) * p.B + b];
  float gates[S], dpre[S], dh = dev::to_float(static_cast<const E*>(p.dy)[at]), dc = 0, direct;
  load_slots(static_cast<const typename Gate<E>::type*>(p.gates) + at * S, gates);
  if (linked) {
    dh += s.product[i];
    if constexpr (C::DIRECT) dh += s.dh_direct[i];
    if constexpr (C::CELL_STATE) dc = s.dc[i];
  }
  float c_prev = 0, c = 0, h_prev = 0;
  if constexpr (C::CELL_STATE) {
    c_prev = p.resets[t * p.B + b] ? 0.0f : p.c[at];
    c = p.c[at + n];
  }
  if constexpr (C::DIRECT) h_prev = dev::to_float(static_cast<const E*>(p.hp)[at]);
  C::template backward<E>(gates, c_prev, c, h_prev, dh, dc, dpre, direct);
  store_slots(static_cast<E*>(p.gates) + at * S, dpre);
  if constexpr (C::CELL_STATE) s.dc[i] = dc;
  if constexpr (C::DIRECT) s.dh_direct[i] = direct;
}

#define STEPWISE(suffix, E)                                                                                           \
  KERNEL(stepwise_begin_##suffix, RecurrentParams, 256) { stepwise_begin<E>(p); }                                     \
  KERNEL(stepwise_forward_lstm_##suffix, CellStepParams, 256) { stepwise_forward<Lstm, E>(p); }                       \
  KERNEL(stepwise_forward_gru_##suffix, CellStepParams, 256) { stepwise_forward<Gru, E>(p); }                         \
  KERNEL(stepwise_forward_rnn_##suffix, CellStepParams, 256) { stepwise_forward<Rnn, E>(p); }                         \
  KERNEL(stepwise_backward_lstm_##suffix, CellStepParams, 256) { stepwise_backward<Lstm, E>(p); }                     \
  KERNEL(stepwise_backward_gru_##suffix, CellStepParams, 256) { stepwise_backward<Gru, E>(p); }                       \
  KERNEL(stepwise_backward_rnn_##suffix, CellStepParams, 256) { stepwise_backward<Rnn, E>(p); }

STEPWISE(f32, float)
STEPWISE(bf16, bf16)
STEPWISE(f16, f16)
