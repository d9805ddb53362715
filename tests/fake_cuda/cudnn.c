// A libcudnn for tests: the recurrent networks of cuDNN 9 on the fake libcuda. Handles and descriptors, sizes and
// weights are here, the calls in cudnn_rnn.c, the arithmetic in cudnn_cells.c. It supports less than a real one and
// checks more: what NVIDIA's documentation does not promise does not work here.
//
//   FAKE_CUDNN_VERSION=92100            what cudnnGetVersion says
//   FAKE_CUDNN_FAIL=NAME:N:STATUS       the N-th call (from 1) of that function returns the status
//   FAKE_CUDNN_LOG=FILE                 a line for each call is appended
//   FAKE_CUDNN_WRONG=gates              see cudnn_cells.c
//
// What is alive when the last handle is destroyed or the process ends, and every misuse, is said on standard error with
// "fake cudnn:" in front.
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cudnn_inside.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct object *objects;
int fake_cudnn_quiet;
static __thread char last_error[256];

void fake_cudnn_complain(const char *format, ...) {
  va_list arguments;
  fake_cudnn_quiet = 1;
  va_start(arguments, format);
  fputs("fake cudnn: ", stderr);
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
  va_end(arguments);
}

cudnnStatus_t fake_cudnn_requested(const char *function) {
  static int seen;
  const char *wish = getenv("FAKE_CUDNN_FAIL");
  size_t length = strlen(function);
  int number = 0, status = 0;
  if (!wish || strncmp(wish, function, length) != 0 || wish[length] != ':') return CUDNN_STATUS_SUCCESS;
  if (sscanf(wish + length, ":%d:%d", &number, &status) != 2 || __sync_add_and_fetch(&seen, 1) != number) return CUDNN_STATUS_SUCCESS;
  return fake_cudnn_refuse((cudnnStatus_t)status, "it was asked to fail");
}

cudnnStatus_t fake_cudnn_refuse(cudnnStatus_t status, const char *why) {
  snprintf(last_error, sizeof last_error, "%s", why);
  return status;
}

// "RNNForward training ... status=0", or "status=2000 (why)".
cudnnStatus_t fake_cudnn_said(const char *function, cudnnStatus_t status, const char *format, ...) {
  const char *path = getenv("FAKE_CUDNN_LOG");
  FILE *file = path && *path ? fopen(path, "a") : NULL;
  if (file) {
    char line[4096];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    fprintf(file, "%s%s%s status=%d", function + strlen("cudnn"), *line ? " " : "", line, (int)status);
    if (status == CUDNN_STATUS_SUCCESS) fputc('\n', file);
    else fprintf(file, " (%s)\n", last_error);
    fclose(file);
  }
  return status;
}

size_t fake_cudnn_version(void) {
  const char *version = getenv("FAKE_CUDNN_VERSION");
  return version && *version ? (size_t)atol(version) : 92100;
}
size_t cudnnGetVersion(void) {
  fake_cudnn_said(__func__, CUDNN_STATUS_SUCCESS, "%zu", fake_cudnn_version());
  return fake_cudnn_version();
}

const char *cudnnGetErrorString(cudnnStatus_t status) {
#define TEXT(name, value) if (status == name) return #name;
  STATUSES(TEXT)
  return "CUDNN_STATUS_OTHER";
}
void cudnnGetLastErrorString(char *message, size_t size) {
  if (size) snprintf(message, size, "%s", last_error);
}

// --- handles and descriptors -----------------------------------------------------------------------------------------
static const char *kinds[KINDS] = {"handles", "tensor", "dropout", "RNN", "RNN data descriptors"};

int fake_cudnn_alive(const void *wanted, int kind) {
  pthread_mutex_lock(&lock);
  const struct object *object = objects;
  while (object && object != wanted) object = object->next;
  pthread_mutex_unlock(&lock);
  return wanted && object && object->kind == kind;
}

static cudnnStatus_t create(void *pointer, int kind, size_t size) {
  REFUSE_IF(!pointer, BAD_PARAM_NULL_POINTER, "nowhere to put it");
  struct object *object = calloc(1, size);
  object->kind = kind;
  pthread_mutex_lock(&lock);
  object->next = objects;
  objects = object;
  pthread_mutex_unlock(&lock);
  memcpy(pointer, &object, sizeof object);
  return CUDNN_STATUS_SUCCESS;
}

static void say_what_is_left(const char *when) {
  int counts[KINDS] = {0}, any = 0;
  for (struct object *object = objects; object; object = object->next) counts[object->kind]++, any = 1;
  if (any && !fake_cudnn_quiet)
    fake_cudnn_complain("left over %s: %d %s, %d %s, %d %s, %d %s, %d %s", when, counts[0], kinds[0], counts[1], kinds[1], counts[2], kinds[2],
                        counts[3], kinds[3], counts[4], kinds[4]);
}

static cudnnStatus_t destroy(void *wanted, int kind) {
  REFUSE_IF(!fake_cudnn_alive(wanted, kind), BAD_PARAM, "it is not alive");
  pthread_mutex_lock(&lock);
  struct object **from = &objects;
  while (*from != wanted) from = &(*from)->next;
  *from = (*from)->next;
  int handles = 0;
  for (struct object *object = objects; object; object = object->next) handles += object->kind == HANDLE;
  if (kind == HANDLE && !handles) say_what_is_left("with the last handle");
  pthread_mutex_unlock(&lock);
  if (kind == DATA) free(((struct cudnnRNNDataStruct *)wanted)->lengths);
  free(wanted);
  return CUDNN_STATUS_SUCCESS;
}

__attribute__((destructor)) static void at_the_end(void) { say_what_is_left("at the end"); }

static cudnnStatus_t create_handle(cudnnHandle_t *handle) {
  REFUSE_IF(fake_unsafe_call(), EXECUTION_FAILED_CUDA_DRIVER, "a handle allocates: not during a capture, nor on a broken device");
  return create(handle, HANDLE, sizeof **handle);
}
cudnnStatus_t cudnnCreate(cudnnHandle_t *handle) { CALL(create_handle(handle), "%s", ""); }
cudnnStatus_t cudnnDestroy(cudnnHandle_t handle) { CALL(destroy(handle, HANDLE), "%s", ""); }

static cudnnStatus_t set_stream(cudnnHandle_t handle, void *stream) {
  REFUSE_IF(!fake_cudnn_alive(handle, HANDLE), BAD_PARAM, "no handle");
  handle->stream = stream;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream) { CALL(set_stream(handle, stream), "default=%d", stream == NULL); }

cudnnStatus_t cudnnCreateTensorDescriptor(cudnnTensorDescriptor_t *tensor) { CALL(create(tensor, TENSOR, sizeof **tensor), "%s", ""); }
cudnnStatus_t cudnnDestroyTensorDescriptor(cudnnTensorDescriptor_t tensor) { CALL(destroy(tensor, TENSOR), "%s", ""); }
cudnnStatus_t cudnnCreateDropoutDescriptor(cudnnDropoutDescriptor_t *dropout) { CALL(create(dropout, DROPOUT, sizeof **dropout), "%s", ""); }
cudnnStatus_t cudnnDestroyDropoutDescriptor(cudnnDropoutDescriptor_t dropout) { CALL(destroy(dropout, DROPOUT), "%s", ""); }
cudnnStatus_t cudnnCreateRNNDescriptor(cudnnRNNDescriptor_t *rnn) { CALL(create(rnn, RNN, sizeof **rnn), "%s", ""); }
cudnnStatus_t cudnnDestroyRNNDescriptor(cudnnRNNDescriptor_t rnn) { CALL(destroy(rnn, RNN), "%s", ""); }
cudnnStatus_t cudnnCreateRNNDataDescriptor(cudnnRNNDataDescriptor_t *data) { CALL(create(data, DATA, sizeof **data), "%s", ""); }
cudnnStatus_t cudnnDestroyRNNDataDescriptor(cudnnRNNDataDescriptor_t data) { CALL(destroy(data, DATA), "%s", ""); }

static int is_supported(cudnnDataType_t type) { return type == CUDNN_DATA_FLOAT || type == CUDNN_DATA_HALF || type == CUDNN_DATA_BFLOAT16; }

static cudnnStatus_t set_tensor(cudnnTensorDescriptor_t tensor, cudnnDataType_t type, int count, const int *dims, const int *strides) {
  REFUSE_IF(!fake_cudnn_alive(tensor, TENSOR), BAD_PARAM, "no tensor descriptor");
  REFUSE_IF(!dims || !strides, BAD_PARAM_NULL_POINTER, "no dimensions or strides");
  REFUSE_IF(count < 3 || count > CUDNN_DIM_MAX, NOT_SUPPORTED, "3 to 8 dimensions");
  REFUSE_IF(!is_supported(type), NOT_SUPPORTED, "the fake has float, half and bfloat16");
  for (int i = 0; i < count; i++) REFUSE_IF(dims[i] < 1 || strides[i] < 1, BAD_PARAM, "a dimension or stride below 1");
  tensor->type = type;
  tensor->count = count;
  memcpy(tensor->dims, dims, (size_t)count * sizeof *dims);
  memcpy(tensor->strides, strides, (size_t)count * sizeof *strides);
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetTensorNdDescriptor(cudnnTensorDescriptor_t tensor, cudnnDataType_t type, int count, const int dims[], const int strides[]) {
  CALL(set_tensor(tensor, type, count, dims, strides), "type=%d dims=%d,%d,%d", type, dims && count > 2 ? dims[0] : 0,
       dims && count > 2 ? dims[1] : 0, dims && count > 2 ? dims[2] : 0);
}

static cudnnStatus_t get_tensor(const struct cudnnTensorStruct *tensor, int wanted, cudnnDataType_t *type, int *count, int *dims, int *strides) {
  REFUSE_IF(!fake_cudnn_alive(tensor, TENSOR), BAD_PARAM, "no tensor descriptor");
  REFUSE_IF(!type || !count || (wanted > 0 && (!dims || !strides)), BAD_PARAM_NULL_POINTER, "nowhere to put it");
  REFUSE_IF(wanted < 0 || wanted > CUDNN_DIM_MAX, BAD_PARAM, "0 to 8 dimensions");
  *type = tensor->type;
  *count = tensor->count;
  for (int i = 0; i < wanted && i < tensor->count; i++) dims[i] = tensor->dims[i], strides[i] = tensor->strides[i];
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnGetTensorNdDescriptor(const cudnnTensorDescriptor_t tensor, int wanted, cudnnDataType_t *type, int *count, int dims[],
                                         int strides[]) {
  CALL(get_tensor(tensor, wanted, type, count, dims, strides), "%d", wanted);
}

static cudnnStatus_t set_dropout(cudnnDropoutDescriptor_t dropout, cudnnHandle_t handle, float probability) {
  REFUSE_IF(!fake_cudnn_alive(dropout, DROPOUT) || !fake_cudnn_alive(handle, HANDLE), BAD_PARAM, "no dropout descriptor or handle");
  REFUSE_IF(!(probability >= 0 && probability <= 1), BAD_PARAM, "a probability lies between 0 and 1");
  REFUSE_IF(probability != 0, NOT_SUPPORTED, "the fake drops nothing");
  dropout->set = 1;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetDropoutDescriptor(cudnnDropoutDescriptor_t dropout, cudnnHandle_t handle, float probability, void *states, size_t size,
                                        unsigned long long seed) {
  CALL(set_dropout(dropout, handle, probability), "%g states=%d size=%zu seed=%llu", (double)probability, states != NULL, size, seed);
}

// --- networks --------------------------------------------------------------------------------------------------------
static cudnnStatus_t set_network(cudnnRNNDescriptor_t rnn, struct network network, cudnnDirectionMode_t direction, cudnnRNNInputMode_t input,
                                 cudnnDataType_t precision, int projected, cudnnDropoutDescriptor_t dropout, uint32_t flags) {
  REFUSE_IF(!fake_cudnn_alive(rnn, RNN), BAD_PARAM, "no RNN descriptor");
  REFUSE_IF(!fake_cudnn_alive(dropout, DROPOUT) || !dropout->set, BAD_PARAM, "no dropout descriptor, or one that was not set");
  REFUSE_IF(network.algo >= CUDNN_RNN_ALGO_COUNT || network.cell > CUDNN_GRU || network.bias > CUDNN_RNN_SINGLE_REC_BIAS, BAD_PARAM,
            "an algorithm, cell or bias that does not exist");
  REFUSE_IF(network.in < 1 || network.hidden < 1 || network.layers < 1 || projected > network.hidden || projected < 1, BAD_PARAM,
            "a size below 1, or a projection to more");
  REFUSE_IF(flags & ~CUDNN_RNN_PADDED_IO_ENABLED, BAD_PARAM, "unknown flags");
  REFUSE_IF(network.cell == CUDNN_RNN_RELU || direction != CUDNN_UNIDIRECTIONAL || input != CUDNN_LINEAR_INPUT || projected != network.hidden,
            NOT_SUPPORTED, "the fake has no ReLU, second direction, skipped input or projection");
  REFUSE_IF(!is_supported(network.type) || precision != CUDNN_DATA_FLOAT, NOT_SUPPORTED, "the fake has float, half and bfloat16, computed in float");
  REFUSE_IF(network.type == CUDNN_DATA_FLOAT ? network.math != CUDNN_DEFAULT_MATH && network.math != CUDNN_FMA_MATH
                                             : network.math != CUDNN_DEFAULT_MATH && network.math != CUDNN_TENSOR_OP_MATH,
            NOT_SUPPORTED, "this kind of mathematics is not for this data type");
  REFUSE_IF(network.algo != CUDNN_RNN_ALGO_STANDARD && network.bias != CUDNN_RNN_DOUBLE_BIAS, NOT_SUPPORTED, "persistent algorithms have two biases");
  rnn->network = network;
  rnn->set = 1;
  rnn->built_batch = 0;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetRNNDescriptor_v8(cudnnRNNDescriptor_t rnn, cudnnRNNAlgo_t algo, cudnnRNNMode_t cell, cudnnRNNBiasMode_t bias,
                                       cudnnDirectionMode_t direction, cudnnRNNInputMode_t input, cudnnDataType_t type, cudnnDataType_t precision,
                                       cudnnMathType_t math, int32_t in, int32_t hidden, int32_t projected, int32_t layers,
                                       cudnnDropoutDescriptor_t dropout, uint32_t flags) {
  struct network network = {algo, cell, bias, type, math, in, hidden, layers};
  CALL(set_network(rnn, network, direction, input, precision, projected, dropout, flags),
       "algo=%d mode=%d bias=%d type=%d precision=%d math=%d in=%d hidden=%d layers=%d", algo, cell, bias, type, precision, math, in, hidden, layers);
}

static cudnnStatus_t set_data(cudnnRNNDataDescriptor_t data, cudnnDataType_t type, cudnnRNNDataLayout_t layout, int steps, int batch, int width,
                              const int *lengths) {
  REFUSE_IF(!fake_cudnn_alive(data, DATA), BAD_PARAM, "no RNN data descriptor");
  REFUSE_IF(!lengths, BAD_PARAM_NULL_POINTER, "no lengths");
  REFUSE_IF(steps < 1 || batch < 1 || width < 1 || layout > CUDNN_RNN_DATA_LAYOUT_BATCH_MAJOR_UNPACKED, BAD_PARAM, "a size below 1, or no such layout");
  REFUSE_IF(layout != CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_PACKED || !is_supported(type), NOT_SUPPORTED, "the fake has packed float, half and bfloat16");
  for (int i = 0; i < batch; i++) {
    REFUSE_IF(lengths[i] < 1 || lengths[i] > steps, BAD_PARAM, "a length below 1 or above the longest");
    REFUSE_IF(i && lengths[i] > lengths[i - 1], BAD_PARAM, "packed sequences are sorted, the longest first");
  }
  REFUSE_IF(lengths[0] != steps, BAD_PARAM, "none is as long as the longest");
  free(data->lengths);
  data->lengths = malloc((size_t)batch * sizeof *lengths);
  memcpy(data->lengths, lengths, (size_t)batch * sizeof *lengths);
  data->type = type, data->steps = steps, data->batch = batch, data->width = width, data->set = 1;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetRNNDataDescriptor(cudnnRNNDataDescriptor_t data, cudnnDataType_t type, cudnnRNNDataLayout_t layout, int steps, int batch,
                                        int width, const int lengths[], void *fill) {
  CALL(set_data(data, type, layout, steps, batch, width, lengths), "type=%d layout=%d steps=%d batch=%d width=%d fill=%d", type, layout, steps, batch,
       width, fill != NULL);
}

static cudnnStatus_t build(cudnnHandle_t handle, cudnnRNNDescriptor_t rnn, int batch) {
  REFUSE_IF(!fake_cudnn_alive(handle, HANDLE) || !fake_cudnn_alive(rnn, RNN) || !rnn->set, BAD_PARAM, "no handle or network");
  REFUSE_IF(rnn->network.algo != CUDNN_RNN_ALGO_PERSIST_DYNAMIC || batch < 1, BAD_PARAM, "this is for the dynamic algorithm and a batch");
  REFUSE_IF(fake_unsafe_call(), EXECUTION_FAILED_CUDA_DRIVER, "this compiles and loads: not during a capture, nor on a broken device");
  rnn->built_batch = batch;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnBuildRNNDynamic(cudnnHandle_t handle, cudnnRNNDescriptor_t rnn, int batch) { CALL(build(handle, rnn, batch), "batch=%d", batch); }

// What the algorithm takes.
cudnnStatus_t fake_cudnn_check_shape(const struct cudnnRNNStruct *rnn, const struct cudnnRNNDataStruct *x) {
  const struct network *network = &rnn->network;
  REFUSE_IF(x->type != network->type || x->width != network->in, BAD_PARAM, "x has another type or width than the network");
  if (network->algo == CUDNN_RNN_ALGO_STANDARD) return CUDNN_STATUS_SUCCESS;
  REFUSE_IF(x->lengths[x->batch - 1] != x->steps, NOT_SUPPORTED, "persistent algorithms want sequences of one length");
  REFUSE_IF(network->algo == CUDNN_RNN_ALGO_PERSIST_STATIC && (network->hidden > 1024 || network->hidden % 32 || network->in % 32), NOT_SUPPORTED,
            "the persistent static algorithm wants at most 1024 units, units and inputs in multiples of 32");
  REFUSE_IF(network->algo == CUDNN_RNN_ALGO_PERSIST_STATIC_SMALL_H && network->hidden > 384, NOT_SUPPORTED, "the algorithm for few units wants at most 384");
  return CUDNN_STATUS_SUCCESS;
}

static cudnnStatus_t temporary(cudnnHandle_t handle, cudnnRNNDescriptor_t rnn, cudnnForwardMode_t mode, cudnnRNNDataDescriptor_t x, size_t *work,
                               size_t *reserve) {
  REFUSE_IF(!fake_cudnn_alive(handle, HANDLE) || !fake_cudnn_alive(rnn, RNN) || !rnn->set || !fake_cudnn_alive(x, DATA) || !x->set, BAD_PARAM,
            "no handle, network or data descriptor");
  REFUSE_IF(mode > CUDNN_FWD_MODE_TRAINING || (mode == CUDNN_FWD_MODE_TRAINING && !reserve) || !work, BAD_PARAM, "no such mode, or nowhere to put the sizes");
  cudnnStatus_t status = fake_cudnn_check_shape(rnn, x);
  if (status != CUDNN_STATUS_SUCCESS) return status;
  struct batch batch = {x->steps, x->batch, 0, x->lengths};
  for (int i = 0; i < x->batch; i++) batch.rows += x->lengths[i];
  *work = fake_cudnn_work_size(&rnn->network, &batch);
  if (reserve) *reserve = mode == CUDNN_FWD_MODE_TRAINING ? fake_cudnn_reserve_size(&rnn->network, &batch) : 0;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnGetRNNTempSpaceSizes(cudnnHandle_t handle, cudnnRNNDescriptor_t rnn, cudnnForwardMode_t mode, cudnnRNNDataDescriptor_t x,
                                        size_t *work, size_t *reserve) {
  CALL(temporary(handle, rnn, mode, x, work, reserve), "%s", mode == CUDNN_FWD_MODE_TRAINING ? "training" : "inference");
}

static cudnnStatus_t weight_size(cudnnHandle_t handle, cudnnRNNDescriptor_t rnn, size_t *size) {
  REFUSE_IF(!fake_cudnn_alive(handle, HANDLE) || !fake_cudnn_alive(rnn, RNN) || !rnn->set, BAD_PARAM, "no handle or network");
  REFUSE_IF(!size, BAD_PARAM_NULL_POINTER, "nowhere to put it");
  *size = fake_cudnn_weight_size(&rnn->network);
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnGetRNNWeightSpaceSize(cudnnHandle_t handle, cudnnRNNDescriptor_t rnn, size_t *size) { CALL(weight_size(handle, rnn, size), "%s", ""); }

// Absent: no dimensions, no address. Without a weight space the addresses are offsets.
static void describe(cudnnTensorDescriptor_t tensor, void **address, const struct network *network, const void *weights, size_t at, int columns) {
  tensor->type = network->type;
  tensor->count = at == ABSENT ? 0 : 3;
  const int dims[] = {1, network->hidden, columns}, strides[] = {network->hidden * columns, columns, 1};
  memcpy(tensor->dims, dims, sizeof dims);
  memcpy(tensor->strides, strides, sizeof strides);
  *address = at == ABSENT ? NULL : (void *)((uintptr_t)weights + at);
}
static cudnnStatus_t weight(cudnnHandle_t handle, cudnnRNNDescriptor_t rnn, int layer, size_t size, const void *weights, int id,
                            cudnnTensorDescriptor_t m_desc, void **m, cudnnTensorDescriptor_t b_desc, void **b) {
  REFUSE_IF(!fake_cudnn_alive(handle, HANDLE) || !fake_cudnn_alive(rnn, RNN) || !rnn->set, BAD_PARAM, "no handle or network");
  REFUSE_IF(!fake_cudnn_alive(m_desc, TENSOR) || !fake_cudnn_alive(b_desc, TENSOR) || !m || !b, BAD_PARAM, "no tensor descriptor, or nowhere to put it");
  const struct network *network = &rnn->network;
  int gates = fake_cudnn_gates(network);
  REFUSE_IF(layer < 0 || layer >= network->layers || id < 0 || id >= 2 * gates + (network->cell == CUDNN_LSTM), BAD_PARAM, "no such layer or matrix");
  REFUSE_IF(size < fake_cudnn_weight_size(network), BAD_PARAM, "the weight space is too small");
  const int projection = id == 2 * gates; // there is none
  describe(m_desc, m, network, weights, projection ? ABSENT : fake_cudnn_weight_at(network, layer, id, 0), id < gates && !layer ? network->in : network->hidden);
  describe(b_desc, b, network, weights, projection ? ABSENT : fake_cudnn_weight_at(network, layer, id, 1), 1);
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnGetRNNWeightParams(cudnnHandle_t handle, cudnnRNNDescriptor_t rnn, int32_t layer, size_t size, const void *weights, int32_t id,
                                      cudnnTensorDescriptor_t m_desc, void **m, cudnnTensorDescriptor_t b_desc, void **b) {
  CALL(weight(handle, rnn, layer, size, weights, id, m_desc, m, b_desc, b), "layer=%d id=%d space=%d", layer, id, weights != NULL);
}
