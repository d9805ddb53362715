// Which fibre runs next, and the switch to it.
#include <sys/mman.h>
#include "context_switch.h"
#include "internal.h"

namespace emulated {

Place* place = nullptr;
dim3 block_shape, grid_shape;
int cluster_blocks = 1;
Scheduler scheduler;

namespace {
Scheduler& s = scheduler;

void drop_ready(Warp* w) {
  Warp* last = s.ready.back();
  s.ready[size_t(w->position)] = last;
  last->position = w->position;
  s.ready.pop_back();
  w->position = -1;
}

Fibre* take(Warp* w, int k) {
  Fibre* f = w->lanes[w->ready[k]];
  w->ready[k] = w->ready[--w->ready_count];
  if (w->ready_count == 0) drop_ready(w);
  return f;
}

// Uniformly random order lets all warps advance at one pace, and a warp that runs ahead of a missing barrier never
// shows. So a warp mostly runs in bursts, some of them as long as it can, and a warp or a block lags for a while.
Warp* next_warp() {
  if (s.mode == 0 && random_bits() % 64 == 0) {
    Warp* w = s.all[random_bits() % s.all.size()];
    uint32_t choice = random_bits() % 3;
    s.lagging_warp = choice == 1 ? w : nullptr;
    s.lagging_block = choice == 2 ? w->lanes[0]->home : nullptr;
  }
  Warp* w = nullptr;
  for (int tries = 0; tries < 16; ++tries) {
    w = s.ready[random_bits() % s.ready.size()];
    if (w != s.lagging_warp && w->lanes[0]->home != s.lagging_block) break;
  }
  uint32_t r = random_bits();
  s.burst = s.mode == 1 || (r & 3) == 1 ? 0 : (r & 3) == 0 ? 1L << 30 : long(r >> 8) % 200;
  return w;
}

// The next fibre to run; null where none can.
Fibre* pick() {
  while (!s.stores.empty() && (s.ready.empty() || random_bits() % 16 == 0)) deliver_one_store();
  if (s.ready.empty()) return nullptr;
  if (s.mode == 2) {
    Warp* w = nullptr;
    for (Warp* x : s.all)
      if (x->ready_count != 0) { w = x; break; }
    int k = 0;
    for (int i = 1; i < w->ready_count; ++i)
      if (w->ready[i] < w->ready[k]) k = i;
    return take(w, k);
  }
  if (s.running == nullptr || s.running->ready_count == 0 || --s.burst < 0) s.running = next_warp();
  return take(s.running, int(random_bits() % uint32_t(s.running->ready_count)));
}

// next null: back to the launch. `fake` null: the fibre that leaves is done for good.
void switch_to(void** save, void** fake, Fibre* next) {
  place = next;
  if (next != nullptr) next->home->started = true;
  (void)fake;
#if EMULATED_ASAN
  const void* bottom = next != nullptr ? next->stack : s.main_bottom;
  __sanitizer_start_switch_fiber(fake, bottom, next != nullptr ? kStackBytes : s.main_size);
#endif
  songrnn_emulated_switch(save, next != nullptr ? next->stack_pointer : s.main_pointer);
#if EMULATED_ASAN
  __sanitizer_finish_switch_fiber(fake != nullptr ? *fake : nullptr, nullptr, nullptr);
#endif
}

void leave(Fibre* me) {
  Fibre* next = pick();
  if (next != me) switch_to(&me->stack_pointer, &me->fake_stack, next);
}

void fibre_main() {
#if EMULATED_ASAN
  if (s.main_bottom == nullptr) __sanitizer_finish_switch_fiber(nullptr, &s.main_bottom, &s.main_size);
  else __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
  s.kernel->run(s.params);
  Fibre* me = current();
  if (me->cluster_arrived) fail("the thread exits between cluster_arrive and cluster_wait", me->site);
  land_copies(me, me->copy_group);
  me->state = State::Exited;
  me->warp->exited |= 1u << me->lane;
  --me->home->alive;
  Fibre* next = --s.alive != 0 ? pick() : nullptr;
  switch_to(&me->stack_pointer, nullptr, next);
  abort();
}

char* stack_of(size_t i) {
  while (s.stacks.size() <= i) {
    void* p = mmap(nullptr, kStackBytes + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
                   0);
    if (p == MAP_FAILED) return nullptr;
    mprotect(p, 4096, PROT_NONE);
    s.stacks.push_back(static_cast<char*>(p) + 4096);
  }
  return s.stacks[i];
}

// Takes the sanitizer's marks off the uppermost part of a stack: a fibre's last frame never returns.
void clear_marks([[maybe_unused]] char* stack, [[maybe_unused]] size_t bytes) {
#if EMULATED_ASAN
  __asan_unpoison_memory_region(stack + kStackBytes - bytes, bytes);
#endif
}

std::string deadlock(const Cluster& c) {
  static const char* const names[] = {"ready", "in a warp collective", "at a block barrier", "at a cluster barrier",
                                      "at an mbarrier", "exited"};
  std::string counts, examples;
  int count[6] = {0};
  for (const Block& b : c.blocks)
    for (const Fibre& f : b.fibres)
      if (count[int(f.state)]++ == 0 && f.state != State::Exited)
        examples += "; thread " + std::to_string(f.linear) + " of block " + std::to_string(b.index.x) + " waits at " +
                    f.operation + " " + where(f.site);
  for (int i = 0; i < 6; ++i)
    if (count[i] != 0) counts += (counts.empty() ? "" : ", ") + std::to_string(count[i]) + " " + names[i];
  return "deadlock: threads " + counts + examples;
}
}  // namespace

uint32_t random_bits() {
  s.random ^= s.random << 13;
  s.random ^= s.random >> 7;
  s.random ^= s.random << 17;
  return uint32_t(s.random >> 32);
}

std::string where(Site at) {
  const char* slash = strrchr(at.file, '/');
  return std::string(slash != nullptr ? slash + 1 : at.file) + ":" + std::to_string(at.line);
}

void make_ready(Fibre* f) {
  Warp* w = f->warp;
  f->state = State::Ready;
  w->ready[w->ready_count++] = uint8_t(f->lane);
  if (w->position < 0) {
    w->position = int(s.ready.size());
    s.ready.push_back(w);
  }
}

void suspend(State state, const char* operation, Site at) {
  Fibre* me = current();
  me->state = state;
  me->operation = operation;
  me->site = at;
  leave(me);
}

void yield_fibre(const char* operation, Site at) {
  Fibre* me = current();
  make_ready(me);
  me->operation = operation;
  me->site = at;
  leave(me);
}

void maybe_yield(const char* operation, Site at) {
  if (random_bits() % 8 == 0) yield_fibre(operation, at);
}

// The launch ends here: its other fibres are never resumed.
void fail(const std::string& message, Site at) {
  Fibre* me = current();
  char who[160];
  snprintf(who, sizeof who, " [block (%u,%u,%u), thread %d, ", me->block.x, me->block.y, me->block.z, me->linear);
  s.error = message + who + where(at) + "]";
  switch_to(&me->stack_pointer, &me->fake_stack, nullptr);
  abort();
}
void fail(const char* message, Site at) { fail(std::string(message), at); }

void run_fibres(Cluster& c) {
  s.ready.clear();
  s.stores.clear();
  s.mbarrier_waiters.clear();
  s.all.clear();
  s.running = nullptr;
  s.burst = 0;
  s.error.clear();
  s.late_store = false;
  s.alive = c.threads;
  s.main_bottom = nullptr;
  for (Block& b : c.blocks)
    for (Warp& w : b.warps) s.all.push_back(&w);
  s.lagging_warp = nullptr;
  s.lagging_block = s.mode == 0 && random_bits() % 2 != 0 ? &c.blocks[random_bits() % c.blocks.size()] : nullptr;
  race_start(c);
  size_t k = 0;
  for (Block& b : c.blocks)
    for (Fibre& f : b.fibres) {
      f.stack = stack_of(k++);
      if (f.stack == nullptr) {
        s.error = "no memory for the threads' stacks";
        return;
      }
      clear_marks(f.stack, 4096);
      f.stack_pointer = prepare_context(f.stack, kStackBytes, fibre_main);
      make_ready(&f);
    }
  switch_to(&s.main_pointer, &s.main_fake, pick());
  if (s.alive != 0)                                   // frames that were left in the middle
    for (Block& b : c.blocks)
      for (Fibre& f : b.fibres) clear_marks(f.stack, kStackBytes);
  if (!s.error.empty()) return;
  if (s.late_store || (s.alive == 0 && !s.stores.empty()))
    s.error = "an asynchronous remote store lands in a block that has exited (cluster barrier at the end missing?)";
  else if (s.alive != 0)
    s.error = deadlock(c);
}

}  // namespace emulated
