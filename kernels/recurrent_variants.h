// The variants of the persistent recurrent kernels: one line a shape, two kernels each (bf16, f16):
// recurrent_{forward|backward}_{lstm|gru|rnn}_{bf16|f16}_h{H}_c{CS}; grid B/8*CS, cluster CS.
// BLOCK: CS = 1, every architecture. CLUSTER: sm_90 and up.
// REGISTERS: a warp's weight fragments that stay in registers (the others stand in shared memory): as many as compile
// without spills on every architecture.
#pragma once

// X(H, CS, U, REGISTERS): a warp owns 8*U units.
#define RECURRENT_FORWARD_LSTM_BLOCK(X) \
  X(64, 1, 1, 8) \
  X(128, 1, 1, 16) \
  X(160, 1, 1, 11)
#define RECURRENT_FORWARD_LSTM_CLUSTER(X) \
  X(128, 4, 1, 16) \
  X(160, 2, 1, 20) \
  X(160, 4, 1, 20) \
  X(256, 4, 1, 32) \
  X(256, 8, 1, 32) \
  X(384, 8, 1, 48) \
  X(512, 8, 1, 45) \
  X(512, 16, 1, 44)
#define RECURRENT_FORWARD_GRU_BLOCK(X) \
  X(64, 1, 2, 12) \
  X(128, 1, 2, 24) \
  X(160, 1, 2, 26)
#define RECURRENT_FORWARD_GRU_CLUSTER(X) \
  X(128, 4, 1, 16) \
  X(160, 2, 2, 30) \
  X(160, 4, 1, 20) \
  X(256, 4, 2, 44) \
  X(256, 8, 1, 32) \
  X(384, 8, 1, 48) \
  X(512, 8, 1, 46) \
  X(512, 16, 1, 44)
#define RECURRENT_FORWARD_RNN_BLOCK(X) \
  X(64, 1, 2, 4) \
  X(128, 1, 2, 8) \
  X(160, 1, 2, 10) \
  X(256, 1, 2, 16)
#define RECURRENT_FORWARD_RNN_CLUSTER(X) \
  X(128, 4, 2, 8) \
  X(160, 2, 2, 10) \
  X(256, 4, 2, 16) \
  X(256, 8, 2, 16) \
  X(384, 8, 2, 24) \
  X(512, 4, 2, 32) \
  X(512, 8, 2, 32) \
  X(512, 16, 2, 32) \
  X(1024, 8, 2, 42) \
  X(1024, 16, 2, 40)

// X(H, CS, WARPS, MG, REGISTERS): MG groups of outputs, WARPS/MG groups of k.
#define RECURRENT_BACKWARD_LSTM_BLOCK(X) \
  X(64, 1, 8, 2, 8) \
  X(128, 1, 8, 2, 32) \
  X(160, 1, 8, 2, 44)
#define RECURRENT_BACKWARD_LSTM_CLUSTER(X) \
  X(128, 4, 8, 8, 8) \
  X(160, 2, 10, 10, 20) \
  X(160, 4, 10, 10, 10) \
  X(256, 4, 8, 8, 32) \
  X(256, 8, 8, 8, 16) \
  X(384, 8, 12, 12, 24) \
  X(512, 8, 8, 8, 48) \
  X(512, 16, 8, 8, 32)
#define RECURRENT_BACKWARD_GRU_BLOCK(X) \
  X(64, 1, 8, 2, 6) \
  X(128, 1, 8, 2, 24) \
  X(160, 1, 10, 5, 26)
#define RECURRENT_BACKWARD_GRU_CLUSTER(X) \
  X(128, 4, 8, 8, 6) \
  X(160, 2, 10, 10, 15) \
  X(160, 4, 10, 10, 10) \
  X(256, 4, 8, 8, 24) \
  X(256, 8, 8, 8, 12) \
  X(384, 8, 12, 12, 18) \
  X(512, 8, 8, 8, 48) \
  X(512, 16, 8, 8, 24)
#define RECURRENT_BACKWARD_RNN_BLOCK(X) \
  X(64, 1, 4, 4, 4) \
  X(128, 1, 8, 8, 8) \
  X(160, 1, 10, 10, 10) \
  X(256, 1, 16, 16, 16)
#define RECURRENT_BACKWARD_RNN_CLUSTER(X) \
  X(128, 4, 4, 4, 4) \
  X(160, 2, 10, 10, 5) \
  X(256, 4, 8, 8, 8) \
  X(256, 8, 4, 4, 8) \
  X(384, 8, 6, 6, 12) \
  X(512, 4, 8, 8, 32) \
  X(512, 8, 8, 8, 16) \
  X(512, 16, 4, 4, 16) \
  X(1024, 8, 8, 8, 38) \
  X(1024, 16, 8, 8, 32)

// How they are launched (threads a block, bytes of dynamic shared memory), as the shapes compute it.
//   cell    H  CS   forward threads  smem   backward threads  smem
//   lstm    64   1               256   2304               256  30848
//   lstm   128   1               512   4352               256  59520
//   lstm   160   1               640  97536               256  98560
//   lstm   128   4               128   5392               256  22928
//   lstm   160   2               320   7952               320  46352
//   lstm   160   4               160   6672               320  31120
//   lstm   256   4               256  10512               256  43280
//   lstm   256   8               128   9488               256  31120
//   lstm   384   8               192  14096               384  46480
//   lstm   512   8               256  96528               256 125200
//   lstm   512  16               128  58640               256  47504
//   gru     64   1               128   2304               256  25216
//   gru    128   1               256   4352               256  48768
//   gru    160   1               320  25856               320  72832
//   gru    128   4               128   5392               256  20752
//   gru    160   2               160   7952               320  38160
//   gru    160   4               160   6672               320  26896
//   gru    256   4               128  18704               256  36624
//   gru    256   8               128   9488               256  28944
//   gru    384   8               192  14096               384  40720
//   gru    512   8               256  92432               256  53008
//   gru    512  16               128  58640               256  45328
//   rnn     64   1               128   2304               128   7808
//   rnn    128   1               256   4352               256  14976
//   rnn    160   1               320   5376               320  20608
//   rnn    256   1               512   8448               512  29312
//   rnn    128   4                64   5392               128  14096
//   rnn    160   2               160   7952               320  21776
//   rnn    256   4               128  10512               256  23312
//   rnn    256   8                64   9488               128  22288
//   rnn    384   8                96  14096               192  30992
//   rnn    512   4               256  20752               256  45840
//   rnn    512   8               128  18704               256  39696
//   rnn    512  16                64  17680               128  38672
//   rnn   1024   8               256 127248               256 185104
//   rnn   1024  16               128  84240               256  72464
