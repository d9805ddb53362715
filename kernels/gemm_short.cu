// gemm_{nt,nn,tn,onehot}_{bf16,f16}: tiles of 64 x 64, four warps of 32 x 32.
#include "gemm_short.cuh"

#define GEMM(name, E, FORM)                                             \
  KERNEL_SHAPED(name, GemmParams, GEMM_THREADS, GEMM_SMEM_SHORT) {      \
    using Gemm = GemmShort<E, FORM, GEMM_TILE, GEMM_TILE, 2, 2>;        \
    static_assert(Gemm::SMEM == GEMM_SMEM_SHORT, "params.h");           \
    static_assert(Gemm::THREADS == GEMM_THREADS, "params.h");           \
    DYN_SMEM(unsigned char, smem);                                      \
    Gemm::run(p, smem);                                                 \
  }

GEMM(gemm_nt_bf16, bf16, Form::NT)
GEMM(gemm_nn_bf16, bf16, Form::NN)
GEMM(gemm_tn_bf16, bf16, Form::TN)
GEMM(gemm_onehot_bf16, bf16, Form::ONEHOT)
GEMM(gemm_nt_f16, f16, Form::NT)
GEMM(gemm_nn_f16, f16, Form::NN)
GEMM(gemm_tn_f16, f16, Form::TN)
GEMM(gemm_onehot_f16, f16, Form::ONEHOT)
