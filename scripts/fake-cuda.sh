#!/usr/bin/env bash
# A fake libcuda, libcublasLt and libcudnn (tests/fake_cuda), with which the program believes to have a GPU: its kernels
# are the emulated ones. For tests of everything above the card, on machines without one.
#
#     scripts/fake-cuda.sh FOLDER
#     scripts/emulated-kernels.sh kernels.so
#     LD_LIBRARY_PATH=FOLDER FAKE_CUDA_KERNELS=$PWD/kernels.so songrnn-fast doctor
#
# Exit codes: 0 built, 2 wrong usage, 3 no C compiler.
set -euo pipefail
[ $# -eq 1 ] || { echo "usage: scripts/fake-cuda.sh FOLDER" >&2; exit 2; }
source=$(cd "$(dirname "$0")/.." && pwd)/tests/fake_cuda
cc=${CC:-cc}
command -v "${cc%% *}" >/dev/null || { echo "fake-cuda: no C compiler: '$cc' is not there" >&2; exit 3; }
mkdir -p "$1"
options=(-std=c11 -O2 -g -Wall -Wextra -Werror -shared -fPIC)
libraries=(-lm -ldl -lpthread)
$cc "${options[@]}" -o "$1/libcuda.so.1" -Wl,-soname,libcuda.so.1 "$source/cuda.c" "${libraries[@]}"
$cc "${options[@]}" -o "$1/libcublasLt.so.13" -Wl,-soname,libcublasLt.so.13 "$source/cublaslt.c" "$1/libcuda.so.1" "${libraries[@]}"
$cc "${options[@]}" -o "$1/libcudnn.so.9" -Wl,-soname,libcudnn.so.9 "$source/cudnn.c" "$source/cudnn_rnn.c" "$source/cudnn_cells.c" \
  "$1/libcuda.so.1" "${libraries[@]}"
