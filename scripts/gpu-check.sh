#!/usr/bin/env bash
# Everything that only a GPU can show, from prebuilt binaries (scripts/gpu-bundle.sh) on a machine without Rust: the
# engine's tests, compute-sanitizer's tools over a reduced set of them, then the speed cases. No stage stops the next;
# the exit code is 0 only if every stage passed, and what could not run has not passed.
#
#     scripts/gpu-check.sh [STAGE,...]   out of facts,doctor,tests,memcheck,racecheck,synccheck,speed-layer,speed-train,
#                                        speed-sample,peers; default: all
#
# Environment
#     BIN_DIR         folder of the binaries; default gpu-bundle in the repository
#     OUT             where logs and CSV files go; default gpu-check in the repository
#     STAGE_LIMIT     seconds for each program that is run, instead of its own limit
#
# Leaves in OUT: stages.csv (the table), gpu.csv (the device), speed-*.csv and peers.csv (in the columns of
# benches/record/), speed-*.png, kernels.json (every way to run a shape with its time), and a log of each stage.
set -uo pipefail

repository=$(cd "$(dirname "$0")/.." && pwd)
bin=$(realpath -m "${BIN_DIR:-$repository/gpu-bundle}")
out=$(realpath -m "${OUT:-$repository/gpu-check}")
all=facts,doctor,tests,memcheck,racecheck,synccheck,speed-layer,speed-train,speed-sample,peers
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

# counted NAME: reads what a test binary says of itself. One that ran no test has shown nothing.
counted() {
  local line passed skips
  line=$(grep -a '^test result:' "$out/$1.out" | tail -n 1)
  passed=$(sed -n 's/.* \([0-9]*\) passed.*/\1/p' <<<"$line")
  note=$(sed -n 's/^test result: [a-zA-Z]*\. \(.* ignored\);.*/\1/p' <<<"$line")
  skips=$(grep -ac '^\(test .* \.\.\. \)\{0,1\}SKIP' "$out/$1.out")
  [ "$skips" = 0 ] || note="$note; $skips SKIP lines"
  if [ "$result" = ok ] && [ "${passed:-0}" = 0 ]; then
    result=FAILED
    note="ran no test"
  fi
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
  for name in "${binaries[@]}"; do
    SONGRNN_TEST_DEVICE=cuda limited "$name" 240 "$bin/$name" --test-threads=1 --nocapture
    counted "$name"
    record "$name" "$result" "$seconds" "$note"
  done
}

# sanitize TOOL: every test binary on a reduced set of cases; these tools slow a kernel down by 10 to 100 times.
sanitize() {
  if ! command -v compute-sanitizer >/dev/null; then
    record "$1" MISSING 0 "no compute-sanitizer (scripts/cuda-toolkit.sh --sanitizer)"
    return
  fi
  test_binaries "$1" || return
  local name summary
  for name in "${binaries[@]}"; do
    SONGRNN_TEST_DEVICE=cuda SONGRNN_TEST_QUICK=1 limited "$1.$name" 300 \
      compute-sanitizer --tool "$1" --error-exitcode 99 --print-limit 20 "$bin/$name" --test-threads=1 --nocapture
    counted "$1.$name"
    summary=$(grep -ah 'SUMMARY:' "$out/$1.$name.out" "$out/$1.$name.log" | tail -n 1 | sed 's/^=* *//')
    # Without its summary the tool has not looked, whatever the exit code.
    if [ "$result" = ok ] && ! grep -q 'SUMMARY: 0 ' <<<"$summary"; then result=FAILED; fi
    record "$1.$name" "$result" "$seconds" "${note:+$note; }${summary:-no summary}"
  done
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

tiers=(--precision "f32,bf16,f16" --kernel "fused,cudnn,stepwise" --seconds 1.5)
shapes=(--cases "a,b,c")
tunes=(--batch "1,64,1056" --seq-len 500)

speed-layer() { bench speed-layer layer "${shapes[@]}" "${tiers[@]}" --plot "$out/speed-layer.png"; }
speed-train() { bench speed-train train "${shapes[@]}" "${tiers[@]}" --plot "$out/speed-train.png"; }
speed-sample() { bench speed-sample sample "${tunes[@]}" --precision f32,f16 --kernel auto,stepwise --seconds 1.5; }

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
  limited peers 540 python3 benches/peers/pytorch.py --cases "$list" --csv "$out/peers.csv" --seconds 1.5
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
