// What the fake cuDNN implements of cuDNN 9's interface. The project builds without NVIDIA's headers, so it is declared
// here; with REAL_CUDNN_HEADER theirs is in the place of it, and whatever differs from it does not compile
// (scripts/check-cudnn-header.sh).
#pragma once
#include <stddef.h>
#include <stdint.h>

#define STATUSES(X)                                                                                                    \
  X(CUDNN_STATUS_SUCCESS, 0) X(CUDNN_STATUS_NOT_INITIALIZED, 1001) X(CUDNN_STATUS_BAD_PARAM, 2000)                     \
  X(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, 2002) X(CUDNN_STATUS_BAD_PARAM_OUT_OF_BOUND, 2005)                            \
  X(CUDNN_STATUS_BAD_PARAM_SIZE_INSUFFICIENT, 2006) X(CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH, 2008)                     \
  X(CUDNN_STATUS_NOT_SUPPORTED, 3000) X(CUDNN_STATUS_NOT_SUPPORTED_ARCH_MISMATCH, 3007)                                \
  X(CUDNN_STATUS_INTERNAL_ERROR, 4000) X(CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED, 4004)                   \
  X(CUDNN_STATUS_EXECUTION_FAILED, 5000) X(CUDNN_STATUS_EXECUTION_FAILED_CUDA_DRIVER, 5001)
#define DATA_TYPES(X) X(CUDNN_DATA_FLOAT, 0) X(CUDNN_DATA_DOUBLE, 1) X(CUDNN_DATA_HALF, 2) X(CUDNN_DATA_BFLOAT16, 9)
#define MATH_TYPES(X)                                                                                                  \
  X(CUDNN_DEFAULT_MATH, 0) X(CUDNN_TENSOR_OP_MATH, 1) X(CUDNN_TENSOR_OP_MATH_ALLOW_CONVERSION, 2) X(CUDNN_FMA_MATH, 3)
#define ALGORITHMS(X)                                                                                                  \
  X(CUDNN_RNN_ALGO_STANDARD, 0) X(CUDNN_RNN_ALGO_PERSIST_STATIC, 1) X(CUDNN_RNN_ALGO_PERSIST_DYNAMIC, 2)               \
  X(CUDNN_RNN_ALGO_PERSIST_STATIC_SMALL_H, 3) X(CUDNN_RNN_ALGO_COUNT, 4)
#define CELLS(X) X(CUDNN_RNN_RELU, 0) X(CUDNN_RNN_TANH, 1) X(CUDNN_LSTM, 2) X(CUDNN_GRU, 3)
#define BIASES(X)                                                                                                      \
  X(CUDNN_RNN_NO_BIAS, 0) X(CUDNN_RNN_SINGLE_INP_BIAS, 1) X(CUDNN_RNN_DOUBLE_BIAS, 2) X(CUDNN_RNN_SINGLE_REC_BIAS, 3)
#define DIRECTIONS(X) X(CUDNN_UNIDIRECTIONAL, 0) X(CUDNN_BIDIRECTIONAL, 1)
#define INPUTS(X) X(CUDNN_LINEAR_INPUT, 0) X(CUDNN_SKIP_INPUT, 1)
#define FORWARD_MODES(X) X(CUDNN_FWD_MODE_INFERENCE, 0) X(CUDNN_FWD_MODE_TRAINING, 1)
#define GRADIENT_MODES(X) X(CUDNN_WGRAD_MODE_ADD, 0) X(CUDNN_WGRAD_MODE_SET, 1)
#define LAYOUTS(X)                                                                                                     \
  X(CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_UNPACKED, 0) X(CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_PACKED, 1)                          \
  X(CUDNN_RNN_DATA_LAYOUT_BATCH_MAJOR_UNPACKED, 2)

#ifdef REAL_CUDNN_HEADER
#include <cudnn.h>
#else

#define DECLARE(name, value) name = value,
typedef enum { STATUSES(DECLARE) } cudnnStatus_t;
typedef enum { DATA_TYPES(DECLARE) } cudnnDataType_t;
typedef enum { MATH_TYPES(DECLARE) } cudnnMathType_t;
typedef enum { ALGORITHMS(DECLARE) } cudnnRNNAlgo_t;
typedef enum { CELLS(DECLARE) } cudnnRNNMode_t;
typedef enum { BIASES(DECLARE) } cudnnRNNBiasMode_t;
typedef enum { DIRECTIONS(DECLARE) } cudnnDirectionMode_t;
typedef enum { INPUTS(DECLARE) } cudnnRNNInputMode_t;
typedef enum { FORWARD_MODES(DECLARE) } cudnnForwardMode_t;
typedef enum { GRADIENT_MODES(DECLARE) } cudnnWgradMode_t;
typedef enum { LAYOUTS(DECLARE) } cudnnRNNDataLayout_t;
#define CUDNN_DIM_MAX 8
#define CUDNN_RNN_PADDED_IO_DISABLED 0
#define CUDNN_RNN_PADDED_IO_ENABLED (1U << 0)

typedef struct CUstream_st *cudaStream_t;
typedef struct cudnnContext *cudnnHandle_t;
typedef struct cudnnTensorStruct *cudnnTensorDescriptor_t;
typedef struct cudnnDropoutStruct *cudnnDropoutDescriptor_t;
typedef struct cudnnRNNStruct *cudnnRNNDescriptor_t;
typedef struct cudnnRNNDataStruct *cudnnRNNDataDescriptor_t;

size_t cudnnGetVersion(void);
const char *cudnnGetErrorString(cudnnStatus_t status);
void cudnnGetLastErrorString(char *message, size_t max_size);
cudnnStatus_t cudnnCreate(cudnnHandle_t *handle);
cudnnStatus_t cudnnDestroy(cudnnHandle_t handle);
cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream);
cudnnStatus_t cudnnCreateTensorDescriptor(cudnnTensorDescriptor_t *tensor);
cudnnStatus_t cudnnDestroyTensorDescriptor(cudnnTensorDescriptor_t tensor);
cudnnStatus_t cudnnSetTensorNdDescriptor(cudnnTensorDescriptor_t tensor, cudnnDataType_t type, int count, const int dims[], const int strides[]);
cudnnStatus_t cudnnGetTensorNdDescriptor(const cudnnTensorDescriptor_t tensor, int wanted, cudnnDataType_t *type, int *count, int dims[],
                                         int strides[]);
cudnnStatus_t cudnnCreateDropoutDescriptor(cudnnDropoutDescriptor_t *dropout);
cudnnStatus_t cudnnDestroyDropoutDescriptor(cudnnDropoutDescriptor_t dropout);
cudnnStatus_t cudnnSetDropoutDescriptor(cudnnDropoutDescriptor_t dropout, cudnnHandle_t handle, float probability, void *states, size_t size,
                                        unsigned long long seed);
cudnnStatus_t cudnnCreateRNNDescriptor(cudnnRNNDescriptor_t *rnn);
cudnnStatus_t cudnnDestroyRNNDescriptor(cudnnRNNDescriptor_t rnn);
cudnnStatus_t cudnnSetRNNDescriptor_v8(cudnnRNNDescriptor_t rnn, cudnnRNNAlgo_t algo, cudnnRNNMode_t cell, cudnnRNNBiasMode_t bias,
                                       cudnnDirectionMode_t direction, cudnnRNNInputMode_t input, cudnnDataType_t type, cudnnDataType_t precision,
                                       cudnnMathType_t math, int32_t in, int32_t hidden, int32_t projected, int32_t layers,
                                       cudnnDropoutDescriptor_t dropout, uint32_t flags);
cudnnStatus_t cudnnCreateRNNDataDescriptor(cudnnRNNDataDescriptor_t *data);
cudnnStatus_t cudnnDestroyRNNDataDescriptor(cudnnRNNDataDescriptor_t data);
cudnnStatus_t cudnnSetRNNDataDescriptor(cudnnRNNDataDescriptor_t data, cudnnDataType_t type, cudnnRNNDataLayout_t layout, int steps, int batch,
                                        int width, const int lengths[], void *fill);
cudnnStatus_t cudnnBuildRNNDynamic(cudnnHandle_t handle, cudnnRNNDescriptor_t rnn, int batch);
cudnnStatus_t cudnnGetRNNTempSpaceSizes(cudnnHandle_t handle, cudnnRNNDescriptor_t rnn, cudnnForwardMode_t mode, cudnnRNNDataDescriptor_t x,
                                        size_t *work, size_t *reserve);
cudnnStatus_t cudnnGetRNNWeightSpaceSize(cudnnHandle_t handle, cudnnRNNDescriptor_t rnn, size_t *size);
cudnnStatus_t cudnnGetRNNWeightParams(cudnnHandle_t handle, cudnnRNNDescriptor_t rnn, int32_t layer, size_t size, const void *weights, int32_t id,
                                      cudnnTensorDescriptor_t m_desc, void **m, cudnnTensorDescriptor_t b_desc, void **b);
cudnnStatus_t cudnnRNNForward(cudnnHandle_t handle, cudnnRNNDescriptor_t rnn, cudnnForwardMode_t mode, const int32_t lengths[],
                              cudnnRNNDataDescriptor_t x_desc, const void *x, cudnnRNNDataDescriptor_t y_desc, void *y,
                              cudnnTensorDescriptor_t h_desc, const void *hx, void *hy, cudnnTensorDescriptor_t c_desc, const void *cx, void *cy,
                              size_t weights_size, const void *weights, size_t work_size, void *work, size_t reserve_size, void *reserve);
cudnnStatus_t cudnnRNNBackwardData_v8(cudnnHandle_t handle, cudnnRNNDescriptor_t rnn, const int32_t lengths[], cudnnRNNDataDescriptor_t y_desc,
                                      const void *y, const void *dy, cudnnRNNDataDescriptor_t x_desc, void *dx, cudnnTensorDescriptor_t h_desc,
                                      const void *hx, const void *dhy, void *dhx, cudnnTensorDescriptor_t c_desc, const void *cx,
                                      const void *dcy, void *dcx, size_t weights_size, const void *weights, size_t work_size, void *work,
                                      size_t reserve_size, void *reserve);
cudnnStatus_t cudnnRNNBackwardWeights_v8(cudnnHandle_t handle, cudnnRNNDescriptor_t rnn, cudnnWgradMode_t mode, const int32_t lengths[],
                                         cudnnRNNDataDescriptor_t x_desc, const void *x, cudnnTensorDescriptor_t h_desc, const void *hx,
                                         cudnnRNNDataDescriptor_t y_desc, const void *y, size_t weights_size, void *dweights, size_t work_size,
                                         void *work, size_t reserve_size, void *reserve);
#endif

#define CHECK(name, value) _Static_assert((int)name == value, #name " is something else");
STATUSES(CHECK) DATA_TYPES(CHECK) MATH_TYPES(CHECK) ALGORITHMS(CHECK) CELLS(CHECK) BIASES(CHECK) DIRECTIONS(CHECK) INPUTS(CHECK)
FORWARD_MODES(CHECK) GRADIENT_MODES(CHECK) LAYOUTS(CHECK) CHECK(CUDNN_DIM_MAX, 8) CHECK(CUDNN_RNN_PADDED_IO_ENABLED, 1)
