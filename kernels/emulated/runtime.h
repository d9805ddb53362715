// What a kernel source sees of the emulator. Every thread of a launch is a fibre; a fibre runs until it meets a
// synchronising operation, and a seeded generator draws which fibre goes on, so that a missing barrier gives wrong
// results for some seed. Operations take their call site as default arguments: messages name the source line.
// One launch at a time in a process (the C entry points lock).
#pragma once
#include "formats.h"
#include "vocabulary.h"

#define SITE_PARAMETERS const char *file = __builtin_FILE(), int line = __builtin_LINE()

namespace emulated {

struct Site { const char* file; int line; };

// The running thread. Never keep the pointer across an operation that may switch.
struct Place {
  dim3 thread, block;
  int linear = 0, lane = 0, rank = 0;
};
extern Place* place;
extern dim3 block_shape, grid_shape;
extern int cluster_blocks;

[[noreturn]] void fail(const char* message, Site at);
void block_barrier(int id, int threads, const char* name, Site at);     // threads 0: the whole block
int block_vote(int predicate, const char* name, Site at);               // how many threads say yes
void warp_barrier(uint32_t mask, Site at);
void shuffle(uint32_t mask, uint32_t* words, int count, int source, const char* name, Site at);
uint32_t ballot(uint32_t mask, bool predicate, const char* name, Site at);
void mma(bool half, float (&d)[4], const uint32_t (&fragments)[6], Site at);
void ldmatrix(uint32_t* registers, int matrices, const void* row, bool transposed, Site at);
void copy_async(void* shared, const void* global, int bytes, int valid, Site at);
void copy_commit();
void copy_wait(int groups_left);
void cluster_arrive(Site at);
void cluster_wait(Site at);
void remote_store(void* local, int rank, const void* value, int bytes, Site at);
void store_async(void* local, int rank, const void* value, int bytes, void* bar, Site at);
void barrier_init(void* bar, int arrivals, Site at);
void barrier_expect(void* bar, int bytes, Site at);
void barrier_wait(void* bar, int parity, Site at);
unsigned char* dynamic_shared();
void* static_shared(const void* key, size_t size, Site at);
enum class Atomic { Add, Sub, Exchange, Min, Max, And, Or, CompareSwap };
uint64_t atomic(Atomic op, void* address, int bytes, bool is_signed, uint64_t value, uint64_t compare, Site at);

// Kernels announce themselves when the library is loaded.
struct Kernel {
  const char* name;
  void (*run)(const void* params);
  unsigned threads;
  size_t shared_bytes, params_size;
  Kernel* next;
  Kernel(const char* name, void (*run)(const void*), unsigned threads, size_t shared_bytes, size_t params_size);
};

template <class T> struct Identity { using type = T; };
template <class T>
T atomic_value(Atomic op, T* p, T value, T compare, Site at) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "atomics are of 4 or 8 bytes");
  static_assert(T(0.5) == T(0), "no float atomics: their sums depend on the order");
  return T(atomic(op, p, int(sizeof(T)), T(-1) < T(0), uint64_t(value), uint64_t(compare), at));
}
template <class T>
T shuffled(uint32_t mask, T value, int source, const char* name, Site at) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffles are of 4 or 8 bytes");
  uint32_t words[2] = {0, 0};
  memcpy(words, &value, sizeof(T));
  shuffle(mask, words, int(sizeof(T) / 4), source, name, at);
  memcpy(&value, words, sizeof(T));
  return value;
}

}  // namespace emulated

#define threadIdx (emulated::place->thread)
#define blockIdx (emulated::place->block)
#define blockDim (emulated::block_shape)
#define gridDim (emulated::grid_shape)
#define warpSize 32

inline void __syncthreads(SITE_PARAMETERS) { emulated::block_barrier(0, 0, "__syncthreads", {file, line}); }
inline int __syncthreads_count(int p, SITE_PARAMETERS) {
  return emulated::block_vote(p, "__syncthreads_count", {file, line});
}
inline int __syncthreads_or(int p, SITE_PARAMETERS) {
  return emulated::block_vote(p, "__syncthreads_or", {file, line}) != 0;
}
inline int __syncthreads_and(int p, SITE_PARAMETERS) {
  return emulated::block_vote(!p, "__syncthreads_and", {file, line}) == 0;
}
inline void __syncwarp(uint32_t mask = ~0u, SITE_PARAMETERS) { emulated::warp_barrier(mask, {file, line}); }
inline uint32_t __ballot_sync(uint32_t mask, int p, SITE_PARAMETERS) {
  return emulated::ballot(mask, p != 0, "__ballot_sync", {file, line});
}
inline int __any_sync(uint32_t mask, int p, SITE_PARAMETERS) {
  return emulated::ballot(mask, p != 0, "__any_sync", {file, line}) != 0;
}
inline int __all_sync(uint32_t mask, int p, SITE_PARAMETERS) {
  return emulated::ballot(mask, p == 0, "__all_sync", {file, line}) == 0;
}
// A width below 32 makes segments; a source outside the segment gives the lane its own value.
template <class T>
inline T __shfl_sync(uint32_t mask, T v, int source, int width = 32, SITE_PARAMETERS) {
  int first = emulated::place->lane & ~(width - 1);
  return emulated::shuffled(mask, v, first + (source & (width - 1)), "__shfl_sync", {file, line});
}
template <class T>
inline T __shfl_xor_sync(uint32_t mask, T v, int bits, int width = 32, SITE_PARAMETERS) {
  int lane = emulated::place->lane, source = lane ^ bits;
  if (source >= (lane & ~(width - 1)) + width) source = lane;
  return emulated::shuffled(mask, v, source, "__shfl_xor_sync", {file, line});
}
template <class T>
inline T __shfl_up_sync(uint32_t mask, T v, unsigned delta, int width = 32, SITE_PARAMETERS) {
  int lane = emulated::place->lane, source = lane - int(delta);
  if (source < (lane & ~(width - 1))) source = lane;
  return emulated::shuffled(mask, v, source, "__shfl_up_sync", {file, line});
}
template <class T>
inline T __shfl_down_sync(uint32_t mask, T v, unsigned delta, int width = 32, SITE_PARAMETERS) {
  int lane = emulated::place->lane, source = lane + int(delta);
  if (source >= (lane & ~(width - 1)) + width) source = lane;
  return emulated::shuffled(mask, v, source, "__shfl_down_sync", {file, line});
}

#define EMULATED_ATOMIC(name, op)                                                                                     \
  template <class T>                                                                                                  \
  inline T name(T* p, typename emulated::Identity<T>::type v, SITE_PARAMETERS) {                                     \
    return emulated::atomic_value(emulated::Atomic::op, p, v, T(0), {file, line});                                   \
  }
EMULATED_ATOMIC(atomicAdd, Add)
EMULATED_ATOMIC(atomicSub, Sub)
EMULATED_ATOMIC(atomicExch, Exchange)
EMULATED_ATOMIC(atomicMin, Min)
EMULATED_ATOMIC(atomicMax, Max)
EMULATED_ATOMIC(atomicAnd, And)
EMULATED_ATOMIC(atomicOr, Or)
#undef EMULATED_ATOMIC
template <class T>
inline T atomicCAS(T* p, typename emulated::Identity<T>::type compare, typename emulated::Identity<T>::type v,
                   SITE_PARAMETERS) {
  return emulated::atomic_value(emulated::Atomic::CompareSwap, p, v, compare, {file, line});
}

#define DYN_SMEM(T, name) T* const name = reinterpret_cast<T*>(emulated::dynamic_shared())
// The tag's address tells one object from another, also among the instances of a template.
#define STATIC_SMEM(T, name)                                                                                          \
  static const char name##_tag_ = 0;                                                                                  \
  T& name = *static_cast<T*>(emulated::static_shared(&name##_tag_, sizeof(T), {__FILE__, __LINE__}))
#define KERNEL_SHAPED(name, Params, THREADS, SMEM_BYTES)                                                              \
  static void name##_body_(const Params& p);                                                                          \
  static void name##_entry_(const void* params) { name##_body_(*static_cast<const Params*>(params)); }                \
  static emulated::Kernel name##_kernel_(#name, name##_entry_, THREADS, SMEM_BYTES, sizeof(Params));                  \
  static void name##_body_([[maybe_unused]] const Params& p)
#define KERNEL(name, Params, THREADS) KERNEL_SHAPED(name, Params, THREADS, 0)
