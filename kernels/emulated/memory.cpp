// Shared memory, asynchronous copies, stores to other blocks of the cluster, atomics.
#include "internal.h"

namespace emulated {

namespace {
Scheduler& s = scheduler;

size_t rounded(size_t bytes) { return (bytes + kGap - 1) / kGap * kGap; }

// The same place in the shared memory of block `rank`.
unsigned char* remote(void* local, int rank, int bytes, Block** to, Site at) {
  Block* b = current()->home;
  if (!b->holds(local, size_t(bytes))) fail("a remote store names memory that is not the block's shared memory", at);
  if (reinterpret_cast<uintptr_t>(local) % uintptr_t(bytes) != 0) fail("a remote store is not aligned", at);
  if (rank < 0 || rank >= int(b->cluster->blocks.size()))
    fail("rank " + std::to_string(rank) + " in a cluster of " + std::to_string(b->cluster->blocks.size()), at);
  Block* peer = &b->cluster->blocks[size_t(rank)];
  if (!peer->started) fail("a store to a block that has not started (cluster barrier at the start missing?)", at);
  if (peer->alive == 0) fail("a store to a block that has exited (cluster barrier at the end missing?)", at);
  if (forbidden(local, size_t(bytes))) fail("a remote store outside of its array", at);
  *to = peer;
  return peer->shared + (static_cast<unsigned char*>(local) - b->shared);
}
}  // namespace

// Fresh shared memory is 0xff: NaN in every float format.
static void open_bytes(unsigned char* p, size_t bytes) {
#if EMULATED_ASAN
  __asan_unpoison_memory_region(p, bytes);
#endif
  memset(p, 0xff, bytes);
}
static void open_static(Block& b, const Scheduler::StaticObject& o) {
  open_bytes(b.shared + b.static_start + o.offset, o.size);
}

bool open_shared(Cluster& c, size_t dynamic_bytes) {
  size_t start = (dynamic_bytes + kGap + 1023) / 1024 * 1024;
  c.stride = start + kStaticArea;
  size_t bytes = c.stride * c.blocks.size();
  if (bytes > s.slab_bytes) {
    free(s.slab);
    s.slab = static_cast<unsigned char*>(aligned_alloc(1024, bytes));
    s.slab_bytes = s.slab != nullptr ? bytes : 0;
    if (s.slab == nullptr) return false;
  }
  c.slab = s.slab;
#if EMULATED_ASAN
  __asan_poison_memory_region(c.slab, bytes);
#endif
  for (size_t i = 0; i < c.blocks.size(); ++i) {
    Block& b = c.blocks[i];
    b.shared = c.slab + i * c.stride;
    b.dynamic_bytes = dynamic_bytes;
    b.static_start = start;
    b.shared_bytes = c.stride;
    open_bytes(b.shared, dynamic_bytes);
    for (const Scheduler::StaticObject& o : s.statics) open_static(b, o);
  }
  return true;
}

unsigned char* dynamic_shared() { return current()->home->shared; }

void* static_shared(const void* key, size_t size, Site at) {
  Block* b = current()->home;
  for (const Scheduler::StaticObject& o : s.statics)
    if (o.key == key) return b->shared + b->static_start + o.offset;
  size_t offset = s.static_used;
  if (s.static_bytes + size > kMaxStatic || offset + rounded(size) + kGap > kStaticArea)
    fail("more than 48 KiB of static shared memory", at);
  if (s.static_bytes + size + b->dynamic_bytes > kMaxShared) fail("more than 227 KiB of shared memory", at);
  s.static_bytes += size;
  s.static_used += rounded(size) + kGap;
  s.statics.push_back({key, offset, size});
  for (Block& x : b->cluster->blocks) open_static(x, s.statics.back());
  return b->shared + b->static_start + offset;
}

// --- cp.async ------------------------------------------------------------------------------------------------------
static void land(Copy& c) {
  if (c.from == nullptr) return;
  memcpy(c.to, c.from, size_t(c.valid));
  memset(static_cast<char*>(c.to) + c.valid, 0, size_t(c.bytes - c.valid));
  c.from = nullptr;
}

void copy_async(void* shared, const void* global, int bytes, int valid, Site at) {
  Fibre* me = current();
  if (valid < 0 || valid > bytes) fail("cp.async: " + std::to_string(valid) + " bytes of " + std::to_string(bytes), at);
  uintptr_t low_bits = reinterpret_cast<uintptr_t>(shared) | reinterpret_cast<uintptr_t>(global);
  if (low_bits % uintptr_t(bytes) != 0) fail("cp.async: an address is not aligned to " + std::to_string(bytes), at);
  if (!me->home->holds(shared, size_t(bytes))) fail("cp.async: the target is not the block's shared memory", at);
  if (valid > 0 && forbidden(global, size_t(valid))) fail("cp.async reads outside of its array", at);
  if (forbidden(shared, size_t(bytes))) fail("cp.async writes outside of its array", at);
  race_access(me, shared, size_t(bytes), Access::Write, at);
  Copy c{shared, global, bytes, valid, me->copy_group, at};
  if (valid == 0 && global == nullptr) c.from = shared;      // nothing is read: any address will do
  if (random_bits() % 2 != 0) land(c);                       // lands at once, or as late as the wait allows
  me->copies.push_back(c);
}

void copy_commit() { ++current()->copy_group; }

void land_copies(Fibre* f, int last_group) {
  size_t kept = 0;
  for (Copy& c : f->copies) {
    if (c.group > last_group) {
      f->copies[kept++] = c;
      continue;
    }
    land(c);
    race_access(f, c.to, size_t(c.bytes), Access::Write, c.site);
  }
  f->copies.resize(kept);
}

void copy_wait(int groups_left) { land_copies(current(), current()->copy_group - 1 - groups_left); }

// --- clusters ------------------------------------------------------------------------------------------------------
void remote_store(void* local, int rank, const void* value, int bytes, Site at) {
  Block* to;
  unsigned char* p = remote(local, rank, bytes, &to, at);
  race_access(current(), p, size_t(bytes), Access::Write, at);
  memcpy(p, value, size_t(bytes));
}

void store_async(void* local, int rank, const void* value, int bytes, void* bar, Site at) {
  AsyncStore store{};
  Fibre* me = current();
  store.to = remote(local, rank, bytes, &store.block, at);
  store.bar = remote(bar, rank, 8, &store.block, at);
  store.bytes = bytes;
  memcpy(store.data, value, size_t(bytes));
  race_access(me, store.to, size_t(bytes), Access::Write, at);
  store.sender = race_snapshot(me);
  s.stores.push_back(store);
  maybe_yield("st_async", at);
}

void deliver_one_store() {
  size_t i = random_bits() % s.stores.size();
  AsyncStore store = s.stores[i];
  s.stores[i] = s.stores.back();
  s.stores.pop_back();
  if (store.block->alive == 0) {
    s.late_store = true;
    return;
  }
  memcpy(store.to, store.data, size_t(store.bytes));
  int32_t phase;
  memcpy(&phase, static_cast<char*>(store.bar) + 4, 4);
  race_merge(race_mbarrier(store.bar, phase & 1), store.sender);
  complete(store.bar, 0, -store.bytes);
}

// --- atomics -------------------------------------------------------------------------------------------------------
uint64_t atomic(Atomic op, void* address, int bytes, bool is_signed, uint64_t value, uint64_t compare, Site at) {
  if (reinterpret_cast<uintptr_t>(address) % uintptr_t(bytes) != 0) fail("an atomic's address is not aligned", at);
  if (forbidden(address, size_t(bytes))) fail("an atomic outside of its array", at);
  maybe_yield("atomic", at);
  race_access(current(), address, size_t(bytes), Access::Atomic, at);
  auto extended = [&](uint64_t x) {                     // comparable as int64_t
    return bytes == 8 ? x : is_signed ? uint64_t(int64_t(int32_t(x))) : uint64_t(uint32_t(x));
  };
  uint64_t old = 0;
  if (bytes == 8) old = *static_cast<uint64_t*>(address);
  else old = *static_cast<uint32_t*>(address);
  uint64_t a = extended(old), b = extended(value), result = 0;
  bool less = is_signed ? int64_t(a) < int64_t(b) : a < b;
  switch (op) {
    case Atomic::Add: result = a + b; break;
    case Atomic::Sub: result = a - b; break;
    case Atomic::Exchange: result = b; break;
    case Atomic::Min: result = less ? a : b; break;
    case Atomic::Max: result = less ? b : a; break;
    case Atomic::And: result = a & b; break;
    case Atomic::Or: result = a | b; break;
    case Atomic::CompareSwap: result = a == extended(compare) ? b : a; break;
  }
  if (bytes == 8) *static_cast<uint64_t*>(address) = result;
  else *static_cast<uint32_t*>(address) = uint32_t(result);
  return a;
}

}  // namespace emulated
