#!/usr/bin/env bash
# Checks the CUDA driver over the `cust` crate (feature `cust`), which wants a CUDA toolkit when it is built.
#
#     scripts/check-cust.sh [--run] [TOOLKIT]
#
#     TOOLKIT   a folder with include/cuda.h; default: CUDA_HOME, CUDA_PATH, what scripts/cuda-toolkit.sh fetched,
#               VIRTUAL_ENV's packages, /usr/local/cuda
#     --run     also link it with the fake libcuda of tests/fake_cuda and run the tests that need no device
#
# cust's build script looks below CUDA_LIBRARY_PATH, /opt/cuda and /usr/local/cuda for lib64/ or
# targets/x86_64-linux/include/cuda.h and asks the linker for libcuda. The layout of NVIDIA's Python packages is
# another (lib/, include/), so this gives it a folder of links. To build a program with the feature on a machine with
# NVIDIA's driver or the toolkit's stubs, the same variable is enough: CUDA_LIBRARY_PATH=FOLDER cargo build --features cust.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
  printf 'check-cust: %s\n' "$*" >&2
  exit 1
}
run=false
toolkit=
for argument in "$@"; do
  case $argument in
    --run) run=true ;;
    -h | --help)
      sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p;}' "$0"
      exit 0
      ;;
    -*) fail "unknown option $argument (see --help)" ;;
    *) toolkit=$argument ;;
  esac
done

fetched=${XDG_CACHE_HOME:-${HOME:-}/.cache}/songrnn-fast/cuda-toolkit
shopt -s nullglob
for folder in ${toolkit:+"$toolkit"} ${CUDA_HOME:+"$CUDA_HOME"} ${CUDA_PATH:+"$CUDA_PATH"} \
  "$fetched"/lib/python3*/site-packages/nvidia/cu13 ${VIRTUAL_ENV:+"$VIRTUAL_ENV"/lib/python3*/site-packages/nvidia/cu13} \
  /usr/local/cuda; do
  if [ -f "$folder/include/cuda.h" ]; then
    found=$(cd "$folder" && pwd)
    break
  fi
  [ "$folder" != "$toolkit" ] || fail "$toolkit has no include/cuda.h"
done
[ -n "${found:-}" ] || fail "no CUDA toolkit found; scripts/cuda-toolkit.sh fetches one"
echo "check-cust: $found"

# The same folder every time: another path would make cargo build the crates again.
links=${CARGO_TARGET_DIR:-target}/cust-toolkit
mkdir -p "$links/targets/x86_64-linux/lib"
links=$(cd "$links" && pwd)
ln -sfn "$found/include" "$links/targets/x86_64-linux/include"
export CUDA_LIBRARY_PATH=$links
cargo clippy --lib --features cust -- -D warnings

if $run; then
  fake=$links/targets/x86_64-linux/lib
  "${CC:-cc}" -std=c11 -O2 -shared -fPIC -Wl,-soname,libcuda.so.1 -o "$fake/libcuda.so.1" tests/fake_cuda/cuda.c -ldl -lpthread
  ln -sfn libcuda.so.1 "$fake/libcuda.so"
  # cust binds all of CUDA; the fake has what we call, and nothing else is called.
  RUSTFLAGS="${RUSTFLAGS:-} -Clink-arg=-Wl,--unresolved-symbols=ignore-all" LD_LIBRARY_PATH=$fake \
    cargo test --target-dir "${CARGO_TARGET_DIR:-target}/cust" --features cust --test fake_cuda cust
fi
