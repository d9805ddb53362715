// The race check of race.h, and the compiler's access hooks that feed it. Built without instrumentation.
#if defined(SONGRNN_RACECHECK)
#include <algorithm>
#include <dlfcn.h>
#include <mutex>
#include <set>
#include <unordered_map>
#include "internal.h"

namespace emulated {

namespace {
std::mutex lock;                                        // of what the C entry points read
long conflicts = 0;
std::string report;
using Code = std::pair<const void*, int>;
std::set<std::pair<Code, Code>> reported;
std::unordered_map<const void*, RaceSync> mbarriers[2];  // by the phase's parity

bool ordered(const RaceRecord& before, const Fibre* f) {
  if (before.time == 0 || before.thread == f->clock.id) return true;
  return before.time <= (*f->clock.seen)[before.thread];
}

// Operations of the emulator know their source line; for the compiler's hooks it takes addr2line on this library.
std::string described(const RaceRecord& r) {
  if (r.line != 0) return where({static_cast<const char*>(r.code), r.line});
  Dl_info info{};
  if (dladdr(r.code, &info) == 0) return "?";
  char text[32];
  size_t offset = size_t(static_cast<const char*>(r.code) - static_cast<const char*>(info.dli_fbase));
  snprintf(text, sizeof text, "code 0x%zx", offset);
  return text;
}
const char* verb(Access a) { return a == Access::Read ? "read" : a == Access::Write ? "write" : "atomic"; }

void conflict(const RaceRecord& before, const RaceRecord& now, const Fibre* f, size_t offset, const Block* b) {
  std::lock_guard<std::mutex> guard(lock);
  ++conflicts;
  if (reported.size() >= 20 || !reported.insert({{before.code, before.line}, {now.code, now.line}}).second) return;
  unsigned threads = block_shape.x;
  char text[500];
  snprintf(text, sizeof text,
           "%s: %s by thread %u of rank %u (%s) and %s by thread %d of rank %d (%s, after %s %s) are not ordered: "
           "byte %zu of %s shared memory, block (%u,%u,%u)\n",
           scheduler.kernel->name, verb(before.access), before.thread % threads, before.thread / threads,
           described(before).c_str(), verb(now.access), f->linear, f->rank, described(now).c_str(), f->operation,
           where(f->site).c_str(), offset < b->dynamic_bytes ? offset : offset - b->static_start,
           offset < b->dynamic_bytes ? "dynamic" : "static", b->index.x, b->index.y, b->index.z);
  report += text;
}

void check(Block* b, size_t offset, size_t bytes, Fibre* f, Access access, Site at) {
  if (b->shadow.cells == nullptr)                        // most pages are never touched
    b->shadow.cells.reset(static_cast<RaceCell*>(calloc(b->shared_bytes, sizeof(RaceCell))));
  RaceRecord now{at.file, f->clock.own, at.line, uint16_t(f->clock.id), access};
  for (size_t i = offset; i < offset + bytes; ++i) {
    RaceCell& cell = b->shadow.cells[i];
    bool both_atomic = access == Access::Atomic && cell.write.access == Access::Atomic;
    if (!both_atomic && !ordered(cell.write, f)) conflict(cell.write, now, f, i, b);
    if (access == Access::Read) {
      // Two readers are kept; a third takes the place of one that it is ordered after, or of the older.
      RaceRecord* r = cell.reads;
      int slot = r[0].time == 0 || r[0].thread == now.thread ? 0
                 : r[1].time == 0 || r[1].thread == now.thread ? 1
                 : ordered(r[0], f) ? 0 : 1;
      r[slot] = now;
      continue;
    }
    for (RaceRecord& r : cell.reads) {
      if (!ordered(r, f)) conflict(r, now, f, i, b);
      r.time = 0;
    }
    cell.write = now;
  }
}
}  // namespace

void race_start(Cluster& c) {
  auto none = std::make_shared<const Times>(size_t(c.threads), 0u);
  uint32_t id = 0;
  for (Block& b : c.blocks)
    for (Fibre& f : b.fibres) {
      f.clock.id = id++;
      f.clock.own = 1;
      f.clock.seen = none;
    }
  mbarriers[0].clear();
  mbarriers[1].clear();
}

void race_access(Fibre* f, const void* p, size_t bytes, Access access, Site at) {
  if (f == nullptr) return;
  Cluster* c = f->home->cluster;
  if (Block* b = c->holder(p, bytes); b != nullptr)
    check(b, size_t(static_cast<const unsigned char*>(p) - b->shared), bytes, f, access, at);
}

// Threads that came through one barrier share one vector of times, so most releases add one number.
static void merge(RaceSync& into, const std::shared_ptr<const Times>& times) {
  for (const auto& m : into.merged)
    if (m == times) return;
  if (into.times == nullptr) {
    into.times = std::make_shared<Times>(*times);
  } else {
    Times& t = *into.times;
    for (size_t i = 0; i < t.size(); ++i) t[i] = std::max(t[i], (*times)[i]);
  }
  into.merged.push_back(times);
}

void race_merge(RaceSync& into, const RaceClock& from) {
  merge(into, from.seen);
  uint32_t& time = (*into.times)[from.id];
  time = std::max(time, from.own);
}

// What the thread does from now on is later than what it released.
RaceClock race_snapshot(Fibre* f) {
  RaceClock now = f->clock;
  ++f->clock.own;
  return now;
}

void race_release(Fibre* f, RaceSync& sync) { race_merge(sync, race_snapshot(f)); }

void race_acquire(Fibre* f, const RaceSync& sync) {
  if (sync.times == nullptr) return;
  for (const auto& m : sync.merged)
    if (m == f->clock.seen) {                            // the barrier knows all that this thread knew
      f->clock.seen = sync.times;
      return;
    }
  if (f->clock.seen != sync.before) {
    auto both = std::make_shared<Times>(*sync.times);
    for (size_t i = 0; i < both->size(); ++i) (*both)[i] = std::max((*both)[i], (*f->clock.seen)[i]);
    sync.before = f->clock.seen;
    sync.after = both;
  }
  f->clock.seen = sync.after;
}

RaceSync& race_mbarrier(const void* bar, int phase) { return mbarriers[phase & 1][bar]; }

}  // namespace emulated

// --- the hooks that -fsanitize=thread calls ------------------------------------------------------------------------
namespace {
inline void hook(const void* p, size_t bytes, emulated::Access access, const void* code) {
  emulated::race_access(emulated::current(), p, bytes, access, {static_cast<const char*>(code), 0});
}
}  // namespace
#define HOOK extern "C" __attribute__((visibility("hidden")))
#define HOOKS(N)                                                                                                      \
  HOOK void __tsan_read##N(void* p) { hook(p, N, emulated::Access::Read, __builtin_return_address(0)); }              \
  HOOK void __tsan_write##N(void* p) { hook(p, N, emulated::Access::Write, __builtin_return_address(0)); }            \
  HOOK void __tsan_unaligned_read##N(void* p) { hook(p, N, emulated::Access::Read, __builtin_return_address(0)); }    \
  HOOK void __tsan_unaligned_write##N(void* p) { hook(p, N, emulated::Access::Write, __builtin_return_address(0)); }  \
  HOOK void __tsan_volatile_read##N(void* p) { hook(p, N, emulated::Access::Read, __builtin_return_address(0)); }     \
  HOOK void __tsan_volatile_write##N(void* p) { hook(p, N, emulated::Access::Write, __builtin_return_address(0)); }
HOOKS(1)
HOOKS(2)
HOOKS(4)
HOOKS(8)
HOOKS(16)
HOOK void __tsan_read_range(void* p, size_t n) { hook(p, n, emulated::Access::Read, __builtin_return_address(0)); }
HOOK void __tsan_write_range(void* p, size_t n) { hook(p, n, emulated::Access::Write, __builtin_return_address(0)); }
HOOK void* __tsan_memcpy(void* to, const void* from, size_t n) {
  hook(from, n, emulated::Access::Read, __builtin_return_address(0));
  hook(to, n, emulated::Access::Write, __builtin_return_address(0));
  return memcpy(to, from, n);
}
HOOK void* __tsan_memset(void* to, int value, size_t n) {
  hook(to, n, emulated::Access::Write, __builtin_return_address(0));
  return memset(to, value, n);
}
HOOK void __tsan_vptr_read(void*) {}
HOOK void __tsan_vptr_update(void*, void*) {}
HOOK void __tsan_func_entry(void*) {}
HOOK void __tsan_func_exit() {}
HOOK void __tsan_init() {}
// Of the guards of static objects.
HOOK unsigned char __tsan_atomic8_load(const volatile unsigned char* p, int) { return *p; }

extern "C" __attribute__((visibility("default"))) long songrnn_emulated_races() {
  std::lock_guard<std::mutex> guard(emulated::lock);
  long n = emulated::conflicts;
  emulated::conflicts = 0;
  return n;
}
// The length of the whole text; `text` gets what fits, and an end.
extern "C" __attribute__((visibility("default"))) size_t songrnn_emulated_race_report(char* text, size_t size) {
  std::lock_guard<std::mutex> guard(emulated::lock);
  size_t n = emulated::report.size();
  if (size != 0) {
    size_t kept = std::min(n, size - 1);
    memcpy(text, emulated::report.data(), kept);
    text[kept] = 0;
  }
  emulated::report.clear();
  emulated::reported.clear();
  return n;
}
#endif
