// A libcublasLt for tests: column-major products by three loops, as NVIDIA's documentation defines them, behind the
// functions that the CUDA engine's driver calls. It checks what it is given: leading dimensions, workspace, types.
//
//   FAKE_BLAS_WRONG=tf32 | transposed    cut float inputs as TF32 does, or read the first operand the other way round
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fake.h"

enum { SUCCESS = 0, INVALID_VALUE = 7, EXECUTION_FAILED = 13, NOT_SUPPORTED = 15 };
enum { R_32F = 0, R_16F = 2, R_16BF = 14 };

struct layout { int type; uint64_t rows, columns; int64_t leading; };
struct description { int compute, scale, transposed[2]; };
struct preference { uint64_t workspace; uint32_t reduction, alignment[4]; };
struct algorithm { uint64_t workspace, data[7]; };
struct heuristic { struct algorithm algorithm; size_t workspace; int state; float waves; int reserved[4]; };

size_t cublasLtGetVersion(void) { return 130100; }
const char *cublasLtGetStatusName(int status) { return status == NOT_SUPPORTED ? "CUBLAS_STATUS_NOT_SUPPORTED" : "CUBLAS_STATUS_OTHER"; }
int cublasLtCreate(void **handle) { return (*handle = malloc(1)) ? SUCCESS : EXECUTION_FAILED; }
int cublasLtDestroy(void *handle) { return free(handle), SUCCESS; }

int cublasLtMatmulDescCreate(struct description **description, int compute, int scale) {
  *description = calloc(1, sizeof **description);
  (*description)->compute = compute;
  (*description)->scale = scale;
  return SUCCESS;
}
int cublasLtMatmulDescDestroy(struct description *description) { return free(description), SUCCESS; }
int cublasLtMatmulDescSetAttribute(struct description *description, int attribute, const void *value, size_t size) {
  if (size != 4 || (attribute != 3 && attribute != 4)) return INVALID_VALUE;
  memcpy(&description->transposed[attribute - 3], value, 4);
  return SUCCESS;
}
int cublasLtMatrixLayoutCreate(struct layout **layout, int type, uint64_t rows, uint64_t columns, int64_t leading) {
  if (leading < (int64_t)rows) return INVALID_VALUE;
  *layout = malloc(sizeof **layout);
  **layout = (struct layout){type, rows, columns, leading};
  return SUCCESS;
}
int cublasLtMatrixLayoutDestroy(struct layout *layout) { return free(layout), SUCCESS; }
int cublasLtMatmulPreferenceCreate(struct preference **preference) {
  *preference = calloc(1, sizeof **preference);
  (*preference)->reduction = 7;
  return SUCCESS;
}
int cublasLtMatmulPreferenceDestroy(struct preference *preference) { return free(preference), SUCCESS; }
int cublasLtMatmulPreferenceSetAttribute(struct preference *preference, int attribute, const void *value, size_t size) {
  if (attribute == 1 && size == 8) memcpy(&preference->workspace, value, 8);
  else if (attribute == 3 && size == 4) memcpy(&preference->reduction, value, 4);
  else if (attribute >= 5 && attribute <= 8 && size == 4) memcpy(&preference->alignment[attribute - 5], value, 4);
  else return INVALID_VALUE;
  return SUCCESS;
}

// Rows and columns of op(X).
static uint64_t rows(const struct layout *x, int transposed) { return transposed ? x->columns : x->rows; }
static uint64_t columns(const struct layout *x, int transposed) { return transposed ? x->rows : x->columns; }

static int fits(const struct description *description, const struct layout *a, const struct layout *b, const struct layout *c) {
  const int *t = description->transposed;
  if (description->compute != 68 || description->scale != R_32F) return 0; // CUBLAS_COMPUTE_32F
  if (a->type != b->type || (c->type != a->type && c->type != R_32F)) return 0;
  return rows(a, t[0]) == c->rows && columns(b, t[1]) == c->columns && columns(a, t[0]) == rows(b, t[1]);
}

int cublasLtMatmulAlgoGetHeuristic(void *handle, struct description *description, struct layout *a, struct layout *b, struct layout *c,
                                   struct layout *d, struct preference *preference, int wanted, struct heuristic *found, int *count) {
  *count = 0;
  if (!handle || wanted < 1 || c != d || !fits(description, a, b, c)) return INVALID_VALUE;
  if (preference->reduction & 5) return NOT_SUPPORTED; // sums in C's type
  memset(found, 0, sizeof *found);
  found->workspace = found->algorithm.workspace = preference->workspace / 2;
  *count = 1;
  return SUCCESS;
}

static double load(const void *data, int type, uint64_t index, int tf32) {
  if (type == R_32F) {
    uint32_t word;
    memcpy(&word, (const char *)data + 4 * index, 4);
    if (tf32) word &= 0xffffe000u;
    float value;
    memcpy(&value, &word, 4);
    return value;
  }
  uint16_t half;
  memcpy(&half, (const char *)data + 2 * index, 2);
  if (type == R_16BF) {
    uint32_t word = (uint32_t)half << 16;
    float value;
    memcpy(&value, &word, 4);
    return value;
  }
  int exponent = half >> 10 & 31, fraction = half & 1023;
  double value = exponent == 31 ? (fraction ? NAN : INFINITY)
               : exponent       ? ldexp(1024 + fraction, exponent - 25)
                                : ldexp(fraction, -24);
  return half >> 15 ? -value : value;
}

static void store(void *data, int type, uint64_t index, double sum) {
  float value = (float)sum;
  if (type == R_32F) {
    memcpy((char *)data + 4 * index, &value, 4);
    return;
  }
  uint16_t half;
  uint32_t word;
  memcpy(&word, &value, 4);
  if (type == R_16BF) {
    half = (uint16_t)((word + 0x7fff + (word >> 16 & 1)) >> 16);
  } else { // normal numbers only
    int exponent = 0;
    double fraction = nearbyint(ldexp(frexp(fabs(sum), &exponent), 11));
    half = fraction == 0 ? 0 : (uint16_t)(((exponent + 14) << 10) + (int)fraction - 1024);
    half |= (uint16_t)(word >> 16 & 0x8000);
  }
  memcpy((char *)data + 2 * index, &half, 2);
}

struct call { int ta, tb; struct layout a, b, c; const void *a_at, *b_at; void *c_at; };

static int run(void *data) {
  struct call *call = data;
  const char *wish = getenv("FAKE_BLAS_WRONG"), *wrong = wish ? wish : "";
  int tf32 = !strcmp(wrong, "tf32"), ta = call->ta != !strcmp(wrong, "transposed");
  uint64_t depth = columns(&call->a, call->ta);
  for (uint64_t j = 0; j < call->c.columns; j++)
    for (uint64_t i = 0; i < call->c.rows; i++) {
      double sum = 0;
      for (uint64_t l = 0; l < depth; l++) {
        uint64_t a = ta ? l + i * (uint64_t)call->a.leading : i + l * (uint64_t)call->a.leading;
        uint64_t b = call->tb ? j + l * (uint64_t)call->b.leading : l + j * (uint64_t)call->b.leading;
        sum += load(call->a_at, call->a.type, a, tf32) * load(call->b_at, call->b.type, b, tf32);
      }
      store(call->c_at, call->c.type, i + j * (uint64_t)call->c.leading, sum);
    }
  return 0;
}

int cublasLtMatmul(void *handle, struct description *description, const float *alpha, const void *a, struct layout *a_layout, const void *b,
                   struct layout *b_layout, const float *beta, const void *c, struct layout *c_layout, void *d, struct layout *d_layout,
                   const struct algorithm *algorithm, void *workspace, size_t workspace_size, void *stream) {
  if (!handle || *alpha != 1 || *beta != 0 || c != d || c_layout != d_layout || !fits(description, a_layout, b_layout, c_layout)) return INVALID_VALUE;
  if (!algorithm || !workspace || workspace_size < algorithm->workspace) return INVALID_VALUE;
  struct call call = {description->transposed[0], description->transposed[1], *a_layout, *b_layout, *c_layout, a, b, d};
  return fake_enqueue(stream, run, &call, sizeof call) == 0 ? SUCCESS : EXECUTION_FAILED;
}
