// One stream's tune: src/sample/stream.rs on the device, one warp a stream.
//
// A tune's inputs are numbered from 0: input 0 is prime[0], input k is the tune's character k-1. The logits after
// input k say what character k is: taken from the prime while that goes on, then chosen with the uniform number of
// (seed, tune, k). A tune ends where `end` is chosen (closed), where it has max_chars characters, or where nothing
// can be chosen. The stream then takes the next tune from the common counter.
#pragma once
#include "choice.cuh"
#include "device.cuh"
#include "params.h"
#include "philox.cuh"

namespace tune {

// The next input of a stream in a word: the id, RESET where it starts a tune, IDLE where there is none (with id 0 and
// RESET).
constexpr uint32_t ID = 0xffffu, RESET = 1u << 16, IDLE = 1u << 17;

// Whether a character is chosen from the logits after the next input.
DEVICE bool chooses(const SampleParams& p, const SampleStream& s) {
  return s.tune >= 0 && s.position + 1 >= p.prime_len;
}

// Places the stream at the start of `tune`, or nowhere where the request has no such tune.
DEVICE uint32_t start(const SampleParams& p, SampleStream& s, uint32_t tune) {
  const bool some = tune < static_cast<uint32_t>(p.tunes);
  s.tune = some ? static_cast<int32_t>(tune) : -1;
  s.position = 0;
  return some ? p.prime[0] | RESET : IDLE | RESET;
}

// Takes the next tune of the request. Called by a whole warp.
DEVICE uint32_t take(int lane, const SampleParams& p, SampleStream& s) {
  uint32_t next = 0;
  if (lane == 0) next = atomicAdd(p.next_tune, 1u);
  return start(p, s, dev::shfl_idx(next, 0));
}

// Goes on by one input, after it has been fed: logits [V] are those after it (overwritten; looked at only where
// `chooses`). Called by a whole warp with the same `s` in every lane; gives the next input. banned [V] or null.
DEVICE uint32_t advance(int lane, const SampleParams& p, SampleStream& s, float* logits, const uint8_t* banned) {
  if (s.tune < 0) return IDLE | RESET;
  const bool choosing = chooses(p, s), first = lane == 0;
  const int fed = s.position++;
  uint16_t* out = p.out + static_cast<size_t>(s.tune) * static_cast<size_t>(p.max_chars);
  int id, length = fed + 1;
  if (!choosing) {
    id = p.prime[fed + 1];
    if (first) out[fed] = static_cast<uint16_t>(id);
    return static_cast<uint32_t>(id);
  }
  const choice::Options options{p.temperature, p.top_p, p.top_k};
  const uint64_t index = p.first_index + static_cast<uint64_t>(s.tune);
  const float u = philox::sample_uniform(p.seed, index, static_cast<uint32_t>(fed));
  id = choice::pick(lane, logits, p.V, options, banned, u);
  if (id >= 0 && id != p.end) {
    if (first) out[fed] = static_cast<uint16_t>(id);
    if (length < p.max_chars) return static_cast<uint32_t>(id);
  } else {
    length = fed;
  }
  if (first) {
    p.lengths[s.tune] = static_cast<uint32_t>(length);
    p.closed[s.tune] = id == p.end;
    atomicSub(p.remaining, 1u);
  }
  return take(lane, p, s);
}

}  // namespace tune
