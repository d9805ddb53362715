#!/usr/bin/env bash
# Everything that only a GPU can show, from prebuilt binaries (scripts/gpu-bundle.sh) on a machine without Rust: the
# engine's tests, compute-sanitizer's tools over a reduced set of them, then the speed cases. No stage stops the next;
# the exit code is 0 only if every stage passed, and what could not run has not passed.
#
#     scripts/gpu-check.sh [STAGE,...]   out of facts,doctor,tests,smoke,memcheck,racecheck,synccheck,speed-layer,speed-train,
#                                        speed-sample,peers; default: all
#
# Environment
#     BIN_DIR         folder of the binaries; default gpu-bundle in the repository
#     OUT             where logs and CSV files go; default gpu-check in the repository
#     STAGE_LIMIT     seconds for each program and each test that is run, instead of its own limit
#     TEST_JOBS       tests that run at a time; default 4
#     SECONDS_A_CASE  how long a case of speed is measured; default 1.5
#
# Leaves in OUT: stages.csv (the table), gpu.csv (the device), speed-*.csv and peers.csv (in the columns of
# benches/record/), speed-*.png, kernels.json (every way to run a shape with its time), and a log of each stage.
set -uo pipefail

repository=$(cd "$(dirname "$0")/.." && pwd)
bin=$(realpath -m "${BIN_DIR:-$repository/gpu-bundle}")
out=$(realpath -m "${OUT:-$repository/gpu-check}")
all=facts,doctor,tests,smoke,memcheck,racecheck,synccheck,speed-layer,speed-train,speed-sample,peers
stages=${1:-$all}
for stage in ${stages//,/ }; do
  case ,$all, in
    *",$stage,"*) ;;
    *)
      echo "gpu-check: error: no stage is called '$stage'; there are $all" >&2
      exit 2
      ;;
  esac
done
if [ ! -d "$bin" ]; then
  echo "gpu-check: error: BIN_DIR $bin is no folder; scripts/gpu-bundle.sh makes one" >&2
  exit 2
fi
mkdir -p "$out" || exit 2
cd "$repository" || exit 2
names=()
results=()
times=()
notes=()
echo "stage,result,seconds,note" >"$out/stages.csv"

# cuBLAS and cuDNN may be installed as Python packages alone, where no loader looks for them.
libraries=$(python3 - <<'PYTHON' 2>/dev/null
import glob, os, sys
print(":".join(sorted(lib for path in sys.path for lib in glob.glob(os.path.join(path, "nvidia", "*", "lib")))))
PYTHON
)
if [ -n "$libraries" ]; then
  # The loader asks for libcudnn.so first, a name those packages lack: it must not find another cuDNN by it.
  for folder in ${libraries//:/ }; do
    if [ -e "$folder/libcudnn.so.9" ]; then
      mkdir -p "$out/links"
      ln -sf "$folder/libcudnn.so.9" "$out/links/libcudnn.so"
      libraries=$out/links:$libraries
      break
    fi
  done
  export LD_LIBRARY_PATH="$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
fi

# Kernels are timed here anew, and what was timed is taken along.
export SONGRNN_KERNEL_CHOICES="$out/kernels.json"

# record NAME RESULT SECONDS NOTE
record() {
  local note=${4//[$'\n\r']/ }
  names+=("$1")
  results+=("$2")
  times+=("$3")
  notes+=("$note")
  printf '%s,%s,%s,"%s"\n' "$1" "$2" "$3" "${note//\"/\'}" >>"$out/stages.csv"
  printf '== %s: %s, %s s%s\n' "$1" "$2" "$3" "${note:+, $note}"
}

# limited NAME SECONDS COMMAND...: runs it with a time limit, standard output in NAME.out, the rest in NAME.log; sets
# code, seconds and result.
limited() {
  local name=$1 limit=${STAGE_LIMIT:-$2} begun
  shift 2
  echo "== $name: $*"
  begun=$(date +%s)
  code=0
  timeout --kill-after=10 "$limit" "$@" >"$out/$name.out" 2>"$out/$name.log" </dev/null || code=$?
  seconds=$(($(date +%s) - begun))
  case $code in
    0) result=ok ;;
    124 | 137) result=TIMEOUT ;;
    *) result=FAILED ;;
  esac
  if [ "$code" != 0 ]; then
    tail -n 30 "$out/$name.out" "$out/$name.log" >&2
  fi
}

# program NAME FILE: whether there is such a program in the bundle; says so if not.
program() {
  [ -x "$bin/$2" ] && return 0
  record "$1" MISSING 0 "no $2 in $bin"
  return 1
}

# The CUDA tests of the bundle, or a line that there are none.
test_binaries() {
  binaries=()
  local file
  for file in "$bin"/cuda_engine* "$bin"/cuda_device*; do
    if [ -x "$file" ]; then binaries+=("$(basename "$file")"); fi
  done
  if [ "${#binaries[@]}" = 0 ]; then
    record "$1" MISSING 0 "no cuda_engine* or cuda_device* in $bin"
    return 1
  fi
}

# each STAGE NAME LIMIT COMMAND...: every test of a binary in a process of its own, for an illegal address spoils the
# device for all that follow it in a process; TEST_JOBS at a time. COMMAND stands before the binary. Leaves a log and an exit
# code of each test in OUT/STAGE.NAME and records how many passed.
each() {
  local stage=$1 name=$2 limit=${STAGE_LIMIT:-$3} begun test code log folder skips=0 passed=0 bad=()
  shift 3
  folder=$out/$stage.$name
  mkdir -p "$folder"
  echo "== $stage.$name: $* $name, each test in a process of its own"
  begun=$(date +%s)
  "$bin/$name" --list 2>/dev/null | sed -n 's/: test$//p' >"$folder/tests"
  if [ "$name" = cuda_device_unit ]; then # of the library's tests those that talk to the driver
    sed -i '/^engine::cuda::driver::real::/!d' "$folder/tests"
  fi
  # shellcheck disable=SC2016
  xargs -a "$folder/tests" -P "${TEST_JOBS:-4}" -I '{}' bash -c '
    folder=$1 limit=$2 test=$3
    shift 3
    timeout --kill-after=10 "$limit" "$@" --exact "$test" --nocapture >"$folder/$test.log" 2>&1 </dev/null
    echo $? >"$folder/$test.code"' each "$folder" "$limit" '{}' "$@" "$bin/$name"
  while read -r test; do
    log=$folder/$test.log
    code=$(cat "$folder/$test.code" 2>/dev/null || echo none)
    skips=$((skips + $(grep -ac '^\(test .* \.\.\. \)\{0,1\}SKIP' "$log")))
    # Under a tool a test that makes no call to the device has nothing to be looked at.
    if [ $# != 0 ] && grep -aq 'terminated before first instrumented API call' "$log"; then
      skips=$((skips + 1))
      continue
    fi
    # A test that ran nothing, or a tool that printed no summary of nothing found, has shown nothing.
    if [ "$code" = 0 ] && grep -aq '^test result: ok\. 1 passed' "$log" &&
      { [ $# = 0 ] || grep -aqE 'SUMMARY: 0 (errors|hazards)' "$log"; }; then
      passed=$((passed + 1))
    else
      [ "$code" != 124 ] && [ "$code" != 137 ] || code="time is up"
      bad+=("$test ($code)")
      printf -- '-- %s.%s %s: exit %s\n' "$stage" "$name" "$test" "$code" >&2
      grep -av '^$' "$log" | tail -n 12 | cut -c1-300 >&2
    fi
  done <"$folder/tests"
  result=ok
  note="$passed passed"
  [ "$skips" = 0 ] || note="$note; $skips skipped"
  if [ "${#bad[@]}" != 0 ] || [ "$passed" = 0 ]; then
    result=FAILED
    note="$note; ${#bad[@]} failed: ${bad[*]}"
  fi
  record "$stage.$name" "$result" $(($(date +%s) - begun)) "$note"
}

facts() {
  if ! command -v nvidia-smi >/dev/null; then
    record facts MISSING 0 "no nvidia-smi"
    return
  fi
  limited facts 60 nvidia-smi \
    --query-gpu=name,driver_version,compute_cap,memory.total,clocks.max.sm,clocks.max.memory,power.limit --format=csv
  cp "$out/facts.out" "$out/gpu.csv"
  cat "$out/gpu.csv"
  note=$(sed -n 2p "$out/gpu.csv")
  if [ "$result" = ok ] && [ -z "$note" ]; then
    result=FAILED
    note="no GPU"
  fi
  record facts "$result" "$seconds" "$note"
}

doctor() {
  program doctor songrnn-fast || return
  limited doctor 60 "$bin/songrnn-fast" doctor
  cat "$out/doctor.out"
  record doctor "$result" "$seconds" ""
}

tests() {
  test_binaries tests || return
  local name
  export SONGRNN_TEST_DEVICE=cuda
  for name in "${binaries[@]}"; do each tests "$name" 240; done
}

# sanitize TOOL: every test on a reduced set of cases; these tools slow a kernel down by 10 to 100 times.
sanitize() {
  if ! command -v compute-sanitizer >/dev/null; then
    record "$1" MISSING 0 "no compute-sanitizer (scripts/cuda-toolkit.sh --sanitizer)"
    return
  fi
  test_binaries "$1" || return
  local name
  export SONGRNN_TEST_DEVICE=cuda SONGRNN_TEST_QUICK=1
  for name in "${binaries[@]}"; do
    # Errors of calls are asked for: a kernel is looked up in every image, and one test runs out of memory.
    each "$1" "$name" 300 compute-sanitizer --tool "$1" --report-api-errors no --error-exitcode 99 --print-limit 20
  done
  unset SONGRNN_TEST_QUICK
}

# The program as users run it: train on the GPU, stop and go on, evaluate and sample; in f32 the processor says the same.
smoke() {
  program smoke songrnn-fast || return
  local folder=$out/smoke
  rm -rf "$folder"
  mkdir -p "$folder"
  # shellcheck disable=SC2016
  limited smoke 120 bash -c '
    set -euo pipefail
    cd "$1"
    songrnn=$2
    for precision in f32 bf16 f16; do
      "$songrnn" train --device cuda --precision $precision --steps 200 --out $precision >$precision.log 2>&1
      loss=$("$songrnn" eval --device cuda --precision $precision --model $precision --json $precision/samples/final/*.abc)
      echo "$precision: $(grep "^test loss" $precision.log); its own tunes: $loss"
      "$songrnn" sample --device cuda --precision $precision --model $precision -n 64 --seed 5 --out $precision-tunes >/dev/null 2>&1
    done
    "$songrnn" train --device cuda --steps 100 --out parts >/dev/null 2>&1
    "$songrnn" train --resume parts --device cuda --steps 200 >/dev/null 2>&1
    tensors() { python3 -c "import sys; b = open(sys.argv[1], \"rb\").read(); sys.stdout.buffer.write(b[8 + int.from_bytes(b[:8], \"little\"):])" $1/last.safetensors | sha256sum; }
    [ "$(tensors f32)" = "$(tensors parts)" ] || { echo "going on after step 100 gave another model"; exit 1; }
    "$songrnn" sample --device cpu --model f32 -n 64 --seed 5 --out cpu-tunes >/dev/null 2>&1
    same=0
    for tune in cpu-tunes/*.txt; do cmp -s "$tune" f32-tunes/"$(basename "$tune")" && same=$((same + 1)); done
    echo "$same of 64 tunes are those of the processor"
    [ "$same" = 64 ]' smoke "$folder" "$bin/songrnn-fast"
  cat "$out/smoke.out"
  record smoke "$result" "$seconds" "$(tail -n 1 "$out/smoke.out")"
}

# rows FILE: how many rows of a CSV file of records have a figure and how many have not; 1 unless one has and none is
# the processor's.
rows() {
  python3 - "$1" <<'PYTHON'
import csv, sys
try:
    with open(sys.argv[1], encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
except OSError:
    rows = []
measured = [row for row in rows if row["ms_per_step"]]
print(f"{len(measured)} rows, {len(rows) - len(measured)} not measured (their notes say why)")
sys.exit(0 if measured and all(row["device"] != "cpu" for row in measured) else 1)
PYTHON
}

# measured NAME: records a stage of speed by what its CSV file holds.
measured() {
  local note
  note=$(rows "$out/$1.csv") || { [ "$result" != ok ] || result=FAILED; }
  record "$1" "$result" "$seconds" "$note"
}

# bench NAME ARGUMENT...: the program's own measurements; its CSV file grows with every case, so that a time-out loses none.
bench() {
  local name=$1
  shift
  program "$name" songrnn-fast || return
  limited "$name" 540 "$bin/songrnn-fast" bench "$@" --device cuda --csv "$out/$name.csv"
  cat "$out/$name.out"
  measured "$name"
}

tiers=(--precision "f32,bf16,f16" --kernel "fused,cudnn,stepwise" --seconds "${SECONDS_A_CASE:-1.5}")
shapes=(--cases "a,b,c")
tunes=(--batch "1,64,1056" --seq-len 500)

speed-layer() { bench speed-layer layer "${shapes[@]}" "${tiers[@]}" --plot "$out/speed-layer.png"; }
speed-train() { bench speed-train train "${shapes[@]}" "${tiers[@]}" --plot "$out/speed-train.png"; }
speed-sample() { bench speed-sample sample "${tunes[@]}" --precision f32,f16 --kernel auto,stepwise --seconds "${SECONDS_A_CASE:-1.5}"; }

# The same cases by PyTorch, where the machine's Python has it.
peers() {
  program peers songrnn-fast || return
  local list=$out/peers.jsonl on=(--device cuda --list)
  if ! { "$bin/songrnn-fast" bench layer "${shapes[@]}" --precision "f32,bf16,f16" "${on[@]}" &&
    "$bin/songrnn-fast" bench train "${shapes[@]}" --precision "f32,bf16,f16" "${on[@]}" &&
    "$bin/songrnn-fast" bench sample "${tunes[@]}" --precision "f32,f16" "${on[@]}"; } >"$list"; then
    record peers FAILED 0 "no list of cases"
    return
  fi
  limited peers 540 python3 benches/peers/pytorch.py --cases "$list" --csv "$out/peers.csv" --seconds "${SECONDS_A_CASE:-1.5}"
  if grep -q '^SKIP' "$out/peers.out"; then
    record peers MISSING "$seconds" "$(head -n 1 "$out/peers.out")"
    return
  fi
  measured peers
}

for stage in ${stages//,/ }; do
  case $stage in
    memcheck | racecheck | synccheck) sanitize "$stage" ;;
    *) "$stage" ;;
  esac
done

echo
printf '%-28s %-8s %7s  %s\n' stage result seconds note
failed=0
for i in "${!names[@]}"; do
  printf '%-28s %-8s %7s  %s\n' "${names[$i]}" "${results[$i]}" "${times[$i]}" "${notes[$i]}"
  [ "${results[$i]}" = ok ] || failed=$((failed + 1))
done
echo
if [ "$failed" = 0 ]; then
  echo "gpu-check: all ${#names[@]} passed; records in $out"
else
  echo "gpu-check: $failed of ${#names[@]} did not pass; logs in $out"
  exit 1
fi
