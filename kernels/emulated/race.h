// Shared-memory race check by vector clocks, in builds with SONGRNN_RACECHECK; else empty types and no code. Two
// accesses to a byte by different threads, one of them a write, must be ordered by barriers: of a block (named ones
// included), a warp, a cluster, or an mbarrier. The verdict does not depend on the order the threads happened to run in.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <vector>
#include "runtime.h"

namespace emulated {

struct Fibre;
struct Block;
struct Cluster;
enum class Access : uint8_t { Read, Write, Atomic };

#if defined(SONGRNN_RACECHECK)
using Times = std::vector<uint32_t>;             // per thread of the cluster
struct RaceClock {
  std::shared_ptr<const Times> seen;             // what this thread knows of the others
  uint32_t own = 1, id = 0;
};
struct RaceSync {                                // what passes through a barrier
  std::shared_ptr<Times> times;
  std::vector<std::shared_ptr<const Times>> merged;
  // The last thread's acquisition: those of its block mostly knew the same before, and then know the same after.
  mutable std::shared_ptr<const Times> before, after;
};
struct RaceRecord {                              // all zero: none
  const void* code;                              // a file's name where line is not 0, else an instruction's address
  uint32_t time;
  int32_t line;
  uint16_t thread;
  Access access;
};
struct RaceCell { RaceRecord write, reads[2]; }; // of one byte
struct RaceShadow { std::unique_ptr<RaceCell[], decltype(&free)> cells{nullptr, &free}; };

void race_start(Cluster& cluster);
void race_access(Fibre* f, const void* p, size_t bytes, Access access, Site at);
void race_release(Fibre* f, RaceSync& sync);
RaceClock race_snapshot(Fibre* f);               // a release whose barrier comes later: race_merge
void race_merge(RaceSync& into, const RaceClock& from);
void race_acquire(Fibre* f, const RaceSync& sync);
inline void race_clear(RaceSync& sync) { sync = RaceSync(); }
RaceSync& race_mbarrier(const void* bar, int phase);
#else
struct RaceClock {};
struct RaceSync {};
struct RaceShadow {};
inline void race_start(Cluster&) {}
inline void race_access(Fibre*, const void*, size_t, Access, Site) {}
inline void race_release(Fibre*, RaceSync&) {}
inline RaceClock race_snapshot(Fibre*) { return {}; }
inline void race_merge(RaceSync&, const RaceClock&) {}
inline void race_acquire(Fibre*, const RaceSync&) {}
inline void race_clear(RaceSync&) {}
inline RaceSync& race_mbarrier(const void*, int) { static RaceSync none; return none; }
#endif

}  // namespace emulated
