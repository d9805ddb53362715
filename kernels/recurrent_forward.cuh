// The whole forward recurrence of a chunk in one launch, for bf16 and f16 on tensor cores.
//
// A cluster of CS blocks owns 8 streams and all of W_hh; a block owns UB = H/CS units, a warp 8*U of them with all k.
// Streams are independent, so clusters never wait for each other. Weights are A fragments that stay in registers (the
// last ones in shared memory), h of the 8 streams is B: pre[unit, slot][stream] = W_hh h + input part. A thread ends up
// with all slots of U units of 2 streams and keeps their c in registers.
//   CS = 1: h is double-buffered in shared memory, one barrier a step.
//   CS > 1: every warp pushes its units' h to all blocks of the cluster (st.async); the receiving block's mbarrier counts
//           the bytes of a step. No block or cluster barrier in the loop.
// Launch: grid B/8*CS, cluster CS, ForwardShape::THREADS, ForwardShape::SMEM.
#pragma once
#include "cells.cuh"
#include "recurrent_words.cuh"

template <class Cell_, int H_, int CS_, int U_, int REGISTERS_> struct ForwardShape {
  using Cell = Cell_;
  static constexpr int H = H_, CS = CS_, U = U_, REGISTERS = REGISTERS_;
  static constexpr int UB = H / CS, WARP_UNITS = 8 * U, WARPS = UB / WARP_UNITS, THREADS = WARPS * 32;
  static constexpr int S = Cell::SLOTS;
  // Slots that go through the product: a tile has 16 rows, so U units' slots must be even in number.
  static constexpr int PRODUCTS = U * Cell::PRODUCTS % 2 == 0 ? Cell::PRODUCTS : S;
  static constexpr int TILES = U * PRODUCTS / 2, KT = H / 16, FRAGMENTS = TILES * KT;
  static constexpr int CHAINS = chains(TILES, WARPS);
  static constexpr int H_ROW = H + 8;               // elements; eight rows of 16 bytes then lie in different banks
  using Weights = Fragments<FRAGMENTS, REGISTERS>;
  static constexpr int H_OFFSET = WARPS * Weights::BYTES;
  static constexpr int STAGE_OFFSET = H_OFFSET + 2 * 8 * H_ROW * 2;
  static constexpr int BARRIER_OFFSET = STAGE_OFFSET + (CS > 1 ? 2 * 8 * UB * 2 : 0);
  static constexpr int SMEM = BARRIER_OFFSET + (CS > 1 ? 16 : 0);
  static_assert(H % 16 == 0 && H % CS == 0 && UB % WARP_UNITS == 0, "whole warps");
  static_assert(U * PRODUCTS % 2 == 0 && (U == 1 || U == 2), "whole tiles");

  // Row r of tile m of a warp is the product i of unit 'unit' (of the warp).
  DEVICE static constexpr int unit(int m, int r) { return U * (r & 7) + (2 * m + (r >> 3)) / PRODUCTS; }
  DEVICE static constexpr int slot(int m, int r) {
    return PRODUCTS == S ? (2 * m + (r >> 3)) % PRODUCTS : Cell::product_slot((2 * m + (r >> 3)) % PRODUCTS);
  }
};

template <class E, class Shape> DEVICE void recurrent_forward(const RecurrentParams& p) {
  using Cell = typename Shape::Cell;
  using G = typename Gate<E>::type;
  constexpr int H = Shape::H, CS = Shape::CS, U = Shape::U, UB = Shape::UB, S = Shape::S, KT = Shape::KT;
  constexpr int PRODUCTS = Shape::PRODUCTS, TILES = Shape::TILES, CHAINS = Shape::CHAINS, H_ROW = Shape::H_ROW;
  constexpr int THREADS = Shape::THREADS, WARP_UNITS = Shape::WARP_UNITS;
  DYN_SMEM(unsigned char, smem);
  const int tid = int(threadIdx.x), lane = tid & 31, warp = tid >> 5, g = lane >> 2, q = lane & 3;
  const int rank = CS > 1 ? dev::cluster_rank() : 0;
  const int T = p.T, B = p.B, b0 = int(blockIdx.x) / CS * 8;
  const uint32_t step_size = uint32_t(B) * H;       // elements of [B][H]; offsets are 32 bits: (T+1)*B*H < 2^32
  const int warp_unit = rank * UB + warp * WARP_UNITS;        // the warp's first unit
  const int unit = warp_unit + U * g, stream = b0 + 2 * q;    // this thread: units unit + j, streams stream + n
  E* const h_smem = reinterpret_cast<E*>(smem + Shape::H_OFFSET);                        // [2][8][H_ROW]
  uint64_t* const bar = reinterpret_cast<uint64_t*>(smem + Shape::BARRIER_OFFSET);       // [2]: one a buffer of h
  const bool store = p.store != 0;

  // --- the input part of the pre-activations: loaded a step ahead, the characters two
  constexpr int WORDS = U * S / 2;                  // [U][S] short values
  uint32_t input[2][WORDS];
  uint32_t ids = 0;                                 // of both streams
  const uint32_t cell = uint32_t(stream) * H + unit;          // in [B][H]; the second stream's: + H
  const bool table = p.table != nullptr;
  const char* const input_base = pinned(static_cast<const char*>(table ? p.table : p.gates) + unit * (S * 2));
  auto load_ids = [&](int t) { ids = *reinterpret_cast<const uint32_t*>(p.ids + uint32_t(t * B + stream)); };
  auto load_input = [&](int t) {
    const uint32_t row = uint32_t(t * B + stream);
    load_words(input[0], input_base + size_t(table ? ids & 0xffffu : row) * (H * S * 2));
    load_words(input[1], input_base + size_t(table ? ids >> 16 : row + 1) * (H * S * 2));
  };
  if (table) load_ids(0);
  load_input(0);
  if (table) load_ids(T > 1 ? 1 : 0);

  // --- weights
  typename Shape::Weights weights;
  weights.shared = reinterpret_cast<uint4*>(smem + pinned(uint32_t(warp * Shape::Weights::BYTES + lane * 16)));
#pragma unroll
  for (int f = 0; f < Shape::FRAGMENTS; ++f) {
    const int k0 = f / TILES * 16, m = f % TILES;
    uint32_t a[4];
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      const int row = g + (r & 1) * 8;
      const E* from = static_cast<const E*>(p.w) + size_t((warp_unit + Shape::unit(m, row)) * S + Shape::slot(m, row)) * H;
      a[r] = *reinterpret_cast<const uint32_t*>(from + k0 + 2 * q + (r >> 1) * 8);
    }
    weights.put(f, a);
  }

  // --- the carried state, zero where the first step resets
  E* const hp = static_cast<E*>(p.hp);
  E* const y = static_cast<E*>(p.y);
  for (int i = tid; i < H; i += THREADS) {          // 16-byte pieces
    const int row = i / (H / 8), k = i % (H / 8) * 8;
    uint4 v = *reinterpret_cast<const uint4*>(static_cast<const E*>(p.h_carry) + size_t(b0 + row) * H + k);
    if (p.resets[b0 + row]) v = make_uint4(0, 0, 0, 0);
    *reinterpret_cast<uint4*>(h_smem + row * H_ROW + k) = v;
    if (store && (CS == 1 || k / UB == rank)) *reinterpret_cast<uint4*>(hp + size_t(b0 + row) * H + k) = v;
  }
  float c[2][U], h[2][U];                           // h: the GRU's, in f32 as c is
#pragma unroll
  for (int n = 0; n < 2; ++n) {
    const size_t at = size_t(stream + n) * H + unit;
    const bool reset = p.resets[stream + n] != 0;
#pragma unroll
    for (int j = 0; j < U; ++j) c[n][j] = h[n][j] = 0;
    if constexpr (Cell::CELL_STATE) {
      load_floats(c[n], p.c_carry + at);
      if (store) store_floats(p.c + at, c[n]);
    }
    if constexpr (Cell::DIRECT) load_short<E>(h[n], static_cast<const E*>(p.h_carry) + at);
#pragma unroll
    for (int j = 0; j < U; ++j) c[n][j] = reset ? 0.f : c[n][j], h[n][j] = reset ? 0.f : h[n][j];
  }
  if constexpr (CS > 1) {
    if (tid == 0) {
      dev::mbar_init(bar, 1);
      dev::mbar_init(bar + 1, 1);
      dev::mbar_fence_init();
    }
    dev::cluster_arrive();                          // everybody has read the carries, and may be pushed to
    dev::cluster_wait();
  }

  // A thread also has a 16-byte piece of h to write out, of stream piece_row.
  //   CS = 1: of all units, after the barrier: h of step t-1 stands in shared memory as a whole. y, which is not masked,
  //   comes from there too but for the streams that reset at t: theirs is zero there, and the threads that know it have
  //   written it.  CS > 1: of the warp's units, which the lane also pushes.
  static_assert(CS > 1 || THREADS >= H, "one piece a thread");
  const int piece_row = CS == 1 ? tid / (H / 8) : lane & 7;
  const int piece_unit = CS == 1 ? tid % (H / 8) * 8 : warp_unit + (lane >> 3) % U * 8;
  const bool has_piece = CS == 1 ? tid < H : lane < 8 * U;
  const uint32_t piece = uint32_t(b0 + piece_row) * H + piece_unit;            // in [B][H]
  uint32_t piece_reset = 0;
  auto copy_out = [&](int t, uint32_t y_at, uint32_t hp_at) {                  // y of step t-1, hp of step t
    const uint4 v = *reinterpret_cast<const uint4*>(h_smem + ((t & 1) * 8 + piece_row) * H_ROW + piece_unit);
    if (piece_reset == 0) *reinterpret_cast<uint4*>(y + y_at) = v;
    if (store || t == T) *reinterpret_cast<uint4*>(hp + hp_at) = v;
    if (t == T) *reinterpret_cast<uint4*>(static_cast<E*>(p.h_carry) + piece) = v;
  };

  // What every step needs of addresses. An ldmatrix reads rows of h: matrix j is columns 8j to 8j+7 of the 8 streams, so
  // that one gives the B fragments of two k tiles.
  const uint32_t read_at = pinned(uint32_t(((lane & 7) * H_ROW + (lane >> 3) * 8) * 2));
  const uint32_t write_at = pinned(uint32_t((2 * q * H_ROW + unit) * 2));
  // CS > 1: a warp's own h, unmasked, [2][warps][8][units]; where the lane's piece goes in the buffers of h.
  const uint32_t stage = Shape::STAGE_OFFSET + warp * (8 * WARP_UNITS * 2);
  const uint32_t stage_write = pinned(uint32_t(stage + (2 * q * WARP_UNITS + U * g) * 2));
  const uint32_t stage_read = pinned(uint32_t(stage + (piece_row * WARP_UNITS + (lane >> 3) % U * 8) * 2));
  const uint32_t push_at = pinned(uint32_t((piece_row * H_ROW + piece_unit) * 2));
  constexpr int STAGE_BUFFER = 8 * UB * 2;          // bytes
  const uint8_t* const stream_flags = pinned(p.resets + stream);
  const uint8_t* const piece_flags = pinned(p.resets + b0 + (CS > 1 || has_piece ? piece_row : 0));
  constexpr int BUFFER = 8 * H_ROW * 2;             // bytes
  unsigned char* const h_bytes = smem + Shape::H_OFFSET;
  uint32_t at = cell, piece_at = piece;             // of step t, in [T][B][H]
#pragma unroll 1
  for (int t = 0; t < T; ++t) {
    float acc[CHAINS][TILES][4], rest[2][U];        // rest: an input that no product adds to (the GRU's slot 2)
#pragma unroll
    for (int x = 0; x < CHAINS; ++x)
#pragma unroll
      for (int m = 0; m < TILES; ++m) acc[x][m][0] = acc[x][m][1] = acc[x][m][2] = acc[x][m][3] = 0;
#pragma unroll
    for (int n = 0; n < 2; ++n)
#pragma unroll
      for (int j = 0; j < U; ++j) {
        auto value = [&](int s) {
          const uint32_t w = input[n][(j * S + s) / 2];
          return (j * S + s) & 1 ? dev::high<E>(w) : dev::low<E>(w);
        };
#pragma unroll
        for (int s = 0; s < PRODUCTS; ++s) {
          const int i = j * PRODUCTS + s;
          acc[0][i / 2][(i & 1) * 2 + n] = value(PRODUCTS == S ? s : Cell::product_slot(s));
        }
        rest[n][j] = PRODUCTS < S ? value(2 < S ? 2 : 0) : 0.f;
      }
#pragma unroll
    for (int m = 0; m < TILES; ++m)                 // unpacked before the next input takes the registers
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        uint32_t bits = __float_as_uint(acc[0][m][r]);
        dev::pin(bits);
        acc[0][m][r] = __uint_as_float(bits);
      }
    // What step t+1 needs (in the last step: anything). Used where its latency has passed.
    const bool last = t + 1 == T;
    const int ahead = last ? t : t + 1;
    load_input(ahead);
    if (table) load_ids(ahead + 1 < T ? ahead + 1 : ahead);
    const uint32_t flags = uint32_t(ahead * B);
    uint32_t resets = *reinterpret_cast<const uint16_t*>(stream_flags + flags);          // of this thread's streams
    const uint32_t next_piece_reset = piece_flags[flags];
    const uint32_t next_at = at + step_size, next_piece_at = piece_at + step_size;

    if constexpr (CS == 1) {
      __syncthreads();
    } else {
      if (t > 0) dev::mbar_wait(bar + (t & 1), ((t - 1) >> 1) & 1);
      if (tid == 0 && !last) dev::mbar_expect_tx(bar + ((t + 1) & 1), 8 * H * 2);
    }

    const unsigned char* const from = h_bytes + (t & 1) * BUFFER + read_at;
    unsigned char* const next_h = h_bytes + (~t & 1) * BUFFER;
#pragma unroll
    for (int kt = 0; kt < KT; kt += 2) {
      uint32_t b[4];
      if (kt + 1 < KT) {
        dev::ldmatrix_x4(b, from + kt * 32);
      } else {
        uint32_t b2[2];
        dev::ldmatrix_x2(b2, from + kt * 32);
        b[0] = b2[0], b[1] = b2[1];
      }
#pragma unroll
      for (int k2 = 0; k2 < 2 && kt + k2 < KT; ++k2)
#pragma unroll
        for (int m = 0; m < TILES; ++m)
          weights.template multiply<E>((kt + k2) * TILES + m, acc[(kt + k2) % CHAINS][m], b[k2 * 2], b[k2 * 2 + 1]);
    }
    if (last) resets = 0;

    float gates[2][U * S];
    float y_now[2][U];
#pragma unroll
    for (int n = 0; n < 2; ++n) {
#pragma unroll
      for (int j = 0; j < U; ++j) {
        float pre[S], out[S];
        if (PRODUCTS < S) pre[2 < S ? 2 : 0] = rest[n][j];
#pragma unroll
        for (int s = 0; s < PRODUCTS; ++s) {
          const int i = j * PRODUCTS + s;
          float sum = acc[0][i / 2][(i & 1) * 2 + n];
#pragma unroll
          for (int x = 1; x < CHAINS; ++x) sum += acc[x][i / 2][(i & 1) * 2 + n];
          pre[PRODUCTS == S ? s : Cell::product_slot(s)] = sum;
        }
        y_now[n][j] = h[n][j] = Cell::template forward<E>(pre, h[n][j], c[n][j], out);
#pragma unroll
        for (int s = 0; s < S; ++s) gates[n][j * S + s] = out[s];
      }
      const bool reset = (resets >> (8 * n)) & 0xffu;
      if constexpr (CS == 1) {
        float masked[U];
#pragma unroll
        for (int j = 0; j < U; ++j) masked[j] = reset ? 0.f : y_now[n][j];
        store_short<E>(next_h + write_at + n * (H_ROW * 2), masked);
      } else {
        store_short<E>(smem + (t & 1) * STAGE_BUFFER + stage_write + n * (WARP_UNITS * 2), y_now[n]);
      }
    }
    if constexpr (CS > 1) {
      __syncwarp();
      const uint4 v = *reinterpret_cast<const uint4*>(smem + (t & 1) * STAGE_BUFFER + stage_read);
      const uint4 masked = next_piece_reset != 0 && !last ? make_uint4(0, 0, 0, 0) : v;
      if (!last) {
        unsigned char* const to = next_h + push_at;
#pragma unroll
        for (int i = 0; i < (8 * U * CS + 31) / 32; ++i) {
          const int peer = (lane + 32 * i) / (8 * U);
          if (8 * U * CS % 32 == 0 || peer < CS) dev::st_async16(to, peer, masked, bar + ((t + 1) & 1));
        }
      }
      if (has_piece) {
        *reinterpret_cast<uint4*>(y + piece_at) = v;
        if (store || last) *reinterpret_cast<uint4*>(hp + next_piece_at) = masked;
        if (last) *reinterpret_cast<uint4*>(static_cast<E*>(p.h_carry) + piece) = v;
      }
    }
    if (store) {                                    // global stores overlap the exchange
#pragma unroll
      for (int n = 0; n < 2; ++n) {
        store_short<G>(static_cast<G*>(p.gates) + size_t(at) * S + n * (H * S), gates[n]);
        if constexpr (Cell::CELL_STATE) store_floats(p.c + next_at + n * H, c[n]);
      }
    }
#pragma unroll
    for (int n = 0; n < 2; ++n) {
      const bool reset = (resets >> (8 * n)) & 0xffu;
      if (CS == 1 && reset) store_short<E>(y + at + n * H, y_now[n]);
#pragma unroll
      for (int j = 0; j < U; ++j) c[n][j] = reset ? 0.f : c[n][j], h[n][j] = reset ? 0.f : h[n][j];
    }
    if (CS == 1 && t > 0 && has_piece) copy_out(t, piece_at - step_size, piece_at);
    piece_reset = next_piece_reset;
    at = next_at, piece_at = next_piece_at;
  }

  if constexpr (CS == 1) {
    __syncthreads();
    piece_reset = 0;
    if (has_piece) copy_out(T, piece_at - step_size, piece_at);
  }
  if constexpr (Cell::CELL_STATE) {
#pragma unroll
    for (int n = 0; n < 2; ++n) store_floats(p.c_carry + size_t(stream + n) * H + unit, c[n]);
  }
}

// Both kernels of a variant.
#define RECURRENT_FORWARD_KERNELS(name, Cell, H, CS, U, REGISTERS)                                                    \
  using Forward_##name##_##H##_##CS = ForwardShape<Cell, H, CS, U, REGISTERS>;                                        \
  KERNEL_SHAPED(recurrent_forward_##name##_bf16_h##H##_c##CS, RecurrentParams,                                        \
                (Forward_##name##_##H##_##CS::THREADS), (Forward_##name##_##H##_##CS::SMEM)) {                        \
    recurrent_forward<bf16, Forward_##name##_##H##_##CS>(p);                                                          \
  }                                                                                                                   \
  KERNEL_SHAPED(recurrent_forward_##name##_f16_h##H##_c##CS, RecurrentParams,                                         \
                (Forward_##name##_##H##_##CS::THREADS), (Forward_##name##_##H##_##CS::SMEM)) {                        \
    recurrent_forward<f16, Forward_##name##_##H##_##CS>(p);                                                           \
  }
