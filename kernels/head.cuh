// What the output layer's kernels share (HeadParams): one row's numbers between its logits and its loss.
//
// loss = log(sum of exp(x - max)) - (x_target - max), in f32 with the accurate functions. A logit that is not finite
// makes the loss and the whole gradient row NaN: `fault` is 0 * (each logit), and is added to both.
#pragma once
#include "device.cuh"
#include "params.h"

struct RowSoftmax {
  float max, sum, target_logit, fault;

  static DEVICE float nothing() { return -INFINITY; }          // identity of max

  DEVICE float loss() const { return logf(sum) - (target_logit - max) + fault; }
  // Multiplied with exp(x - max): the softmax.
  DEVICE float inverse() const { return 1.0f / sum + fault; }
};

// The largest, and the sum, over groups of LANES neighbouring lanes; every lane gets the same bits.
template <int LANES>
DEVICE float lanes_max(float x) {
#pragma unroll
  for (int d = 1; d < LANES; d *= 2) x = fmaxf(x, dev::shfl_xor(x, d));
  return x;
}
template <int LANES>
DEVICE float lanes_sum(float x) {
#pragma unroll
  for (int d = 1; d < LANES; d *= 2) x += dev::shfl_xor(x, d);
  return x;
}
