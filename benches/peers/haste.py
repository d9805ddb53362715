#!/usr/bin/env python3
"""Haste (pip install haste_pytorch; LMNT) on the layer cases of `songrnn-fast bench`; rows in the speed records' columns.

    songrnn-fast bench layer --device cuda --cases grid --list | benches/peers/haste.py --csv FILE

UNTESTED: written from its published interface, never run; nothing of it has been measured.

What is measured: haste_pytorch.LSTM or GRU over a ready one-hot input, forward in training mode, and forward and backward
from a ready gradient; several layers one after the other. f32 alone, TF32 off: Haste has no short formats here and no
tanh RNN; such cases, train and sample are left out, and said. Where it or a GPU is missing it prints a line that
begins with SKIP and ends well.
"""

import sys

import pytorch
from pytorch import torch


def built(case, precision, _tier, backward, haste):
    """The layers of a case as a function."""
    if case["what"] != "layer" or case["cell"] == "rnn" or precision != "f32":
        raise pytorch.Unsupported("Haste has LSTM and GRU layers in f32 alone")
    device = pytorch.set_up(case, precision)
    kind = {"lstm": haste.LSTM, "gru": haste.GRU}[case["cell"]]
    sizes = [case["vocab"]] + [case["hidden"]] * (case["layers"] - 1)
    layers = [kind(input_size=size, hidden_size=case["hidden"]).to(device).train() for size in sizes]
    ids = torch.randint(0, case["vocab"], (case["seq_len"], case["batch"]), device=device)
    given = torch.nn.functional.one_hot(ids, case["vocab"]).float()
    gradient = torch.randn(case["seq_len"], case["batch"], case["hidden"], device=device) * 1e-3

    def step():
        x = given
        for layer in layers:
            layer.zero_grad(set_to_none=True)
            x, _ = layer(x)
        if backward:
            x.backward(gradient)

    return step


def main():
    arguments = pytorch.parser(__doc__).parse_args()
    try:
        import haste_pytorch as haste
    except ImportError as why:
        print(f"SKIP haste: not installed (pip install haste_pytorch)")
        print(why, file=sys.stderr)
        return
    if torch is None or not torch.cuda.is_available():
        print("SKIP haste: it needs PyTorch with a GPU")
        return
    arguments.tiers = ["fused"]

    def build(case, precision, tier, backward):
        return built(case, precision, tier, backward, haste)

    pytorch.listed(arguments, "haste", lambda case, p, tier: pytorch.layer_rows(case, p, tier, arguments, "haste", build))


if __name__ == "__main__":
    main()
