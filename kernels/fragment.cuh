// Tensor-core tiles of the short types: from global to shared memory, to fragments, and back to rows.
//
// A stage of a tile is 32 k deep. Two layouts in shared memory, both in chunks of 8 elements (16 bytes):
//   k contiguous:   [R rows][32 k], 4 chunks a row, chunk c of row r at c ^ (r/2 % 4)
//   rows contiguous: [32 k][R rows], R/8 chunks a row, chunk c of row k at c ^ (k % 8)
// With the exclusive or the 8 chunks that one 8x8 matrix of an ldmatrix reads lie in 8 different groups of banks.
#pragma once
#include "device.cuh"

constexpr int STAGE_K = 32;

// The copies one thread issues for a tile of R rows (of m or n) in a block of THREADS threads.
template <class E, int R, int THREADS, bool K_CONTIGUOUS>
struct TileCopy {
  static constexpr int COPIES = R * 4 / THREADS;                                // 16-byte chunks a thread
  static constexpr int CHUNKS = K_CONTIGUOUS ? 4 : R / 8;                       // chunks in a row of shared memory
  static constexpr int STEP = THREADS / CHUNKS;                                 // from one copy's row to the next
  static_assert(R * 4 % THREADS == 0 && THREADS % CHUNKS == 0 && STEP % 8 == 0, "whole copies, one swizzle a thread");
  const E* base;      // any readable address, for copies that read nothing
  const E* next;      // first copy of the next stage
  size_t stride;      // elements from one copy to the next
  size_t advance;     // elements from one stage to the next
  int row, chunk;     // of the first copy, in the tile
  int rows;           // rows of the matrix from the tile's first on
  int k, k_end;       // first k of the next stage, end of the split

  // row0: first row (m or n) of the tile
  DEVICE void start(const E* matrix, int ld, int row0, int row_end, int k_begin, int k_stop, int thread) {
    base = matrix;
    row = thread / CHUNKS;
    chunk = thread % CHUNKS;
    rows = row_end - row0;
    k = k_begin;
    k_end = k_stop;
    stride = size_t(STEP) * ld;
    if (K_CONTIGUOUS) {
      next = matrix + size_t(row0 + row) * ld + k_begin + chunk * 8;
      advance = STAGE_K;
    } else {
      next = matrix + size_t(k_begin + row) * ld + row0 + chunk * 8;
      advance = size_t(STAGE_K) * ld;
    }
  }
  // Everything outside the matrix and the split becomes zero and is not read.
  DEVICE void issue(unsigned char* tile) {
    const int swizzle = K_CONTIGUOUS ? (row >> 1) & 3 : row & 7;
    unsigned char* to = tile + (row * CHUNKS + (chunk ^ swizzle)) * 16;
#pragma unroll
    for (int i = 0; i < COPIES; ++i) {
      const int r = row + i * STEP;
      const bool inside = K_CONTIGUOUS ? r < rows && k + chunk * 8 < k_end : chunk * 8 < rows && k + r < k_end;
      dev::cp_async16_zfill(to + i * STEP * CHUNKS * 16, inside ? next + i * stride : base, inside ? 16 : 0);
    }
    next += advance;
    k += STAGE_K;
  }
};

// A fragment of m16n8k16 (16 rows from row0, k from 16*kk) out of a tile of R rows.
template <int R, bool K_CONTIGUOUS>
DEVICE void load_a(uint32_t (&a)[4], const unsigned char* tile, int row0, int kk) {
  const int l = dev::lane();
  if (K_CONTIGUOUS) {
    const int row = row0 + (l & 15), chunk = kk * 2 + (l >> 4);
    dev::ldmatrix_x4(a, tile + (row * 4 + (chunk ^ ((row >> 1) & 3))) * 16);
  } else {
    const int k = kk * 16 + (l >> 4) * 8 + (l & 7), chunk = row0 / 8 + ((l >> 3) & 1);
    dev::ldmatrix_x4_trans(a, tile + (k * (R / 8) + (chunk ^ (k & 7))) * 16);
  }
}

// Two B fragments (columns n0..n0+7: b[0], b[1]; n0+8..n0+15: b[2], b[3]) out of a tile of R columns n.
template <int R, bool K_CONTIGUOUS>
DEVICE void load_b_pair(uint32_t (&b)[4], const unsigned char* tile, int n0, int kk) {
  const int l = dev::lane();
  if (K_CONTIGUOUS) {
    const int row = n0 + (l >> 4) * 8 + (l & 7), chunk = kk * 2 + ((l >> 3) & 1);
    dev::ldmatrix_x4(b, tile + (row * 4 + (chunk ^ ((row >> 1) & 3))) * 16);
  } else {
    const int k = kk * 16 + ((l >> 3) & 1) * 8 + (l & 7), chunk = n0 / 8 + (l >> 4);
    dev::ldmatrix_x4_trans(b, tile + (k * (R / 8) + (chunk ^ (k & 7))) * 16);
  }
}

// 4x4 transposition among the lanes of a quad: lane q gives row q and gets column q.
DEVICE void quad_transpose(uint32_t (&v)[4]) {
  const bool odd = dev::lane() & 1, upper = dev::lane() & 2;
  uint32_t s = dev::shfl_xor(odd ? v[0] : v[1], 1);
  uint32_t t = dev::shfl_xor(odd ? v[2] : v[3], 1);
  if (odd) { v[0] = s; v[2] = t; } else { v[1] = s; v[3] = t; }
  s = dev::shfl_xor(upper ? v[0] : v[2], 2);
  t = dev::shfl_xor(upper ? v[1] : v[3], 2);
  if (upper) { v[0] = s; v[1] = t; } else { v[2] = s; v[3] = t; }
}

// Accumulators of two neighbouring 16x8 tiles to C[row0..][col0..col0+15] as short values, 16 bytes a lane. Rows from
// `rows` and columns from `columns` on are left alone (columns a multiple of 8). All lanes call.
template <class E>
DEVICE void store_short_pair(E* c, size_t ld, int row0, int col0, int rows, int columns, const float (&left)[4],
                             const float (&right)[4]) {
  uint32_t v[4] = {dev::pack<E>(left[0], left[1]), dev::pack<E>(right[0], right[1]), dev::pack<E>(left[2], left[3]),
                   dev::pack<E>(right[2], right[3])};
  quad_transpose(v);
  const int l = dev::lane(), row = row0 + (l >> 2) + ((l >> 1) & 1) * 8, col = col0 + (l & 1) * 8;
  if (row < rows && col < columns) *(uint4*)(c + row * ld + col) = make_uint4(v[0], v[1], v[2], v[3]);
}

// The same as floats, 16 bytes a lane and store: even lanes store the left tile, odd lanes the right one.
DEVICE void store_float_pair(float* c, size_t ld, int row0, int col0, int rows, int columns, const float (&left)[4],
                             const float (&right)[4]) {
  const int l = dev::lane();
  const bool odd = l & 1;
  const int col = col0 + (odd ? 8 : 0) + (l & 2) * 2;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float x = dev::shfl_xor(odd ? left[2 * half] : right[2 * half], 1);
    const float y = dev::shfl_xor(odd ? left[2 * half + 1] : right[2 * half + 1], 1);
    const int row = row0 + (l >> 2) + half * 8;
    const float4 v = odd ? make_float4(x, y, right[2 * half], right[2 * half + 1])
                         : make_float4(left[2 * half], left[2 * half + 1], x, y);
    if (row < rows && col < columns) *(float4*)(c + row * ld + col) = v;
  }
}
