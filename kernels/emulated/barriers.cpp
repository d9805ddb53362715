// Barriers of blocks, warps and clusters, and mbarriers.
#include "internal.h"

namespace emulated {

namespace {
void arrive_at_barrier(int id, int threads, int vote, const char* name, Site at) {
  Fibre* me = current();
  Block* b = me->home;
  int all = int(b->fibres.size());
  if (threads == 0) threads = all;
  if (id < 0 || id > 15) fail("a barrier's number is 0 to 15, not " + std::to_string(id), at);
  if (threads < 1 || threads > all || (threads % 32 != 0 && threads != all))
    fail("a barrier of " + std::to_string(threads) + " threads in a block of " + std::to_string(all), at);
  NamedBarrier& bar = b->barriers[id];
  if (bar.arrived == 0) {
    bar.expected = threads;
    bar.operation = name;
    bar.site = at;
    bar.votes = 0;
    race_clear(bar.sync);
  } else if (bar.expected != threads || (id == 0 && !same(bar.site, at))) {
    fail("threads meet at different barriers: " + std::string(bar.operation) + " " + where(bar.site) + " and " + name +
             " " + where(at), at);
  }
  bar.votes += vote;
  race_release(me, bar.sync);
  if (++bar.arrived < threads) {
    me->barrier_id = id;
    suspend(State::Barrier, name, at);
    return;
  }
  bar.arrived = 0;
  b->vote_result = bar.votes;
  for (Fibre& f : b->fibres)
    if (f.state == State::Barrier && f.barrier_id == id) {
      race_acquire(&f, bar.sync);
      make_ready(&f);
    }
  race_acquire(me, bar.sync);
  yield_fibre(name, at);                              // the last to come has no right of way
}
}  // namespace

void block_barrier(int id, int threads, const char* name, Site at) { arrive_at_barrier(id, threads, 0, name, at); }

int block_vote(int predicate, const char* name, Site at) {
  arrive_at_barrier(0, 0, predicate != 0, name, at);
  int result = current()->home->vote_result;
  arrive_at_barrier(0, 0, 0, name, at);               // all have read before the next vote
  return result;
}

void meet(uint32_t mask, const char* operation, Site at, Finish finish) {
  Fibre* me = current();
  Warp* w = me->warp;
  uint32_t bit = 1u << me->lane;
  if (w->count < 32) mask &= (1u << w->count) - 1;
  if ((mask & bit) == 0) fail(std::string(operation) + ": the calling lane is not in the mask", at);
  if ((mask & w->exited) != 0) fail(std::string(operation) + ": the mask names lanes that have exited", at);
  Meeting *mine = nullptr, *free = nullptr;
  for (Meeting& m : w->meetings) {
    if (m.arrived == 0) {
      if (free == nullptr) free = &m;
    } else if (m.mask == mask) {
      mine = &m;
    } else if ((m.mask & mask) != 0) {
      fail("overlapping warp masks: " + std::string(m.operation) + " " + where(m.site) + " and " + operation + " " +
               where(at), at);
    }
  }
  if (mine == nullptr) {
    if (free == nullptr) fail("more than 4 groups of one warp in collectives at once", at);
    mine = free;
    mine->mask = mask;
    mine->operation = operation;
    mine->site = at;
  } else if (!same(mine->site, at) || !same(mine->operation, operation)) {
    fail("diverged warp: lanes at " + std::string(mine->operation) + " " + where(mine->site) + " and " + operation +
             " " + where(at), at);
  }
  mine->arrived |= bit;
  if (mine->arrived != mask) {
    suspend(State::Warp, operation, at);
    return;
  }
  finish(w, mask, at);
  mine->arrived = 0;
  for (int i = 0; i < w->count; ++i)
    if (i != me->lane && (mask >> i & 1u) != 0) make_ready(w->lanes[i]);
  yield_fibre(operation, at);
}

void warp_barrier(uint32_t mask, Site at) {
  meet(mask, "__syncwarp", at, [](Warp* w, uint32_t lanes, Site) {
    RaceSync sync;
    for (int i = 0; i < w->count; ++i)
      if ((lanes >> i & 1u) != 0) race_release(w->lanes[i], sync);
    for (int i = 0; i < w->count; ++i)
      if ((lanes >> i & 1u) != 0) race_acquire(w->lanes[i], sync);
  });
}

void cluster_arrive(Site at) {
  Fibre* me = current();
  Cluster* c = me->home->cluster;
  if (me->cluster_arrived) fail("cluster_arrive twice without cluster_wait", at);
  me->cluster_arrived = true;
  me->cluster_token = c->phase;
  me->operation = "cluster_arrive";
  me->site = at;
  race_release(me, c->sync[c->phase & 1u]);
  if (++c->arrived == c->threads) {
    c->arrived = 0;
    ++c->phase;
    race_clear(c->sync[c->phase & 1u]);               // all have gone through the phase before
    for (Block& b : c->blocks)
      for (Fibre& f : b.fibres)
        if (f.state == State::Cluster) make_ready(&f);
  }
  maybe_yield("cluster_arrive", at);
}

void cluster_wait(Site at) {
  Fibre* me = current();
  Cluster* c = me->home->cluster;
  if (!me->cluster_arrived) fail("cluster_wait without cluster_arrive", at);
  while (c->phase == me->cluster_token) suspend(State::Cluster, "cluster_wait", at);
  me->cluster_arrived = false;
  race_acquire(me, c->sync[me->cluster_token & 1u]);
}

// --- mbarriers: 8 bytes of shared memory ---------------------------------------------------------------------------
namespace {
struct Mbarrier {
  int16_t count, pending;                             // arrivals of a phase, and those still to come
  int32_t bytes_and_phase;                            // 2 * bytes still to come + parity
};
static_assert(sizeof(Mbarrier) == 8, "an mbarrier is 8 bytes");

Mbarrier* checked(void* bar, Site at) {
  if (!current()->home->holds(bar, 8) || reinterpret_cast<uintptr_t>(bar) % 8 != 0)
    fail("an mbarrier is 8 aligned bytes of the block's own shared memory", at);
  Mbarrier* m = static_cast<Mbarrier*>(bar);
  if (m->count == -1 && m->pending == -1) fail("an mbarrier is used before mbar_init", at);
  return m;
}
}  // namespace

void barrier_init(void* bar, int arrivals, Site at) {
  if (arrivals < 1 || arrivals > 4096) fail("mbar_init: arrivals out of range", at);
  if (!current()->home->holds(bar, 8) || reinterpret_cast<uintptr_t>(bar) % 8 != 0)
    fail("an mbarrier is 8 aligned bytes of the block's own shared memory", at);
  race_access(current(), bar, 8, Access::Write, at);
  *static_cast<Mbarrier*>(bar) = Mbarrier{int16_t(arrivals), int16_t(arrivals), 0};
  race_clear(race_mbarrier(bar, 0));
  race_clear(race_mbarrier(bar, 1));
}

void complete(void* bar, int arrivals, int bytes) {
  Mbarrier* m = static_cast<Mbarrier*>(bar);
  int phase = m->bytes_and_phase & 1, left = (m->bytes_and_phase >> 1) + bytes;
  m->pending = int16_t(m->pending - arrivals);
  m->bytes_and_phase = left * 2 + phase;
  if (m->pending != 0 || left != 0) return;
  m->pending = m->count;
  m->bytes_and_phase ^= 1;
  race_clear(race_mbarrier(bar, phase ^ 1));
  std::vector<Fibre*>& waiters = scheduler.mbarrier_waiters;
  for (size_t i = 0; i < waiters.size();) {
    if (waiters[i]->mbarrier == bar) {
      make_ready(waiters[i]);
      waiters[i] = waiters.back();
      waiters.pop_back();
    } else {
      ++i;
    }
  }
}

void barrier_expect(void* bar, int bytes, Site at) {
  Mbarrier* m = checked(bar, at);
  if (bytes < 0 || bytes > (1 << 20) - 1) fail("mbar_expect_tx: bytes out of range", at);
  if (m->pending <= 0) fail("more arrivals at an mbarrier than mbar_init named", at);
  Fibre* me = current();
  race_access(me, bar, 8, Access::Atomic, at);
  complete(bar, 1, bytes);                            // relaxed: orders nothing for those who wait
  maybe_yield("mbar_expect_tx", at);
}

void barrier_wait(void* bar, int parity, Site at) {
  Mbarrier* m = checked(bar, at);
  if (parity != 0 && parity != 1) fail("mbar_wait: the parity is 0 or 1", at);
  Fibre* me = current();
  race_access(me, bar, 8, Access::Atomic, at);
  while ((m->bytes_and_phase & 1) == parity) {
    me->mbarrier = bar;
    scheduler.mbarrier_waiters.push_back(me);
    suspend(State::Mbarrier, "mbar_wait", at);
  }
  race_acquire(me, race_mbarrier(bar, parity));
}

}  // namespace emulated
