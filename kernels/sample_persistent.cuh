// Whole tunes of a one-layer model in one kernel, bf16 and f16. A block serves 8 streams and owns all of W_hh as mma
// A fragments: most in registers, the rest and the head's in shared memory. Blocks share nothing but the counter that
// tunes are taken from.
//
// A character of the 8 streams, with a block barrier after each line:
//   cell     pre-activations = product + table row of the id; h to shared memory [8][H + 8]
//   head     logits [8][VP + 4] = head_w h + bias, a tile of 16 classes a warp
//   choice   warp r < 8 chooses for stream r; the other warps compute the next product W_hh h meanwhile (it does not
//            depend on what is chosen), the choosers theirs afterwards. A stream that starts a tune drops its part.
//
// A warp owns 8 units with 4 slots (RNN: 16 units): tile m, row r of the fragments is unit r % 8, slot 2m + r / 8, so
// that a thread holds whole cells: unit g = lane / 4 of streams 2q and 2q + 1, q = lane % 4 (RNN: units g and g + 8).
#pragma once
#include "cells.cuh"
#include "device.cuh"
#include "params.h"
#include "tune.cuh"

namespace persistent {

constexpr int STREAMS = 8;

template <class Cell, int H>
struct Shape {
  static constexpr bool SLOTTED = Cell::SLOTS == 4;
  static constexpr int TILES = SLOTTED ? 2 : 1;           // of 16 rows, a warp
  static constexpr int UNITS = SLOTTED ? 8 : 16;          // a warp
  static constexpr int CELLS = SLOTTED ? 2 : 4;           // a thread
  static constexpr int OWNERS = H / UNITS;                // warps that own units
  static constexpr int WARPS = OWNERS > STREAMS ? OWNERS : STREAMS;
  static constexpr int K_TILES = H / 16, FRAGMENTS = TILES * K_TILES;
  // 20 warps have 96 registers a thread; more than 14 fragments would spill.
  static constexpr int IN_REGISTERS = WARPS > 16 ? 14 : FRAGMENTS, IN_SHARED = FRAGMENTS - IN_REGISTERS;
  static constexpr int H_ROW = H + 8;                     // the 8 rows of an ldmatrix lie on different banks
  static_assert(H % 32 == 0, "two k tiles a ldmatrix");

  static constexpr int shared_bytes(int VP) {
    const int weights = OWNERS * IN_SHARED * 512 + VP * H * 2, hidden = STREAMS * H_ROW * 2;
    return weights + hidden + VP * 4 + STREAMS * (VP + 4) * 4 + STREAMS * 4;
  }
};

// A thread's part of the A fragment of 16 rows: `upper` and `lower` point to its rows g and g + 8, column 2q.
template <class E>
DEVICE uint4 fragment(const E* upper, const E* lower) {
  const auto word = [](const E* from) { return __ldg(reinterpret_cast<const uint32_t*>(from)); };
  return make_uint4(word(upper), word(lower), word(upper + 8), word(lower + 8));
}

// Who a thread is, worked out anew in every phase of a character: what follows from it would otherwise be kept in
// registers all the time, and the weights leave few.
struct Thread {
  int lane, warp, g, q;
  DEVICE explicit Thread(uint32_t id) {
    dev::pin(id);
    lane = static_cast<int>(id % 32), warp = static_cast<int>(id / 32), g = lane / 4, q = lane % 4;
  }
};

template <class Cell, class E, int H>
DEVICE void tunes(const PersistentSampleParams& p) {
  using S = Shape<Cell, H>;
  constexpr int SLOTS = Cell::SLOTS, K_TILES = S::K_TILES;
  const int VP = p.s.VP, logits_row = VP + 4;
  const uint32_t id = threadIdx.x;
  const bool owner = id < S::OWNERS * 32, chooser = id < STREAMS * 32;

  DYN_SMEM(unsigned char, shared);
  uint4* const recurrent = reinterpret_cast<uint4*>(shared);          // [OWNERS][IN_SHARED][32]
  uint4* const head = recurrent + S::OWNERS * S::IN_SHARED * 32;      // [VP/16][K_TILES][32]
  E* const hidden = reinterpret_cast<E*>(head + VP / 16 * K_TILES * 32);
  float* const bias = reinterpret_cast<float*>(hidden + STREAMS * S::H_ROW);
  float* const logits = bias + VP;
  uint32_t* const inputs = reinterpret_cast<uint32_t*>(logits + STREAMS * logits_row);

  // --- weights
  uint32_t weights[S::IN_REGISTERS][4];
  if (owner) {
    const Thread t(id);
    const E* const first = static_cast<const E*>(p.w) + (t.warp * S::UNITS + t.g) * SLOTS * H + t.q * 2;
    uint4* const beyond = recurrent + t.warp * S::IN_SHARED * 32 + t.lane;
    const auto load = [&](int f) {   // tile f % TILES of k tile f / TILES
      const E* const upper = first + f % S::TILES * 2 * H + f / S::TILES * 16;
      return fragment(upper, upper + (S::SLOTTED ? 1 : 8) * H);
    };
#pragma unroll 1
    for (int f = S::IN_REGISTERS; f < S::FRAGMENTS; ++f) beyond[(f - S::IN_REGISTERS) * 32] = load(f);
#pragma unroll
    for (int f = 0; f < S::IN_REGISTERS; ++f) {
      const uint4 a = load(f);
      weights[f][0] = a.x, weights[f][1] = a.y, weights[f][2] = a.z, weights[f][3] = a.w;
#pragma unroll
      for (int i = 0; i < 4; ++i) dev::pin(weights[f][i]);
    }
  }
  {
    const Thread t(id);
    for (int f = t.warp; f < VP / 16 * K_TILES; f += S::WARPS) {
      const int row = f / K_TILES * 16 + t.g, column = f % K_TILES * 16 + t.q * 2;
      const E* const upper = static_cast<const E*>(p.head_w) + row * H + column;
      head[f * 32 + t.lane] = fragment(upper, upper + 8 * H);
    }
  }
  // A banned character has a logit of minus infinity (or NaN): both are never chosen.
  for (int i = static_cast<int>(id); i < VP; i += S::WARPS * 32) {
    bias[i] = i < p.s.V && !p.s.banned[i] ? p.head_bias[i] : -INFINITY;
  }

  SampleStream stream{-1, 0};
  if (chooser) {
    const Thread t(id);
    const uint32_t input = tune::take(t.lane, p.s, stream);
    if (t.lane == 0) inputs[t.warp] = input;
  }
  float product[S::TILES][4] = {}, c[S::CELLS] = {}, h[S::CELLS] = {};
  __syncthreads();

  // B fragments of two k tiles an ldmatrix: matrix j is columns 8j to 8j + 7 of the 8 rows.
  const auto hidden_rows = [&](const Thread& t) { return hidden + t.lane % 8 * S::H_ROW + t.lane / 8 * 8; };
  const auto all_idle = [&] {
    const uint4 a = *reinterpret_cast<const uint4*>(inputs), b = *reinterpret_cast<const uint4*>(inputs + 4);
    return (a.x & a.y & a.z & a.w & b.x & b.y & b.z & b.w & tune::IDLE) != 0;
  };
#pragma unroll 1
  while (!all_idle()) {
    if (owner) {
      const Thread t(id);
#pragma unroll
      for (int i = 0; i < S::CELLS; ++i) {
        const int n = i % 2, half = i / 2, row = 2 * t.q + n, unit = t.warp * S::UNITS + t.g + half * 8;
        const uint32_t input = inputs[row];
        const bool reset = (input & tune::RESET) != 0;
        const E* const entry = static_cast<const E*>(p.table) + ((input & tune::ID) * H + unit) * SLOTS;
        float pre[SLOTS], gates[SLOTS];
        if constexpr (S::SLOTTED) {
          const uint2 x = __ldg(reinterpret_cast<const uint2*>(entry));
          pre[0] = dev::low<E>(x.x), pre[1] = dev::high<E>(x.x);
          pre[2] = dev::low<E>(x.y), pre[3] = dev::high<E>(x.y);
        } else {
          pre[0] = dev::to_float(*entry);
        }
        if (reset) c[i] = h[i] = 0.0f;
#pragma unroll
        for (int s = 0; s < SLOTS; ++s) {
          pre[s] += reset ? 0.0f : S::SLOTTED ? product[s / 2][s % 2 * 2 + n] : product[0][half * 2 + n];
        }
        const E rounded = dev::from_float<E>(Cell::template forward<E>(pre, h[i], c[i], gates));
        h[i] = dev::to_float(rounded);
        hidden[row * S::H_ROW + unit] = rounded;
      }
    }
    __syncthreads();

    const Thread in_head(id);
    const E* const rows = hidden_rows(in_head);
#pragma unroll 1
    for (int tile = in_head.warp; tile < VP / 16; tile += S::WARPS) {
      const int row = tile * 16 + in_head.g;
      float d[2][4] = {{bias[row], bias[row], bias[row + 8], bias[row + 8]}, {}};   // even and odd k tiles
#pragma unroll
      for (int k = 0; k < K_TILES; k += 2) {
        uint32_t b[4];
        dev::ldmatrix_x4(b, rows + k * 16);
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          const uint4 a = head[(tile * K_TILES + k + j) * 32 + in_head.lane];
          dev::mma<E>(d[j], a.x, a.y, a.z, a.w, b[2 * j], b[2 * j + 1]);
        }
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) logits[(2 * in_head.q + i % 2) * logits_row + row + i / 2 * 8] = d[0][i] + d[1][i];
    }
    __syncthreads();

    if (chooser) {
      const Thread t(id);
      const uint32_t input = tune::advance(t.lane, p.s, stream, logits + t.warp * logits_row, nullptr);
      if (t.lane == 0) inputs[t.warp] = input;
    }
    if (owner) {
      const Thread t(id);
      const E* const h_rows = hidden_rows(t);
      const uint4* const beyond = recurrent + t.warp * S::IN_SHARED * 32 + t.lane;
#pragma unroll
      for (int m = 0; m < S::TILES; ++m) {
#pragma unroll
        for (int i = 0; i < 4; ++i) product[m][i] = 0.0f;
      }
#pragma unroll
      for (int k = 0; k < K_TILES; k += 2) {
        uint32_t b[4];
        dev::ldmatrix_x4(b, h_rows + k * 16);
#pragma unroll
        for (int j = 0; j < 2; ++j) {
#pragma unroll
          for (int m = 0; m < S::TILES; ++m) {
            const int f = (k + j) * S::TILES + m;
            if (f < S::IN_REGISTERS) {
              const uint32_t(&a)[4] = weights[f < S::IN_REGISTERS ? f : 0];
              dev::mma<E>(product[m], a[0], a[1], a[2], a[3], b[2 * j], b[2 * j + 1]);
            } else {
              const uint4 a = beyond[(f - S::IN_REGISTERS) * 32];
              dev::mma<E>(product[m], a.x, a.y, a.z, a.w, b[2 * j], b[2 * j + 1]);
            }
          }
        }
      }
    }
    __syncthreads();
  }
}

}  // namespace persistent

// Grid: any number of blocks, ceil(tunes / 8) at most. VP <= HEAD_MAX_CLASSES. `next_tune` is 0 and `remaining` is
// `tunes` before. Shared memory: shared_bytes(VP); the figure recorded here is the least, that of VP = 16.
#define SAMPLE_PERSISTENT(Cell, cell, E, H)                                                                          \
  KERNEL_SHAPED(sample_persistent_##cell##_##E##_h##H, PersistentSampleParams,                                       \
                (persistent::Shape<Cell, H>::WARPS * 32), (persistent::Shape<Cell, H>::shared_bytes(16))) {          \
    persistent::tunes<Cell, E, H>(p);                                                                                \
  }
#define SAMPLE_PERSISTENT_ALL(E)        \
  SAMPLE_PERSISTENT(Lstm, lstm, E, 64)  \
  SAMPLE_PERSISTENT(Lstm, lstm, E, 128) \
  SAMPLE_PERSISTENT(Lstm, lstm, E, 160) \
  SAMPLE_PERSISTENT(Gru, gru, E, 64)    \
  SAMPLE_PERSISTENT(Gru, gru, E, 128)   \
  SAMPLE_PERSISTENT(Gru, gru, E, 160)   \
  SAMPLE_PERSISTENT(Rnn, rnn, E, 64)    \
  SAMPLE_PERSISTENT(Rnn, rnn, E, 128)   \
  SAMPLE_PERSISTENT(Rnn, rnn, E, 160)
