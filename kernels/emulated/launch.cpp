// The registry of kernels, a launch, and the C entry points.
#include <algorithm>
#include <mutex>
#include "internal.h"

namespace emulated {

namespace {
Kernel*& first_kernel() {
  static Kernel* first = nullptr;                     // made before any kernel's constructor runs
  return first;
}
const Kernel* find_kernel(const char* name) {
  for (const Kernel* k = first_kernel(); k != nullptr; k = k->next)
    if (strcmp(k->name, name) == 0) return k;
  return nullptr;
}

void fill_block(Block& b, Cluster& c, unsigned linear, unsigned rank, unsigned threads) {
  const dim3& grid = grid_shape;
  b.index = dim3(linear % grid.x, linear / grid.x % grid.y, linear / grid.x / grid.y);
  b.rank = int(rank);
  b.cluster = &c;
  b.alive = int(threads);
  b.fibres.resize(threads);
  b.warps.resize((threads + 31) / 32);
  for (unsigned t = 0; t < threads; ++t) {
    Fibre& f = b.fibres[t];
    f.thread = dim3(t, 0, 0);
    f.block = b.index;
    f.linear = int(t);
    f.lane = int(t % 32);
    f.rank = int(rank);
    f.home = &b;
    f.warp = &b.warps[t / 32];
    f.warp->lanes[f.warp->count++] = &f;
  }
}

std::string launch(const Kernel& kernel, const unsigned grid[3], unsigned threads, unsigned cluster,
                   size_t shared_bytes, const void* params, size_t params_size, uint64_t seed, int mode) {
  uint64_t blocks = uint64_t(grid[0]) * grid[1] * grid[2];
  if (blocks == 0 || blocks > 1u << 20) return "an empty grid, or one of more than 2^20 blocks";
  if (threads == 0 || threads > 1024 || threads > kernel.threads)
    return std::to_string(threads) + " threads a block; the kernel is compiled for " + std::to_string(kernel.threads);
  if (cluster < 1 || cluster > 16 || grid[0] % cluster != 0)
    return "a cluster is 1 to 16 blocks and divides the grid's x";
  if (shared_bytes > kMaxShared) return "more than 227 KiB of shared memory";
  if (shared_bytes < kernel.shared_bytes)
    return std::to_string(shared_bytes) + " bytes of shared memory; the kernel needs " +
           std::to_string(kernel.shared_bytes);
  if (params_size != kernel.params_size)
    return "parameters of " + std::to_string(params_size) + " bytes; the kernel has " +
           std::to_string(kernel.params_size);
  if (mode < 0 || mode > 2) return "the mode is 0, 1 or 2";
  // The kernel sees a copy, aligned as any type wants.
  std::unique_ptr<void, decltype(&free)> copy(aligned_alloc(64, (params_size + 63) / 64 * 64), &free);
  memcpy(copy.get(), params, params_size);
  Scheduler& s = scheduler;
  s.kernel = &kernel;
  s.params = copy.get();
  s.random = (seed + 1) * 0x9E3779B97F4A7C15ull;
  if (s.random == 0) s.random = 1;
  for (int i = 0; i < 8; ++i) random_bits();
  s.mode = mode;
  s.statics.clear();
  s.static_bytes = s.static_used = 0;
  block_shape = dim3(threads);
  grid_shape = dim3(grid[0], grid[1], grid[2]);
  cluster_blocks = int(cluster);
  // Clusters run one after the other, in random order: kernels must not wait for other clusters.
  std::vector<unsigned> order;
  for (unsigned i = 0; i < blocks; i += cluster) order.push_back(i);
  if (mode != 2)
    for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random_bits() % i]);
  for (unsigned first : order) {
    Cluster c;
    c.blocks.resize(cluster);
    c.threads = int(threads * cluster);
    for (unsigned r = 0; r < cluster; ++r) fill_block(c.blocks[r], c, first + r, r, threads);
    if (!open_shared(c, shared_bytes)) return "no memory for the blocks' shared memory";
    run_fibres(c);
    place = nullptr;
    if (!s.error.empty()) return s.error;
  }
  return "";
}
}  // namespace

Kernel::Kernel(const char* name, void (*run)(const void*), unsigned threads, size_t shared_bytes, size_t params_size)
    : name(name), run(run), threads(threads), shared_bytes(shared_bytes), params_size(params_size),
      next(first_kernel()) {
  first_kernel() = this;
}

}  // namespace emulated

#define ENTRY extern "C" __attribute__((visibility("default")))

// 0: done. 1: not done, `error` says why. Launches of several threads wait for each other.
ENTRY int songrnn_emulated_launch(const char* kernel, const unsigned grid[3], unsigned threads, unsigned cluster,
                                  size_t smem, const void* params, size_t params_size, uint64_t seed, int mode,
                                  char* error, size_t error_size) {
  static std::mutex one_at_a_time;
  std::lock_guard<std::mutex> lock(one_at_a_time);
  const emulated::Kernel* k = emulated::find_kernel(kernel);
  std::string message =
      k == nullptr ? "no such kernel"
                   : emulated::launch(*k, grid, threads, cluster, smem, params, params_size, seed, mode);
  if (message.empty()) return 0;
  if (error_size != 0) snprintf(error, error_size, "%s: %s", kernel, message.c_str());
  return 1;
}

// What the kernel was compiled for: threads a block, its fixed dynamic shared memory (0 where it depends on the
// parameters), the size of its parameters. 0: found.
ENTRY int songrnn_emulated_info(const char* kernel, unsigned* threads, size_t* smem, size_t* params_size) {
  const emulated::Kernel* k = emulated::find_kernel(kernel);
  if (k == nullptr) return 1;
  *threads = k->threads;
  *smem = k->shared_bytes;
  *params_size = k->params_size;
  return 0;
}

// The name of the kernel number `index`, null past the last.
ENTRY const char* songrnn_emulated_kernel(unsigned index) {
  const emulated::Kernel* k = emulated::first_kernel();
  while (k != nullptr && index-- != 0) k = k->next;
  return k != nullptr ? k->name : nullptr;
}
