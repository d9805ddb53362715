// The fake cuDNN's own test, on the fake libcuda: the equations written down a second time, gradients by finite
// differences, layers and lengths that differ, captures, and whether it notices misuse. Exits with 1 where it fails.
// With "misuse" only that part, which makes it complain.
#define _GNU_SOURCE
#include <stdio.h>

#include "cudnn_numbers.h"

int cuInit(unsigned flags);
int cuDevicePrimaryCtxRetain(void **context, int device);
int cuDevicePrimaryCtxRelease_v2(int device);
int cuCtxSetCurrent(void *context);
int cuMemAlloc_v2(uint64_t *address, size_t size);
int cuMemFree_v2(uint64_t address);
int cuStreamCreate(void **stream, unsigned flags);
int cuStreamDestroy_v2(void *stream);
int cuStreamSynchronize(void *stream);
int cuStreamBeginCapture_v2(void *stream, unsigned mode);
int cuStreamEndCapture(void *stream, void **graph);
int cuGraphInstantiateWithFlags(void **executable, void *graph, unsigned long long flags);
int cuGraphLaunch(void *executable, void *stream);
int cuGraphDestroy(void *graph);
int cuGraphExecDestroy(void *executable);

static int failures;
#define EXPECT(condition, ...)                                                                                          \
  do {                                                                                                                  \
    if (!(condition)) failures++, fprintf(stderr, "line %d: " #condition, __LINE__), fprintf(stderr, ": " __VA_ARGS__), fputc('\n', stderr); \
  } while (0)
#define OK(call) EXPECT((call) == CUDNN_STATUS_SUCCESS, "a call failed")
#define IS(call, status) EXPECT((call) == CUDNN_STATUS_##status, "another status")

enum { LAYERS = 2, IN = 3, HIDDEN = 4, BATCH = 3, STEPS = 4, ROWS = 7, STATE = LAYERS * BATCH * HIDDEN };
static const int lengths[BATCH] = {4, 2, 1};

static double noise(void) { // -1 to 1
  static uint64_t state = 88172645463325252u;
  state ^= state << 13, state ^= state >> 7, state ^= state << 17;
  return (double)(state >> 11) / 4503599627370496.0 - 1;
}

static struct bench {
  void *context, *stream;
  cudnnHandle_t handle;
  cudnnDropoutDescriptor_t dropout;
  cudnnRNNDescriptor_t rnn;
  cudnnRNNDataDescriptor_t x_desc, y_desc;
  cudnnTensorDescriptor_t state, m_desc, b_desc;
  cudnnDataType_t type;
  int gates, cell;
  size_t weights_size, work_size, reserve_size, taken;
  uint64_t blocks[32];
  void *x, *y, *dy, *dx, *hx, *cx, *hy, *cy, *dhy, *dcy, *dhx, *dcx, *weights, *dweights, *work, *reserve;
  int32_t *lengths;
} bench;

static void *device(size_t size) {
  EXPECT(cuMemAlloc_v2(&bench.blocks[bench.taken], size) == 0, "no memory");
  return (void *)bench.blocks[bench.taken++];
}
static void *noise_on_device(size_t count, double scale) {
  void *data = device(count * fake_cudnn_bytes(bench.type));
  for (size_t i = 0; i < count; i++) store(data, bench.type, i, scale * noise());
  return data;
}

// Element `index` of a matrix or bias in a weight space; NULL where there is none.
static char *weight_in(void *space, int layer, int id, int bias, int index) {
  void *m, *b;
  OK(cudnnGetRNNWeightParams(bench.handle, bench.rnn, layer, bench.weights_size, space, id, bench.m_desc, &m, bench.b_desc, &b));
  char *at = bias ? b : m;
  return at ? at + (size_t)index * fake_cudnn_bytes(bench.type) : NULL;
}
static int weight_count(int layer, int id, int bias) { return bias ? HIDDEN : HIDDEN * (layer || id >= bench.gates ? HIDDEN : IN); }

static cudnnStatus_t set_up_network(cudnnRNNAlgo_t algo, int cell, int bias, cudnnDataType_t type) {
  return cudnnSetRNNDescriptor_v8(bench.rnn, algo, (cudnnRNNMode_t)cell, (cudnnRNNBiasMode_t)bias, CUDNN_UNIDIRECTIONAL, CUDNN_LINEAR_INPUT, type,
                                  CUDNN_DATA_FLOAT, CUDNN_DEFAULT_MATH, IN, HIDDEN, HIDDEN, LAYERS, bench.dropout, CUDNN_RNN_PADDED_IO_DISABLED);
}

static void open_bench(int cell, int bias, cudnnDataType_t type) {
  memset(&bench, 0, sizeof bench);
  bench.type = type;
  bench.cell = cell;
  bench.gates = cell == CUDNN_LSTM ? 4 : cell == CUDNN_GRU ? 3 : 1;
  EXPECT(cuInit(0) == 0 && cuDevicePrimaryCtxRetain(&bench.context, 0) == 0 && cuCtxSetCurrent(bench.context) == 0, "no context");
  EXPECT(cuStreamCreate(&bench.stream, 1) == 0, "no stream");
  OK(cudnnCreate(&bench.handle));
  OK(cudnnSetStream(bench.handle, bench.stream));
  OK(cudnnCreateDropoutDescriptor(&bench.dropout));
  OK(cudnnSetDropoutDescriptor(bench.dropout, bench.handle, 0, NULL, 0, 0));
  OK(cudnnCreateRNNDescriptor(&bench.rnn));
  OK(set_up_network(CUDNN_RNN_ALGO_STANDARD, cell, bias, type));
  OK(cudnnCreateRNNDataDescriptor(&bench.x_desc));
  OK(cudnnCreateRNNDataDescriptor(&bench.y_desc));
  OK(cudnnSetRNNDataDescriptor(bench.x_desc, type, CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_PACKED, STEPS, BATCH, IN, lengths, NULL));
  OK(cudnnSetRNNDataDescriptor(bench.y_desc, type, CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_PACKED, STEPS, BATCH, HIDDEN, lengths, NULL));
  OK(cudnnCreateTensorDescriptor(&bench.state));
  OK(cudnnCreateTensorDescriptor(&bench.m_desc));
  OK(cudnnCreateTensorDescriptor(&bench.b_desc));
  OK(cudnnSetTensorNdDescriptor(bench.state, type, 3, (int[]){LAYERS, BATCH, HIDDEN}, (int[]){BATCH * HIDDEN, HIDDEN, 1}));
  OK(cudnnGetRNNWeightSpaceSize(bench.handle, bench.rnn, &bench.weights_size));
  OK(cudnnGetRNNTempSpaceSizes(bench.handle, bench.rnn, CUDNN_FWD_MODE_TRAINING, bench.x_desc, &bench.work_size, &bench.reserve_size));
  bench.x = noise_on_device(ROWS * IN, 1), bench.dx = noise_on_device(ROWS * IN, 1);
  bench.y = noise_on_device(ROWS * HIDDEN, 1), bench.dy = noise_on_device(ROWS * HIDDEN, 1);
  void **states[] = {&bench.hx, &bench.cx, &bench.hy, &bench.cy, &bench.dhy, &bench.dcy, &bench.dhx, &bench.dcx};
  for (int i = 0; i < 8; i++) *states[i] = noise_on_device(STATE, 1);
  bench.weights = device(bench.weights_size), bench.dweights = device(bench.weights_size);
  bench.work = device(bench.work_size), bench.reserve = device(bench.reserve_size);
  bench.lengths = device(sizeof lengths);
  memcpy(bench.lengths, lengths, sizeof lengths);
  // The gaps are not for reading, nor for writing.
  memset(bench.weights, 0xff, bench.weights_size);
  memset(bench.dweights, 0xff, bench.weights_size);
  for (int layer = 0; layer < LAYERS; layer++)
    for (int id = 0; id < 2 * bench.gates; id++)
      for (int part = 0; part < 2; part++)
        for (int i = 0; i < weight_count(layer, id, part); i++) {
          char *at = weight_in(bench.weights, layer, id, part, i);
          if (at) store(at, type, 0, noise()), store(weight_in(bench.dweights, layer, id, part, i), type, 0, 0);
        }
}

static void close_bench(void) {
  OK(cudnnDestroyTensorDescriptor(bench.state));
  OK(cudnnDestroyTensorDescriptor(bench.m_desc));
  OK(cudnnDestroyTensorDescriptor(bench.b_desc));
  OK(cudnnDestroyRNNDataDescriptor(bench.x_desc));
  OK(cudnnDestroyRNNDataDescriptor(bench.y_desc));
  OK(cudnnDestroyRNNDescriptor(bench.rnn));
  OK(cudnnDestroyDropoutDescriptor(bench.dropout));
  OK(cudnnDestroy(bench.handle));
  for (size_t i = 0; i < bench.taken; i++) cuMemFree_v2(bench.blocks[i]);
  cuStreamDestroy_v2(bench.stream);
  cuDevicePrimaryCtxRelease_v2(0);
}

static cudnnStatus_t forward_into(cudnnForwardMode_t mode, size_t work_size, size_t reserve_size, void *reserve) {
  return cudnnRNNForward(bench.handle, bench.rnn, mode, bench.lengths, bench.x_desc, bench.x, bench.y_desc, bench.y, bench.state, bench.hx, bench.hy,
                         bench.state, bench.cx, bench.cy, bench.weights_size, bench.weights, work_size, bench.work, reserve_size, reserve);
}
static void forward(void) { OK(forward_into(CUDNN_FWD_MODE_TRAINING, bench.work_size, bench.reserve_size, bench.reserve)); }
static void backward_data(void) {
  OK(cudnnRNNBackwardData_v8(bench.handle, bench.rnn, bench.lengths, bench.y_desc, bench.y, bench.dy, bench.x_desc, bench.dx, bench.state, bench.hx,
                             bench.dhy, bench.dhx, bench.state, bench.cx, bench.dcy, bench.dcx, bench.weights_size, bench.weights, bench.work_size,
                             bench.work, bench.reserve_size, bench.reserve));
}
static void backward_weights(void) {
  OK(cudnnRNNBackwardWeights_v8(bench.handle, bench.rnn, CUDNN_WGRAD_MODE_ADD, NULL, bench.x_desc, bench.x, bench.state, bench.hx, bench.y_desc,
                                bench.y, bench.weights_size, bench.dweights, bench.work_size, bench.work, bench.reserve_size, bench.reserve));
}
static void wait(void) { EXPECT(cuStreamSynchronize(bench.stream) == 0, "the work failed"); }

static double sum_of_products(const void *a, const void *b, size_t count) {
  double sum = 0;
  for (size_t i = 0; i < count; i++) sum += load(a, bench.type, i) * load(b, bench.type, i);
  return sum;
}
static double loss(void) {
  OK(forward_into(CUDNN_FWD_MODE_INFERENCE, bench.work_size, 0, NULL));
  wait();
  double sum = sum_of_products(bench.y, bench.dy, ROWS * HIDDEN) + sum_of_products(bench.hy, bench.dhy, STATE);
  return bench.cell == CUDNN_LSTM ? sum + sum_of_products(bench.cy, bench.dcy, STATE) : sum;
}
// A gradient of one value against the difference that it makes.
static void differentiate(void *value, double gradient, const char *what) {
  const double kept = load(value, bench.type, 0), width = 1.0 / 128;
  store(value, bench.type, 0, kept + width);
  double above = loss();
  store(value, bench.type, 0, kept - width);
  double below = loss();
  store(value, bench.type, 0, kept);
  double expected = (above - below) / (2 * width);
  EXPECT(fabs(expected - gradient) < 1e-3 * (1 + fabs(gradient)), "cell %d, %s: %g and not %g", bench.cell, what, gradient, expected);
}

// The documentation's equations, for one sequence after the other.
static double affine(int layer, int id, int unit, const double *input) {
  double sum = 0;
  int count = weight_count(layer, id, 0) / HIDDEN;
  for (int i = 0; i < count; i++) sum += load(weight_in(bench.weights, layer, id, 0, unit * count + i), bench.type, 0) * input[i];
  char *bias = weight_in(bench.weights, layer, id, 1, unit);
  return bias ? sum + load(bias, bench.type, 0) : sum;
}
static double sigmoid(double x) { return 1 / (1 + exp(-x)); }
static void check_equations(double tolerance) {
  for (int b = 0; b < BATCH; b++) {
    double input[STEPS][HIDDEN];
    for (int step = 0, row = b; step < lengths[b]; row += step == 0 ? 3 : step == 1 ? 2 : 1, step++)
      for (int i = 0; i < IN; i++) input[step][i] = load(bench.x, bench.type, (size_t)(row * IN + i));
    for (int layer = 0; layer < LAYERS; layer++) {
      double h[HIDDEN], c[HIDDEN], next[HIDDEN];
      size_t at = (size_t)((layer * BATCH + b) * HIDDEN);
      for (size_t j = 0; j < HIDDEN; j++) h[j] = load(bench.hx, bench.type, at + j), c[j] = load(bench.cx, bench.type, at + j);
      for (int step = 0; step < lengths[b]; step++) {
        for (int j = 0; j < HIDDEN; j++) {
          double w[4], r[4];
          for (int k = 0; k < bench.gates; k++) w[k] = affine(layer, k, j, input[step]), r[k] = affine(layer, bench.gates + k, j, h);
          if (bench.cell == CUDNN_LSTM) {
            c[j] = sigmoid(w[1] + r[1]) * c[j] + sigmoid(w[0] + r[0]) * tanh(w[2] + r[2]);
            next[j] = sigmoid(w[3] + r[3]) * tanh(c[j]);
          } else if (bench.cell == CUDNN_GRU) {
            double z = sigmoid(w[1] + r[1]);
            next[j] = (1 - z) * tanh(w[2] + sigmoid(w[0] + r[0]) * r[2]) + z * h[j];
          } else {
            next[j] = tanh(w[0] + r[0]);
          }
        }
        memcpy(h, next, sizeof h);
        memcpy(input[step], h, sizeof h);
      }
      for (size_t j = 0; j < HIDDEN; j++) {
        EXPECT(fabs(load(bench.hy, bench.type, at + j) - h[j]) < tolerance, "cell %d, hy: %g", bench.cell, h[j]);
        if (bench.cell == CUDNN_LSTM) EXPECT(fabs(load(bench.cy, bench.type, at + j) - c[j]) < 4 * tolerance, "cy: %g", c[j]);
      }
    }
    for (int step = 0, row = b; step < lengths[b]; row += step == 0 ? 3 : step == 1 ? 2 : 1, step++)
      for (int j = 0; j < HIDDEN; j++)
        EXPECT(fabs(load(bench.y, bench.type, (size_t)(row * HIDDEN + j)) - input[step][j]) < tolerance, "cell %d, y: %g", bench.cell, input[step][j]);
  }
}

static void check_cell(int cell, int bias, cudnnDataType_t type) {
  open_bench(cell, bias, type);
  forward();
  wait();
  check_equations(type == CUDNN_DATA_FLOAT ? 1e-6 : type == CUDNN_DATA_HALF ? 4e-3 : 3e-2);
  if (type == CUDNN_DATA_FLOAT) {
    // Twice from one graph: the gradients of weights add up.
    void *graph, *executable;
    EXPECT(cuStreamBeginCapture_v2(bench.stream, 1) == 0, "no capture");
    forward(), backward_data(), backward_weights();
    EXPECT(cuStreamEndCapture(bench.stream, &graph) == 0 && cuGraphInstantiateWithFlags(&executable, graph, 0) == 0, "no graph");
    EXPECT(cuGraphLaunch(executable, bench.stream) == 0 && cuGraphLaunch(executable, bench.stream) == 0, "no launch");
    wait();
    cuGraphDestroy(graph), cuGraphExecDestroy(executable);
    float *dx = bench.dx, *dhx = bench.dhx, *dcx = bench.dcx;
    for (int i = 0; i < ROWS * IN; i++) differentiate((float *)bench.x + i, dx[i], "dx");
    for (int i = 0; i < STATE; i++) differentiate((float *)bench.hx + i, dhx[i], "dhx");
    for (int i = 0; i < STATE && cell == CUDNN_LSTM; i++) differentiate((float *)bench.cx + i, dcx[i], "dcx");
    for (int layer = 0; layer < LAYERS; layer++)
      for (int id = 0; id < 2 * bench.gates; id++)
        for (int part = 0; part < 2; part++)
          for (int i = 0; i < weight_count(layer, id, part); i++) {
            char *at = weight_in(bench.weights, layer, id, part, i), *d = weight_in(bench.dweights, layer, id, part, i);
            const int wanted = !part || bias == CUDNN_RNN_DOUBLE_BIAS || bias == (id < bench.gates ? CUDNN_RNN_SINGLE_INP_BIAS : CUDNN_RNN_SINGLE_REC_BIAS);
            EXPECT(!at == !wanted, "layer %d, matrix %d, bias %d", layer, id, part);
            if (!at) continue;
            differentiate(at, load(d, type, 0) / 2, part ? "a bias" : "a matrix");
            memset(d, 0xff, 4);
          }
    for (size_t i = 0; i < bench.weights_size; i++) EXPECT(((unsigned char *)bench.dweights)[i] == 0xff, "byte %zu of a gap was written", i);
  }
  close_bench();
}

// NULL is zeros, or not wanted; descriptors are other ones by the time that the work happens.
static void check_absent(int cell) {
  open_bench(cell, CUDNN_RNN_DOUBLE_BIAS, CUDNN_DATA_FLOAT);
  float y[ROWS * HIDDEN], dx[ROWS * IN];
  void *zeros = memset(device(STATE * sizeof(float)), 0, STATE * sizeof(float));
  bench.hx = bench.cx = bench.dhy = bench.dcy = zeros;
  forward(), backward_data();
  wait();
  memcpy(y, bench.y, sizeof y), memcpy(dx, bench.dx, sizeof dx);
  memset(bench.y, 0xff, sizeof y), memset(bench.dx, 0xff, sizeof dx);
  bench.hx = bench.cx = bench.dhy = bench.dcy = bench.hy = bench.cy = bench.dhx = bench.dcx = NULL;
  forward(), backward_data(), backward_weights();
  OK(cudnnSetRNNDataDescriptor(bench.x_desc, CUDNN_DATA_HALF, CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_PACKED, 1, 1, 1, (int[]){1}, NULL));
  OK(cudnnSetTensorNdDescriptor(bench.state, CUDNN_DATA_HALF, 3, (int[]){1, 1, 1}, (int[]){1, 1, 1}));
  OK(set_up_network(CUDNN_RNN_ALGO_STANDARD, CUDNN_RNN_TANH, CUDNN_RNN_NO_BIAS, CUDNN_DATA_HALF));
  wait();
  EXPECT(!memcmp(y, bench.y, sizeof y) && !memcmp(dx, bench.dx, sizeof dx), "cell %d", cell);
  close_bench();
}

static void check_numbers(void) {
  for (uint32_t half = 0; half < 65536; half++) {
    double a = from_half((uint16_t)half), b = from_bits(half << 16);
    EXPECT(isnan(a) || to_half(a) == half, "half %x", half);
    EXPECT(isnan(b) || to_bfloat(b) == half, "bfloat %x", half);
    // Between this one and the next: to the even one, and to the nearer one beside the middle.
    double next = from_half((uint16_t)(half + 1)), middle = (a + next) / 2, bit = (next - a) * 1e-6;
    if (!isfinite(next) || !isfinite(a) || half == 0x7fff || half == 0xffff) continue;
    EXPECT(to_half(middle) == half + (half & 1) && to_half(middle - bit) == half && to_half(middle + bit) == half + 1, "beside half %x", half);
  }
  EXPECT(to_half(65519.99) == 0x7bff && to_half(65520) == 0x7c00 && to_half(-1e9) == 0xfc00, "overflow of half");
  EXPECT(to_half(0x1p-25) == 0 && to_half(0x1.8p-25) == 1, "underflow of half");
  EXPECT(to_bfloat(1 + 0x1p-8) == 0x3f80 && to_bfloat(1 + 0x1p-8 + 0x1p-40) == 0x3f81 && to_bfloat(1 + 0x3p-8) == 0x3f82, "ties of bfloat");
  EXPECT(to_bfloat(3.4e38) == 0x7f80 && to_bfloat(-1e300) == 0xff80 && to_bfloat(NAN) == 0x7fc0, "overflow of bfloat");
}

static void check_statuses(void) {
  open_bench(CUDNN_LSTM, CUDNN_RNN_DOUBLE_BIAS, CUDNN_DATA_FLOAT);
  IS(forward_into(CUDNN_FWD_MODE_TRAINING, bench.work_size - 1, bench.reserve_size, bench.reserve), BAD_PARAM);
  IS(forward_into(CUDNN_FWD_MODE_TRAINING, bench.work_size, bench.reserve_size - 1, bench.reserve), BAD_PARAM);
  IS(forward_into(CUDNN_FWD_MODE_TRAINING, bench.work_size, bench.reserve_size, NULL), BAD_PARAM);
  IS(cudnnSetRNNDataDescriptor(bench.y_desc, CUDNN_DATA_FLOAT, CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_PACKED, 4, 2, HIDDEN, (int[]){3, 4}, NULL), BAD_PARAM);
  IS(cudnnSetRNNDataDescriptor(bench.y_desc, CUDNN_DATA_FLOAT, CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_PACKED, 4, 2, HIDDEN, (int[]){3, 3}, NULL), BAD_PARAM);
  OK(cudnnSetRNNDataDescriptor(bench.y_desc, CUDNN_DATA_FLOAT, CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_PACKED, STEPS, BATCH, HIDDEN, (int[]){4, 2, 2}, NULL));
  IS(forward_into(CUDNN_FWD_MODE_INFERENCE, bench.work_size, 0, NULL), BAD_PARAM);
  int32_t *kept = bench.lengths;
  bench.lengths = NULL;
  setenv("FAKE_CUDNN_VERSION", "8900", 1);
  OK(cudnnSetRNNDataDescriptor(bench.y_desc, CUDNN_DATA_FLOAT, CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_PACKED, STEPS, BATCH, HIDDEN, lengths, NULL));
  IS(forward_into(CUDNN_FWD_MODE_INFERENCE, bench.work_size, 0, NULL), BAD_PARAM);
  setenv("FAKE_CUDNN_VERSION", "8901", 1);
  OK(forward_into(CUDNN_FWD_MODE_INFERENCE, bench.work_size, 0, NULL));
  bench.lengths = kept;
  wait();
  size_t work, reserve;
  OK(set_up_network(CUDNN_RNN_ALGO_PERSIST_DYNAMIC, CUDNN_LSTM, CUDNN_RNN_DOUBLE_BIAS, CUDNN_DATA_FLOAT));
  IS(cudnnGetRNNTempSpaceSizes(bench.handle, bench.rnn, CUDNN_FWD_MODE_TRAINING, bench.x_desc, &work, &reserve), NOT_SUPPORTED);
  cudnnRNNDataDescriptor_t both[] = {bench.x_desc, bench.y_desc};
  for (int i = 0; i < 2; i++)
    OK(cudnnSetRNNDataDescriptor(both[i], CUDNN_DATA_FLOAT, CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_PACKED, 2, BATCH, i ? HIDDEN : IN, (int[]){2, 2, 2}, NULL));
  memcpy(bench.lengths, (int[]){2, 2, 2}, sizeof lengths);
  IS(forward_into(CUDNN_FWD_MODE_INFERENCE, bench.work_size, 0, NULL), BAD_PARAM);
  void *graph;
  EXPECT(cuStreamBeginCapture_v2(bench.stream, 1) == 0, "no capture");
  IS(cudnnBuildRNNDynamic(bench.handle, bench.rnn, BATCH), EXECUTION_FAILED_CUDA_DRIVER);
  EXPECT(cuStreamEndCapture(bench.stream, &graph) == 901, "the capture was not broken");
  IS(forward_into(CUDNN_FWD_MODE_INFERENCE, bench.work_size, 0, NULL), BAD_PARAM);
  OK(cudnnBuildRNNDynamic(bench.handle, bench.rnn, BATCH));
  OK(forward_into(CUDNN_FWD_MODE_INFERENCE, bench.work_size, 0, NULL));
  wait();
  IS(set_up_network(CUDNN_RNN_ALGO_PERSIST_STATIC, CUDNN_LSTM, CUDNN_RNN_SINGLE_INP_BIAS, CUDNN_DATA_FLOAT), NOT_SUPPORTED);
  char why[64];
  cudnnGetLastErrorString(why, sizeof why);
  EXPECT(!strcmp(why, "persistent algorithms have two biases"), "%s", why);
  close_bench();
}

// Each breaks the device, which forgets it when the context goes.
static void check_misuse(void) {
  for (int misuse = 0; misuse < 8; misuse++) {
    open_bench(CUDNN_LSTM, CUDNN_RNN_DOUBLE_BIAS, CUDNN_DATA_FLOAT);
    if (misuse == 0) bench.lengths[1] = 3;
    if (misuse == 1) {
      OK(forward_into(CUDNN_FWD_MODE_INFERENCE, bench.work_size, 0, NULL));
      backward_data();
    } else {
      forward();
    }
    if (misuse == 2) backward_weights();
    if (misuse == 3) backward_data(), backward_data();
    if (misuse == 4) wait(), ((float *)bench.y)[0] += 1, backward_data();
    if (misuse == 5) wait(), ((char *)bench.reserve)[bench.reserve_size - 1] ^= 1, backward_data();
    if (misuse == 6) wait(), ((float *)bench.hx)[0] += 1, backward_data();
    if (misuse == 7) backward_data(), bench.x = bench.blocks, backward_weights();
    EXPECT(cuStreamSynchronize(bench.stream) == (misuse == 7 ? 700 : 719), "misuse %d was not noticed", misuse);
    EXPECT(forward_into(CUDNN_FWD_MODE_INFERENCE, bench.work_size, 0, NULL) == CUDNN_STATUS_EXECUTION_FAILED, "the device is broken");
    close_bench();
  }
}

int main(int count, char **arguments) {
  if (count > 1 && !strcmp(arguments[1], "misuse")) return check_misuse(), failures != 0;
  check_numbers();
  for (int cell = CUDNN_RNN_TANH; cell <= CUDNN_GRU; cell++) {
    for (int bias = CUDNN_RNN_NO_BIAS; bias <= CUDNN_RNN_SINGLE_REC_BIAS; bias++) check_cell(cell, bias, CUDNN_DATA_FLOAT);
    check_absent(cell);
    check_cell(cell, CUDNN_RNN_DOUBLE_BIAS, CUDNN_DATA_HALF);
    check_cell(cell, CUDNN_RNN_DOUBLE_BIAS, CUDNN_DATA_BFLOAT16);
  }
  check_statuses();
  return failures != 0;
}
