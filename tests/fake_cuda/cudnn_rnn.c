// The three calls of the fake cuDNN that compute: what they check at once, and what happens when the stream gets there.
// Everything but device memory is copied by then: descriptors may be gone.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cudnn_inside.h"

enum { CUDA_ILLEGAL_ADDRESS = 700, CUDA_LAUNCH_FAILED = 719 };

struct work {
  const char *function, *(*compute)(const struct network *, const struct batch *, const struct tensors *);
  struct network network;
  struct batch batch;
  struct tensors tensors;
  const int32_t *device_lengths;
  void *work;
  size_t work_size;
  int lengths[];
};

static int check_memory(const struct work *work) {
  const struct tensors *t = &work->tensors;
  size_t bytes = fake_cudnn_bytes(work->network.type), rows = (size_t)work->batch.rows, hidden = (size_t)work->network.hidden;
  size_t in = rows * (size_t)work->network.in * bytes, out = rows * hidden * bytes;
  size_t state = (size_t)(work->network.layers * work->batch.batch) * hidden * bytes, weights = fake_cudnn_weight_size(&work->network);
  const struct { const char *name; const void *memory; size_t size; int written; } all[] = {
    {"x", t->x, in, 0}, {"dx", t->dx, in, 1}, {"y", t->y, out, 1}, {"y", t->y_again, out, 0}, {"dy", t->dy, out, 0},
    {"hx", t->hx, state, 0}, {"cx", t->cx, state, 0}, {"hy", t->hy, state, 1}, {"cy", t->cy, state, 1}, {"dhy", t->dhy, state, 0},
    {"dcy", t->dcy, state, 0}, {"dhx", t->dhx, state, 1}, {"dcx", t->dcx, state, 1}, {"weightSpace", t->weights, weights, 0},
    {"dweightSpace", t->dweights, weights, 1}, {"reserveSpace", t->reserve, fake_cudnn_reserve_size(&work->network, &work->batch), 1},
    {"workSpace", work->work, work->work_size, 1},
    {"devSeqLengths", work->device_lengths, (size_t)work->batch.batch * sizeof(int32_t), 0},
  };
  const size_t count = sizeof all / sizeof *all;
  for (size_t i = 0; i < count; i++)
    if (all[i].memory && !fake_is_device(all[i].memory, all[i].size)) {
      fake_cudnn_complain("%s: %s is not %zu bytes of device memory", work->function, all[i].name, all[i].size);
      return CUDA_ILLEGAL_ADDRESS;
    }
  // NVIDIA promises nothing of calls in place.
  for (size_t i = 0; i < count; i++)
    for (size_t j = i + 1; j < count; j++) {
      const char *a = all[i].memory, *b = all[j].memory;
      if (a && b && (all[i].written || all[j].written) && a < b + all[j].size && b < a + all[i].size) {
        fake_cudnn_complain("%s: %s and %s share memory", work->function, all[i].name, all[j].name);
        return CUDA_LAUNCH_FAILED;
      }
    }
  return 0;
}

static int run(void *data) {
  struct work *work = data;
  work->batch.lengths = work->lengths;
  int code = check_memory(work);
  if (code) return code;
  if (work->device_lengths && memcmp(work->device_lengths, work->lengths, (size_t)work->batch.batch * sizeof *work->lengths) != 0) {
    fake_cudnn_complain("%s: devSeqLengths are not the descriptor's lengths", work->function);
    return CUDA_LAUNCH_FAILED;
  }
  const char *wrong = work->compute(&work->network, &work->batch, &work->tensors);
  if (wrong) {
    fake_cudnn_complain("%s: %s", work->function, wrong);
    return CUDA_LAUNCH_FAILED;
  }
  memset(work->work, 0xff, work->work_size); // NaN: nothing of it may be used
  return 0;
}

static int is_state(const struct cudnnTensorStruct *tensor, const struct network *network, int batch) {
  const int dims[] = {network->layers, batch, network->hidden}, strides[] = {batch * network->hidden, network->hidden, 1};
  return fake_cudnn_alive(tensor, TENSOR) && tensor->type == network->type && tensor->count == 3 && !memcmp(tensor->dims, dims, sizeof dims) &&
         !memcmp(tensor->strides, strides, sizeof strides);
}

// What every call is given.
struct given {
  cudnnHandle_t handle;
  cudnnRNNDescriptor_t rnn;
  const int32_t *lengths;
  cudnnRNNDataDescriptor_t x, y;
  cudnnTensorDescriptor_t h, c;
  int with_cell, training; // whether c is an argument; whether there must be a reserve
  size_t weights_size, work_size, reserve_size;
  void *work;
};

static cudnnStatus_t check(const struct given *given, const struct tensors *t) {
  REFUSE_IF(!fake_cudnn_alive(given->handle, HANDLE), BAD_PARAM, "no handle");
  REFUSE_IF(!fake_cudnn_alive(given->rnn, RNN) || !given->rnn->set, BAD_PARAM, "no network, or one that was not set");
  const struct network *network = &given->rnn->network;
  REFUSE_IF(!fake_cudnn_alive(given->x, DATA) || !given->x->set || !fake_cudnn_alive(given->y, DATA) || !given->y->set, BAD_PARAM,
            "no data descriptor, or one that was not set");
  cudnnStatus_t status = fake_cudnn_check_shape(given->rnn, given->x);
  if (status != CUDNN_STATUS_SUCCESS) return status;
  REFUSE_IF(given->y->type != network->type || given->y->width != network->hidden, BAD_PARAM, "y has another type or width than the network");
  REFUSE_IF(given->x->batch != given->y->batch || memcmp(given->x->lengths, given->y->lengths, (size_t)given->x->batch * sizeof(int)) != 0, BAD_PARAM,
            "x and y have other lengths");
  REFUSE_IF(!is_state(given->h, network, given->x->batch), BAD_PARAM, "hDesc is not packed layers x batch x units");
  if (given->with_cell && network->cell == CUDNN_LSTM)
    REFUSE_IF(!is_state(given->c, network, given->x->batch), BAD_PARAM, "cDesc is not packed layers x batch x units");
  // Until 8.9.1; since then it is to be NULL, and the descriptors' lengths are taken.
  REFUSE_IF(!given->lengths && fake_cudnn_version() < 8901, BAD_PARAM, "no devSeqLengths, which this version needs");
  REFUSE_IF(!(t->weights || t->dweights) || given->weights_size < fake_cudnn_weight_size(network), BAD_PARAM, "no weight space, or too small a one");
  REFUSE_IF(network->algo == CUDNN_RNN_ALGO_PERSIST_DYNAMIC && given->rnn->built_batch != given->x->batch, BAD_PARAM,
            "cudnnBuildRNNDynamic was not called for this batch");
  return CUDNN_STATUS_SUCCESS;
}

static cudnnStatus_t enqueue(const char *function, const char *(*compute)(const struct network *, const struct batch *, const struct tensors *),
                             const struct given *given, const struct tensors *tensors, int no_data) {
  cudnnStatus_t status = check(given, tensors);
  if (status != CUDNN_STATUS_SUCCESS) return status;
  REFUSE_IF(no_data, BAD_PARAM_NULL_POINTER, "data that is needed is NULL");
  size_t size = sizeof(struct work) + (size_t)given->x->batch * sizeof(int);
  struct batch batch = {given->x->steps, given->x->batch, 0, given->x->lengths};
  for (int i = 0; i < batch.batch; i++) batch.rows += batch.lengths[i];
  const struct network *network = &given->rnn->network;
  REFUSE_IF(!given->work || given->work_size < fake_cudnn_work_size(network, &batch), BAD_PARAM, "no work space, or too small a one");
  REFUSE_IF(given->training && (!tensors->reserve || given->reserve_size < fake_cudnn_reserve_size(network, &batch)), BAD_PARAM,
            "no reserve space, or too small a one");
  struct work *work = calloc(1, size);
  *work = (struct work){function, compute, *network, batch, *tensors, given->lengths, given->work, given->work_size};
  if (!given->training) work->tensors.reserve = NULL;
  if (network->cell != CUDNN_LSTM) work->tensors.cx = work->tensors.dcy = work->tensors.cy = work->tensors.dcx = NULL;
  memcpy(work->lengths, batch.lengths, (size_t)batch.batch * sizeof(int));
  int code = fake_enqueue(given->handle->stream, run, work, size);
  free(work);
  if (code) fake_cudnn_quiet = 1;
  REFUSE_IF(code, EXECUTION_FAILED, "the stream does not take work");
  return CUDNN_STATUS_SUCCESS;
}

// For the log: "algo=1 mode=lstm ... lengths=5,3,3 devlengths=0".
static const char *described(const struct given *given) {
  static const char *cells[] = {"relu", "tanh", "lstm", "gru"};
  static __thread char text[2048];
  if (!fake_cudnn_alive(given->rnn, RNN) || !given->rnn->set || !fake_cudnn_alive(given->x, DATA) || !given->x->set) return "invalid";
  const struct network *n = &given->rnn->network;
  const char *type = n->type == CUDNN_DATA_FLOAT ? "float" : n->type == CUDNN_DATA_HALF ? "half" : "bfloat16";
  int at = snprintf(text, sizeof text, "algo=%d mode=%s bias=%d type=%s math=%d layers=%d in=%d hidden=%d lengths=", (int)n->algo, cells[n->cell],
                    (int)n->bias, type, (int)n->math, n->layers, n->in, n->hidden);
  for (int i = 0; i < given->x->batch && at < 1900; i++) at += snprintf(text + at, sizeof text - (size_t)at, i ? ",%d" : "%d", given->x->lengths[i]);
  snprintf(text + at, sizeof text - (size_t)at, " devlengths=%d", given->lengths != NULL);
  return text;
}

cudnnStatus_t cudnnRNNForward(cudnnHandle_t handle, cudnnRNNDescriptor_t rnn, cudnnForwardMode_t mode, const int32_t lengths[],
                              cudnnRNNDataDescriptor_t x_desc, const void *x, cudnnRNNDataDescriptor_t y_desc, void *y,
                              cudnnTensorDescriptor_t h_desc, const void *hx, void *hy, cudnnTensorDescriptor_t c_desc, const void *cx, void *cy,
                              size_t weights_size, const void *weights, size_t work_size, void *work, size_t reserve_size, void *reserve) {
  const int training = mode == CUDNN_FWD_MODE_TRAINING;
  struct given given = {handle, rnn, lengths, x_desc, y_desc, h_desc, c_desc, 1, training, weights_size, work_size, reserve_size, work};
  struct tensors tensors = {.x = x, .hx = hx, .cx = cx, .weights = weights, .y = y, .hy = hy, .cy = cy, .reserve = reserve};
  CALL(enqueue(__func__, fake_cudnn_forward, &given, &tensors, !x || !y || mode > CUDNN_FWD_MODE_TRAINING),
       "%s %s hx=%d cx=%d hy=%d cy=%d weights=%zu work=%zu reserve=%zu", training ? "training" : "inference", described(&given), hx != NULL, cx != NULL,
       hy != NULL, cy != NULL, weights_size, work_size, reserve_size);
}

cudnnStatus_t cudnnRNNBackwardData_v8(cudnnHandle_t handle, cudnnRNNDescriptor_t rnn, const int32_t lengths[], cudnnRNNDataDescriptor_t y_desc,
                                      const void *y, const void *dy, cudnnRNNDataDescriptor_t x_desc, void *dx, cudnnTensorDescriptor_t h_desc,
                                      const void *hx, const void *dhy, void *dhx, cudnnTensorDescriptor_t c_desc, const void *cx,
                                      const void *dcy, void *dcx, size_t weights_size, const void *weights, size_t work_size, void *work,
                                      size_t reserve_size, void *reserve) {
  struct given given = {handle, rnn, lengths, x_desc, y_desc, h_desc, c_desc, 1, 1, weights_size, work_size, reserve_size, work};
  struct tensors tensors = {.y_again = y, .hx = hx, .cx = cx, .weights = weights, .dy = dy, .dhy = dhy, .dcy = dcy, .dx = dx, .dhx = dhx, .dcx = dcx,
                            .reserve = reserve};
  CALL(enqueue(__func__, fake_cudnn_backward_data, &given, &tensors, !y || !dy || !dx),
       "%s hx=%d cx=%d dhy=%d dcy=%d dhx=%d dcx=%d weights=%zu work=%zu reserve=%zu", described(&given), hx != NULL, cx != NULL, dhy != NULL,
       dcy != NULL, dhx != NULL, dcx != NULL, weights_size, work_size, reserve_size);
}

static cudnnStatus_t backward_weights(const char *function, cudnnWgradMode_t mode, const struct given *given, const struct tensors *tensors) {
  REFUSE_IF(mode != CUDNN_WGRAD_MODE_ADD, NOT_SUPPORTED, "weight gradients can only be added");
  return enqueue(function, fake_cudnn_backward_weights, given, tensors, !tensors->x || !tensors->y_again);
}
cudnnStatus_t cudnnRNNBackwardWeights_v8(cudnnHandle_t handle, cudnnRNNDescriptor_t rnn, cudnnWgradMode_t mode, const int32_t lengths[],
                                         cudnnRNNDataDescriptor_t x_desc, const void *x, cudnnTensorDescriptor_t h_desc, const void *hx,
                                         cudnnRNNDataDescriptor_t y_desc, const void *y, size_t weights_size, void *dweights, size_t work_size,
                                         void *work, size_t reserve_size, void *reserve) {
  struct given given = {handle, rnn, lengths, x_desc, y_desc, h_desc, NULL, 0, 1, weights_size, work_size, reserve_size, work};
  struct tensors tensors = {.x = x, .hx = hx, .y_again = y, .dweights = dweights, .reserve = reserve};
  CALL(backward_weights(__func__, mode, &given, &tensors), "%s %s hx=%d weights=%zu work=%zu reserve=%zu",
       mode == CUDNN_WGRAD_MODE_ADD ? "add" : "set", described(&given), hx != NULL, weights_size, work_size, reserve_size);
}
