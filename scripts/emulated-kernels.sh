#!/usr/bin/env bash
# The CUDA kernels as one shared library for the CPU: every kernels/*.cu compiled as C++ against kernels/emulated/.
#
#     scripts/emulated-kernels.sh OUT.so [--asan | --race] [--from DIR] [-D...]
#
# --from DIR: DIR/*.cu instead of kernels/*.cu. SONGRNN_KERNEL_SOURCES names another kernels folder, emulator included.
# Objects are kept in OUT.so.build/ under a digest of everything that went into them, so a second run is a link.
# CXX names the compiler (default c++). Exit codes: 0 built, 1 a source does not compile, 2 wrong usage, 3 no compiler.
#
# --asan: address and undefined-behaviour sanitizers; every report ends the process. A program that was not built with
# the sanitizer loads such a library only if the run-time is there first:
#     LD_PRELOAD="$(c++ -print-file-name=libasan.so) $(c++ -print-file-name=libubsan.so)"
#     ASAN_OPTIONS=detect_leaks=0:verify_asan_link_order=0:use_sigaltstack=0
# detect_leaks=0: the loading program's own end is not under test, and a launch that was refused leaves the locals of
# its threads behind. use_sigaltstack=0: threads of the kernels run on stacks of their own, and a Rust program has its
# signal stacks already.
#
# --race: every access to shared memory is checked against the barriers (kernels/emulated/race.h). The library has
#     long songrnn_emulated_races(void)                          conflicting accesses since the last call
#     size_t songrnn_emulated_race_report(char *text, size_t)    the first of them in words, and forgets them
set -euo pipefail

usage() { echo "usage: scripts/emulated-kernels.sh OUT.so [--asan | --race] [--from DIR] [-D...]" >&2; exit 2; }
repository=$(cd "$(dirname "$0")/.." && pwd)
kernels=${SONGRNN_KERNEL_SOURCES:-$repository/kernels}
from=$kernels
[ $# -ge 1 ] || usage
out=$1
shift
kind=plain
defines=()
while [ $# -gt 0 ]; do
  case $1 in
    --asan) kind=asan ;;
    --race) kind=race ;;
    --from)
      [ $# -ge 2 ] || usage
      from=$(realpath "$2")
      shift
      ;;
    -D?*) defines+=("$1") ;;
    *) usage ;;
  esac
  shift
done
cxx=${CXX:-c++}
if ! command -v "${cxx%% *}" >/dev/null; then
  echo "emulated-kernels: no C++ compiler: '$cxx' is not there (install g++ or clang++, or name one in CXX)" >&2
  exit 3
fi

# -ffp-contract=off: a product and a sum stay two roundings, unless the source says fmaf, as on the device. The kernels
# take -Og: their many variants compile in half the time of -O2 and run nearly as fast, since the time goes to the
# emulator. -g1 and -fno-omit-frame-pointer: for reports.
common=(-std=c++17 -g1 -fPIC -fvisibility=hidden -ffp-contract=off -Wall -Wextra -Wno-unknown-pragmas -DSONGRNN_EMULATED
  "-I$kernels" ${defines[@]+"${defines[@]}"})
kernel_flags=(-Og)
runtime_flags=(-O2)
link_flags=(-shared)
case $kind in
  asan)
    # The optimiser takes minutes over the checks of the kernels' many variants and gains nothing. Left out are checks
    # that the address sanitizer or a crash makes up for.
    sanitizers=(-fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
      -fno-sanitize=null,object-size,vptr,return,pointer-overflow)
    kernel_flags=(-O0 "${sanitizers[@]}")
    runtime_flags=(-O2 -fno-omit-frame-pointer -DSONGRNN_ASAN)   # checks by itself what it does for the kernels
    if ! "${cxx%% *}" --version | grep -qi clang; then
      kernel_flags+=(--param asan-instrumentation-with-call-threshold=0)
    fi
    link_flags+=(-fsanitize=address,undefined)
    ;;
  race)
    # The kernels call the thread sanitizer's hooks, which emulated/race.cpp has; its run-time is not linked.
    kernel_flags=(-Og -fno-omit-frame-pointer -fsanitize=thread -DSONGRNN_RACECHECK)
    runtime_flags=(-O2 -DSONGRNN_RACECHECK)
    ;;
esac

build=$out.build
mkdir -p "$build"
if command -v flock >/dev/null; then       # of two builds of one library the second waits, and finds its objects made
  exec 9>"$build/lock"
  flock 9
fi
# includes FILE: it and every file of ours that it includes, one a line.
includes() {
  local -A seen=()
  local stack=("$1") file name folder
  while [ "${#stack[@]}" -gt 0 ]; do
    file=${stack[-1]}
    unset 'stack[-1]'
    [ -z "${seen[$file]:-}" ] || continue
    seen[$file]=1
    while read -r name; do
      for folder in "${file%/*}" "$kernels" "$from"; do
        if [ -f "$folder/$name" ]; then
          stack+=("$folder/$name")
          break
        fi
      done
    done < <(sed -n 's/^ *# *include *"\(.*\)".*/\1/p' "$file")
  done
  printf '%s\n' "${!seen[@]}" | sort
}
version=$("${cxx%% *}" --version | head -n 1)

# compile SOURCE FLAGS...: makes the object unless it is there; prints its path.
compile() {
  local source=$1 digest object
  shift
  local files
  mapfile -t files < <(includes "$source")
  digest=$({ echo "$version $cxx $kind $* ${common[*]}"; cat "${files[@]}"; } | sha256sum | cut -c1-16)
  object=$build/$(basename "$source").$digest.o
  if [ ! -s "$object" ]; then
    rm -f "$build/$(basename "$source")".*.o
    $cxx "${common[@]}" "$@" -c -o "$object.$$.tmp" -x c++ "$source" || return 1
    mv "$object.$$.tmp" "$object"
  fi
  echo "$object"
}

shopt -s nullglob
jobs=$(nproc 2>/dev/null || echo 2)
list=$(mktemp)
trap 'rm -f "$list" "$out.$$.tmp"' EXIT
failed=0
running=0
# The largest first: the last one to finish is then a small one.
mapfile -t sources < <(ls -S "$from"/*.cu "$kernels"/emulated/*.cpp)
for source in "${sources[@]}"; do
  case $source in
    *.cu) flags=("${kernel_flags[@]}") ;;
    *) flags=("${runtime_flags[@]}") ;;
  esac
  if [ "$running" -ge "$jobs" ]; then
    wait -n || failed=1
    running=$((running - 1))
  fi
  compile "$source" "${flags[@]}" >>"$list" &
  running=$((running + 1))
done
while [ "$running" -gt 0 ]; do
  wait -n || failed=1
  running=$((running - 1))
done
if [ "$failed" != 0 ]; then
  echo "emulated-kernels: a source does not compile" >&2
  exit 1
fi
mapfile -t objects < <(sort "$list")
$cxx "${link_flags[@]}" -o "$out.$$.tmp" "${objects[@]}"
mv "$out.$$.tmp" "$out"
