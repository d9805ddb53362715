// Whole tunes of a one-layer model in one kernel, f32: sample_persistent_{lstm,gru,rnn}_f32.
//
// A cluster of CS blocks serves 8 streams. Each block owns UB = H/CS units: their rows of W_hh, as f32, in its shared
// memory, and the whole head, and chooses for 8/CS of the streams. CS: 1, 2, 4 or 8, a divisor of H; H: a multiple
// of 16.
//
// A character of the 8 streams, with a cluster barrier after each line:
//   cell    the block's units from product + table row of the id; h goes to every block
//   choice  warps 0 to 7: logits of the block's streams, then a warp a stream chooses and tells every block; warps 8
//           to 15 meanwhile: the product W_hh h of the next character (it does not depend on what is chosen). A
//           stream that starts a tune drops its part.
//
// Shared memory in floats (a row of H is padded to H + 4, four k of h to 36: neighbours lie on different banks):
//   w [UB*S][H + 4] · head [VP][H + 4] · bias [VP] · h [H/4][36] ([k/4][k%4][stream]) · product [UB][8][S] ·
//   c [UB][8] (LSTM) · logits [8/CS][VP] · inputs [8] (words of tune.cuh)
#include "cells.cuh"
#include "device.cuh"
#include "params.h"
#include "tune.cuh"

namespace {

constexpr int STREAMS = 8;
constexpr int WARPS = 16, CHOOSERS = 8;   // a block; the others compute the product
constexpr int QUAD = 36;                  // floats from four k of h to the next

template <class Cell>
struct Shared {
  int row, units, own_streams;            // H + 4, UB, 8/CS
  float *w, *head, *bias, *h, *product, *c, *logits;
  uint32_t* inputs;

  DEVICE Shared(float* at, int H, int VP, int CS) : row(H + 4), units(H / CS), own_streams(STREAMS / CS) {
    w = at;
    head = w + units * Cell::SLOTS * row;
    bias = head + VP * row;
    h = bias + VP;
    product = h + H / 4 * QUAD;
    c = product + units * STREAMS * Cell::SLOTS;
    logits = c + (Cell::CELL_STATE ? units * STREAMS : 0);
    inputs = reinterpret_cast<uint32_t*>(logits + own_streams * VP);
  }
  DEVICE float* h_of(int unit, int stream) const { return h + unit / 4 * QUAD + unit % 4 * STREAMS + stream; }
};

// rows x H floats to rows of H + 4. Every thread of the block.
DEVICE void copy_rows(float* to, const float* from, int rows, int H) {
  const int quads = H / 4;
  for (int i = static_cast<int>(threadIdx.x); i < rows * quads; i += WARPS * 32) {
    dev::cp_async16(to + i / quads * (H + 4) + i % quads * 4, from + i * 4);
  }
}

DEVICE float dot(float4 a, float4 b, float sum) {
  return fmaf(a.w, b.w, fmaf(a.z, b.z, fmaf(a.y, b.y, fmaf(a.x, b.x, sum))));
}

// product [unit][stream][slot] = sum over k of w[unit][slot][k] h[k][stream]. A warp takes 8 units and 4 streams at a
// time; lane 4g + q sums k = 16i + 4q + (0 to 3) of unit g for all of them, then q keeps one stream's sums.
template <class Cell>
DEVICE void multiply(const Shared<Cell>& s, int H, int warp) {
  constexpr int SLOTS = Cell::SLOTS;
  const int lane = dev::lane(), g = lane / 4, q = lane % 4;
  for (int item = warp; item < (s.units + 7) / 8 * 2; item += WARPS - CHOOSERS) {
    const int unit = item / 2 * 8 + g, half = item % 2 * 4;
    const float* const w = s.w + (unit < s.units ? unit : 0) * SLOTS * s.row + 4 * q;
    const float* const h = s.h + q * QUAD + half;
    float sum[SLOTS][4] = {};
    for (int k = 0; k < H; k += 16) {
      float4 x[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) x[j] = *reinterpret_cast<const float4*>(h + k / 4 * QUAD + j * STREAMS);
#pragma unroll
      for (int slot = 0; slot < SLOTS; ++slot) {
        const float4 a = *reinterpret_cast<const float4*>(w + slot * s.row + k);
        sum[slot][0] = dot(a, make_float4(x[0].x, x[1].x, x[2].x, x[3].x), sum[slot][0]);
        sum[slot][1] = dot(a, make_float4(x[0].y, x[1].y, x[2].y, x[3].y), sum[slot][1]);
        sum[slot][2] = dot(a, make_float4(x[0].z, x[1].z, x[2].z, x[3].z), sum[slot][2]);
        sum[slot][3] = dot(a, make_float4(x[0].w, x[1].w, x[2].w, x[3].w), sum[slot][3]);
      }
    }
    // q keeps stream q: first the pair q / 2 with the lane two further, then q % 2 with the neighbour.
    const bool upper = q >= 2, odd = q % 2 != 0;
#pragma unroll
    for (int slot = 0; slot < SLOTS; ++slot) {
      const float(&d)[4] = sum[slot];
      const float first = (upper ? d[2] : d[0]) + dev::shfl_xor(upper ? d[0] : d[2], 2);
      const float second = (upper ? d[3] : d[1]) + dev::shfl_xor(upper ? d[1] : d[3], 2);
      const float whole = (odd ? second : first) + dev::shfl_xor(odd ? first : second, 1);
      if (unit < s.units) s.product[(unit * STREAMS + half + q) * SLOTS + slot] = whole;
    }
  }
}

// Logits of the block's streams, PER of them a thread; threads of the choosing warps.
template <int PER, class Cell>
DEVICE void classify(const Shared<Cell>& s, int H, int VP, int first_stream) {
  for (int item = static_cast<int>(threadIdx.x); item < s.own_streams / PER * VP; item += CHOOSERS * 32) {
    const int label = item % VP, stream = item / VP * PER;
    const float* const w = s.head + label * s.row;
    const float* const h = s.h + first_stream + stream;
    float sum[PER];
#pragma unroll
    for (int i = 0; i < PER; ++i) sum[i] = s.bias[label];
    for (int k = 0; k < H; k += 4) {
      const float4 a = *reinterpret_cast<const float4*>(w + k);
      const float* const x = h + k / 4 * QUAD;
#pragma unroll
      for (int i = 0; i < PER; ++i) {
        sum[i] = dot(a, make_float4(x[i], x[STREAMS + i], x[2 * STREAMS + i], x[3 * STREAMS + i]), sum[i]);
      }
    }
#pragma unroll
    for (int i = 0; i < PER; ++i) s.logits[(stream + i) * VP + label] = sum[i];
  }
}

// The cells of the block's units; every thread.
template <class Cell>
DEVICE void step(const Shared<Cell>& s, const float* table, int H, int rank, int CS) {
  constexpr int SLOTS = Cell::SLOTS;
  for (int i = static_cast<int>(threadIdx.x); i < s.units * STREAMS; i += WARPS * 32) {
    const int unit = rank * s.units + i / STREAMS, stream = i % STREAMS;
    const uint32_t input = s.inputs[stream];
    const bool reset = (input & tune::RESET) != 0;
    const float* const row = table + (static_cast<size_t>(input & tune::ID) * H + unit) * SLOTS;
    float pre[SLOTS], gates[SLOTS], c = 0.0f;
    if constexpr (SLOTS == 4) {
      const float4 x = __ldg(reinterpret_cast<const float4*>(row));
      pre[0] = x.x, pre[1] = x.y, pre[2] = x.z, pre[3] = x.w;
    } else {
      pre[0] = __ldg(row);
    }
    if (!reset) {
#pragma unroll
      for (int slot = 0; slot < SLOTS; ++slot) pre[slot] += s.product[i * SLOTS + slot];
      if (Cell::CELL_STATE) c = s.c[i];
    }
    float* const h = s.h_of(unit, stream);
    const float next = Cell::template forward<float>(pre, reset ? 0.0f : *h, c, gates);
    if (Cell::CELL_STATE) s.c[i] = c;
    for (int peer = 0; peer < CS; ++peer) dev::remote_store4(h, peer, __float_as_uint(next));
  }
}

template <class Cell>
DEVICE void tunes(const PersistentSampleParams& p) {
  const int tid = static_cast<int>(threadIdx.x), warp = tid / 32, lane = tid % 32;
  const int H = p.H, VP = p.s.VP, CS = dev::cluster_size(), rank = dev::cluster_rank();
  DYN_SMEM(float, memory);
  const Shared<Cell> s(memory, H, VP, CS);
  const int first_stream = rank * s.own_streams;
  const bool chooser = warp < s.own_streams;

  copy_rows(s.w, static_cast<const float*>(p.w) + rank * s.units * Cell::SLOTS * H, s.units * Cell::SLOTS, H);
  copy_rows(s.head, static_cast<const float*>(p.head_w), VP, H);
  dev::cp_async_commit();
  // A banned character has a logit of minus infinity (or NaN): both are never chosen.
  for (int i = tid; i < VP; i += WARPS * 32) s.bias[i] = i < p.s.V && !p.s.banned[i] ? p.head_bias[i] : -INFINITY;
  dev::cp_async_wait<0>();
  dev::cluster_arrive();
  dev::cluster_wait();   // every block of the cluster runs: its memory may be written to

  SampleStream stream{-1, 0};
  const auto tell = [&](uint32_t input) {
    if (lane < CS) dev::remote_store4(s.inputs + first_stream + warp, lane, input);
  };
  if (chooser) tell(tune::take(lane, p.s, stream));
  dev::cluster_arrive();
  dev::cluster_wait();

#pragma unroll 1
  while (true) {
    uint32_t idle = tune::IDLE;
    for (int i = 0; i < STREAMS; ++i) idle &= s.inputs[i];
    if (idle != 0) break;   // all blocks of the cluster see the same words

    step<Cell>(s, static_cast<const float*>(p.table), H, rank, CS);
    dev::cluster_arrive();
    dev::cluster_wait();

    if (warp < CHOOSERS) {
      if (s.own_streams == 1) {
        classify<1>(s, H, VP, first_stream);
      } else {
        classify<2>(s, H, VP, first_stream);
      }
      dev::named_barrier(1, CHOOSERS * 32);
      if (chooser) tell(tune::advance(lane, p.s, stream, s.logits + warp * VP, nullptr));
    } else {
      multiply<Cell>(s, H, warp - CHOOSERS);
    }
    dev::cluster_arrive();
    dev::cluster_wait();
  }
}

}  // namespace

// Grid: CS times any number of clusters, ceil(tunes / 8) at most. `next_tune` is 0 and `remaining` is `tunes` before.
KERNEL(sample_persistent_lstm_f32, PersistentSampleParams, WARPS * 32) { tunes<Lstm>(p); }
KERNEL(sample_persistent_gru_f32, PersistentSampleParams, WARPS * 32) { tunes<Gru>(p); }
KERNEL(sample_persistent_rnn_f32, PersistentSampleParams, WARPS * 32) { tunes<Rnn>(p); }
