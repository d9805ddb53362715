// A whole chunk of one recurrent layer in exact float32; see recurrent_f32.cuh. Grid B/8 * CS blocks in clusters of CS,
// 256 threads. CS divides H; CS = 1 needs no clusters.
//
// Dynamic shared memory in bytes, with U = H/CS, ceil(a, b) = (a + b - 1) / b and
// split(q, n) = ceil(n, ceil(n, max(1, min(256 / q, n)))):
//   forward:  G = ceil(U*S, 4), P = 4 (LSTM), 3 (GRU), 4 (RNN):
//             4 * (H*P*G + 18*H + 32*G*split(G, H/4) + 8*U*(S + 2))
//   backward: R = U * (LSTM 4, GRU 3, RNN 1):
//             4 * (R*H + 12*R + 8*H*split(H/4, R) + 16*H + 8*U*(S + 4))
#include "recurrent_f32.cuh"

namespace recurrent_f32 {

// Copies 4*S bytes; nobody but this thread reads them.
template <int S>
DEVICE void fetch_slots(float* shared, const float* global) {
  if constexpr (S == 4)
    dev::cp_async16(shared, global);
  else
    dev::cp_async4(shared, global);
}

template <class C>
DEVICE void forward(const RecurrentParams& p) {
  constexpr int S = C::SLOTS;
  DYN_SMEM(float, shared);
  const Place at(p.H);
  const Forward<C> block(at, shared);
  const int T = p.T, b = at.stream + at.row;
  const float* table = static_cast<const float*>(p.table);
  float* gates = static_cast<float*>(p.gates);
  float* hp = static_cast<float*>(p.hp);
  float* h_carry = static_cast<float*>(p.h_carry);
  const int mine = at.row * at.units;                  // [stream][unit] of this warp in the block's own arrays
  // [t][b][first unit] and [b][first unit]
  const auto cells = [&](int t) { return (size_t(t) * p.B + b) * at.H + at.first; };
  const size_t carried = cells(0);

  // Pre-activations of step t, or the table's row of the character.
  const auto fetch = [&](int t) {
    const float* from = table ? table + (size_t(p.ids[t * p.B + b]) * at.H + at.first) * S : gates + cells(t) * S;
    for (int u = at.lane; u < at.units; u += 32) fetch_slots<S>(block.input + (mine + u) * S, from + u * S);
    dev::cp_async_commit();
  };

  fetch(0);
  block.load_weights(at, static_cast<const float*>(p.w));
  bool reset = p.resets[b];
  for (int quad = at.lane; quad < at.quads; quad += 32)
    store_quad(block.h_at(at, 0, quad * 4, at.row),
               reset ? zero_quad() : load_quad(h_carry + size_t(b) * at.H + quad * 4));
  for (int u = at.lane; u < at.units; u += 32) {
    if (p.store) hp[carried + u] = reset ? 0.0f : h_carry[carried + u];
    if constexpr (C::CELL_STATE) {
      block.cell[mine + u] = p.c_carry[carried + u];
      if (p.store) p.c[carried + u] = block.cell[mine + u];
    }
  }
  dev::cluster_arrive();                               // all carried states are read, all blocks have started
  dev::cluster_wait();

#pragma unroll 1
  for (int t = 0; t < T; ++t) {
    const bool last = t + 1 == T, reset_next = !last && p.resets[(t + 1) * p.B + b];
    block.product(at, t & 1);
    dev::cp_async_wait<0>();
    __syncthreads();
    for (int u = at.lane; u < at.units; u += 32) {
      float pre[S], active[S], c = 0, h_prev = 0;
      load_slots(block.input + (mine + u) * S, pre);
      block.add_parts(at.row, u, pre);
      if constexpr (C::CELL_STATE) c = reset ? 0.0f : block.cell[mine + u];
      if constexpr (C::DIRECT) h_prev = *block.h_at(at, t & 1, at.first + u, at.row);
      const float h = C::template forward<float>(pre, h_prev, c, active);
      if (!last) {
        float* to = block.h_at(at, (t + 1) & 1, at.first + u, at.row);
        const uint32_t word = reset_next ? 0u : __float_as_uint(h);
        for (int rank = 0; rank < at.size; ++rank) dev::remote_store4(to, rank, word);
      }
      store_slots(block.input + (mine + u) * S, active);
      block.state[mine + u] = h;
      if constexpr (C::CELL_STATE) block.cell[mine + u] = c;
    }
    // Global stores stand behind the arrival: its release would wait for them.
    if (!last) dev::cluster_arrive();
    const size_t now = cells(t), next = cells(t + 1);
    for (int u = at.lane; u < at.units; u += 32) {
      const float h = block.state[mine + u];
      static_cast<float*>(p.y)[now + u] = h;
      if (p.store || last) hp[next + u] = reset_next ? 0.0f : h;
      if (last) h_carry[carried + u] = h;
      if (p.store) {
        float active[S];
        load_slots(block.input + (mine + u) * S, active);
        store_slots(gates + (now + u) * S, active);
      }
      if constexpr (C::CELL_STATE) {
        if (p.store) p.c[next + u] = block.cell[mine + u];
        if (last) p.c_carry[carried + u] = block.cell[mine + u];
      }
    }
    if (last) break;
    fetch(t + 1);
    reset = reset_next;
    dev::cluster_wait();
  }
}

template <class C>
DEVICE void backward(const RecurrentParams& p) {
  constexpr int S = C::SLOTS;
  DYN_SMEM(float, shared);
  const Place at(p.H);
  const Backward<C> block(at, shared);
  const int T = p.T, b = at.stream + at.row;
  float* gates = static_cast<float*>(p.gates);
  const float* dy = static_cast<const float*>(p.dy);
  const float* before = C::CELL_STATE ? p.c : static_cast<const float*>(p.hp);
  const int mine = at.row * at.units;
  const auto cells = [&](int t) { return (size_t(t) * p.B + b) * at.H + at.first; };

  const auto fetch = [&](int t) {
    const size_t from = cells(t);
    for (int u = at.lane; u < at.units; u += 32) {
      fetch_slots<S>(block.gates + (mine + u) * S, gates + (from + u) * S);
      dev::cp_async4(block.dy + mine + u, dy + from + u);
      if constexpr (C::CELL_STATE || C::DIRECT) dev::cp_async4(block.before + mine + u, before + from + u);
    }
    dev::cp_async_commit();
  };

  fetch(T - 1);
  block.load_weights(at, static_cast<const float*>(p.w));
  if constexpr (C::CELL_STATE)
    for (int u = at.lane; u < at.units; u += 32) block.after[mine + u] = p.c[cells(T) + u];
  dev::cluster_arrive();                               // all blocks have started
  dev::cluster_wait();

  bool linked = false;                                 // gradients arrive from step t+1: it exists and did not reset
#pragma unroll 1
  for (int t = T - 1;; --t) {
    const bool reset = p.resets[t * p.B + b];
    dev::cp_async_wait<0>();
    for (int u = at.lane; u < at.units; u += 32) {
      float active[S], dpre[S], c_prev = 0, c = 0, h_prev = 0, dc = 0, direct, dh = block.dy[mine + u];
      load_slots(block.gates + (mine + u) * S, active);
      if (linked) {
        dh += block.pulled(at, (t + 1) & 1, u);
        if constexpr (C::DIRECT) dh += block.dc[mine + u];
        if constexpr (C::CELL_STATE) dc = block.dc[mine + u];
      }
      if constexpr (C::CELL_STATE) {
        const float raw = block.before[mine + u];
        c_prev = reset ? 0.0f : raw;
        c = block.after[mine + u];
        block.after[mine + u] = raw;
      }
      if constexpr (C::DIRECT) h_prev = block.before[mine + u];
      C::template backward<float>(active, c_prev, c, h_prev, dh, dc, dpre, direct);
      if constexpr (C::DIRECT) block.dc[mine + u] = direct;
      if constexpr (C::CELL_STATE) block.dc[mine + u] = dc;
      store_slots(block.gates + (mine + u) * S, dpre);
#pragma unroll
      for (int k = 0; k < C::PRODUCTS; ++k)
        block.dpre[(k * at.units + u) * 12 + at.row] = dpre[C::product_slot(k)];
    }
    if (t > 0) {
      __syncthreads();
      block.product(at);
      __syncthreads();
      block.push(at, t & 1);
      dev::cluster_arrive();
    }
    for (int u = at.lane; u < at.units; u += 32) {
      float dpre[S];
      load_slots(block.gates + (mine + u) * S, dpre);
      store_slots(gates + (cells(t) + u) * S, dpre);
    }
    if (t == 0) break;
    fetch(t - 1);
    linked = !reset;
    dev::cluster_wait();
  }
}

}  // namespace recurrent_f32

KERNEL(recurrent_forward_lstm_f32, RecurrentParams, 256) { recurrent_f32::forward<Lstm>(p); }
KERNEL(recurrent_forward_gru_f32, RecurrentParams, 256) { recurrent_f32::forward<Gru>(p); }
KERNEL(recurrent_forward_rnn_f32, RecurrentParams, 256) { recurrent_f32::forward<Rnn>(p); }
KERNEL(recurrent_backward_lstm_f32, RecurrentParams, 256) { recurrent_f32::backward<Lstm>(p); }
KERNEL(recurrent_backward_gru_f32, RecurrentParams, 256) { recurrent_f32::backward<Gru>(p); }
KERNEL(recurrent_backward_rnn_f32, RecurrentParams, 256) { recurrent_f32::backward<Rnn>(p); }
