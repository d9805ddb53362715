// Sampling through steps of the network: sample_begin once, then after every step sample_choose, which turns the
// step's logits into the next step's inputs. Both fit a replayed graph: places, counters and results live on the
// device, and the host looks at `remaining` every so many steps.
#include "device.cuh"
#include "params.h"
#include "tune.cuh"

// Stream b takes tune b; the others follow from the counter. Grid: ceil(B / 256).
KERNEL(sample_begin, SampleParams, 256) {
  const int b = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (b < p.B) {
    SampleStream s;
    const uint32_t next = tune::start(p, s, static_cast<uint32_t>(b));
    p.streams[b] = s;
    p.ids[b] = static_cast<uint16_t>(next & tune::ID);
    p.resets[b] = (next & tune::RESET) != 0;
  }
  if (b == 0) {
    *p.next_tune = static_cast<uint32_t>(p.B < p.tunes ? p.B : p.tunes);
    *p.remaining = static_cast<uint32_t>(p.tunes);
  }
}

// Logits of up to this many classes are worked on in shared memory, more of them where they lie.
constexpr int IN_SHARED = 1024;
constexpr int WARPS = 4;

// One warp a stream. Grid: ceil(B / 4).
KERNEL(sample_choose, SampleParams, WARPS * 32) {
  using Rows = float[WARPS][IN_SHARED];
  STATIC_SMEM(Rows, rows);
  const int warp = static_cast<int>(threadIdx.x / 32), lane = dev::lane();
  const int b = static_cast<int>(blockIdx.x) * WARPS + warp;
  if (b >= p.B) return;
  SampleStream s = p.streams[b];
  __syncwarp();             // every lane has read before lane 0 writes
  if (s.tune < 0) return;   // its input stays id 0 with a reset
  float* logits = p.logits + static_cast<size_t>(b) * static_cast<size_t>(p.VP);
  if (p.V <= IN_SHARED && tune::chooses(p, s)) {
    // A lane copies the ids that it reads first in `pick`.
    for (int id = lane; id < p.V; id += 32) rows[warp][id] = logits[id];
    logits = rows[warp];
  }
  const uint32_t next = tune::advance(lane, p, s, logits, p.banned);
  if (lane == 0) {
    p.streams[b] = s;
    p.ids[b] = static_cast<uint16_t>(next & tune::ID);
    p.resets[b] = (next & tune::RESET) != 0;
  }
}
