#!/usr/bin/env bash
# The binary as a user meets it, on the built-in tunebook: train, sample, eval, check, exit codes, files. About half a
# minute with a release build.
#
#     scripts/smoke.sh [BINARY]        default target/release/songrnn-fast
set -euo pipefail
repository=$(cd "$(dirname "$0")/.." && pwd)
binary=$(realpath "${1:-$repository/target/release/songrnn-fast}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

fail() {
  echo "smoke: FAILED: $*" >&2
  for log in out err; do
    echo "--- last lines of std$log:" >&2
    tail -n 15 "$log" >&2
  done
  exit 1
}
# expect CODE ARGUMENT...: runs the binary, output in ./out and ./err, and wants that exit code.
expect() {
  local want=$1 got=0
  shift
  echo "smoke: songrnn-fast $*"
  timeout 300 "$binary" "$@" >out 2>err </dev/null || got=$?
  [ "$got" = "$want" ] || fail "exit code $got, expected $want: songrnn-fast $*"
}
has() { [ -s "$1" ] || fail "$1 is missing or empty"; }
count() { find "$1" -type f -name "$2" | wc -l; }

expect 0 --version
expect 0 --help

# Training without an argument but for brevity's sake.
expect 0 train --steps 40 --out run --seed 7
for file in config.toml best.safetensors last.safetensors metrics.jsonl; do has "run/$file"; done
[ -d run/samples ] || fail "run/samples is missing"
if find run -name '*.tmp*' | grep -q .; then fail "temporary files are left in the run folder"; fi

# Sampling: every format, and the same tunes from the same seed.
expect 0 sample --model run -n 4 --seed 3 --max-chars 600 --out tunes
[ "$(count tunes '*.txt')" -ge 4 ] || fail "fewer than 4 .txt files"
[ "$(count tunes '*.abc')" -ge 4 ] || fail "fewer than 4 .abc files"
# After so few steps a tune may have no note in it, and then there is nothing to play.
[ "$(count tunes '*.mid')" -ge 1 ] || fail "no .mid file"
while IFS= read -r midi; do
  [ "$(head -c 4 "$midi")" = MThd ] || fail "$midi is no MIDI file"
done < <(find tunes -name '*.mid')
expect 0 sample --model run/best.safetensors -n 4 --seed 3 --max-chars 600 --out again
diff -r tunes again || fail "the same seed gave other tunes"
expect 0 sample --model run -n 1 --temperature 0 --prime "X:1" --max-chars 200 --out greedy

# Evaluation of the files the tunes came from.
expect 0 eval --model run "$repository/data" --json
grep -q '"nats_per_char"' out || fail "eval --json printed no nats_per_char"

# check: the tunebook is clean, a broken tune is not; a barely trained model's tunes may be either.
expect 0 check "$repository"/data/*.abc
printf 'X:1\nT:Broken\nM:4/4\nL:1/8\nK:NoSuchKey\nCDEF [CEG\n' >broken.abc
expect 1 check broken.abc
got=0
"$binary" check tunes/*.abc >out 2>err || got=$?
[ "$got" -le 1 ] || fail "check of sampled tunes: exit code $got, expected 0 or 1"

# Neurons over a tune, the page of the run, and a small study from grid to page.
expect 0 heatmap "$repository/data/tunebook.abc" --model run --tune 3 --neurons 1:1,1:2 --out neurons
[ "$(count neurons '*.png')" = 2 ] || fail "not one .png a neuron"
expect 0 report run --tunes 2
has run/report.html
printf 'seeds = [1]\nepochs = 1\nassignment_epochs = 1\n[[experiment]]\nname = "cell"\nhidden = 8\ncell = ["lstm", "rnn"]\n' >grid.toml
expect 0 study --grid grid.toml --out study --tunes 2
for file in report.html tables.md discussion.md results.json plots/curves-cell-contract.png; do has "study/$file"; done
expect 0 study --grid grid.toml --out study --tunes 2
grep -q "4 of 4 trials are done already" err || fail "a study that is done trained again"
expect 2 study --grid grid.toml --out study --epochs 2

# Measuring, a case that takes no time.
expect 0 bench train --device cpu --hidden 8 --batch 2 --seq-len 4 --repeats 3 --seconds 0.1 --json
grep -q '"chars_per_second": [0-9]' out || fail "bench --json printed no chars_per_second"

# Mistakes: 2 for wrong usage, 1 for what fails; nothing half-written.
expect 2 train --hidden 0 --out mistake
expect 2 sample --model run --temperature -1 --out mistake
expect 2 no-such-command
expect 1 eval --model run no-such-file.abc
expect 1 train no-such-file.abc --out mistake
[ ! -e mistake ] || fail "a refused command left a folder behind"

# An interrupt saves, and exits with 130.
echo "smoke: songrnn-fast train, interrupted"
got=0
timeout --preserve-status --signal=INT 4 "$binary" train --steps 1000000 --out stopped >out 2>err </dev/null || got=$?
[ "$got" = 130 ] || fail "exit code $got after an interrupt, expected 130"
has stopped/last.safetensors

echo "smoke: passed"
