#!/usr/bin/env bash
# The test of the kernel emulator itself (kernels/emulated/tests): plain, sanitized and race-check builds. Under half a
# minute.
#
#     scripts/emulated-selftest.sh [BUILD_FOLDER]      default: a temporary one, removed at the end
set -euo pipefail
repository=$(cd "$(dirname "$0")/.." && pwd)
tests=$repository/kernels/emulated/tests
if [ $# -ge 1 ]; then
  build=$1
  mkdir -p "$build"
else
  build=$(mktemp -d)
  trap 'rm -rf "$build"' EXIT
fi
cxx=${CXX:-c++}

for kind in plain asan race; do
  option=()
  [ "$kind" = plain ] || option=("--$kind")
  "$repository/scripts/emulated-kernels.sh" "$build/$kind.so" --from "$tests" ${option[@]+"${option[@]}"}
done
$cxx -std=c++17 -O1 -Wall -Wextra -o "$build/selftest" "$tests/selftest.cpp" -ldl

fail() { echo "emulated-selftest: FAILED: $*" >&2; exit 1; }
echo "plain:"
"$build/selftest" "$build/plain.so" || fail "plain build"
echo "race check:"
"$build/selftest" "$build/race.so" race || fail "race-check build"

echo "sanitizers:"
sanitized() {
  LD_PRELOAD="$($cxx -print-file-name=libasan.so) $($cxx -print-file-name=libubsan.so)" \
    ASAN_OPTIONS=detect_leaks=0:verify_asan_link_order=0:use_sigaltstack=0 "$build/selftest" "$build/asan.so" "$@"
}
sanitized || fail "sanitized build"
# found KERNEL N: the launch must end the process with a report.
found() {
  if sanitized "$1" "$2" >"$build/log" 2>&1; then
    cat "$build/log" >&2
    fail "$1 with n = $2 is not reported"
  fi
  grep -q "AddressSanitizer" "$build/log" || { cat "$build/log" >&2; fail "$1: another end than a report"; }
  grep -q "faults.cu" "$build/log" || { cat "$build/log" >&2; fail "$1: the report names no source line"; }
}
sanitized fault_dynamic_out_of_bounds 63 >/dev/null || fail "a right access is reported"
sanitized fault_static_out_of_bounds 63 >/dev/null || fail "a right access is reported"
found fault_dynamic_out_of_bounds 64
found fault_static_out_of_bounds 64
found fault_global_out_of_bounds 64
echo "emulated-selftest: passed"
