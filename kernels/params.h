// Parameters of every kernel: one plain struct each, passed by value. src/engine/cuda/params.rs mirrors this file
// field by field; a test compares the sizes.
//
// Letters: T steps, B streams (padded to a multiple of 8), H units (padded to a multiple of 16), S gate slots a unit,
// V vocabulary, VP vocabulary padded to a multiple of 16, rows = T*B. E is the storage type (float, bf16, f16).
//
// Gate slots. LSTM and GRU have S = 4, the RNN S = 1; [unit][slot] is interleaved everywhere.
//   LSTM  slots i, f, g, o.
//   GRU   slots r, z, n, q: q is the recurrent part of n (W_hn h + b_hn), n = tanh(p2 + r*q). W_hh has zero rows in
//         slot 2, W_ih in slot 3, so that one product fills all four pre-activations.
//   RNN   slot h.
// Padded units and padded streams stay zero: weights, biases and gradients of padded units are zero, padded streams
// have id 0, target IGNORE and reset 1.
#pragma once
#include <stdint.h>

#define IGNORE_TARGET 0xffffu

// --- recurrent layers --------------------------------------------------------------------------------------------
// The type of a saved gate: float for E = float, f16 for bf16 and f16 (finer near 1 than bf16).
struct RecurrentParams {
  const void* w;           // E [H][S][H]: w[unit][slot][k], the recurrent weights
  const void* table;       // E [V][H][S]: pre-activations of each character, biases included (layer 0); null above
  const uint16_t* ids;     // [T][B], read where table is not null
  const uint8_t* resets;   // [T][B]: 1 where the state before step t is zero
  void* gates;             // [T][B][H][S]. Forward in (table null): E pre-activations, biases included; forward out:
                           // activated gates (RNN: h). Backward in: activated gates; backward out: E gradients of
                           // the pre-activations (for a GRU slot 2 is d n's argument, slot 3 is d q = slot 2 * r)
  float* c;                // [T+1][B][H], LSTM: c[0] = carried in (not masked), c[t+1] after step t (not masked)
  void* hp;                // E [T+1][B][H]: hp[t] = state before step t, zero where reset; hp[T] = last state
  void* y;                 // E [T][B][H]: state after step t (not masked), before dropout
  const void* dy;          // backward: E [T][B][H], gradient of y from above
  void* h_carry;           // E [B][H]: state before the chunk in, after it out
  float* c_carry;          // [B][H], LSTM
  int32_t T, B, H;
  int32_t store;           // forward: 1 = store gates and c for a backward pass; 0 = y, hp[T] and carries alone
};

// One step of the stepwise tier, after a product. Forward: product = hp[t] W^T, float [B][H*S]. Backward: product =
// dgates[t+1] W, float [B][H] (unused at t = T-1); dc float [B][H] is carried from step t+1 to t (unused at T-1), and
// dh_direct float [B][H] likewise (a GRU's dh * z).
struct CellStepParams {
  RecurrentParams r;
  const float* product;
  float* dc;
  float* dh_direct;
  int32_t t;
  int32_t pad;
};

// --- recurrent layers of a library (kernels/library.cu) -----------------------------------------------------------
// All grid-stride with 256 threads. `width` is H in the library's layouts, at most our padded H.
struct LibraryInputParams {
  const uint16_t* ids;     // [T][B]
  const int32_t* order;    // [rows] or null
  void* x;                 // E [rows][classes]
  int32_t rows, classes;
};
struct LibraryRowsParams {
  const void* from;        // E [rows][from_width]
  void* to;                // E [rows][to_width]
  const int32_t* order;    // [rows] or null
  int32_t rows, from_width, to_width;
  int32_t back;            // 0: from is ours, to the library's; 1: the reverse
};
struct LibraryStatesParams {
  void* h_carry;           // E [layers][B][H]
  float* c_carry;          // [layers][B][H] or null
  void* library_h;         // E [layers][sequences][width]
  void* library_c;         // the same
  const int32_t* streams_of;  // [sequences], -1: none; null: sequence s is stream s
  const uint8_t* resets;   // [B], of the first step; read where streams_of is null, on the way to the library
  int32_t layers, sequences, B, H, width;
  int32_t back;            // 0: to the library, 1: from it
};
struct LibraryTensor {
  int64_t ours, row_stride, column_stride;  // elements in the parameter arena
  int64_t theirs, their_stride;             // elements in the library's weight space; its columns are neighbours
  int32_t rows, columns;
};
// Grid (any, tensors). grads null: weights -> library; else library -> grads.
struct LibraryWeightsParams {
  const LibraryTensor* tensors;
  const void* weights;     // E, the arena
  void* library;           // E
  float* grads;            // the arena's gradients
};

// --- products ----------------------------------------------------------------------------------------------------
// C[m][n] = A B (+ bias[n]). Leading dimensions in elements, multiples of 8; pointers 16-byte aligned; m, n, k multiples
// of 8. Block (x, y, z) computes the tile of columns x*GEMM_TILE.., rows y*GEMM_TILE.. over the k range
// [z*k_split, min(k, (z+1)*k_split)), where z = blockIdx.z; with gridDim.z > 1 the result goes to c + z*m*ldc.
//   gemm_nt: A[m][k], B[n][k].  gemm_nn: A[m][k], B[k][n].  gemm_tn: A[k][m], B[k][n].
//   gemm_onehot: A[k][m] = (ids[k] == m), B[k][n].
#define GEMM_TILE 64
#define GEMM_TILE_K 32      // k_split is a multiple of it
#define GEMM_THREADS 128
#define GEMM_STAGES 4       // stages of GEMM_TILE_K in flight (short types)
#define GEMM_SMEM_SHORT 32768  // dynamic shared memory: bf16, f16
#define GEMM_SMEM_F32 16384    // and f32
// gemm_{nt,nn,tn}_{bf16,f16}_large: the same with larger tiles, for products whose large tiles fill the device.
#define GEMM_LARGE_TILE 128
#define GEMM_LARGE_THREADS 128
#define GEMM_LARGE_SMEM 65536
struct GemmParams {
  const void* a;           // E
  const void* b;           // E
  void* c;                 // E, or float where c_float
  const float* bias;       // [n] or null
  const uint16_t* ids;     // gemm_onehot: [k]
  int32_t m, n, k, lda, ldb, ldc, k_split, c_float;
};

// out[i][j] = sum over z of partial[z][i][j], in the order of z; zero where slots = 4 and i%4 == banned_row or j%4 ==
// banned_column (-1: none). Grid: ceil(m*n / 256), 256 threads.
struct ReduceParams {
  const float* partial;    // [splits][m][n]
  float* out;              // [m][n]
  int32_t m, n, splits, banned_row, banned_column, pad;
};

// partial[z][j] = sum of a[i][j] over rows i in [z*rows_split, (z+1)*rows_split). Grid: (ceil(columns/128), splits), 128
// threads.
struct ColumnSumParams {
  const void* a;           // E [rows][columns]
  float* partial;          // [splits][columns]
  int32_t rows, columns, rows_split, pad;
};

// --- head --------------------------------------------------------------------------------------------------------
// head_*: logits, log-softmax, cross-entropy and d(logits) in one pass, VP <= HEAD_MAX_CLASSES. softmax_*: the same from
// finished logits, any V, one block of 256 threads a row.
// head_*: one block a HEAD_ROWS rows, HEAD_THREADS threads.
#define HEAD_MAX_CLASSES 256
#define HEAD_ROWS 64
#define HEAD_THREADS 128
#define HEAD_SMEM_SHORT 61440  // dynamic shared memory: bf16, f16
#define HEAD_SMEM_F32 20480    // and f32
struct HeadParams {
  const void* y;           // E [rows][H]
  const void* w;           // E [VP][H]
  const float* bias;       // [VP]
  const uint16_t* targets; // [rows], IGNORE_TARGET: no loss, no gradient
  const float* scale;      // one number: d(logits) = scale * (softmax - onehot)
  void* dlogits;           // E [rows][VP]; null: none. Padded classes get 0
  float* losses;           // [rows]; 0 where ignored
  float* logits;           // softmax_*: in, float [rows][VP]; head_*: out or null
  int32_t rows, H, V, VP;
};

// --- the step ----------------------------------------------------------------------------------------------------
// Uploaded with every chunk.
struct StepHyper {
  float lr, clip, weight_decay, skip_above;
  uint32_t predicted;      // predicted characters of the chunk
  uint32_t optimizer;      // 0 Adam, 1 AdamW, 2 SGD, 3 RMSprop
  float k0, k1, k2;        // Adam(W): beta1 beta2 eps; SGD: momentum; RMSprop: alpha eps momentum
  uint32_t dropout_threshold;
  float dropout_scale;     // 1/(1-p)
  uint32_t seed_lo, seed_hi, time;
};
// Lives on the device.
struct Scaler {
  uint64_t updates;        // applied so far
  float loss_scale;
  uint32_t good_steps;
};
// Written by `prepare` and `decide`, read by the kernels after them.
struct Decision {
  float head_scale;        // loss_scale / max(predicted, 1)
  float factor;            // unscale and clip
  float step_size;         // lr, or Adam's lr / (1 - beta1^t)
  float root_correction;   // Adam's 1 / sqrt(1 - beta2^t), else 1
  uint32_t update;         // 1: apply
  uint32_t pad;
};
// Read back by the host.
struct StepStats {
  double loss_sum;
  float grad_norm, loss_scale;
  uint32_t predicted, updated;
};
struct StepParams {
  const StepHyper* hyper;
  Scaler* scaler;
  Decision* decision;
  StepStats* stats;
  const float* losses;     // [rows]
  const double* squares;   // [blocks], partial sums of squared (scaled) gradients
  int32_t rows, blocks;
  int32_t dynamic;         // 1: dynamic loss scaling (f16)
  int32_t training;        // 0: evaluation, statistics of the loss alone; 1: training; 2: the gradient alone, its
                           // norm is in the statistics, nothing is updated and the loss scale stays
};
// squares[block] = sum of g*g in double. Grid: NORM_BLOCKS, 256 threads.
#define NORM_BLOCKS 256
struct NormParams {
  const float* grads;
  double* squares;
  int64_t n;
};
// Grid: any, 256 threads, grid-stride. shadow null: f32, the masters are the weights.
struct UpdateParams {
  float* params;
  const float* grads;      // scaled
  float* first;            // moments
  float* second;
  void* shadow;            // E, same index as params
  const StepHyper* hyper;
  const Decision* decision;
  int64_t n;
};
// convert_{bf16,f16}: shadow = E(params).
struct ConvertParams {
  const float* params;
  void* shadow;
  int64_t n;
};
// grads *= 1/loss_scale, for calls that hand gradients out.
struct UnscaleParams {
  float* grads;
  const Scaler* scaler;
  int64_t n;
};
// Zeroes h and c where nothing was updated and any of them is not finite. One block, 1024 threads.
struct MendParams {
  void* h;                 // E [n]
  float* c;                // [n] or null
  const Decision* decision;
  int64_t n;
};
// table[v][i] = E(w[v][i] + bias_ih[i] + bias_hh[i]); w null: the same without a character: sum[i] = both biases.
struct TableParams {
  const float* w;          // [V][H*S] or null
  const float* bias_ih;    // [H*S]
  const float* bias_hh;    // [H*S] or null
  void* table;             // E [V][H*S]
  float* sum;              // [H*S], written where w is null
  int32_t V, columns;
};
// x[t][b][u] *= mask(seed, layer, time + t, stream b, unit u). Grid-stride over quads of units, 256 threads.
struct DropoutParams {
  void* x;                 // E [T][B][H]
  const StepHyper* hyper;
  int32_t T, B, H, layer;
};

// --- sampling ----------------------------------------------------------------------------------------------------
// One stream's place. Streams take tunes from a common counter; a tune depends on its own index alone.
struct SampleStream {
  int32_t tune;            // place in the request; -1: none left, the stream idles
  int32_t position;        // inputs fed so far of this tune
};
struct SampleParams {
  float* logits;           // [B][VP], from the step before; overwritten
  uint16_t* ids;           // [B]: out, the next input
  uint8_t* resets;         // [B]: out, 1 where the next input starts a tune
  SampleStream* streams;   // [B]
  uint16_t* out;           // [tunes][max_chars]: characters, the prime's included
  uint32_t* lengths;       // [tunes]
  uint8_t* closed;         // [tunes]
  uint32_t* next_tune;     // counter
  uint32_t* remaining;     // tunes not finished
  const uint16_t* prime;   // [prime_len], <start> first
  const uint8_t* banned;   // [V]
  uint64_t seed, first_index;
  float temperature, top_p;
  int32_t top_k, prime_len, max_chars, end, tunes, B, V, VP;
};
// sample_persistent_*: whole tunes. Layer 0 of a one-layer model, head and choice in one kernel.
struct PersistentSampleParams {
  SampleParams s;          // logits, ids, resets unused
  const void* w;           // E [H][S][H]
  const void* table;       // E [V][H][S]
  const void* head_w;      // E [VP][H]
  const float* head_bias;  // [VP]
  int32_t H, pad;
};
