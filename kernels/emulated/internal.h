// The emulator's own state: fibres, warps, blocks, clusters, the scheduler.
#pragma once
#include <memory>
#include <string>
#include <vector>
#include "race.h"
#include "runtime.h"

// In a sanitized build the kernels are instrumented and the emulator is not: it checks what it does for them.
#if defined(SONGRNN_ASAN)
#define EMULATED_ASAN 1
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#else
#define EMULATED_ASAN 0
#endif

namespace emulated {

constexpr size_t kStackBytes = EMULATED_ASAN ? 512u << 10 : 128u << 10;
constexpr size_t kMaxShared = 227u << 10;        // of one block, dynamic and static together
constexpr size_t kMaxStatic = 48u << 10;
constexpr size_t kGap = 128;                     // poisoned bytes behind a static object
constexpr size_t kStaticArea = 2 * kMaxStatic;   // objects and gaps

enum class State : uint8_t { Ready, Warp, Barrier, Cluster, Mbarrier, Exited };

struct Warp;
struct Block;
struct Cluster;

struct Copy {                                    // one cp.async under way
  void* to;
  const void* from;                              // null: has landed
  int bytes, valid, group;
  Site site;
};

struct Fibre : Place {
  void* stack_pointer = nullptr;
  char* stack = nullptr;
  void* fake_stack = nullptr;
  State state = State::Ready;
  Warp* warp = nullptr;
  Block* home = nullptr;
  const char* operation = "start";               // where it waits, or last waited
  Site site{"", 0};
  int barrier_id = 0;
  void* mbarrier = nullptr;
  unsigned cluster_token = 0;
  bool cluster_arrived = false;
  int copy_group = 0;
  std::vector<Copy> copies;
  RaceClock clock;
};

// A warp collective in the making: the lanes of `mask` that have come so far.
struct Meeting {
  uint32_t mask = 0, arrived = 0;
  const char* operation = "";
  Site site{"", 0};
};
struct Warp {
  Fibre* lanes[32];
  int count = 0;
  uint8_t ready[32];
  int ready_count = 0, position = -1;            // position in the scheduler's list
  uint32_t exited = 0;
  Meeting meetings[4];
  uint32_t in[32][10], out[32][4];               // operands and results of the collective
  const void* rows[32];
};

struct NamedBarrier {
  int arrived = 0, expected = 0, votes = 0;
  const char* operation = "";
  Site site{"", 0};
  RaceSync sync;
};
struct Block {
  dim3 index;
  int rank = 0;
  Cluster* cluster = nullptr;
  unsigned char* shared = nullptr;               // [dynamic | gap | static objects with gaps], a part of the slab
  size_t dynamic_bytes = 0, static_start = 0, shared_bytes = 0;
  std::vector<Fibre> fibres;
  std::vector<Warp> warps;
  NamedBarrier barriers[16];
  int vote_result = 0, alive = 0;
  bool started = false;
  RaceShadow shadow;
  bool holds(const void* p, size_t bytes) const {
    const unsigned char* a = static_cast<const unsigned char*>(p);
    if (a >= shared && a + bytes <= shared + dynamic_bytes) return true;
    return a >= shared + static_start && a + bytes <= shared + shared_bytes;
  }
};
struct Cluster {
  std::vector<Block> blocks;
  unsigned char* slab = nullptr;                 // all blocks' shared memory, `stride` bytes each
  size_t stride = 0;
  Block* holder(const void* p, size_t bytes) {   // null: not shared memory
    size_t offset = size_t(static_cast<const unsigned char*>(p) - slab);
    if (offset >= stride * blocks.size()) return nullptr;
    Block* b = &blocks[offset / stride];
    return b->holds(p, bytes) ? b : nullptr;
  }
  unsigned phase = 0;
  int arrived = 0, threads = 0;
  RaceSync sync[2];                              // by the phase's parity
};
struct AsyncStore {
  unsigned char* to;
  uint32_t data[4];
  int bytes;
  void* bar;
  Block* block;
  RaceClock sender;
};

struct Scheduler {
  const Kernel* kernel = nullptr;
  const void* params = nullptr;
  uint64_t random = 1;
  int mode = 0;                                  // 0 bursts and laggards, 1 uniform, 2 in the order of the threads
  std::vector<Warp*> all, ready;
  Warp* running = nullptr;
  long burst = 0;
  Warp* lagging_warp = nullptr;                  // starved for a while
  Block* lagging_block = nullptr;
  std::vector<AsyncStore> stores;                // st.async under way
  std::vector<Fibre*> mbarrier_waiters;
  bool late_store = false;
  int alive = 0;
  std::string error;
  std::vector<char*> stacks;
  unsigned char* slab = nullptr;                 // kept from launch to launch
  size_t slab_bytes = 0;
  void* main_pointer = nullptr;
  void* main_fake = nullptr;
  const void* main_bottom = nullptr;
  size_t main_size = 0;
  struct StaticObject { const void* key; size_t offset, size; };
  std::vector<StaticObject> statics;             // the same places in every block of the launch
  size_t static_bytes = 0, static_used = 0;
};
extern Scheduler scheduler;

inline Fibre* current() { return static_cast<Fibre*>(place); }
uint32_t random_bits();
void make_ready(Fibre* f);
void suspend(State state, const char* operation, Site at);   // until made ready
void yield_fibre(const char* operation, Site at);
void maybe_yield(const char* operation, Site at);
void run_fibres(Cluster& cluster);                           // fills scheduler.error
[[noreturn]] void fail(const std::string& message, Site at);
std::string where(Site at);
inline bool same(const char* a, const char* b) { return a == b || strcmp(a, b) == 0; }
inline bool same(Site a, Site b) { return a.line == b.line && same(a.file, b.file); }
// Bytes that the address sanitizer forbids.
inline bool forbidden([[maybe_unused]] const void* p, [[maybe_unused]] size_t bytes) {
#if EMULATED_ASAN
  return __asan_region_is_poisoned(const_cast<void*>(p), bytes) != nullptr;
#else
  return false;
#endif
}
bool open_shared(Cluster& cluster, size_t dynamic_bytes);   // false: no memory
void deliver_one_store();
void land_copies(Fibre* f, int last_group);
void complete(void* bar, int arrivals, int bytes);           // mbarrier arrivals and transaction bytes

// Lanes of `mask` meet; the last to come runs `finish(warp, mask)`, then all go on.
using Finish = void (*)(Warp* warp, uint32_t mask, Site at);
void meet(uint32_t mask, const char* operation, Site at, Finish finish);

}  // namespace emulated
