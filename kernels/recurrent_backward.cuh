// The whole backward recurrence of a chunk in one launch, for bf16 and f16 on tensor cores.
//
// A cluster of CS blocks owns 8 streams; a block owns UB = H/CS units: their cells, their rows of W_hh. A step is
//   1. cells: dh = partial sums of the step after + dy -> gradients of the pre-activations, to memory and, as E, to
//      shared memory [8 streams][products of the block's units], which is B of the product;
//   2. product: the warps form MG groups of outputs times KG groups of k. A = W^T fragments that stay in registers (the
//      last ones in shared memory); each warp's sums over its k are partial sums of the dh of H/MG units;
//   3. exchange: the owner of a unit finds the partial sums of every source (a block of the cluster, or a k group of a
//      single block) in its shared memory and adds them in the order of the sources.
//      CS = 1: plain stores and a second barrier. CS > 1: st.async into the owner's shared memory, double-buffered, an
//      mbarrier counting the bytes of a step; one block barrier a step, none of the cluster.
// Gates, dy, c and hp of the next steps come by cp.async while a step computes.
// Launch: grid B/8*CS, cluster CS, BackwardShape::THREADS, BackwardShape::SMEM.
#pragma once
#include "cells.cuh"
#include "recurrent_words.cuh"

template <class Cell_, int H_, int CS_, int WARPS_, int MG_, int REGISTERS_> struct BackwardShape {
  using Cell = Cell_;
  static constexpr int H = H_, CS = CS_, WARPS = WARPS_, MG = MG_, KG = WARPS / MG, REGISTERS = REGISTERS_;
  static constexpr int THREADS = WARPS * 32, UB = H / CS, S = Cell::SLOTS;
  static constexpr int PRODUCTS = Cell::PRODUCTS * UB % (16 * KG) == 0 ? Cell::PRODUCTS : S;
  static constexpr bool PLANES = PRODUCTS == 3;     // k = product*UB + unit; else k = unit*PRODUCTS + product
  static constexpr int MT = H / 16 / MG, KT = PRODUCTS * UB / 16 / KG, FRAGMENTS = MT * KT;
  static constexpr int CHAINS = chains(MT, WARPS);
  static constexpr int CELLS = UB * 8 / THREADS, NU = CELLS % 2 == 0 ? 2 : 1;    // a thread's; adjacent units
  static constexpr int SOURCES = CS * KG, PARTIAL = SOURCES * UB * 8;           // floats: [source][unit][8 streams]
  static_assert(H % (16 * MG) == 0 && WARPS % MG == 0 && PRODUCTS * UB % (16 * KG) == 0, "whole tiles");
  static_assert(UB * 8 % THREADS == 0 && UB % 8 == 0 && (KG == 1 || CS == 1), "whole cells; k groups in one block");
  // Row strides in bytes: four lanes read 4*NU adjacent units of a stream, eight streams in different banks.
  static constexpr int GATE_ROW = stride_for(UB * S * 2, S == 4 ? 32 * NU : 16), GATE_STAGE = 8 * GATE_ROW;
  static constexpr int SHORT_ROW = stride_for(UB * 2, 16), SHORT_STAGE = 8 * SHORT_ROW;      // dy, hp
  static constexpr int C_ROW = stride_for(UB * 4, 16 * NU), C_STAGE = 8 * C_ROW;
  static constexpr int D_ROW = PRODUCTS * UB * 2 + (PRODUCTS * UB * 2 % 32 == 0 ? 16 : 0);   // rows of ldmatrix
  using Weights = Fragments<FRAGMENTS, REGISTERS>;
  static constexpr int PARTIAL_OFFSET = WARPS * Weights::BYTES;
  static constexpr int D_OFFSET = PARTIAL_OFFSET + PARTIAL * 4 * (CS > 1 ? 2 : 1);
  static constexpr int GATE_OFFSET = D_OFFSET + 8 * D_ROW * (CS > 1 ? 2 : 1);
  static constexpr int DY_OFFSET = GATE_OFFSET + 2 * GATE_STAGE;
  static constexpr int HP_OFFSET = DY_OFFSET + 2 * SHORT_STAGE;
  static constexpr int C_OFFSET = HP_OFFSET + (Cell::DIRECT ? 2 * SHORT_STAGE : 0);
  static constexpr int BARRIER_OFFSET = C_OFFSET + (Cell::CELL_STATE ? 3 * C_STAGE : 0);
  static constexpr int SMEM = BARRIER_OFFSET + (CS > 1 ? 16 : 0);

  // Row of W_hh (unit of the block * S + slot) of column k of the product.
  DEVICE static constexpr int w_row(int k) {
    return PLANES ? k % UB * S + Cell::product_slot(k / UB) : k / PRODUCTS * S + k % PRODUCTS;
  }
  // Word of a unit's eight partial sums: four lanes that read units of distance 1 or 2 meet different banks.
  DEVICE static constexpr int word(int unit) { return (unit ^ (unit >> 2 & 3)) * 8; }
};

template <class E, class Shape> DEVICE void recurrent_backward(const RecurrentParams& p) {
  using Cell = typename Shape::Cell;
  using G = typename Gate<E>::type;
  constexpr int H = Shape::H, CS = Shape::CS, UB = Shape::UB, S = Shape::S, WARPS = Shape::WARPS, NU = Shape::NU;
  constexpr int MT = Shape::MT, KT = Shape::KT, CHAINS = Shape::CHAINS, CELLS = Shape::CELLS, D_ROW = Shape::D_ROW;
  constexpr int PRODUCTS = Shape::PRODUCTS, SOURCES = Shape::SOURCES;
  DYN_SMEM(unsigned char, smem);
  const int tid = int(threadIdx.x), lane = tid & 31, warp = tid >> 5, g = lane >> 2, q = lane & 3;
  const int rank = CS > 1 ? dev::cluster_rank() : 0;
  const int T = p.T, B = p.B, b0 = int(blockIdx.x) / CS * 8;
  const int mg = warp % Shape::MG, kg = warp / Shape::MG;
  float* const partial = reinterpret_cast<float*>(smem + Shape::PARTIAL_OFFSET);
  uint64_t* const bar = reinterpret_cast<uint64_t*>(smem + Shape::BARRIER_OFFSET);       // [2]: one a buffer of partial

  // --- copies of a step's rows: a warp takes whole rows, pieces of 16 bytes
  const uint32_t step_size = uint32_t(B) * H;       // elements of [B][H]; offsets are 32 bits: (T+1)*B*H < 2^32
  auto copy_row = [&](unsigned char* to, const void* from, int bytes) {
    const unsigned char* source = static_cast<const unsigned char*>(from) + lane * 16;
    to += lane * 16;
#pragma unroll
    for (int k = 0; k < bytes; k += 512)
      if (k + 512 <= bytes || k + lane * 16 < bytes) dev::cp_async16(to + k, source + k);
  };
  const uint32_t row = uint32_t(b0 + warp) * H + rank * UB;   // the block's part of the warp's first stream, in [B][H]
  auto each_row = [&](auto copy) {                  // copy(stream of the block, offset of its row)
#pragma unroll
    for (int i = 0; i < 8; i += WARPS)
      if (i + WARPS <= 8 || warp + i < 8) copy(warp + i, i * H);
  };
  auto load_c = [&](uint32_t at, int slot) {        // at: step_size * t + row
    each_row([&](int r, int skip) {
      copy_row(smem + Shape::C_OFFSET + slot * Shape::C_STAGE + r * Shape::C_ROW, p.c + at + skip, UB * 4);
    });
  };
  auto load_step = [&](uint32_t at, int slot) {
    each_row([&](int r, int skip) {
      const size_t from = at + skip;
      copy_row(smem + Shape::GATE_OFFSET + slot * Shape::GATE_STAGE + r * Shape::GATE_ROW,
               static_cast<const G*>(p.gates) + from * S, UB * S * 2);
      copy_row(smem + Shape::DY_OFFSET + slot * Shape::SHORT_STAGE + r * Shape::SHORT_ROW,
               static_cast<const E*>(p.dy) + from, UB * 2);
      if constexpr (Cell::DIRECT)
        copy_row(smem + Shape::HP_OFFSET + slot * Shape::SHORT_STAGE + r * Shape::SHORT_ROW,
                 static_cast<const E*>(p.hp) + from, UB * 2);
    });
  };
  // Slots of c: of step t+1, t, t-1.
  int c_after = 0, c_now = 1, c_before = 2;
  uint32_t row_at = step_size * uint32_t(T - 1) + row;        // of step t
  if constexpr (Cell::CELL_STATE) {
    load_c(row_at + step_size, c_after);
    load_c(row_at, c_now);
  }
  load_step(row_at, (T - 1) & 1);
  dev::cp_async_commit();
  if (T > 1) {
    load_step(row_at - step_size, T & 1);
    if constexpr (Cell::CELL_STATE) load_c(row_at - step_size, c_before);
  }
  dev::cp_async_commit();

  // --- weights: A = W^T, row = output unit, column = product k of the block. A warp brings 16 rows of W (a tile of k) by
  // MT*16 outputs at a time to its part of the room for partial sums, and takes the fragments from there, transposed.
  typename Shape::Weights weights;
  weights.shared = reinterpret_cast<uint4*>(smem + warp * Shape::Weights::BYTES) + lane;
  {
    static_assert(Shape::PARTIAL >= WARPS * MT * 128, "room for 512 bytes a tile");
    E* const tile = reinterpret_cast<E*>(partial) + warp * (MT * 256);           // [16][MT*16]
    const E* const w = static_cast<const E*>(p.w) + size_t(rank) * UB * S * H + mg * (MT * 16);
    uint4 next[MT];
    auto fetch = [&](int kt) {
#pragma unroll
      for (int i = 0; i < MT; ++i) {
        const int piece = lane + 32 * i;
        next[i] = *reinterpret_cast<const uint4*>(
            w + Shape::w_row((kg * KT + kt) * 16 + piece / (2 * MT)) * H + piece % (2 * MT) * 8);
      }
    };
    fetch(0);
#pragma unroll
    for (int kt = 0; kt < KT; ++kt) {
      __syncwarp();
#pragma unroll
      for (int i = 0; i < MT; ++i) reinterpret_cast<uint4*>(tile)[lane + 32 * i] = next[i];
      __syncwarp();
      if (kt + 1 < KT) fetch(kt + 1);
#pragma unroll
      for (int m = 0; m < MT; ++m) {
        uint32_t a[4];
        dev::ldmatrix_x4_trans(a, tile + ((lane >> 4) * 8 + (lane & 7)) * (MT * 16) + m * 16 + (lane >> 3 & 1) * 8);
        weights.put(kt * MT + m, a);
      }
    }
  }
  dev::cp_async_wait<1>();
  if constexpr (CS > 1) {
    if (tid == 0) {
      dev::mbar_init(bar, 1);
      dev::mbar_init(bar + 1, 1);
      dev::mbar_fence_init();
    }
    dev::cluster_arrive();
    dev::cluster_wait();
  } else {
    __syncthreads();
  }

  float dc[CELLS], direct[CELLS];
#pragma unroll
  for (int i = 0; i < CELLS; ++i) dc[i] = direct[i] = 0;
  bool connected = false;                           // step t+1 is of the chunk and does not reset this thread's stream
  uint32_t flag = uint32_t(T - 1) * B + b0 + g;     // of step t, in resets
  uint32_t reset = p.resets[flag];
  uint32_t at = step_size * uint32_t(T - 1) + uint32_t(b0 + g) * H + rank * UB + warp * (4 * CELLS) + q * NU;    // cell

#pragma unroll 1
  for (int t = T - 1;; --t) {
    const int step = T - 1 - t;
    const uint32_t reset_before = p.resets[t > 0 ? flag - B : flag];
    const float* sums = partial;
    if constexpr (CS > 1) {
      if (step > 0) dev::mbar_wait(bar + (step & 1), ((step - 1) >> 1) & 1);
      if (tid == 0 && t > 0) dev::mbar_expect_tx(bar + ((step + 1) & 1), Shape::PARTIAL * 4);
      sums += (step & 1) * Shape::PARTIAL;
    }

    // --- 1. cells: stream g, NU adjacent units at a time
    unsigned char* const d_smem = smem + Shape::D_OFFSET + (CS > 1 ? (t & 1) * 8 * D_ROW : 0);
    const unsigned char* gate_row = smem + Shape::GATE_OFFSET + (t & 1) * Shape::GATE_STAGE + g * Shape::GATE_ROW;
    const unsigned char* dy_row = smem + Shape::DY_OFFSET + (t & 1) * Shape::SHORT_STAGE + g * Shape::SHORT_ROW;
    const unsigned char* hp_row = smem + Shape::HP_OFFSET + (t & 1) * Shape::SHORT_STAGE + g * Shape::SHORT_ROW;
    const unsigned char* c_row = smem + Shape::C_OFFSET + g * Shape::C_ROW;
#pragma unroll
    for (int x = 0; x < CELLS; x += NU) {
      const int unit = warp * (4 * CELLS) + x * 4 + q * NU;
      float gates[NU * S], dy[NU], h_prev[NU], c[NU], c_prev[NU], d[NU * S];
      load_short<G>(gates, gate_row + unit * (S * 2));
      load_short<E>(dy, dy_row + unit * 2);
#pragma unroll
      for (int j = 0; j < NU; ++j) h_prev[j] = c[j] = c_prev[j] = 0;
      if constexpr (Cell::DIRECT) load_short<E>(h_prev, hp_row + unit * 2);
      if constexpr (Cell::CELL_STATE) {
        load_floats(c, reinterpret_cast<const float*>(c_row + c_after * Shape::C_STAGE) + unit);
        load_floats(c_prev, reinterpret_cast<const float*>(c_row + c_now * Shape::C_STAGE) + unit);
      }
#pragma unroll
      for (int j = 0; j < NU; ++j) {
        float dh = direct[x + j];
#pragma unroll
        for (int s = 0; s < SOURCES; ++s) dh += sums[s * UB * 8 + Shape::word(unit + j) + g];
        dh = (connected ? dh : 0.f) + dy[j];        // not a product: what is not connected may be infinite
        float one[S], dp[S];
#pragma unroll
        for (int s = 0; s < S; ++s) one[s] = gates[j * S + s];
        Cell::template backward<E>(one, reset ? 0.f : c_prev[j], c[j], h_prev[j], dh, dc[x + j], dp, direct[x + j]);
        if (reset) dc[x + j] = 0.f;
#pragma unroll
        for (int s = 0; s < S; ++s) d[j * S + s] = dp[s];
      }
      store_short<E>(static_cast<E*>(p.gates) + (size_t(at) + x * 4) * S, d);
      if constexpr (Shape::PLANES) {
#pragma unroll
        for (int i = 0; i < PRODUCTS; ++i) {
          float plane[NU];
#pragma unroll
          for (int j = 0; j < NU; ++j) plane[j] = d[j * S + Cell::product_slot(i)];
          store_short<E>(d_smem + g * D_ROW + (i * UB + unit) * 2, plane);
        }
      } else {
        store_short<E>(d_smem + g * D_ROW + unit * (S * 2), d);
      }
    }
    connected = reset == 0;
    reset = reset_before;
    if (t == 0) break;                              // nobody asks for the gradient of the carried state

    dev::cp_async_wait<0>();
    __syncthreads();                                // the gradients, and the rows of step t-1, are visible
    if (t > 1) {
      load_step(row_at - 2 * step_size, t & 1);
      if constexpr (Cell::CELL_STATE) load_c(row_at - 2 * step_size, c_after);
    }
    dev::cp_async_commit();
    const int free_slot = c_after;
    c_after = c_now, c_now = c_before, c_before = free_slot;
    at -= step_size, row_at -= step_size, flag -= B;

    // --- 2. product
    float acc[CHAINS][MT][4];
#pragma unroll
    for (int x = 0; x < CHAINS; ++x)
#pragma unroll
      for (int m = 0; m < MT; ++m) acc[x][m][0] = acc[x][m][1] = acc[x][m][2] = acc[x][m][3] = 0;
    const unsigned char* from = d_smem + (lane & 7) * D_ROW + (lane >> 3) * 16 + kg * (KT * 32);
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
        for (int m = 0; m < MT; ++m)
          weights.template multiply<E>((kt + k2) * MT + m, acc[(kt + k2) % CHAINS][m], b[k2 * 2], b[k2 * 2 + 1]);
    }

    // --- 3. exchange: rows g and g+8 of a tile are units, columns 2q and 2q+1 streams
#pragma unroll
    for (int m = 0; m < MT; ++m)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float lo = acc[0][m][half * 2], hi = acc[0][m][half * 2 + 1];
#pragma unroll
        for (int x = 1; x < CHAINS; ++x) lo += acc[x][m][half * 2], hi += acc[x][m][half * 2 + 1];
        const int first = ((mg * MT + m) * 2 + half) * 8;           // eight units have one owner
        if constexpr (CS > 1) {
          const int owner = first / UB;
          float* to = partial + ((step + 1) & 1) * Shape::PARTIAL + rank * UB * 8 + Shape::word(first % UB + g) + 2 * q;
          dev::st_async8(to, owner, make_uint2(__float_as_uint(lo), __float_as_uint(hi)), bar + ((step + 1) & 1));
        } else {
          float* to = partial + kg * UB * 8 + Shape::word(first + g) + 2 * q;
          *reinterpret_cast<float2*>(to) = make_float2(lo, hi);
        }
      }
    if constexpr (CS == 1) __syncthreads();
  }
}

// Both kernels of a variant.
#define RECURRENT_BACKWARD_KERNELS(name, Cell, H, CS, WARPS, MG, REGISTERS)                                           \
  using Backward_##name##_##H##_##CS = BackwardShape<Cell, H, CS, WARPS, MG, REGISTERS>;                              \
  KERNEL_SHAPED(recurrent_backward_##name##_bf16_h##H##_c##CS, RecurrentParams,                                       \
                (Backward_##name##_##H##_##CS::THREADS), (Backward_##name##_##H##_##CS::SMEM)) {                      \
    recurrent_backward<bf16, Backward_##name##_##H##_##CS>(p);                                                        \
  }                                                                                                                   \
  KERNEL_SHAPED(recurrent_backward_##name##_f16_h##H##_c##CS, RecurrentParams,                                        \
                (Backward_##name##_##H##_##CS::THREADS), (Backward_##name##_##H##_##CS::SMEM)) {                      \
    recurrent_backward<f16, Backward_##name##_##H##_##CS>(p);                                                         \
  }
