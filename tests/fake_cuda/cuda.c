// A libcuda for tests: the functions that the CUDA engine's drivers call, with memory from malloc and streams whose
// work happens as late as CUDA allows, when something waits for it. A copy whose source was freed too early, a kernel
// whose parameters were not copied, a call that is not allowed during a capture show as wrong bytes or errors.
//
//   FAKE_CUDA_CAPABILITY=9.0      compute capability
//   FAKE_CUDA_DRIVER=13000        the CUDA version that it speaks
//   FAKE_CUDA_DEVICES=1
//   FAKE_CUDA_MEMORY=BYTES        device memory, default 1 GiB
//   FAKE_CUDA_FAIL=NAME:N:CODE    the N-th call (from 1) of that function fails with the code
//   FAKE_CUDA_KERNELS=FILE        a library of kernels for the processor (scripts/emulated-kernels.sh) that runs what
//                                 is launched; without it a kernel writes nothing, and its parameters are 8 bytes
//
// What is left over when the last context is released, and every call that a real driver would not survive, is said
// on standard error with "fake cuda:" in front.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fake.h"

enum {
  SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3, NO_DEVICE = 100, INVALID_DEVICE = 101,
  INVALID_IMAGE = 200, INVALID_CONTEXT = 201, INVALID_HANDLE = 400, NOT_FOUND = 500, NOT_READY = 600,
  ILLEGAL_ADDRESS = 700, LAUNCH_OUT_OF_RESOURCES = 701, LAUNCH_FAILED = 719, NOT_SUPPORTED = 801,
  CAPTURE_UNSUPPORTED = 900, CAPTURE_INVALIDATED = 901, CAPTURE_UNMATCHED = 903, CAPTURE_WRONG_THREAD = 908,
  INVALID_CLUSTER_SIZE = 912,
};

#define SHARED_OPTIN 232448
#define SHARED_UNASKED 49152
#define MULTIPROCESSORS 132

// Everything below is under this lock; calls are short.
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int initialised, contexts, sticky; // sticky: the error that broke the context
static long used_memory, allocations, pinned, streams, events, modules, graphs, executables;
static __thread void *current;
static __thread int relaxed_mode; // this thread's capture mode: 2 = relaxed
static int the_context;

static void complain(const char *what) { fprintf(stderr, "fake cuda: %s\n", what); }

static const char *setting(const char *name, const char *otherwise) {
  const char *value = getenv(name);
  return value && *value ? value : otherwise;
}

// --- failures on request -------------------------------------------------------------------------------------------
static int requested_failure(const char *name) {
  static int seen;
  const char *wish = getenv("FAKE_CUDA_FAIL");
  size_t length = strlen(name);
  if (!wish || strncmp(wish, name, length) != 0 || wish[length] != ':') return SUCCESS;
  int number = 0, code = 0;
  if (sscanf(wish + length, ":%d:%d", &number, &code) != 2 || ++seen != number) return SUCCESS;
  if (code == ILLEGAL_ADDRESS || (code >= 710 && code <= 721)) sticky = code;
  return code;
}

// Every function begins with this. `context`: it needs a current one, and a broken one fails it.
#define ENTER(context)                                              \
  pthread_mutex_lock(&lock);                                        \
  int result = enter(__func__, context);                            \
  if (result != SUCCESS) return leave(result)

static int enter(const char *name, int context) {
  int code = requested_failure(name);
  if (code != SUCCESS) return code;
  if (!initialised && strcmp(name, "cuInit") != 0) return NOT_INITIALIZED;
  if (context && current != &the_context) return INVALID_CONTEXT;
  return context ? sticky : SUCCESS;
}

static int leave(int code) {
  pthread_mutex_unlock(&lock);
  return code;
}

// --- the stream ------------------------------------------------------------------------------------------------------
struct operation {
  int (*run)(void *data); // 0, or a CUDA error
  size_t size;
  struct operation *next;
  _Alignas(16) unsigned char data[];
};
struct queue { struct operation *first, **last; };
struct stream { struct queue queue; int capturing, broken; pthread_t thread; struct queue captured; struct stream *next; };
struct event { struct stream *stream; uint64_t asked, passed; double at; };

static struct stream *all_streams;

static int is_stream(const struct stream *stream) {
  const struct stream *known = all_streams;
  while (known && known != stream) known = known->next;
  return known != NULL;
}

static void append(struct queue *queue, int (*run)(void *), const void *data, size_t size) {
  struct operation *operation = malloc(sizeof *operation + size);
  operation->run = run;
  operation->size = size;
  operation->next = NULL;
  memcpy(operation->data, data, size);
  if (!queue->first) queue->last = &queue->first;
  *queue->last = operation;
  queue->last = &operation->next;
}

static void clear(struct queue *queue) {
  while (queue->first) {
    struct operation *operation = queue->first;
    queue->first = operation->next;
    free(operation);
  }
}

static int run_all(struct stream *stream) {
  while (stream->queue.first) {
    struct operation *operation = stream->queue.first;
    int code = sticky ? sticky : operation->run(operation->data);
    if (code != SUCCESS) sticky = code;
    stream->queue.first = operation->next;
    free(operation);
  }
  return sticky;
}

static int enqueue(struct stream *stream, int (*run)(void *), const void *data, size_t size) {
  if (!is_stream(stream)) return INVALID_HANDLE;
  if (stream->broken) return CAPTURE_INVALIDATED;
  append(stream->capturing ? &stream->captured : &stream->queue, run, data, size);
  return SUCCESS;
}

int fake_enqueue(void *stream, int (*run)(void *), const void *data, size_t size) {
  pthread_mutex_lock(&lock);
  return leave(sticky ? sticky : enqueue(stream, run, data, size));
}

// A call that may wait for the device or allocate: during a capture it breaks it, in this thread and unless relaxed.
static int unsafe_call(void) {
  if (relaxed_mode == 2) return SUCCESS;
  for (struct stream *stream = all_streams; stream; stream = stream->next)
    if (stream->capturing && pthread_equal(stream->thread, pthread_self())) return stream->broken = 1, CAPTURE_UNSUPPORTED;
  return SUCCESS;
}

int fake_unsafe_call(void) {
  pthread_mutex_lock(&lock);
  return leave(sticky ? sticky : unsafe_call());
}

// Memory goes away: nothing may be under way then. With several streams it may be on another one.
static void expect_idle(const char *what) {
  if (all_streams && !all_streams->next && all_streams->queue.first) complain(what);
}

static struct stream *new_stream(void) {
  struct stream *stream = calloc(1, sizeof *stream);
  stream->next = all_streams;
  all_streams = stream;
  streams++;
  return stream;
}
int cuStreamCreate(void **stream, unsigned flags) {
  ENTER(1);
  if (flags != 1) complain("expected a non-blocking stream");
  *stream = new_stream();
  return leave(SUCCESS);
}
int cuStreamCreateWithPriority(void **stream, unsigned flags, int priority) {
  ENTER(1);
  if (priority) complain("expected no priority");
  (void)flags;
  *stream = new_stream();
  return leave(SUCCESS);
}
int cuStreamDestroy_v2(struct stream *stream) {
  ENTER(1);
  if (stream->queue.first) complain("a stream is destroyed with work in it");
  clear(&stream->captured);
  struct stream **from = &all_streams;
  while (*from != stream) from = &(*from)->next;
  *from = stream->next;
  free(stream);
  streams--;
  return leave(SUCCESS);
}
int cuStreamSynchronize(struct stream *stream) {
  ENTER(1);
  if (!is_stream(stream)) return leave(INVALID_HANDLE);
  if (stream->capturing) return stream->broken = 1, leave(CAPTURE_UNSUPPORTED);
  if ((result = unsafe_call())) return leave(result);
  return leave(run_all(stream));
}

// --- capture ---------------------------------------------------------------------------------------------------------
int cuThreadExchangeStreamCaptureMode(unsigned *mode) {
  ENTER(0);
  unsigned former = relaxed_mode == 2 ? 2 : 0;
  relaxed_mode = (int)*mode;
  *mode = former;
  return leave(SUCCESS);
}
int cuStreamBeginCapture_v2(struct stream *stream, unsigned mode) {
  ENTER(1);
  if (stream->capturing) return leave(INVALID_VALUE);
  if (mode != 1) complain("expected a thread-local capture");
  stream->capturing = 1;
  stream->broken = 0;
  stream->thread = pthread_self();
  return leave(SUCCESS);
}
int cuStreamEndCapture(struct stream *stream, struct queue **graph) {
  ENTER(1);
  *graph = NULL;
  if (!stream->capturing) return leave(CAPTURE_UNMATCHED);
  if (!pthread_equal(stream->thread, pthread_self())) return leave(CAPTURE_WRONG_THREAD);
  stream->capturing = 0;
  if (stream->broken) {
    stream->broken = 0;
    clear(&stream->captured);
    return leave(CAPTURE_INVALIDATED);
  }
  *graph = malloc(sizeof **graph);
  **graph = stream->captured;
  stream->captured.first = NULL;
  graphs++;
  return leave(SUCCESS);
}
int cuGraphInstantiateWithFlags(struct queue **executable, struct queue *graph, unsigned long long flags) {
  ENTER(1);
  (void)flags;
  *executable = calloc(1, sizeof **executable);
  for (struct operation *operation = graph->first; operation; operation = operation->next)
    append(*executable, operation->run, operation->data, operation->size);
  executables++;
  return leave(SUCCESS);
}
int cuGraphDestroy(struct queue *graph) {
  ENTER(0);
  clear(graph);
  free(graph);
  graphs--;
  return leave(SUCCESS);
}
int cuGraphExecDestroy(struct queue *executable) {
  ENTER(0);
  clear(executable);
  free(executable);
  executables--;
  return leave(SUCCESS);
}
int cuGraphLaunch(struct queue *executable, struct stream *stream) {
  ENTER(1);
  for (struct operation *operation = executable->first; operation && result == SUCCESS; operation = operation->next)
    result = enqueue(stream, operation->run, operation->data, operation->size);
  return leave(result);
}

// --- events ----------------------------------------------------------------------------------------------------------
static int pass(void *data) {
  struct event *event = *(struct event **)data;
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  event->at = now.tv_sec * 1e3 + now.tv_nsec * 1e-6;
  event->passed++;
  return SUCCESS;
}
int cuEventCreate(struct event **event, unsigned flags) {
  ENTER(1);
  (void)flags;
  *event = calloc(1, sizeof **event);
  events++;
  return leave(SUCCESS);
}
int cuEventDestroy_v2(struct event *event) {
  ENTER(0);
  if (event->asked != event->passed) run_all(event->stream);
  free(event);
  events--;
  return leave(SUCCESS);
}
int cuEventRecord(struct event *event, struct stream *stream) {
  ENTER(1);
  event->asked++;
  event->stream = stream;
  return leave(enqueue(stream, pass, &event, sizeof event));
}
int cuEventSynchronize(struct event *event) {
  ENTER(1);
  if ((result = unsafe_call())) return leave(result);
  while (event->passed < event->asked && event->stream->queue.first) {
    struct operation *operation = event->stream->queue.first;
    int code = sticky ? sticky : operation->run(operation->data);
    event->stream->queue.first = operation->next;
    free(operation);
    if (code != SUCCESS) return leave(sticky = code);
  }
  return leave(sticky);
}
int cuEventElapsedTime_v2(float *milliseconds, struct event *from, struct event *to) {
  ENTER(1);
  if (!from->asked || !to->asked) return leave(INVALID_HANDLE);
  if (from->asked != from->passed || to->asked != to->passed) return leave(NOT_READY);
  *milliseconds = (float)(to->at - from->at);
  return leave(SUCCESS);
}
int cuEventElapsedTime(float *milliseconds, struct event *from, struct event *to) {
  return cuEventElapsedTime_v2(milliseconds, from, to);
}

// --- memory ----------------------------------------------------------------------------------------------------------
struct block { uint64_t size; struct block *next, **from; unsigned char pad[232]; }; // 256 bytes, so memory is aligned
static struct block *blocks;

static long total_memory(void) { return atol(setting("FAKE_CUDA_MEMORY", "1073741824")); }

// Whether [address, address + size) lies in one allocation.
static int inside(uint64_t address, uint64_t size) {
  for (struct block *block = blocks; block; block = block->next)
    if (address >= (uint64_t)(block + 1) && address + size <= (uint64_t)(block + 1) + block->size) return 1;
  return 0;
}

int fake_is_device(const void *memory, size_t size) { return inside((uint64_t)memory, size); }

int cuMemAlloc_v2(uint64_t *address, size_t size) {
  ENTER(1);
  if ((result = unsafe_call())) return leave(result);
  if (!size) return leave(INVALID_VALUE);
  if (size > (size_t)(total_memory() - used_memory)) return leave(OUT_OF_MEMORY);
  struct block *block = aligned_alloc(256, (sizeof *block + size + 255) / 256 * 256);
  memset(block + 1, 0xcd, size);
  block->size = size;
  block->next = blocks;
  block->from = &blocks;
  if (blocks) blocks->from = &block->next;
  blocks = block;
  used_memory += (long)size;
  allocations++;
  *address = (uint64_t)(block + 1);
  return leave(SUCCESS);
}
int cuMemFree_v2(uint64_t address) {
  ENTER(1);
  if ((result = unsafe_call())) return leave(result);
  expect_idle("memory is freed while work is under way");
  struct block *block = blocks;
  while (block && (uint64_t)(block + 1) != address) block = block->next;
  if (!block) return leave(INVALID_VALUE);
  *block->from = block->next;
  if (block->next) block->next->from = block->from;
  used_memory -= (long)block->size;
  allocations--;
  memset(block + 1, 0xdd, block->size);
  free(block);
  return leave(SUCCESS);
}
int cuMemGetInfo_v2(size_t *available, size_t *total) {
  ENTER(1);
  *total = (size_t)total_memory();
  *available = (size_t)(total_memory() - used_memory);
  return leave(SUCCESS);
}
int cuMemHostAlloc(void **pointer, size_t size, unsigned flags) {
  ENTER(1);
  if ((result = unsafe_call())) return leave(result);
  if (flags) complain("expected plain pinned memory");
  *pointer = malloc(size);
  pinned++;
  return leave(SUCCESS);
}
int cuMemAllocHost_v2(void **pointer, size_t size) { return cuMemHostAlloc(pointer, size, 0); }
int cuMemFreeHost(void *pointer) {
  ENTER(1);
  if ((result = unsafe_call())) return leave(result);
  expect_idle("pinned memory is freed while work is under way");
  free(pointer);
  pinned--;
  return leave(SUCCESS);
}

struct copy { void *to; const void *from; size_t size; };
static int run_copy(void *data) {
  struct copy *copy = data;
  memmove(copy->to, copy->from, copy->size);
  return SUCCESS;
}
static int run_zero(void *data) {
  struct copy *copy = data;
  memset(copy->to, 0, copy->size);
  return SUCCESS;
}
static int copy(int to_device, int from_device, uint64_t to, uint64_t from, size_t size, struct stream *stream) {
  struct copy copy = {(void *)to, (const void *)from, size};
  if ((to_device && !inside(to, size)) || (from_device && !inside(from, size))) return INVALID_VALUE;
  return enqueue(stream, run_copy, &copy, sizeof copy);
}
int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t size, struct stream *stream) {
  ENTER(1);
  return leave(copy(1, 0, to, (uint64_t)from, size, stream));
}
int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t size, struct stream *stream) {
  ENTER(1);
  return leave(copy(0, 1, (uint64_t)to, from, size, stream));
}
int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t size, struct stream *stream) {
  ENTER(1);
  return leave(copy(1, 1, to, from, size, stream));
}
int cuMemsetD8Async(uint64_t to, unsigned char value, size_t size, struct stream *stream) {
  ENTER(1);
  struct copy copy = {(void *)to, NULL, size};
  if (value != 0 || !inside(to, size)) return leave(INVALID_VALUE);
  return leave(enqueue(stream, run_zero, &copy, sizeof copy));
}

// --- kernels ---------------------------------------------------------------------------------------------------------
struct function { char name[128]; int shared, large_clusters; size_t params; struct function *next; };
static struct function *functions;

typedef int launch_t(const char *, const unsigned[3], unsigned, unsigned, size_t, const void *, size_t, uint64_t, int, char *, size_t);
typedef int info_t(const char *, unsigned *, size_t *, size_t *);

static void *kernel_library(const char *symbol) {
  static void *library;
  const char *file = getenv("FAKE_CUDA_KERNELS");
  if (!file || !*file) return NULL;
  if (!library) library = dlopen(file, RTLD_NOW | RTLD_LOCAL);
  if (!library) complain(dlerror());
  return library ? dlsym(library, symbol) : NULL;
}

int cuModuleLoadDataEx(void **module, const void *image, unsigned count, int *options, void **values) {
  ENTER(1);
  if ((result = unsafe_call())) return leave(result);
  for (unsigned i = 0; i + 1 < count; i++)
    if (options[i] == 5) snprintf(values[i], (size_t)values[i + 1], "%s", ""); // the error log
  // A cubin, a fat binary, or PTX.
  const int known = memcmp(image, "\177ELF", 4) == 0 || memcmp(image, "\x50\xed\x55\xba", 4) == 0;
  if (!known && strstr(image, ".version") == NULL) return leave(INVALID_IMAGE);
  *module = malloc(1);
  modules++;
  return leave(SUCCESS);
}
int cuModuleUnload(void *module) {
  ENTER(0);
  free(module);
  if (--modules == 0) {
    while (functions) {
      struct function *function = functions;
      functions = function->next;
      free(function);
    }
  }
  return leave(SUCCESS);
}
int cuModuleGetFunction(struct function **function, void *module, const char *name) {
  ENTER(1);
  (void)module;
  info_t *info = (info_t *)kernel_library("songrnn_emulated_info");
  unsigned threads = 0;
  size_t shared = 0, params = 8;
  if (strcmp(name, "no_such") == 0 || (info && info(name, &threads, &shared, &params) != 0)) return leave(NOT_FOUND);
  *function = calloc(1, sizeof **function);
  snprintf((*function)->name, sizeof (*function)->name, "%s", name);
  (*function)->shared = SHARED_UNASKED;
  (*function)->params = params;
  (*function)->next = functions;
  functions = *function;
  return leave(SUCCESS);
}
int cuFuncLoad(struct function *function) {
  ENTER(1);
  (void)function;
  return leave(unsafe_call());
}
int cuFuncGetParamInfo(struct function *function, size_t index, size_t *offset, size_t *size) {
  ENTER(1);
  if (index > 0) return leave(INVALID_VALUE);
  *offset = 0;
  *size = function->params;
  return leave(SUCCESS);
}
int cuFuncSetAttribute(struct function *function, int attribute, int value) {
  ENTER(1);
  if (attribute == 8 && value <= SHARED_OPTIN) function->shared = value;
  else if (attribute == 14) function->large_clusters = value;
  else return leave(INVALID_VALUE);
  return leave(SUCCESS);
}

struct configuration { // CUlaunchConfig
  unsigned grid[3], block[3], shared;
  struct stream *stream;
  struct attribute { int id; char pad[4]; union { char pad[64]; unsigned cluster[3]; } value; } *attributes;
  unsigned count;
};

struct call { char name[128]; unsigned grid[3], threads, cluster; size_t shared, size; _Alignas(16) unsigned char params[]; };

static int run_kernel(void *data) {
  struct call *call = data;
  launch_t *launch = (launch_t *)kernel_library("songrnn_emulated_launch");
  char error[1024] = "";
  if (!launch) return SUCCESS;
  if (launch(call->name, call->grid, call->threads, call->cluster, call->shared, call->params, call->size, 1, 0, error, sizeof error) == 0)
    return SUCCESS;
  fprintf(stderr, "fake cuda: %s: %s\n", call->name, error);
  return LAUNCH_FAILED;
}

static unsigned cluster_of(const struct configuration *configuration) {
  for (unsigned i = 0; i < configuration->count; i++)
    if (configuration->attributes[i].id == 4) return configuration->attributes[i].value.cluster[0];
  return 1;
}

static int major(void) { return atoi(setting("FAKE_CUDA_CAPABILITY", "9.0")); }

static int check_launch(const struct configuration *configuration, const struct function *function) {
  unsigned cluster = cluster_of(configuration);
  if (cluster > 1 && major() < 9) return NOT_SUPPORTED;
  if (cluster > 16 || (cluster > 8 && !function->large_clusters) || configuration->grid[0] % cluster) return INVALID_CLUSTER_SIZE;
  if ((int)configuration->shared > function->shared || configuration->block[0] > 1024 || !configuration->grid[0]) return INVALID_VALUE;
  return SUCCESS;
}

int cuLaunchKernelEx(const struct configuration *configuration, struct function *function, void **params, void **extra) {
  ENTER(1);
  if (extra || !params) return leave(INVALID_VALUE);
  if ((result = check_launch(configuration, function))) return leave(result);
  struct call *call = calloc(1, sizeof *call + function->params);
  memcpy(call->name, function->name, sizeof call->name);
  memcpy(call->grid, configuration->grid, sizeof call->grid);
  call->threads = configuration->block[0];
  call->cluster = cluster_of(configuration);
  call->shared = configuration->shared;
  call->size = function->params;
  memcpy(call->params, params[0], function->params);
  result = enqueue(configuration->stream, run_kernel, call, sizeof *call + function->params);
  free(call);
  return leave(result);
}
int cuLaunchKernel(struct function *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared, struct stream *stream, void **params, void **extra) {
  struct configuration configuration = {{gx, gy, gz}, {bx, by, bz}, shared, stream, NULL, 0};
  return cuLaunchKernelEx(&configuration, function, params, extra);
}
int cuOccupancyMaxActiveBlocksPerMultiprocessor(int *count, struct function *function, int threads, size_t shared) {
  ENTER(1);
  (void)function;
  int by_threads = 2048 / threads, by_shared = (int)((SHARED_OPTIN + 1024) / (shared + 1024));
  *count = by_threads < by_shared ? by_threads : by_shared;
  return leave(SUCCESS);
}
int cuOccupancyMaxActiveClusters(int *count, struct function *function, const struct configuration *configuration) {
  ENTER(1);
  if ((result = check_launch(configuration, function))) return leave(result);
  unsigned by_threads = 2048 / configuration->block[0], by_shared = (SHARED_OPTIN + 1024) / (configuration->shared + 1024);
  *count = (int)((by_threads < by_shared ? by_threads : by_shared) * MULTIPROCESSORS / cluster_of(configuration));
  return leave(SUCCESS);
}

// --- devices ---------------------------------------------------------------------------------------------------------
int cuInit(unsigned flags) {
  ENTER(0);
  if (flags) return leave(INVALID_VALUE);
  initialised = 1;
  return leave(atoi(setting("FAKE_CUDA_DEVICES", "1")) ? SUCCESS : NO_DEVICE);
}
int cuDriverGetVersion(int *version) {
  *version = atoi(setting("FAKE_CUDA_DRIVER", "13000"));
  return SUCCESS;
}
int cuDeviceGetCount(int *count) {
  ENTER(0);
  *count = atoi(setting("FAKE_CUDA_DEVICES", "1"));
  return leave(SUCCESS);
}
int cuDeviceGet(int *device, int ordinal) {
  ENTER(0);
  if (ordinal < 0 || ordinal >= atoi(setting("FAKE_CUDA_DEVICES", "1"))) return leave(INVALID_DEVICE);
  *device = ordinal;
  return leave(SUCCESS);
}
int cuDeviceGetName(char *name, int size, int device) {
  ENTER(0);
  snprintf(name, (size_t)size, "Fake device %d", device);
  return leave(SUCCESS);
}
int cuDeviceTotalMem_v2(size_t *size, int device) {
  ENTER(0);
  (void)device;
  *size = (size_t)total_memory();
  return leave(SUCCESS);
}
int cuDeviceGetAttribute(int *value, int attribute, int device) {
  ENTER(0);
  (void)device;
  const char *minor = strchr(setting("FAKE_CUDA_CAPABILITY", "9.0"), '.');
  switch (attribute) {
    case 16: *value = MULTIPROCESSORS; break;
    case 75: *value = major(); break;
    case 76: *value = minor ? atoi(minor + 1) : 0; break;
    case 97: *value = SHARED_OPTIN; break;
    case 120: *value = major() >= 9; break;
    default: return leave(INVALID_VALUE);
  }
  return leave(SUCCESS);
}
int cuDevicePrimaryCtxRetain(void **context, int device) {
  ENTER(0);
  (void)device;
  *context = &the_context;
  contexts++;
  return leave(SUCCESS);
}
int cuDevicePrimaryCtxRelease_v2(int device) {
  ENTER(0);
  (void)device;
  if (--contexts == 0) {
    long left = allocations + pinned + streams + events + modules + graphs + executables;
    if (left && !sticky)
      fprintf(stderr, "fake cuda: left over: %ld allocations, %ld pinned, %ld streams, %ld events, %ld modules, %ld graphs, %ld executables\n",
              allocations, pinned, streams, events, modules, graphs, executables);
    // All of it goes with the context; a broken one could not give anything back.
    used_memory = allocations = pinned = streams = events = modules = graphs = executables = 0;
    blocks = NULL;
    all_streams = NULL;
    functions = NULL;
    sticky = 0;
  }
  return leave(SUCCESS);
}
int cuCtxSetCurrent(void *context) {
  ENTER(0);
  current = context;
  return leave(SUCCESS);
}

// --- words -----------------------------------------------------------------------------------------------------------
static const struct { int code; const char *name, *meaning; } texts[] = {
  {SUCCESS, "CUDA_SUCCESS", "no error"},
  {INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
  {OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
  {INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
  {NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
  {INVALID_CLUSTER_SIZE, "CUDA_ERROR_INVALID_CLUSTER_SIZE", "cluster misconfiguration"},
  {ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
  {LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
  {CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is capturing"},
  {CAPTURE_INVALIDATED, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED", "operation failed due to a previous error during capture"},
};
int cuGetErrorName(int code, const char **text) {
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
    if (texts[i].code == code) return *text = texts[i].name, SUCCESS;
  return *text = NULL, INVALID_VALUE;
}
int cuGetErrorString(int code, const char **text) {
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
    if (texts[i].code == code) return *text = texts[i].meaning, SUCCESS;
  return *text = NULL, INVALID_VALUE;
}
