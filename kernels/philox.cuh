// Philox4x32-10, the same bits as src/rng.rs: a number is a pure function of (seed, purpose, counter).
// Salmon, Moraes, Dror, Shaw: "Parallel Random Numbers: As Easy as 1, 2, 3" (SC 2011).
#pragma once
#include "device.cuh"

namespace philox {

// What numbers are drawn for (src/rng.rs, Purpose); only those that the device draws.
enum : uint32_t { PURPOSE_DROPOUT = 3, PURPOSE_SAMPLE = 4 };

// Four words: ten rounds over `counter` under the key.
DEVICE uint4 philox4x32(uint4 counter, uint32_t key0, uint32_t key1) {
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    if (round > 0) {
      key0 += 0x9E3779B9u;
      key1 += 0xBB67AE85u;
    }
    const uint64_t a = uint64_t(0xD2511F53u) * counter.x;
    const uint64_t b = uint64_t(0xCD9E8D57u) * counter.z;
    counter = make_uint4(uint32_t(b >> 32) ^ counter.y ^ key0, uint32_t(b), uint32_t(a >> 32) ^ counter.w ^ key1,
                         uint32_t(a));
  }
  return counter;
}

// The words of (seed, purpose) at the counter (c0, c1, c2); `sub` tells uses of a purpose apart (dropout: the layer).
DEVICE uint4 block(uint32_t seed_lo, uint32_t seed_hi, uint32_t purpose, uint32_t sub, uint32_t c0, uint32_t c1,
                   uint32_t c2) {
  return philox4x32(make_uint4(c0, c1, c2, sub << 8 | purpose), seed_lo, seed_hi);
}

// A word as a number in [0, 1), multiples of 2^-24: exact.
DEVICE float unit_float(uint32_t word) { return float(word >> 8) * (1.0f / 16777216.0f); }

// The uniform number that chooses character `position` of sampled tune `tune`.
DEVICE float sample_uniform(uint64_t seed, uint64_t tune, uint32_t position) {
  return unit_float(block(uint32_t(seed), uint32_t(seed >> 32), PURPOSE_SAMPLE, 0, position, uint32_t(tune),
                          uint32_t(tune >> 32)).x);
}

// Words for units 4*quad .. 4*quad+3 of `stream` at training time `time`, on the output of `layer`. A unit is kept
// where its word >= threshold.
DEVICE uint4 dropout_words(uint32_t seed_lo, uint32_t seed_hi, uint32_t layer, uint32_t time, uint32_t stream,
                           uint32_t quad) {
  return block(seed_lo, seed_hi, PURPOSE_DROPOUT, layer, quad, stream, time);
}

}  // namespace philox
