// The arithmetic of the fake cuDNN: the equations of NVIDIA's documentation, in double precision by plain loops; what a
// library keeps in the data type (h, saved gates, gradients of gates, data between layers) is rounded to it, the cell
// state stays in float between the steps.
//
//   FAKE_CUDNN_WRONG=gates    the weights of the first two gates of an LSTM or GRU are taken for each other's
#include "cudnn_numbers.h"

size_t fake_cudnn_bytes(cudnnDataType_t type) { return type == CUDNN_DATA_FLOAT ? 4 : 2; }

static uint64_t checksum(uint64_t sum, const void *data, size_t size) {
  const unsigned char *byte = data;
  for (size_t i = 0; i < size; i++) sum = (sum ^ byte[i]) * 1099511628211u;
  return sum;
}

static double dot(const double *a, const double *b, size_t count) {
  double sums[4] = {0};
  size_t i = 0;
  for (; i + 4 <= count; i += 4)
    for (size_t k = 0; k < 4; k++) sums[k] += a[i + k] * b[i + k];
  for (; i < count; i++) sums[0] += a[i] * b[i];
  return sums[0] + sums[1] + sums[2] + sums[3];
}
static void add_scaled(double *to, double factor, const double *from, size_t count) {
  for (size_t i = 0; i < count; i++) to[i] += factor * from[i];
}
static double sigma(double x) { return 1 / (1 + exp(-x)); }

// --- weights ---------------------------------------------------------------------------------------------------------
int fake_cudnn_gates(const struct network *network) { return network->cell == CUDNN_LSTM ? 4 : network->cell == CUDNN_GRU ? 3 : 1; }

static size_t width(const struct network *network, int layer) { return (size_t)(layer ? network->hidden : network->in); }

static int has_bias(const struct network *network, int recurrent) {
  return network->bias == CUDNN_RNN_DOUBLE_BIAS || network->bias == (recurrent ? CUDNN_RNN_SINGLE_REC_BIAS : CUDNN_RNN_SINGLE_INP_BIAS);
}

// The last layer first, its last matrix first, gaps between; the biases behind the matrices of their layer, aligned no
// more than their type must be. Nothing of it is promised, so nothing of it may be relied on.
static size_t walk(const struct network *network, int layer, int id, int bias) {
  size_t at = 0, bytes = fake_cudnn_bytes(network->type), hidden = (size_t)network->hidden;
  int gates = fake_cudnn_gates(network);
  for (int l = network->layers - 1; l >= 0; l--) {
    for (int i = 2 * gates - 1; i >= 0; i--) {
      at = (at + 15) / 16 * 16;
      if (l == layer && i == id && !bias) return at;
      at += hidden * (i < gates ? width(network, l) : hidden) * bytes + 16 * (size_t)(1 + i % 3);
    }
    for (int i = 0; i < 2 * gates; i++) {
      if (!has_bias(network, i >= gates)) continue;
      if (l == layer && i == id && bias) return at;
      at += (hidden + 1) * bytes;
    }
  }
  return layer < 0 ? at + 64 : ABSENT;
}
size_t fake_cudnn_weight_at(const struct network *network, int layer, int id, int bias) { return walk(network, layer, id, bias); }
size_t fake_cudnn_weight_size(const struct network *network) { return walk(network, -1, 0, 0); }

// What a layer's gates multiply with, as doubles: [gates][hidden][in], [gates][hidden][hidden], [gates][hidden] twice.
struct weights { double *input, *recurrent, *input_bias, *recurrent_bias; };

static int taken_for(const struct network *network, int gate) {
  const char *wrong = getenv("FAKE_CUDNN_WRONG");
  return wrong && !strcmp(wrong, "gates") && fake_cudnn_gates(network) > 1 && gate < 2 ? 1 - gate : gate;
}

static struct weights weights_of(const struct network *network, const void *space, int layer) {
  size_t gates = (size_t)fake_cudnn_gates(network), hidden = (size_t)network->hidden;
  struct weights weights;
  double **parts[] = {&weights.input, &weights.recurrent, &weights.input_bias, &weights.recurrent_bias};
  for (int part = 0; part < 4; part++) {
    size_t count = hidden * (part == 0 ? width(network, layer) : part == 1 ? hidden : 1);
    *parts[part] = calloc(gates * count, sizeof(double));
    for (size_t gate = 0; gate < gates; gate++) {
      size_t at = walk(network, layer, taken_for(network, (int)gate) + (part % 2 ? (int)gates : 0), part >= 2);
      for (size_t i = 0; at != ABSENT && i < count; i++)
        (*parts[part])[gate * count + i] = load((const char *)space + at, network->type, i);
    }
  }
  return weights;
}
static void forget(struct weights *weights) {
  free(weights->input);
  free(weights->recurrent);
  free(weights->input_bias);
  free(weights->recurrent_bias);
}

// --- the reserve: a header, then for each layer and row h, c (GRU: the candidate's recurrent part), gates, their
// gradients, and the gradient of the candidate's recurrent part -----------------------------------------------------
enum { FORWARD_DONE = 0x0f0f5a5a, DATA_DONE = 0x0b0b5a5a };
struct header { uint64_t stage, call, x, hx, cx, weights, body; };
#define HEADER 64
_Static_assert(sizeof(struct header) <= HEADER, "");
struct layer_tape { float *h, *c, *gates, *dgates, *dq; };

static size_t row_floats(const struct network *network) { return (size_t)(3 + 2 * fake_cudnn_gates(network)) * (size_t)network->hidden; }
static size_t body_size(const struct network *network, const struct batch *batch) {
  return (size_t)network->layers * (size_t)batch->rows * row_floats(network) * sizeof(float);
}
size_t fake_cudnn_reserve_size(const struct network *network, const struct batch *batch) { return HEADER + body_size(network, batch); }
size_t fake_cudnn_work_size(const struct network *network, const struct batch *batch) {
  return 256 + (size_t)(batch->rows + batch->batch) * (size_t)network->hidden * (size_t)fake_cudnn_gates(network) * fake_cudnn_bytes(network->type);
}

static struct layer_tape tape_of(const struct network *network, const struct batch *batch, void *reserve, int layer) {
  size_t part = (size_t)batch->rows * (size_t)network->hidden, gates = (size_t)fake_cudnn_gates(network);
  float *h = (float *)((char *)reserve + HEADER) + (size_t)layer * (size_t)batch->rows * row_floats(network);
  return (struct layer_tape){h, h + part, h + 2 * part, h + (2 + gates) * part, h + (2 + 2 * gates) * part};
}

static struct header header_of(const struct network *network, const struct batch *batch, const struct tensors *t, uint64_t stage) {
  size_t bytes = fake_cudnn_bytes(network->type), state = (size_t)(network->layers * batch->batch * network->hidden);
  double *hx = loaded(t->hx, network->type, state), *cx = loaded(t->cx, network->type, state);
  struct header header = {stage, 1, 1, 1, 1, 1, 1};
  header.call = checksum(checksum(1, network, sizeof *network), batch->lengths, (size_t)batch->batch * sizeof(int));
  if (t->x) header.x = checksum(1, t->x, (size_t)batch->rows * (size_t)network->in * bytes);
  header.hx = checksum(1, hx, state * sizeof *hx);
  if (network->cell == CUDNN_LSTM) header.cx = checksum(1, cx, state * sizeof *cx);
  for (int layer = 0; t->weights && layer < network->layers; layer++) {
    struct weights weights = weights_of(network, t->weights, layer);
    size_t count = (size_t)fake_cudnn_gates(network) * (size_t)network->hidden;
    header.weights = checksum(header.weights, weights.input, count * width(network, layer) * sizeof(double));
    header.weights = checksum(header.weights, weights.recurrent, count * (size_t)network->hidden * sizeof(double));
    header.weights = checksum(header.weights, weights.input_bias, count * sizeof(double));
    header.weights = checksum(header.weights, weights.recurrent_bias, count * sizeof(double));
    forget(&weights);
  }
  header.body = checksum(1, (const char *)t->reserve + HEADER, body_size(network, batch));
  free(hx);
  free(cx);
  return header;
}

// Whether the reserve is what the call before left, and x, y, hx, cx and the weights are what they were then.
static const char *check_reserve(const struct network *network, const struct batch *batch, const struct tensors *t, uint64_t stage) {
  struct header found, now = header_of(network, batch, t, stage);
  memcpy(&found, t->reserve, sizeof found);
  if (found.stage != FORWARD_DONE && found.stage != DATA_DONE) return "the reserve space was not filled by a forward pass in training mode";
  if (found.stage != stage)
    return stage == FORWARD_DONE ? "backward data twice for one forward pass" : "backward weights without backward data before it";
  if (found.call != now.call) return "the reserve space is another network's or other lengths'";
  if (found.body != now.body) return "the reserve space has been changed";
  if (found.hx != now.hx) return "hx is not what it was in the forward pass";
  if (stage == FORWARD_DONE && found.cx != now.cx) return "cx is not what it was in the forward pass";
  if (t->x && found.x != now.x) return "x is not what it was in the forward pass";
  if (t->weights && found.weights != now.weights) return "the weights are not what they were in the forward pass";
  struct layer_tape last = tape_of(network, batch, t->reserve, network->layers - 1);
  for (size_t i = 0; i < (size_t)(batch->rows * network->hidden); i++) {
    double y = load(t->y_again, network->type, i);
    if (y != last.h[i] && !(isnan(y) && isnan(last.h[i]))) return "y is not what the forward pass wrote";
  }
  return NULL;
}

// Sequences that have a step; they are the first ones.
static int active(const struct batch *batch, int step) {
  int count = 0;
  while (count < batch->batch && batch->lengths[count] > step) count++;
  return count;
}

// --- forward ---------------------------------------------------------------------------------------------------------
static void cell_forward(const struct network *network, const double *input, const double *recurrent, const double *h_before, double *c, double *h,
                         struct layer_tape *tape, size_t row) {
  size_t hidden = (size_t)network->hidden, gates = (size_t)fake_cudnn_gates(network);
  float *saved = tape->gates + row * gates * hidden;
  for (size_t j = 0; j < hidden; j++) {
    double g[4], kept = 0;
    for (size_t k = 0; k < gates; k++) g[k] = input[k * hidden + j] + recurrent[k * hidden + j];
    if (network->cell == CUDNN_LSTM) { // i, f, new, o
      for (size_t k = 0; k < 4; k++) g[k] = k == 2 ? tanh(g[k]) : sigma(g[k]);
      kept = c[j] = (float)(g[1] * c[j] + g[0] * g[2]);
      h[j] = g[3] * tanh(c[j]);
    } else if (network->cell == CUDNN_GRU) { // r, z, new
      kept = rounded(network->type, recurrent[2 * hidden + j]);
      for (size_t k = 0; k < 2; k++) g[k] = sigma(g[k]);
      g[2] = tanh(input[2 * hidden + j] + g[0] * recurrent[2 * hidden + j]);
      h[j] = (1 - g[1]) * g[2] + g[1] * h_before[j];
    } else {
      h[j] = g[0] = tanh(g[0]);
    }
    h[j] = rounded(network->type, h[j]);
    tape->h[row * hidden + j] = (float)h[j];
    tape->c[row * hidden + j] = (float)kept;
    for (size_t k = 0; k < gates; k++) saved[k * hidden + j] = rounded(network->type, g[k]);
  }
}

const char *fake_cudnn_forward(const struct network *network, const struct batch *batch, const struct tensors *t) {
  size_t hidden = (size_t)network->hidden, many = (size_t)fake_cudnn_gates(network) * hidden;
  size_t state = (size_t)(network->layers * batch->batch) * hidden;
  void *reserve = t->reserve ? t->reserve : malloc(fake_cudnn_reserve_size(network, batch));
  memset(reserve, 0, fake_cudnn_reserve_size(network, batch));
  double *h = loaded(t->hx, network->type, state), *c = loaded(t->cx, network->type, state);
  double *x = loaded(t->x, network->type, (size_t)batch->rows * (size_t)network->in);
  double *input = calloc(many, sizeof *input), *recurrent = calloc(many, sizeof *recurrent), *before = calloc(hidden, sizeof *before);
  for (int layer = 0; layer < network->layers; layer++) {
    struct weights weights = weights_of(network, t->weights, layer);
    struct layer_tape tape = tape_of(network, batch, reserve, layer);
    size_t in = width(network, layer), row = 0;
    double *y = calloc((size_t)batch->rows * hidden, sizeof *y);
    for (int step = 0; step < batch->steps; step++)
      for (int b = 0, count = active(batch, step); b < count; b++, row++) {
        size_t at = (size_t)(layer * batch->batch + b) * hidden;
        memcpy(before, h + at, hidden * sizeof *before);
        for (size_t j = 0; j < many; j++) {
          input[j] = dot(weights.input + j * in, x + row * in, in) + weights.input_bias[j];
          recurrent[j] = dot(weights.recurrent + j * hidden, before, hidden) + weights.recurrent_bias[j];
        }
        cell_forward(network, input, recurrent, before, c + at, h + at, &tape, row);
        memcpy(y + row * hidden, h + at, hidden * sizeof *y);
      }
    free(x);
    x = y;
    forget(&weights);
  }
  if (t->reserve) { // before the outputs: they may lie where inputs did
    struct header header = header_of(network, batch, t, FORWARD_DONE);
    memcpy(t->reserve, &header, sizeof header);
  } else {
    free(reserve);
  }
  store_all(t->y, network->type, x, (size_t)batch->rows * hidden);
  store_all(t->hy, network->type, h, state);
  if (network->cell == CUDNN_LSTM) store_all(t->cy, network->type, c, state);
  free(x), free(h), free(c), free(input), free(recurrent), free(before);
  return NULL;
}

// --- backward --------------------------------------------------------------------------------------------------------
// From dh and dc, which become those of the step before as far as they do not go through the recurrent weights.
static void cell_backward(const struct network *network, const double *h_before, const double *c_before, double *dh, double *dc,
                          struct layer_tape *tape, size_t row) {
  size_t hidden = (size_t)network->hidden, gates = (size_t)fake_cudnn_gates(network);
  const float *saved = tape->gates + row * gates * hidden;
  for (size_t j = 0; j < hidden; j++) {
    double g[4], d[4], kept = tape->c[row * hidden + j], dq = 0;
    for (size_t k = 0; k < gates; k++) g[k] = saved[k * hidden + j];
    if (network->cell == CUDNN_LSTM) {
      double squashed = tanh(kept), total = dc[j] + dh[j] * g[3] * (1 - squashed * squashed);
      d[0] = total * g[2] * g[0] * (1 - g[0]);
      d[1] = total * c_before[j] * g[1] * (1 - g[1]);
      d[2] = total * g[0] * (1 - g[2] * g[2]);
      d[3] = dh[j] * squashed * g[3] * (1 - g[3]);
      dc[j] = total * g[1];
      dh[j] = 0;
    } else if (network->cell == CUDNN_GRU) {
      d[2] = dh[j] * (1 - g[1]) * (1 - g[2] * g[2]);
      d[1] = dh[j] * (h_before[j] - g[2]) * g[1] * (1 - g[1]);
      d[0] = d[2] * kept * g[0] * (1 - g[0]);
      dq = d[2] * g[0];
      dh[j] *= g[1];
    } else {
      d[0] = dh[j] * (1 - g[0] * g[0]);
      dh[j] = 0;
    }
    for (size_t k = 0; k < gates; k++) tape->dgates[(row * gates + k) * hidden + j] = rounded(network->type, d[k]);
    tape->dq[row * hidden + j] = rounded(network->type, dq);
  }
}

// The gradient of what gate `k`'s recurrent product gave.
static double through_recurrent(const struct network *network, const struct layer_tape *tape, size_t row, size_t k, size_t j) {
  size_t hidden = (size_t)network->hidden, gates = (size_t)fake_cudnn_gates(network);
  return network->cell == CUDNN_GRU && k == 2 ? tape->dq[row * hidden + j] : tape->dgates[(row * gates + k) * hidden + j];
}

// h (or c) of a sequence before a step: from the step before, `row` being this one, or from hx (cx).
static void load_before(const struct batch *batch, size_t hidden, const float *values, const double *first, int step, size_t row, int b, double *before) {
  const float *from = step ? values + (row - (size_t)active(batch, step - 1)) * hidden : NULL;
  for (size_t j = 0; j < hidden; j++) before[j] = from ? from[j] : first[(size_t)b * hidden + j];
}

const char *fake_cudnn_backward_data(const struct network *network, const struct batch *batch, const struct tensors *t) {
  const char *wrong = check_reserve(network, batch, t, FORWARD_DONE);
  if (wrong) return wrong;
  size_t hidden = (size_t)network->hidden, gates = (size_t)fake_cudnn_gates(network);
  size_t state = (size_t)(network->layers * batch->batch) * hidden;
  double *hx = loaded(t->hx, network->type, state), *cx = loaded(t->cx, network->type, state);
  double *dh = loaded(t->dhy, network->type, state), *dc = loaded(t->dcy, network->type, state);
  double *dy = loaded(t->dy, network->type, (size_t)batch->rows * hidden);
  double *h_before = calloc(hidden, sizeof *h_before), *c_before = calloc(hidden, sizeof *c_before);
  for (int layer = network->layers - 1; layer >= 0; layer--) {
    struct weights weights = weights_of(network, t->weights, layer);
    struct layer_tape tape = tape_of(network, batch, t->reserve, layer);
    size_t in = width(network, layer), row = (size_t)batch->rows, offset = (size_t)(layer * batch->batch) * hidden;
    double *dx = calloc((size_t)batch->rows * in, sizeof *dx);
    for (int step = batch->steps - 1; step >= 0; step--)
      for (int b = active(batch, step) - 1; b >= 0; b--) {
        row--;
        double *dh_at = dh + offset + (size_t)b * hidden, *dc_at = dc + offset + (size_t)b * hidden;
        load_before(batch, hidden, tape.h, hx + offset, step, row, b, h_before);
        load_before(batch, hidden, tape.c, cx + offset, step, row, b, c_before);
        add_scaled(dh_at, 1, dy + row * hidden, hidden);
        cell_backward(network, h_before, c_before, dh_at, dc_at, &tape, row);
        for (size_t k = 0; k < gates; k++)
          for (size_t j = 0; j < hidden; j++) {
            size_t unit = k * hidden + j;
            add_scaled(dx + row * in, tape.dgates[row * gates * hidden + unit], weights.input + unit * in, in);
            add_scaled(dh_at, through_recurrent(network, &tape, row, k, j), weights.recurrent + unit * hidden, hidden);
          }
      }
    for (size_t i = 0; i < (size_t)batch->rows * in; i++) dx[i] = rounded(network->type, dx[i]);
    free(dy);
    dy = dx;
    forget(&weights);
  }
  store_all(t->dx, network->type, dy, (size_t)batch->rows * (size_t)network->in);
  store_all(t->dhx, network->type, dh, state);
  if (network->cell == CUDNN_LSTM) store_all(t->dcx, network->type, dc, state);
  struct header header, now = header_of(network, batch, t, DATA_DONE);
  memcpy(&header, t->reserve, sizeof header);
  header.stage = DATA_DONE;
  header.body = now.body;
  memcpy(t->reserve, &header, sizeof header);
  free(hx), free(cx), free(dh), free(dc), free(dy), free(h_before), free(c_before);
  return NULL;
}

static void accumulate(const struct network *network, void *space, size_t at, const double *sums, size_t count) {
  if (at == ABSENT) return;
  for (size_t i = 0; i < count; i++)
    store((char *)space + at, network->type, i, load((char *)space + at, network->type, i) + sums[i]);
}

const char *fake_cudnn_backward_weights(const struct network *network, const struct batch *batch, const struct tensors *t) {
  const char *wrong = check_reserve(network, batch, t, DATA_DONE);
  if (wrong) return wrong;
  size_t hidden = (size_t)network->hidden, gates = (size_t)fake_cudnn_gates(network), many = gates * hidden;
  double *hx = loaded(t->hx, network->type, (size_t)(network->layers * batch->batch) * hidden);
  double *x = loaded(t->x, network->type, (size_t)batch->rows * (size_t)network->in), *before = calloc(hidden, sizeof *before);
  for (int layer = 0; layer < network->layers; layer++) {
    struct layer_tape tape = tape_of(network, batch, t->reserve, layer);
    size_t in = width(network, layer), row = 0;
    double *input = calloc(many * in, sizeof *input), *recurrent = calloc(many * hidden, sizeof *recurrent);
    double *input_bias = calloc(many, sizeof *input_bias), *recurrent_bias = calloc(many, sizeof *recurrent_bias);
    for (int step = 0; step < batch->steps; step++)
      for (int b = 0, count = active(batch, step); b < count; b++, row++) {
        load_before(batch, hidden, tape.h, hx + (size_t)(layer * batch->batch) * hidden, step, row, b, before);
        for (size_t unit = 0; unit < many; unit++) {
          double d = tape.dgates[row * many + unit], dr = through_recurrent(network, &tape, row, unit / hidden, unit % hidden);
          add_scaled(input + unit * in, d, x + row * in, in);
          add_scaled(recurrent + unit * hidden, dr, before, hidden);
          input_bias[unit] += d;
          recurrent_bias[unit] += dr;
        }
      }
    for (int gate = 0; gate < (int)gates; gate++) {
      int id = taken_for(network, gate);
      size_t unit = (size_t)gate * hidden;
      accumulate(network, t->dweights, walk(network, layer, id, 0), input + unit * in, hidden * in);
      accumulate(network, t->dweights, walk(network, layer, id + (int)gates, 0), recurrent + unit * hidden, hidden * hidden);
      accumulate(network, t->dweights, walk(network, layer, id, 1), input_bias + unit, hidden);
      accumulate(network, t->dweights, walk(network, layer, id + (int)gates, 1), recurrent_bias + unit, hidden);
    }
    free(x);
    x = calloc((size_t)batch->rows * hidden, sizeof *x);
    for (size_t i = 0; i < (size_t)batch->rows * hidden; i++) x[i] = tape.h[i];
    free(input), free(recurrent), free(input_bias), free(recurrent_bias);
  }
  free(hx), free(x), free(before);
  return NULL;
}
