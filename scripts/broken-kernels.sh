#!/usr/bin/env bash
# A test of the tests: takes one barrier out of a kernel, and the engine's tests on the emulated device must fail.
#
#     scripts/broken-kernels.sh CUDA_ENGINE_TEST_BINARY [NAME...]
#
# The binary is that of tests/cuda_engine.rs (cargo test --no-run --test cuda_engine prints it). Each fault: a name, the file,
# a pattern whose first line is taken out, the tests that must notice.
set -euo pipefail
[ $# -ge 1 ] || { echo "usage: scripts/broken-kernels.sh CUDA_ENGINE_TEST_BINARY [NAME...]" >&2; exit 2; }
binary=$1
shift
repository=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export SONGRNN_TEST_QUICK=1

# The unbroken objects are made once; a fault compiles only what includes the broken file.
faults=(
  "forward|recurrent_forward.cuh|      __syncthreads();|fused_kernels_equal_the_reference_in_several"
  "backward|recurrent_backward.cuh|    __syncthreads();  |fused_kernels_equal_the_reference_in_several"
  "float|recurrent_f32.cu|    __syncthreads();|fused_kernels_equal_the_reference_on_ragged"
  "product|gemm_short.cuh|      __syncthreads();|stepwise_kernels_equal_the_reference_on_ragged"
)
missed=0
cp -r "$repository/kernels" "$work/kernels"
SONGRNN_KERNEL_SOURCES=$work/kernels "$repository/scripts/emulated-kernels.sh" "$work/broken.so"
for fault in "${faults[@]}"; do
  IFS='|' read -r name file pattern tests <<<"$fault"
  if [ $# -gt 0 ] && [[ " $* " != *" $name "* ]]; then continue; fi
  line=$(grep -nF -m1 -- "$pattern" "$repository/kernels/$file" | cut -d: -f1 || true)
  if [ -z "$line" ]; then
    echo "broken-kernels: $file has no line with '$pattern' any more: name another barrier in $0" >&2
    exit 1
  fi
  sed "${line}s/.*//" "$repository/kernels/$file" >"$work/kernels/$file"
  SONGRNN_KERNEL_SOURCES=$work/kernels "$repository/scripts/emulated-kernels.sh" "$work/broken.so"
  if SONGRNN_EMULATED_KERNELS=$work/broken.so timeout 300 "$binary" "$tests" >"$work/log" 2>&1; then
    echo "MISSED  $name: $file without line $line ($pattern) passes $tests"
    missed=1
  else
    echo "found   $name: $file without line $line"
    grep -m1 -E "NMSE|failed:|expected" "$work/log" | cut -c1-160 | sed 's/^/        /' || true
  fi
  cp "$repository/kernels/$file" "$work/kernels/$file"
done
exit "$missed"
