// gemm_{nt,nn,tn}_{bf16,f16}_large: tiles of 128 x 128, four warps of 64 x 64. Half the reads of shared memory for each
// product of the small tiles, and half the reads of the matrices.
#include "gemm_short.cuh"

#define GEMM(name, E, FORM)                                                    \
  KERNEL_SHAPED(name, GemmParams, GEMM_LARGE_THREADS, GEMM_LARGE_SMEM) {       \
    using Gemm = GemmShort<E, FORM, GEMM_LARGE_TILE, GEMM_LARGE_TILE, 2, 2>;   \
    static_assert(Gemm::SMEM == GEMM_LARGE_SMEM, "params.h");                  \
    static_assert(Gemm::THREADS == GEMM_LARGE_THREADS, "params.h");            \
    DYN_SMEM(unsigned char, smem);                                             \
    Gemm::run(p, smem);                                                        \
  }

GEMM(gemm_nt_bf16_large, bf16, Form::NT)
GEMM(gemm_nn_bf16_large, bf16, Form::NN)
GEMM(gemm_tn_bf16_large, bf16, Form::TN)
GEMM(gemm_nt_f16_large, f16, Form::NT)
GEMM(gemm_nn_f16_large, f16, Form::NN)
GEMM(gemm_tn_f16_large, f16, Form::TN)
