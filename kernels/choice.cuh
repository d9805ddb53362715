// Choosing a character from one row of logits, one warp a row: src/sample/choice.rs on the device, step by step.
//
// Up to the sums every bit is the CPU's: nothing here is fused, and the exponential is the CPU's own. A sum goes over
// a warp (a lane's part in id order, then the lanes in a fixed order), so that it differs from the CPU's by rounding
// alone: the same id but where u falls within rounding of a boundary.
//
// Top-k and top-p keep a prefix of the ids sorted by probability. Nothing is sorted: the prefix is what lies at or
// above a threshold on the key (bits of p, inverted id), and the threshold is found by bisection. Keys are unique, so
// that ties fall as the CPU's do.
//
// Loops over ids are not unrolled: a lane has three or four of them as a rule, and the persistent kernels have few
// registers to spare. `lane` is an argument so that its caller decides what may be kept in registers.
#pragma once
#include "device.cuh"

namespace choice {

struct Options {
  float temperature;  // 0: greedy
  float top_p;        // 1: all
  int top_k;          // 0: all
};

// --- arithmetic that no compiler fuses -----------------------------------------------------------------------------
DEVICE float product(float a, float b) { return __fmul_rn(a, b); }
DEVICE float add(float a, float b) { return __fadd_rn(a, b); }

// exp(x) for x <= 0, zero below -87 and for NaN; at most 1. The same bits as the CPU's exp_below_zero.
DEVICE float exp_below_zero(float x) {
  constexpr float ROUND = 12582912.0f, LOG2_E = 1.44269504088896340736f;
  constexpr float LN2_HIGH = 0.6933594f, LN2_LOW = -2.1219444e-4f;
  const bool inside = x >= -87.0f;
  x = inside ? x : 0.0f;
  const float rounded = add(product(x, LOG2_E), ROUND);
  const float n = add(rounded, -ROUND);
  const float r = add(add(x, -product(n, LN2_HIGH)), -product(n, LN2_LOW));
  float y = 1.9875692e-4f;
  y = add(product(y, r), 1.3981999e-3f);
  y = add(product(y, r), 8.333452e-3f);
  y = add(product(y, r), 4.1665796e-2f);
  y = add(product(y, r), 1.6666665e-1f);
  y = add(product(y, r), 5.0e-1f);
  y = add(add(product(y, product(r, r)), r), 1.0f);
  const float power = __uint_as_float((__float_as_uint(rounded) - __float_as_uint(ROUND) + 127u) << 23);
  return inside ? product(y, power) : 0.0f;
}

// --- top-k and top-p -----------------------------------------------------------------------------------------------
// Larger = earlier: the bits of probabilities sort as they do, the inverted id breaks ties.
DEVICE uint64_t key(int id, float p) {
  return static_cast<uint64_t>(__float_as_uint(p)) << 16 | static_cast<uint32_t>(65535 - id);
}

constexpr uint64_t LOWEST = 1ull << 16;                // below every id whose p is above 0
constexpr uint64_t BEYOND = 0x3f800001ull << 16;       // above every id: p is at most 1

// How many ids lie at or above `threshold` and, where SUM, their sum. The sum of fewer ids is never larger: the order
// is fixed and rounding is monotonic.
template <bool SUM>
DEVICE void weigh(int lane, const float* p, int V, uint64_t threshold, int& count, float& sum) {
  count = 0;
  sum = 0.0f;
#pragma unroll 1
  for (int base = 0; base < V; base += 32) {
    const int id = base + lane;
    const float mine = id < V ? p[id] : 0.0f;
    const bool in = id < V && key(id, mine) >= threshold;
    count += __popc(__ballot_sync(~0u, in));
    if (SUM && in) sum += mine;
  }
  if (SUM) sum = dev::warp_sum(sum);
}

// Zeroes all of p [V] but the shortest prefix, most probable first and the lowest id first among equals, that has
// `wanted` ids (SUM false), or whose sum reaches `share` of the whole (SUM true; at least one id). Each lane reads
// and writes only the ids lane, lane + 32, ...
template <bool SUM>
DEVICE void keep_prefix(int lane, float* p, int V, int wanted, float share) {
  uint64_t low = LOWEST, high = BEYOND;   // the prefix down to `low` is long enough, that down to `high` is too short
  int count_low, count_high = 0;
  float sum;
  weigh<SUM>(lane, p, V, low, count_low, sum);
  if (!SUM && count_low <= wanted) return;
  const float aim = product(share, sum);
  uint64_t middle = low + (high - low) / 2;
  if (SUM) {
    // What lies below (sum - aim) / 2V can be missed: a first guess that spares the bisection the long tail.
    const float rest = __fdiv_rn(add(sum, -aim), static_cast<float>(2 * V));
    const uint64_t guess = key(65535, rest > 0.0f ? rest : 0.0f);
    if (guess > low && guess < high) middle = guess;
  }
  // high - low > 1 follows from the counts; it is asked so that no memory fault elsewhere can make this loop endless.
  while ((SUM ? count_low - count_high > 1 : count_low > wanted) && high - low > 1) {
    int count;
    weigh<SUM>(lane, p, V, middle, count, sum);
    if (SUM ? count > 0 && sum >= aim : count >= wanted) {
      low = middle;
      count_low = count;
    } else {
      high = middle;
      count_high = count;
    }
    middle = low + (high - low) / 2;
  }
#pragma unroll 1
  for (int id = lane; id < V; id += 32) {
    if (key(id, p[id]) < low) p[id] = 0.0f;
  }
}

// --- the draw ------------------------------------------------------------------------------------------------------
// The first id in id order at which the running sum exceeds u times the sum of p [V]; the last with p > 0 where
// rounding carries the aim up to the sum. A lane sums V/32 neighbouring ids.
DEVICE int draw(int lane, const float* p, int V, float u) {
  const int chunk = (V + 31) / 32;
  const int begin = lane * chunk < V ? lane * chunk : V, end = begin + chunk < V ? begin + chunk : V;
  float sum = 0.0f;
#pragma unroll 1
  for (int id = begin; id < end; ++id) sum += p[id];
  for (int offset = 1; offset < 32; offset *= 2) {
    const float before = dev::shfl_up(sum, offset);
    if (lane >= offset) sum += before;
  }
  const float aim = product(u, dev::shfl_idx(sum, 31));
  float running = dev::shfl_up(sum, 1);
  if (lane == 0) running = 0.0f;
  int hit = -1, last = -1;
#pragma unroll 1
  for (int id = begin; id < end && hit < 0; ++id) {
    const float mine = p[id];
    running += mine;
    if (mine > 0.0f) {
      last = id;
      if (running > aim) hit = id;
    }
  }
  const uint32_t hits = __ballot_sync(~0u, hit >= 0), lasts = __ballot_sync(~0u, last >= 0);
  const int chosen = dev::shfl_idx(hit, hits ? __ffs(static_cast<int>(hits)) - 1 : 0);
  const int fallback = dev::shfl_idx(last, lasts ? 31 - __clz(static_cast<int>(lasts)) : 0);
  return hits ? chosen : fallback;
}

// Chooses an id from logits [V] (shared or global memory, overwritten) with u in [0, 1); -1 where none is left: every
// one banned, NaN or minus infinity. banned [V] or null. Called by a whole warp; every lane gets the id. The first
// access of a lane is to the ids lane, lane + 32, ...
DEVICE int pick(int lane, float* logits, int V, const Options& options, const uint8_t* banned, float u) {
  float max = -INFINITY;
  int best = V;
#pragma unroll 1
  for (int id = lane; id < V; id += 32) {
    float logit = logits[id];
    if (banned && banned[id]) logits[id] = logit = -INFINITY;
    if (logit > max) {
      max = logit;
      best = id;
    }
  }
  for (int offset = 16; offset > 0; offset /= 2) {
    const float other = dev::shfl_xor(max, offset);
    const int id = dev::shfl_xor(best, offset);
    if (other > max || (other == max && id < best)) {
      max = other;
      best = id;
    }
  }
  if (!(max > -INFINITY)) return -1;
  if (!(options.temperature > 0.0f) || max == INFINITY) return best;
#pragma unroll 1
  for (int id = lane; id < V; id += 32) {
    logits[id] = exp_below_zero(__fdiv_rn(add(logits[id], -max), options.temperature));
  }
  if (options.top_k > 0 && options.top_k < V) keep_prefix<false>(lane, logits, V, options.top_k, 0.0f);
  if (options.top_p < 1.0f) keep_prefix<true>(lane, logits, V, 1, options.top_p);
  __syncwarp();   // from here on a lane reads what others wrote
  return draw(lane, logits, V, u);
}

}  // namespace choice
