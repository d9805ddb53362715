// Persistent recurrent kernels in exact float32: one cluster of CS blocks owns 8 streams for the whole chunk, and every
// block keeps the recurrent weights of its U = H/CS units in shared memory. Here: shapes, weights in shared memory, the
// two products, the cluster's exchange. recurrent_f32.cu has the time loops.
//
// No tensor cores: they have no exact float32. A product is an outer product in registers, 4 values of a weight quad by
// 8 streams a thread, with k split over the threads that the quads leave idle and the parts added in a fixed order.
// Warp w computes the cells of stream w, so a stream's id and resets are one value a warp, and a unit is a lane.
#pragma once
#include "cells.cuh"
#include "params.h"
#include "slots.cuh"

namespace recurrent_f32 {

constexpr int THREADS = 256, STREAMS = 8;

DEVICE int ceil_div(int a, int b) { return (a + b - 1) / b; }

// How many threads share a sum of `length` terms when `quads` threads make one full set: as few as need no more rounds.
DEVICE int split(int quads, int length) {
  const int most = max(1, min(THREADS / quads, length));
  return ceil_div(length, ceil_div(length, most));
}

// A block's place. Units [first, first + units) of streams [stream, stream + 8).
struct Place {
  int H, quads, size, rank, units, first, stream, row, lane;
  DEVICE explicit Place(int hidden) {
    H = hidden;
    quads = H / 4;
    size = dev::cluster_size();
    rank = dev::cluster_rank();
    units = H / size;
    first = rank * units;
    stream = int(blockIdx.x) / size * STREAMS;
    row = int(threadIdx.x) / 32;
    lane = dev::lane();
  }
};

DEVICE float4 zero_quad() { return make_float4(0, 0, 0, 0); }

// --- forward: pre[row][j] = sum over k of h[row][k] w[j][k], j = unit * S + slot of the block's own units ----------
//
// Shared memory, in floats (G = groups of four gate rows j, P = product rows in a group: LSTM 4, GRU 3, RNN 4):
//   w        [H/4][P][G][4]     a thread reads a quad along k; neighbouring threads have neighbouring groups
//   h        [2][H/4][9][4]     quad of k, stream; the ninth is padding against bank conflicts
//   part     [KS][8][G][4]      sums of the KS threads that share a group
//   input    [8][U][S]          pre-activations of the step, then its gates
//   state    [8][U], cell [8][U]
template <class C>
struct Forward {
  static constexpr int S = C::SLOTS, P = C::SLOTS == 1 ? 4 : C::PRODUCTS;
  int groups, parts;
  float *w, *h, *part, *input, *state, *cell;

  DEVICE Forward(const Place& at, float* shared) {
    groups = ceil_div(at.units * S, 4);
    parts = split(groups, at.quads);
    w = shared;
    h = w + at.H * P * groups;
    part = h + 2 * 9 * at.H;
    input = part + parts * STREAMS * groups * 4;
    state = input + STREAMS * at.units * S;
    cell = state + STREAMS * at.units;
  }

  // Where h of unit k of a stream lies in buffer 0 or 1.
  DEVICE float* h_at(const Place& at, int buffer, int k, int row) const {
    return h + buffer * 9 * at.H + ((k >> 2) * 9 + row) * 4 + (k & 3);
  }

  // weights: [H][S][H]
  DEVICE void load_weights(const Place& at, const float* weights) const {
    const int rows = P * groups;
    for (int i = threadIdx.x; i < rows * at.quads; i += THREADS) {
      const int row = i / at.quads, quad = i - row * at.quads, group = row / P, k = row - group * P;
      const int slot = S == 1 ? group * 4 + k : group * S + C::product_slot(k % C::PRODUCTS);
      const bool real = slot < at.units * S;           // the RNN's last group may have fewer than four units
      store_quad(w + ((quad * P + k) * groups + group) * 4,
                 real ? load_quad(weights + (size_t(at.first) * S + slot) * at.H + quad * 4) : zero_quad());
    }
  }

  // h (buffer) -> part.
  DEVICE void product(const Place& at, int buffer) const {
    const int group = int(threadIdx.x) % groups, share = int(threadIdx.x) / groups;
    if (share >= parts) return;
    float sum[STREAMS][P] = {};
#pragma unroll 2
    for (int quad = share; quad < at.quads; quad += parts) {
      float4 weight[P];
#pragma unroll
      for (int k = 0; k < P; ++k) weight[k] = load_quad(w + ((quad * P + k) * groups + group) * 4);
#pragma unroll
      for (int row = 0; row < STREAMS; ++row) {
        const float4 x = load_quad(h + buffer * 9 * at.H + (quad * 9 + row) * 4);
#pragma unroll
        for (int k = 0; k < P; ++k) {
          sum[row][k] = fmaf(x.x, weight[k].x, sum[row][k]);
          sum[row][k] = fmaf(x.y, weight[k].y, sum[row][k]);
          sum[row][k] = fmaf(x.z, weight[k].z, sum[row][k]);
          sum[row][k] = fmaf(x.w, weight[k].w, sum[row][k]);
        }
      }
    }
#pragma unroll
    for (int row = 0; row < STREAMS; ++row) {
      const float* s = sum[row];
      store_quad(part + ((share * STREAMS + row) * groups + group) * 4,
                 P == 3 ? make_float4(s[0], s[1], 0, s[2]) : make_float4(s[0], s[1], s[2], s[P - 1]));
    }
  }

  // Adds the product's parts of one unit to pre.
  DEVICE void add_parts(int row, int unit, float (&pre)[S]) const {
    for (int share = 0; share < parts; ++share) {
      float x[S];
      load_slots(part + (share * STREAMS + row) * groups * 4 + unit * S, x);
#pragma unroll
      for (int k = 0; k < S; ++k) pre[k] += x[k];
    }
  }
};

// --- backward: dh[row][k] = sum over the block's own j of dpre[row][j] w[j][k], for all H units k ------------------
//
// Shared memory, in floats (R = PRODUCTS * U rows j, ordered [product slot][unit] here):
//   w        [R][H]
//   dpre     [R][12]            8 streams; 12 against bank conflicts of the cells' stores
//   part     [JS][8][H]         sums of the JS threads that share a quad of k
//   incoming [2][CS][8][U]      every rank's part of dh of the own units; two buffers, used in turn
//   gates    [8][U][S]          of the step, then their gradients
//   dy, before (c[t] or hp[t]), after (c[t+1]), dc (GRU: dh_direct): [8][U] each
template <class C>
struct Backward {
  static constexpr int S = C::SLOTS, P = C::PRODUCTS;
  int rows, parts;
  float *w, *dpre, *part, *incoming, *gates, *dy, *before, *after, *dc;

  DEVICE Backward(const Place& at, float* shared) {
    rows = P * at.units;
    parts = split(at.quads, rows);
    w = shared;
    dpre = w + rows * at.H;
    part = dpre + rows * 12;
    incoming = part + parts * STREAMS * at.H;
    gates = incoming + 2 * STREAMS * at.H;
    dy = gates + STREAMS * at.units * S;
    before = dy + STREAMS * at.units;
    after = before + STREAMS * at.units;
    dc = after + STREAMS * at.units;
  }

  DEVICE void load_weights(const Place& at, const float* weights) const {
    for (int i = threadIdx.x; i < rows * at.quads; i += THREADS) {
      const int row = i / at.quads, quad = i - row * at.quads, k = row / at.units, unit = row - k * at.units;
      store_quad(w + i * 4,
                 load_quad(weights + (size_t(at.first + unit) * S + C::product_slot(k)) * at.H + quad * 4));
    }
  }

  // dpre -> part.
  DEVICE void product(const Place& at) const {
    const int quad = int(threadIdx.x) % at.quads, share = int(threadIdx.x) / at.quads;
    if (share >= parts) return;
    float4 sum[STREAMS];
#pragma unroll
    for (int row = 0; row < STREAMS; ++row) sum[row] = zero_quad();
#pragma unroll 4
    for (int j = share; j < rows; j += parts) {
      const float4 weight = load_quad(w + (j * at.quads + quad) * 4);
      const float4 low = load_quad(dpre + j * 12), high = load_quad(dpre + j * 12 + 4);
      const float d[STREAMS] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
#pragma unroll
      for (int row = 0; row < STREAMS; ++row) {
        sum[row].x = fmaf(d[row], weight.x, sum[row].x);
        sum[row].y = fmaf(d[row], weight.y, sum[row].y);
        sum[row].z = fmaf(d[row], weight.z, sum[row].z);
        sum[row].w = fmaf(d[row], weight.w, sum[row].w);
      }
    }
#pragma unroll
    for (int row = 0; row < STREAMS; ++row)
      store_quad(part + ((share * STREAMS + row) * at.quads + quad) * 4, sum[row]);
  }

  // Adds the shares of every unit's dh and pushes the sum to the unit's owner.
  DEVICE void push(const Place& at, int buffer) const {
    float* to = incoming + (buffer * at.size + at.rank) * STREAMS * at.units;
    for (int i = threadIdx.x; i < STREAMS * at.quads; i += THREADS) {
      float4 sum = load_quad(part + i * 4);
      for (int share = 1; share < parts; ++share) {
        const float4 x = load_quad(part + (share * STREAMS * at.quads + i) * 4);
        sum = make_float4(sum.x + x.x, sum.y + x.y, sum.z + x.z, sum.w + x.w);
      }
      const int row = i / at.quads, k = (i - row * at.quads) * 4;
      const uint4 words = make_uint4(__float_as_uint(sum.x), __float_as_uint(sum.y), __float_as_uint(sum.z),
                                     __float_as_uint(sum.w));
      if (at.units % 4 == 0) {
        const int owner = k / at.units;
        dev::remote_store16(to + row * at.units + k - owner * at.units, owner, words);
      } else {                                         // a quad may have two owners or more
        const uint32_t word[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
        for (int n = 0; n < 4; ++n) {
          const int owner = (k + n) / at.units;
          dev::remote_store4(to + row * at.units + k + n - owner * at.units, owner, word[n]);
        }
      }
    }
  }

  // The ranks' parts of one own unit's dh, added in the order of the ranks.
  DEVICE float pulled(const Place& at, int buffer, int unit) const {
    float sum = 0;
    for (int rank = 0; rank < at.size; ++rank)
      sum += incoming[((buffer * at.size + rank) * STREAMS + at.row) * at.units + unit];
    return sum;
  }
};

}  // namespace recurrent_f32
