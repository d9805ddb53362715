// Between our layouts and those of a library of recurrent layers (cuDNN): inputs, rows, states, weights. The library takes
// sequences: all streams of the chunk, or where tunes start in mid-chunk the pieces between those starts, longest first,
// rows packed step by step. Rows are numbered n = 0..rows-1 in the library's order; order[n] = t*B + b, null = n.
#include "device.cuh"
#include "params.h"

// x[n][v] = (the character of row n is v).
template <class E>
DEVICE void library_one_hot(const LibraryInputParams& p) {
  const int64_t n = int64_t(p.rows) * p.classes, stride = int64_t(gridDim.x) * 256;
  for (int64_t i = int64_t(blockIdx.x) * 256 + threadIdx.x; i < n; i += stride) {
    const int row = int(i / p.classes), v = int(i - int64_t(row) * p.classes);
    const int at = p.order ? p.order[row] : row;
    static_cast<E*>(p.x)[i] = dev::from_float<E>(p.ids[at] == v ? 1.0f : 0.0f);
  }
}

// Rows from our order and width into the library's or (back) the reverse; what the wider row has more is zero.
template <class E>
DEVICE void library_rows(const LibraryRowsParams& p) {
  const int64_t n = int64_t(p.rows) * p.to_width, stride = int64_t(gridDim.x) * 256;
  for (int64_t i = int64_t(blockIdx.x) * 256 + threadIdx.x; i < n; i += stride) {
    const int row = int(i / p.to_width), u = int(i - int64_t(row) * p.to_width);
    const int ours = p.order ? p.order[row] : row;
    const int64_t from = p.back ? row : ours, to = p.back ? ours : row;
    static_cast<E*>(p.to)[to * p.to_width + u] =
        u < p.from_width ? static_cast<const E*>(p.from)[from * p.from_width + u] : dev::from_float<E>(0);
  }
}

// The carried state into the library's, zero where the stream's first character starts a tune, or back.
template <class E>
DEVICE void library_states(const LibraryStatesParams& p) {
  const int64_t n = int64_t(p.layers) * p.sequences * p.width, stride = int64_t(gridDim.x) * 256;
  for (int64_t i = int64_t(blockIdx.x) * 256 + threadIdx.x; i < n; i += stride) {
    const int64_t row = i / p.width;
    const int u = int(i - row * p.width), s = int(row % p.sequences), layer = int(row / p.sequences);
    int stream = p.streams_of ? p.streams_of[s] : s;
    if (!p.back && !p.streams_of && p.resets[s]) stream = -1;
    const int64_t at = (int64_t(layer) * p.B + stream) * p.H + u;
    E* const h = static_cast<E*>(p.library_h) + i;
    E* const c = static_cast<E*>(p.library_c) + i;
    if (p.back) {
      if (stream < 0) continue;
      static_cast<E*>(p.h_carry)[at] = *h;
      if (p.c_carry) p.c_carry[at] = dev::to_float(*c);
    } else {
      *h = stream < 0 ? dev::from_float<E>(0) : static_cast<const E*>(p.h_carry)[at];
      if (p.c_carry) *c = dev::from_float<E>(stream < 0 ? 0.0f : p.c_carry[at]);
    }
  }
}

// Block (x, y): part of tensor y.
template <class E>
DEVICE void library_weights(const LibraryWeightsParams& p) {
  const LibraryTensor t = p.tensors[blockIdx.y];
  const int n = t.rows * t.columns;
  for (int i = int(blockIdx.x * 256 + threadIdx.x); i < n; i += int(gridDim.x) * 256) {
    const int row = i / t.columns, k = i - row * t.columns;
    const int64_t ours = t.ours + int64_t(row) * t.row_stride + int64_t(k) * t.column_stride;
    const int64_t theirs = t.theirs + int64_t(row) * t.their_stride + k;
    if (p.grads)
      p.grads[ours] = dev::to_float(static_cast<const E*>(p.library)[theirs]);
    else
      static_cast<E*>(p.library)[theirs] = static_cast<const E*>(p.weights)[ours];
  }
}

#define LIBRARY(suffix, E)                                                                        \
  KERNEL(library_one_hot_##suffix, LibraryInputParams, 256) { library_one_hot<E>(p); }            \
  KERNEL(library_rows_##suffix, LibraryRowsParams, 256) { library_rows<E>(p); }                   \
  KERNEL(library_states_##suffix, LibraryStatesParams, 256) { library_states<E>(p); }             \
  KERNEL(library_weights_##suffix, LibraryWeightsParams, 256) { library_weights<E>(p); }

LIBRARY(f32, float)
LIBRARY(bf16, bf16)
LIBRARY(f16, f16)
