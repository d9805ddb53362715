// f32 tiles for products on the ordinary units: from global memory through registers to [k][row] in shared memory.
//
// A quad is four floats along the contiguous direction. Where k is contiguous a quad becomes four rows of shared
// memory; column r of row k lies at r ^ SHIFT*(k/4), so that the lanes of a warp write to 32 different banks and quads
// of columns stay together.
#pragma once
#include "device.cuh"

template <int R, int K, int THREADS, bool K_CONTIGUOUS>
struct TileF32 {
  static constexpr int QUADS = K_CONTIGUOUS ? K / 4 : R / 4;                    // quads in a row of the matrix
  static constexpr int COUNT = R * K / 4 / THREADS;                             // quads a thread
  static constexpr int STEP = THREADS / QUADS;
  static constexpr int SHIFT = 32 / (K / 4);
  static_assert(R * K / 4 % THREADS == 0 && THREADS % QUADS == 0 && R % 32 == 0, "whole quads");
  const float* next;
  size_t stride, advance;
  int row, quad, rows, k, k_end;
  float4 held[COUNT];

  // Where column r (a multiple of 4) of row k lies.
  static DEVICE int at(int k, int r) { return k * R + (r ^ (k / 4 * SHIFT)); }

  DEVICE void start(const float* matrix, int ld, int row0, int row_end, int k_begin, int k_stop, int thread) {
    row = thread / QUADS;
    quad = thread % QUADS;
    rows = row_end - row0;
    k = k_begin;
    k_end = k_stop;
    stride = size_t(STEP) * ld;
    if (K_CONTIGUOUS) {
      next = matrix + size_t(row0 + row) * ld + k_begin + quad * 4;
      advance = K;
    } else {
      next = matrix + size_t(k_begin + row) * ld + row0 + quad * 4;
      advance = size_t(K) * ld;
    }
  }
  // Reads the next K of k; zero outside.
  DEVICE void fetch() {
#pragma unroll
    for (int i = 0; i < COUNT; ++i) {
      const int r = row + i * STEP;
      const bool inside = K_CONTIGUOUS ? r < rows && k + quad * 4 < k_end : quad * 4 < rows && k + r < k_end;
      held[i] = inside ? *(const float4*)(next + i * stride) : make_float4(0, 0, 0, 0);
    }
    next += advance;
    k += K;
  }
  // The one-hot matrix (ids[k] == row), rows contiguous; row0 is the tile's first row.
  DEVICE void fetch_onehot(const uint16_t* ids, int row0) {
#pragma unroll
    for (int i = 0; i < COUNT; ++i) {
      const int at_k = k + row + i * STEP, first = row0 + quad * 4;
      const int id = at_k < k_end ? ids[at_k] : -1;
      held[i] = make_float4(id == first, id == first + 1, id == first + 2, id == first + 3);
    }
    k += K;
  }
  DEVICE void store(float* tile) const {
#pragma unroll
    for (int i = 0; i < COUNT; ++i) {
      const int r = row + i * STEP;
      if (K_CONTIGUOUS) {
        tile[at(quad * 4, r)] = held[i].x;
        tile[at(quad * 4 + 1, r)] = held[i].y;
        tile[at(quad * 4 + 2, r)] = held[i].z;
        tile[at(quad * 4 + 3, r)] = held[i].w;
      } else {
        *(float4*)(tile + at(r, quad * 4)) = held[i];
      }
    }
  }
};
