// The input product of layer 0: a one-hot input picks a column of W_ih, so every character's pre-activations, both
// biases included, are a table that the recurrent kernels read a row of. Without a character: the bias of upper layers.
#include "device.cuh"
#include "params.h"
#include "quad.cuh"

DEVICE float4 sum_of(float4 a, float4 b) { return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w); }

// Any grid, 256 threads; a thread takes four neighbouring columns of a row.
template <class E>
DEVICE void table(const TableParams& p) {
  const uint32_t quads = uint32_t(p.columns) / 4, rows = p.w ? uint32_t(p.V) : 1, stride = gridDim.x * 256;
  for (uint32_t i = blockIdx.x * 256 + threadIdx.x; i < rows * quads; i += stride) {
    const uint32_t column = i % quads * 4;
    float4 bias = load_quad(p.bias_ih + column);
    if (p.bias_hh) bias = sum_of(bias, load_quad(p.bias_hh + column));
    if (p.w)
      store_quad(static_cast<E*>(p.table) + size_t(i) * 4, sum_of(load_quad(p.w + size_t(i) * 4), bias));
    else
      store_quad(p.sum + column, bias);
  }
}

KERNEL(table_f32, TableParams, 256) { table<float>(p); }
KERNEL(table_bf16, TableParams, 256) { table<bf16>(p); }
KERNEL(table_f16, TableParams, 256) { table<f16>(p); }
