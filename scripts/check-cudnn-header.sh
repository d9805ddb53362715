#!/usr/bin/env bash
# Compiles the fake cuDNN (tests/fake_cuda) against NVIDIA's header: a function, a type or a value that is not theirs does
# not compile. Needs no GPU and no library.
#
#     scripts/check-cudnn-header.sh [--fetch FOLDER] DIR...
#
#     DIR               where the headers are, at any depth: cudnn.h, and cuda_runtime_api.h of the CUDA toolkit
#     --fetch FOLDER    what is not there is taken from NVIDIA's Python packages; of the 400 MB only the headers stay in FOLDER
#
# Exit codes: 0 nothing differs, 1 something does, 2 wrong usage, 3 no header or compiler (SKIP says which).
set -euo pipefail

cudnn=nvidia-cudnn-cu13==9.26.0.51
toolkit=(nvidia-cuda-runtime==13.0.96 nvidia-cuda-crt==13.0.88)
skip() {
  echo "SKIP: check-cudnn-header: $*"
  exit 3
}
usage() {
  echo "usage: scripts/check-cudnn-header.sh [--fetch FOLDER] DIR..." >&2
  exit 2
}

fetch=
if [ "${1:-}" = --fetch ]; then
  [ $# -ge 2 ] || usage
  fetch=$2
  shift 2
  mkdir -p "$fetch"
  set -- "$fetch" "$@"
fi
[ $# -ge 1 ] || usage
for folder in "$@"; do case $folder in -*) usage ;; esac; done
source=$(cd "$(dirname "$0")/.." && pwd)/tests/fake_cuda
cc=${CC:-cc}
command -v "${cc%% *}" >/dev/null || skip "no C compiler: '$cc' is not there"

# The folder of a header, the first one in the order of the arguments.
folders=("$@")
folder_of() {
  local found folder
  for folder in "${folders[@]}"; do
    [ -d "$folder" ] || continue
    found=$(find -L "$folder" -path "*/$1" -print -quit 2>/dev/null || true)
    [ -z "$found" ] || { echo "${found%"/$1"}"; return; }
  done
}

# Downloads packages and keeps their headers.
temporary=
trap '[ -z "$temporary" ] || rm -rf "$temporary"' EXIT
headers_from() {
  command -v python3 >/dev/null || skip "python3 is needed to fetch $*"
  temporary=$(mktemp -d "$fetch/download.XXXXXX")
  local python=python3
  if ! python3 -m pip --version >/dev/null 2>&1; then
    python=$temporary/venv/bin/python3
    python3 -m venv "$temporary/venv" >"$temporary/log" 2>&1 || skip "python3 has neither pip nor venv, to fetch $*"
  fi
  "$python" -m pip download --disable-pip-version-check --no-input --no-deps --no-cache-dir --only-binary=:all: --quiet \
    --dest "$temporary" "$@" >"$temporary/log" 2>&1 || { tail -n 5 "$temporary/log" >&2; skip "pip could not download $*"; }
  "$python" - "$temporary" "$fetch" <<'PYTHON'
import pathlib, sys, zipfile
for wheel in pathlib.Path(sys.argv[1]).glob("*.whl"):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(sys.argv[2], [name for name in archive.namelist() if "/include/" in name])
PYTHON
  rm -rf "$temporary"
  temporary=
}

if [ -n "$fetch" ]; then
  [ -n "$(folder_of cudnn_adv.h)" ] || headers_from "$cudnn"
  [ -n "$(folder_of cuda_runtime_api.h)" ] && [ -n "$(folder_of crt/host_defines.h)" ] || headers_from "${toolkit[@]}"
fi
includes=()
for header in cudnn.h cudnn_adv.h cuda_runtime_api.h crt/host_defines.h; do
  folder=$(folder_of "$header")
  [ -n "$folder" ] || skip "no $header below $*"
  includes+=(-isystem "$folder")
done

version=$(find -L "${includes[1]}" -maxdepth 1 -name 'cudnn_version*.h' -exec awk '$2 ~ /^CUDNN_(MAJOR|MINOR|PATCHLEVEL)$/ { print $3 }' {} + | head -n 3 | paste -sd.)
wrong=0
for file in cudnn.c cudnn_rnn.c cudnn_cells.c cudnn_selftest.c; do
  # A function of the fake that their header does not have has no prototype.
  unknown=-Wmissing-prototypes
  $cc -std=c11 -fsyntax-only -Wall -Wextra -Werror $unknown -DREAL_CUDNN_HEADER "${includes[@]}" "$source/$file" || wrong=1
done
[ $wrong = 0 ] || { echo "check-cudnn-header: the fake differs from cuDNN $version" >&2; exit 1; }
echo "check-cudnn-header: the fake has the functions and values of cuDNN $version"
