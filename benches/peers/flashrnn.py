#!/usr/bin/env python3
"""FlashRNN (pip install flashrnn; NX-AI) on the layer cases of `songrnn-fast bench`; rows in the speed records' columns.

    songrnn-fast bench layer --device cuda --cases grid --precision bf16 --list | benches/peers/flashrnn.py --csv FILE

UNTESTED: written from its published interface, never run; nothing of it has been measured.

What is measured: one head of all H units. Its kernels begin with the pre-activations: those of the first layer are made
before the clock starts, which is in FlashRNN's favour (songrnn-fast gathers them in the time measured); between layers a
linear layer makes them. Tiers: its backends cuda_fused and cuda (alternating). Train and sample cases are left out, and
said: it has neither. Where it or a GPU is missing it prints a line that begins with SKIP and ends well.
"""

import sys

import pytorch
from pytorch import torch

FUNCTIONS = {"lstm": ("lstm", 4, 2), "gru": ("gru", 3, 1), "rnn": ("elman", 1, 1)}
BACKENDS = ["cuda_fused", "cuda"]


def built(case, precision, backend, backward, flashrnn):
    """The layers of a case as a function."""
    if case["what"] != "layer":
        raise pytorch.Unsupported("FlashRNN has layers alone")
    device = pytorch.set_up(case, precision)
    name = pytorch.SHORT.get(precision, "float32")
    kind, (function, gates, states) = getattr(torch, name), FUNCTIONS[case["cell"]]
    batch, steps, hidden, layers = (case[k] for k in ("batch", "seq_len", "hidden", "layers"))

    def made(*size):
        return (torch.randn(size, device=device) / hidden**0.5).to(kind).requires_grad_()

    given = made(batch, steps, gates, 1, hidden)
    recurrent = [made(gates, 1, hidden, hidden) for _ in range(layers)]
    bias = [made(gates, 1, hidden) for _ in range(layers)]
    linear = [torch.nn.Linear(hidden, gates * hidden, device=device, dtype=kind) for _ in range(layers - 1)]
    first = torch.zeros(states, batch, 1, 1, hidden, device=device, dtype=kind)
    gradient = (torch.randn(batch, steps, 1, hidden, device=device) * 1e-3).to(kind)
    trained = [given, *recurrent, *bias, *(p for layer in linear for p in layer.parameters())]

    def step():
        for tensor in trained:
            tensor.grad = None
        x = given
        for k in range(layers):
            out, _ = flashrnn(x, recurrent[k], bias[k], states=first, function=function, backend=backend, dtype=name)
            h = out[0]
            if k + 1 < layers:
                x = linear[k](h.reshape(batch, steps, hidden)).reshape(batch, steps, gates, 1, hidden)
        if backward:
            h.backward(gradient.reshape(h.shape))

    return step


def main():
    arguments = pytorch.parser(__doc__).parse_args()
    # This file has the package's name: its folder must not come first.
    here, sys.path[:] = sys.path[0], [path for path in sys.path[1:]]
    sys.modules.pop("flashrnn", None)
    try:
        from flashrnn import flashrnn
    except ImportError as why:
        print(f"SKIP flashrnn: not installed (pip install flashrnn)")
        print(why, file=sys.stderr)
        return
    finally:
        sys.path.insert(0, here)
    if torch is None or not torch.cuda.is_available():
        print("SKIP flashrnn: it needs PyTorch with a GPU")
        return
    arguments.tiers = arguments.tiers or BACKENDS

    def build(case, precision, backend, backward):
        return built(case, precision, backend, backward, flashrnn)

    pytorch.listed(arguments, "flashrnn", lambda case, p, tier: pytorch.layer_rows(case, p, tier, arguments, "flashrnn", build))


if __name__ == "__main__":
    main()
