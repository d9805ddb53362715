// What the parts of the fake cuDNN share.
#pragma once
#include "cudnn_api.h"
#include "fake.h"

// A recurrent network: what of a descriptor the arithmetic needs.
struct network { cudnnRNNAlgo_t algo; cudnnRNNMode_t cell; cudnnRNNBiasMode_t bias; cudnnDataType_t type; cudnnMathType_t math; int in, hidden, layers; };

// Handles and descriptors.
struct object { int kind; struct object *next; };
enum { HANDLE, TENSOR, DROPOUT, RNN, DATA, KINDS };
struct cudnnContext { struct object object; void *stream; };
struct cudnnTensorStruct { struct object object; cudnnDataType_t type; int count, dims[CUDNN_DIM_MAX], strides[CUDNN_DIM_MAX]; };
struct cudnnDropoutStruct { struct object object; int set; };
struct cudnnRNNStruct { struct object object; int set, built_batch; struct network network; };
struct cudnnRNNDataStruct { struct object object; int set; cudnnDataType_t type; int steps, batch, width, *lengths; };

// cudnn.c
int fake_cudnn_alive(const void *object, int kind);
extern int fake_cudnn_quiet; // something went wrong already: no complaint about what is left over
void fake_cudnn_complain(const char *format, ...) __attribute__((format(printf, 1, 2)));
cudnnStatus_t fake_cudnn_requested(const char *function); // FAKE_CUDNN_FAIL
cudnnStatus_t fake_cudnn_refuse(cudnnStatus_t status, const char *why);
cudnnStatus_t fake_cudnn_said(const char *function, cudnnStatus_t status, const char *format, ...) __attribute__((format(printf, 3, 4)));
cudnnStatus_t fake_cudnn_check_shape(const struct cudnnRNNStruct *rnn, const struct cudnnRNNDataStruct *x);
size_t fake_cudnn_version(void);

// The body of every function: a failure if one is asked for, else the expression; a line in the log.
#define CALL(expression, ...)                                          \
  do {                                                                 \
    cudnnStatus_t status = fake_cudnn_requested(__func__);             \
    if (status == CUDNN_STATUS_SUCCESS) status = (expression);         \
    return fake_cudnn_said(__func__, status, __VA_ARGS__);             \
  } while (0)
#define REFUSE_IF(wrong, status, why) \
  if (wrong) return fake_cudnn_refuse(CUDNN_STATUS_##status, why)

// cudnn_cells.c: the arithmetic.
#define ABSENT SIZE_MAX
int fake_cudnn_gates(const struct network *network);
size_t fake_cudnn_bytes(cudnnDataType_t type);
size_t fake_cudnn_weight_size(const struct network *network);
// Where the matrix or bias of a linear layer lies, in bytes; ABSENT if there is none.
size_t fake_cudnn_weight_at(const struct network *network, int layer, int id, int bias);

// Which data a call is about: packed rows, of sequences sorted by length.
struct batch { int steps, batch, rows; const int *lengths; };
size_t fake_cudnn_work_size(const struct network *network, const struct batch *batch);
size_t fake_cudnn_reserve_size(const struct network *network, const struct batch *batch);

struct tensors {
  const void *x, *hx, *cx, *weights, *dy, *dhy, *dcy, *y_again;
  void *y, *hy, *cy, *dx, *dhx, *dcx, *dweights, *reserve;
};
// They return what is wrong, or NULL.
const char *fake_cudnn_forward(const struct network *network, const struct batch *batch, const struct tensors *tensors);
const char *fake_cudnn_backward_data(const struct network *network, const struct batch *batch, const struct tensors *tensors);
const char *fake_cudnn_backward_weights(const struct network *network, const struct batch *batch, const struct tensors *tensors);
