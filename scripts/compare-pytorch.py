#!/usr/bin/env python3
"""Trains torch.nn.LSTM/GRU/RNN and songrnn-fast on the same tunes in the same way and compares validation losses.

    scripts/compare-pytorch.py TRAIN VAL [--binary target/release/songrnn-fast] [--cells lstm,gru,rnn] [--seeds 1,2]
        [--pytorch-cache FILE] [--csv FILE] [--only pytorch|songrnn-fast]

Both sides: B parallel streams over a queue of shuffled tunes; a stream that has finished its tune takes the next; the
state is carried from chunk to chunk and zero where a tune starts; the loss of a chunk is the mean over all its
predicted characters; Adam; gradients clipped to a global norm; after each epoch the loss over the validation tunes, each
from a zero state; the best epoch counts. PyTorch's modules are used as they come (their own initial weights, both
biases trained). songrnn-fast's loss is what its `eval --json` prints for the model that the run kept.
Seeds mean different random numbers on the two sides: compare means over seeds, not rows.
"""

import argparse
import csv
import hashlib
import json
import math
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_sequence

sys.path.insert(0, str(Path(__file__).resolve().parent))
import torch_recurrence  # noqa: E402
from tune_text import encode, read_tunes, vocabulary  # noqa: E402

CELLS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
# Largest relative difference allowed between torch_recurrence and the modules, tensor by tensor. Measured: 3e-7.
RECURRENCE_TOLERANCE = 1e-5
CACHE_KEY = ["cell", "seed", "hidden", "layers", "batch", "seq_len", "epochs", "lr", "clip", "data"]
CACHE_COLUMNS = CACHE_KEY + ["best_val", "best_epoch", "last_val", "seconds", "threads", "torch"]
CSV_COLUMNS = ["cell", "seed", "pytorch", "songrnn_fast", "difference", "pytorch_seconds", "songrnn_fast_seconds"]


class CharModel(nn.Module):
    """One-hot character -> recurrent layers -> linear."""

    def __init__(self, cell: str, vocab: int, hidden: int, layers: int):
        super().__init__()
        self.rnn = CELLS[cell](vocab, hidden, layers)
        self.head = nn.Linear(hidden, vocab)
        self.vocab, self.cell = vocab, cell

    def forward(self, ids: PackedSequence, state):
        """Packed ids [N], state h (and c for an LSTM) [L, S, H] -> logits [N, V], state after each sequence."""
        one_hot = nn.functional.one_hot(ids.data, self.vocab).to(torch.float32)
        packed = PackedSequence(one_hot, ids.batch_sizes, ids.sorted_indices, ids.unsorted_indices)
        out, state = self.rnn(packed, state)
        return self.head(out.data), state


class Streams:
    """B endless streams; a chunk is handed out as pieces: the parts of tunes that it is made of."""

    def __init__(self, tunes: list[torch.Tensor], streams: int, rng: random.Random):
        self.tunes, self.rng, self.queue = tunes, rng, []
        self.current = [(self.next_tune(), 0) for _ in range(streams)]

    def next_tune(self) -> torch.Tensor:
        if not self.queue:
            self.queue = list(range(len(self.tunes)))
            self.rng.shuffle(self.queue)
        return self.tunes[self.queue.pop()]

    def chunk(self, steps: int) -> list[list[tuple]]:
        """For each stream the parts of tunes it reads next: (inputs, targets, whether a tune starts here)."""
        chunk = []
        for stream, (tune, at) in enumerate(self.current):
            pieces, left = [], steps
            while left:
                if at == len(tune) - 1:
                    tune, at = self.next_tune(), 0
                n = min(left, len(tune) - 1 - at)
                pieces.append((tune[at : at + n], tune[at + 1 : at + 1 + n], at == 0))
                at, left = at + n, left - n
            self.current[stream] = (tune, at)
            chunk.append(pieces)
        return chunk


def pack(sequences: list[torch.Tensor]) -> PackedSequence:
    lengths = torch.tensor([len(s) for s in sequences])
    return pack_padded_sequence(pad_sequence(sequences), lengths, enforce_sorted=False)


def module_loss(model: CharModel, chunk, h, c):
    """A chunk's mean loss and the state after it, by the module. A reset cuts a stream into independent sequences, so
    one packed call serves the chunk: the pieces that continue a tune start from the carried state, others from zero."""
    flat = [(piece, stream) for stream, pieces in enumerate(chunk) for piece in pieces]
    origin = torch.tensor([stream for _, stream in flat])
    last = torch.tensor([len(pieces) for pieces in chunk]).cumsum(0) - 1
    keep = torch.tensor([0.0 if piece[2] else 1.0 for piece, _ in flat]).view(1, -1, 1)
    h, c = h[:, origin] * keep, c[:, origin] * keep
    ids, targets = pack([p[0] for p, _ in flat]), pack([p[1] for p, _ in flat])
    logits, state = model(ids, (h, c) if model.cell == "lstm" else h)
    h, c = state if model.cell == "lstm" else (state, torch.zeros_like(state))
    return nn.functional.cross_entropy(logits, targets.data), h[:, last].detach(), c[:, last].detach()


def fast_loss(model: CharModel, chunk, h, c):
    """The same by torch_recurrence."""
    ids, targets = (torch.stack([torch.cat([p[k] for p in pieces]) for pieces in chunk], 1) for k in (0, 1))
    keep = torch.ones(*ids.shape, 1)
    for stream, pieces in enumerate(chunk):
        at = 0
        for inputs, _, starts in pieces:
            keep[at, stream] = 0.0 if starts else 1.0
            at += len(inputs)
    out, h, c = torch_recurrence.run(model.cell, model.rnn, ids, keep, h, c)
    return nn.functional.cross_entropy(model.head(out).flatten(0, 1), targets.flatten()), h, c


def check_recurrence(model: CharModel, chunk) -> None:
    """Stops the program unless fast_loss and the module give the same loss, state and gradients from a random state."""
    h, c = torch.randn(2, model.rnn.num_layers, len(chunk), model.rnn.hidden_size).tanh()
    both = []
    for compute in (module_loss, fast_loss):
        model.zero_grad()
        loss, h1, c1 = compute(model, chunk, h, c)
        # The chunk once more, as if each stream continued its tune: now the carried state counts.
        continued = [[(p[0], p[1], False) for p in pieces[:1]] + pieces[1:] for pieces in chunk]
        second, h2, c2 = compute(model, continued, h1, c1)
        (loss + second).backward()
        grads = [p.grad.clone() for p in model.parameters()]
        both.append([loss.detach(), second.detach(), h2] + ([c2] if model.cell == "lstm" else []) + grads)
    model.zero_grad()
    for a, b in zip(*both):
        error = ((a - b).norm() / a.norm().clamp(min=1e-12)).item()
        if error > RECURRENCE_TOLERANCE:
            raise SystemExit(f"error: torch_recurrence differs from the module by {error:.1e}")


def mean_loss(model: CharModel, packs) -> float:
    """Nats a character over whole tunes, each from a zero state."""
    total, count = 0.0, 0
    with torch.no_grad():
        for ids, targets in packs:
            logits, _ = model(ids, None)
            total += nn.functional.cross_entropy(logits, targets.data, reduction="sum").item()
            count += len(targets.data)
    return total / count


def train_pytorch(args, cell: str, seed: int, train: list[str], val: list[str]) -> dict:
    torch.manual_seed(seed)
    tokens = vocabulary(train)
    index = {token: i for i, token in enumerate(tokens)}
    train_ids = [torch.tensor(encode(t, index)) for t in train]
    val_ids = sorted((torch.tensor(encode(t, index)) for t in val), key=len)
    val_packs = [
        (pack([t[:-1] for t in group]), pack([t[1:] for t in group]))
        for group in (val_ids[i : i + 64] for i in range(0, len(val_ids), 64))
    ]
    model = CharModel(cell, len(tokens), args.hidden, args.layers)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    # Tunes cut short, so that the chunk has resets inside.
    check_recurrence(model, Streams([t[:40] for t in train_ids], 8, random.Random(seed)).chunk(100))
    streams = Streams(train_ids, args.batch, random.Random(seed))
    per_epoch = sum(len(t) - 1 for t in train_ids)
    h = c = torch.zeros(args.layers, args.batch, args.hidden)

    best, best_epoch, losses, predicted, began = math.inf, 0, [], 0, time.time()
    for epoch in range(1, args.epochs + 1):
        while predicted < epoch * per_epoch:
            pieces = streams.chunk(args.seq_len)
            loss, h, c = (module_loss if args.modules else fast_loss)(model, pieces, h, c)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), args.clip)
            optimizer.step()
            predicted += args.batch * args.seq_len
        losses.append(mean_loss(model, val_packs))
        if losses[-1] < best:
            best, best_epoch = losses[-1], epoch
        print(
            f"pytorch {cell} seed {seed} epoch {epoch}: loss {loss.item():.4f}, validation {losses[-1]:.4f}, "
            f"best {best:.4f}, {predicted / (time.time() - began):.0f} chars/s",
            file=sys.stderr,
            flush=True,
        )
    return {
        "best_val": f"{best:.5f}",
        "best_epoch": best_epoch,
        "last_val": f"{losses[-1]:.5f}",
        "seconds": f"{time.time() - began:.1f}",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def pytorch_result(args, cell: str, seed: int, train: list[str], val: list[str], data: str) -> dict:
    """Trains, or takes the row of an equal earlier run from the cache."""
    key = [cell, seed, args.hidden, args.layers, args.batch, args.seq_len, args.epochs, args.lr, args.clip, data]
    key = dict(zip(CACHE_KEY, map(str, key)))
    cache = args.pytorch_cache
    if cache and cache.exists():
        with cache.open(newline="") as f:
            for row in csv.DictReader(f):
                if all(row[k] == v for k, v in key.items()):
                    return row
    row = key | train_pytorch(args, cell, seed, train, val)
    if cache:
        new = not cache.exists()
        with cache.open("a", newline="") as f:
            writer = csv.DictWriter(f, CACHE_COLUMNS)
            if new:
                writer.writeheader()
            writer.writerow(row)
    return row


def songrnn_result(args, cell: str, seed: int) -> tuple[float, float]:
    """Trains with the binary and evaluates the model it kept: (nats a character, seconds of training)."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        settings = {
            "--val": args.val, "--out": out, "--cell": cell, "--seed": seed, "--hidden": args.hidden,
            "--layers": args.layers, "--batch": args.batch, "--seq-len": args.seq_len, "--epochs": args.epochs,
            "--lr": args.lr, "--clip": args.clip, "--threads": args.threads,
        }  # fmt: skip
        command = [args.binary, "train", args.train, "--keep-duplicates"]
        command += [str(part) for pair in settings.items() for part in pair]
        began = time.time()
        subprocess.run(command, check=True, stdout=sys.stderr)
        seconds = time.time() - began
        evaluated = subprocess.run(
            [args.binary, "eval", "--model", str(out), args.val, "--json"], check=True, capture_output=True, text=True
        )
        return json.loads(evaluated.stdout)["nats_per_char"], seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", help="training tunes, one file")
    parser.add_argument("val", help="validation tunes, one file")
    parser.add_argument("--binary", default="target/release/songrnn-fast")
    parser.add_argument("--cells", default="lstm,gru,rnn")
    parser.add_argument("--seeds", default="1,2")
    parser.add_argument("--hidden", type=int, default=150)
    parser.add_argument("--layers", type=int, default=1)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seq-len", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--clip", type=float, default=5.0)
    parser.add_argument("--threads", type=int, default=1, help="of each side")
    parser.add_argument("--modules", action="store_true", help="train by the modules' own backward pass: same, slower")
    parser.add_argument("--pytorch-cache", type=Path, help="CSV of PyTorch's results, read and added to")
    parser.add_argument("--csv", type=Path, help="write the table here as well")
    parser.add_argument("--only", choices=["pytorch", "songrnn-fast"], help="run one side")
    args = parser.parse_args()
    cells = args.cells.split(",")
    if unknown := set(cells) - set(CELLS):
        parser.error(f"unknown cell {', '.join(sorted(unknown))}; expected some of {', '.join(CELLS)}")
    torch.set_num_threads(args.threads)

    train, val = read_tunes(args.train), read_tunes(args.val)
    data = hashlib.sha256("\0".join(train + [""] + val).encode()).hexdigest()[:16]
    if args.batch > len(train):
        parser.error(f"--batch {args.batch}: only {len(train)} training tunes")
    rows = []
    for cell in cells:
        for seed in map(int, args.seeds.split(",")):
            row = dict.fromkeys(CSV_COLUMNS, "") | {"cell": cell, "seed": seed}
            if args.only != "songrnn-fast":
                result = pytorch_result(args, cell, seed, train, val, data)
                row["pytorch"], row["pytorch_seconds"] = float(result["best_val"]), float(result["seconds"])
            if args.only != "pytorch":
                row["songrnn_fast"], row["songrnn_fast_seconds"] = songrnn_result(args, cell, seed)
            if not args.only:
                row["difference"] = row["songrnn_fast"] - row["pytorch"]
            rows.append(row)

    def show(value, spec):
        return "" if value == "" else format(value, spec)

    print(f"{'cell':<5} {'seed':>4} {'pytorch':>9} {'songrnn-fast':>13} {'difference':>11} {'pytorch s':>10} {'songrnn-fast s':>15}")
    for cell in cells:
        group = [r for r in rows if r["cell"] == cell]
        mean = {k: statistics.fmean(r[k] for r in group) if group[0][k] != "" else "" for k in CSV_COLUMNS[2:]}
        for r in group + [mean | {"seed": "mean", "cell": cell}]:
            print(
                f"{r['cell']:<5} {r['seed']:>4} {show(r['pytorch'], '.4f'):>9} {show(r['songrnn_fast'], '.4f'):>13} "
                f"{show(r['difference'], '+.4f'):>11} {show(r['pytorch_seconds'], '.0f'):>10} "
                f"{show(r['songrnn_fast_seconds'], '.0f'):>15}"
            )
    if args.csv:
        with args.csv.open("w", newline="") as f:
            writer = csv.DictWriter(f, CSV_COLUMNS)
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
