#!/usr/bin/env python3
"""Evaluates a songrnn-fast model file with PyTorch: the tensors go into torch.nn.LSTM, GRU or RNN unchanged.

    scripts/torch-eval.py MODEL.safetensors DATA...

Prints {"nats_per_char", "chars", "tunes"}: the mean cross-entropy over every predicted token of every tune of the files
(characters and <end>), each tune from a zero state. Must agree with `songrnn-fast eval --model MODEL DATA --json`.
Reads tunes with tune_text.py, not with the program's reader.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
from safetensors import safe_open
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_sequence

sys.path.insert(0, str(Path(__file__).resolve().parent))
from tune_text import encode, read_tunes  # noqa: E402

FORMAT = "songrnn-fast/1"
STREAMS = 64  # tunes evaluated side by side


def cell_and_sizes(tensors: dict) -> tuple[type, int, int, int]:
    """Module class, inputs V, hidden H, layers L: from the tensors' shapes alone."""
    rows, vocab = tensors["rnn.weight_ih_l0"].shape
    hidden = tensors["rnn.weight_hh_l0"].shape[1]
    layers = sum(name.startswith("rnn.weight_hh_l") for name in tensors)
    return {4: nn.LSTM, 3: nn.GRU, 1: nn.RNN}[rows // hidden], vocab, hidden, layers


def load(path: str) -> tuple[nn.Module, nn.Linear, list[str]]:
    with safe_open(path, "pt") as f:
        metadata = f.metadata() or {}
        tensors = {name: f.get_tensor(name) for name in f.keys()}
    if metadata.get("format") != FORMAT:
        raise SystemExit(f"error: {path}: format is {metadata.get('format')!r}, expected {FORMAT!r}")
    tokens = json.loads(metadata["vocab"])
    cls, vocab, hidden, layers = cell_and_sizes(tensors)
    rnn, head = cls(vocab, hidden, layers), nn.Linear(hidden, vocab)
    for module, prefix in ((rnn, "rnn."), (head, "head.")):
        # strict: a tensor missing or left over is an error.
        module.load_state_dict({n[len(prefix) :]: t for n, t in tensors.items() if n.startswith(prefix)}, strict=True)
    if len(tokens) != vocab:
        raise SystemExit(f"error: {path}: {len(tokens)} tokens in the vocabulary, expected {vocab}")
    return rnn.eval(), head.eval(), tokens


def pack(sequences: list[torch.Tensor]) -> PackedSequence:
    return pack_padded_sequence(pad_sequence(sequences), torch.tensor([len(s) for s in sequences]), enforce_sorted=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="best.safetensors of a run, or another model file")
    parser.add_argument("data", nargs="+", help=".abc tunebooks or text with <start> and <end> lines")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rnn, head, tokens = load(args.model)
    index = {token: i for i, token in enumerate(tokens)}
    tunes = [torch.tensor(encode(tune, index)) for path in args.data for tune in read_tunes(path)]
    tunes.sort(key=len)  # tunes of like length side by side: less padding
    total, chars = 0.0, 0
    with torch.no_grad():
        for group in (tunes[i : i + STREAMS] for i in range(0, len(tunes), STREAMS)):
            ids, targets = pack([t[:-1] for t in group]), pack([t[1:] for t in group]).data
            one_hot = nn.functional.one_hot(ids.data, len(tokens)).float()
            out, _ = rnn(PackedSequence(one_hot, ids.batch_sizes, ids.sorted_indices, ids.unsorted_indices))
            each = nn.functional.cross_entropy(head(out.data), targets, reduction="none")
            total += each.double().sum().item()
            chars += len(targets)
    print(json.dumps({"nats_per_char": total / chars, "chars": chars, "tunes": len(tunes)}))


if __name__ == "__main__":
    main()
