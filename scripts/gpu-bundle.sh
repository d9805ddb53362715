#!/usr/bin/env bash
# Builds what scripts/gpu-check.sh runs on a machine that has a GPU and no Rust: the program, which measures
# itself, and the CUDA tests (cuda_device_unit: those of the library), stripped, in one ignored folder of under 64 MiB.
#
#     scripts/gpu-bundle.sh [DIR]        default gpu-bundle in the repository
#
# Environment: SONGRNN_NVCC and the other variables of build.rs; SONGRNN_ARCHS=90a,ptx makes a smaller bundle.
set -euo pipefail
limit=$((64 * 1024 * 1024))
here=$PWD
cd "$(dirname "$0")/.."
folder=${1:-gpu-bundle}
case $folder in /*) ;; *) if [ $# -gt 0 ]; then folder=$here/$folder; fi ;; esac
say() { printf 'gpu-bundle: %s\n' "$*" >&2; }
fail() {
  say "error: $*"
  exit 1
}
command -v strip >/dev/null || fail "strip is not in PATH (Debian: binutils)"
shopt -s nullglob
tests=(tests/cuda_engine*.rs tests/cuda_device*.rs) # The other CUDA tests need no GPU, but a compiler.
[ "${#tests[@]}" -gt 0 ] || fail "there is no tests/cuda_engine*.rs and no tests/cuda_device*.rs: nothing to run on a GPU"

# A binary without kernels would pass for a failing GPU.
export SONGRNN_KERNELS=require
list=$(mktemp)
trap 'rm -f "$list"' EXIT
build() { cargo "$@" --message-format=json-render-diagnostics >>"$list"; }
say "building (release)"
build build --release --bin songrnn-fast
names=()
for file in "${tests[@]}"; do names+=(--test "$(basename "$file" .rs)"); done
build test --release --no-run --lib "${names[@]}"

rm -rf "$folder"
mkdir -p "$folder"
python3 - "$list" <<'PYTHON' | while IFS=$'\t' read -r name executable; do
import json, sys
for line in open(sys.argv[1], encoding="utf-8"):
    message = json.loads(line) if line.startswith("{") else {}
    target = message.get("target", {})
    # The program is also built for the tests; its own build is the one to take along.
    library = "lib" in target.get("kind", [])
    wanted = library or target.get("kind") == ["test"] or not message.get("profile", {}).get("test")
    if message.get("executable") and wanted:
        print("cuda_device_unit" if library else target["name"], message["executable"], sep="\t")
PYTHON
  strip -s -o "$folder/$name" "$executable"
done
for name in songrnn-fast "${tests[@]}"; do
  name=$(basename "$name" .rs)
  [ -x "$folder/$name" ] || fail "cargo built no $name"
done

mib() { awk -v n="$1" 'BEGIN { print n / 1048576 }'; }
total=0
for file in "$folder"/*; do
  size=$(stat -c %s "$file")
  total=$((total + size))
  printf '%8.2f MiB  %s\n' "$(mib "$size")" "$(basename "$file")"
done
printf '%8.2f MiB  in all, in %s\n' "$(mib "$total")" "$folder"
[ "$total" -le "$limit" ] || fail "$total bytes are over the limit of $limit; SONGRNN_ARCHS=90a,ptx (the GPU's own) makes it smaller"
say "on the machine with the GPU: BIN_DIR=$folder OUT=results scripts/gpu-check.sh"
