#!/usr/bin/env python3
"""Makes tests/golden/*.safetensors: small models with their losses, gradients and training steps as PyTorch has them.

    scripts/golden.py            writes the files
    scripts/golden.py --check    recomputes them and compares with the committed ones

Truth is float64. Everything is also run in float32, and the largest relative differences are printed: they tell what
tolerance float32 engines deserve. tests/golden/README.md says what the files hold.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import save_file
from torch import nn

FOLDER = Path(__file__).resolve().parent.parent / "tests" / "golden"
# (cell, layers, hidden, vocabulary): odd sizes, so that a transposed matrix cannot pass.
CASES = [("lstm", 1, 5, 7), ("lstm", 2, 6, 11), ("gru", 1, 7, 8), ("gru", 2, 6, 9), ("rnn", 1, 8, 10), ("rnn", 2, 5, 11)]
STEPS, STREAMS, CHUNKS = 6, 3, 10  # T, B, training steps
IGNORE = 65535


def single(value):
    """The float32 next to a constant, as a float64: engines take their settings as float32, and a float64 reference
    shall agree with these files to rounding all the same."""
    return float(np.float32(value))


LR, CLIP = single(1e-2), 0.25  # the gradient norm of most steps is above CLIP
OPTIMIZERS = {
    "adam": (torch.optim.Adam, {"betas": (single(0.9), single(0.999)), "eps": single(1e-8), "weight_decay": 0.0}),
    "adamw": (torch.optim.AdamW, {"betas": (single(0.9), single(0.999)), "eps": single(1e-8), "weight_decay": single(0.01)}),
    "sgd": (torch.optim.SGD, {"momentum": single(0.9), "weight_decay": single(0.01)}),
    "rmsprop": (torch.optim.RMSprop, {"alpha": single(0.99), "eps": single(1e-8), "momentum": 0.0, "weight_decay": 0.0}),
}
CHECK_TOLERANCE = 1e-9  # other PyTorch versions and processors: float64 rounding, amplified by ten steps


class Model(nn.Module):
    """One-hot character -> L recurrent layers -> linear. In an LSTM and an RNN bias_hh is zero and not trained."""

    def __init__(self, cell, layers, hidden, vocab, dtype):
        super().__init__()
        self.rnn = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}[cell](vocab, hidden, layers, dtype=dtype)
        self.head = nn.Linear(hidden, vocab, dtype=dtype)
        self.cell, self.vocab, self.dtype = cell, vocab, dtype
        if cell != "gru":
            for name, p in self.rnn.named_parameters():
                if name.startswith("bias_hh"):
                    nn.init.zeros_(p)
                    p.requires_grad_(False)

    def trained(self):
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    def forward(self, ids, resets, h, c):
        """ids, resets [T, B], h, c [L, B, H] -> logits [T, B, V], h, c. One step a call: a reset may come anywhere."""
        logits = []
        for t in range(ids.shape[0]):
            keep = (1 - resets[t]).to(self.dtype).view(1, -1, 1)
            h, c = h * keep, c * keep
            x = nn.functional.one_hot(ids[t : t + 1], self.vocab).to(self.dtype)
            out, state = self.rnn(x, (h, c) if self.cell == "lstm" else h)
            h, c = state if self.cell == "lstm" else (state, c)
            logits.append(self.head(out[0]))
        return torch.stack(logits), h, c


def loss_of(logits, targets):
    return nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE)


def chunks(case_seed, vocab):
    """Ids, targets, resets [CHUNKS, T, B]; some targets ignored, some resets in mid-chunk."""
    g = torch.Generator().manual_seed(case_seed)
    shape = (CHUNKS, STEPS, STREAMS)
    ids = torch.randint(vocab, shape, generator=g)
    targets = torch.randint(vocab, shape, generator=g)
    targets[torch.rand(shape, generator=g) < 0.06] = IGNORE
    resets = (torch.rand(shape, generator=g) < 0.06).long()
    resets[0, 0, :] = 1
    resets[0, 3, 1] = resets[4, 2, 0] = resets[4, 5, 0] = resets[6, 0, 2] = 1
    targets[0, 2, 2] = targets[5, 5, 1] = IGNORE
    return ids, targets, resets


def run_case(cell, layers, hidden, vocab, dtype):
    """Everything a golden file holds, as tensors of `dtype`."""
    seed = 1000 * layers + 10 * hidden + vocab
    torch.manual_seed(seed)
    first = Model(cell, layers, hidden, vocab, torch.float64)
    with torch.no_grad():
        for p in first.trained().values():
            # Wider than a new model's: gates leave their linear range, gradients are large enough to be clipped. Ten
            # steps of a wider tanh network would amplify rounding beyond any useful tolerance.
            p.uniform_(-1.2, 1.2) if cell != "rnn" else p.uniform_(-0.7, 0.7)
            p.copy_(p.float())  # exact in float32
    initial = {name: p.detach().clone() for name, p in first.named_parameters()}

    def fresh():
        model = Model(cell, layers, hidden, vocab, dtype)
        model.load_state_dict(initial)
        zero = torch.zeros(layers, STREAMS, hidden, dtype=dtype)
        return model, zero, zero

    ids, targets, resets = chunks(seed, vocab)
    out = {"train.ids": ids, "train.targets": targets, "train.resets": resets}
    out |= {"ids": ids[0], "targets": targets[0], "resets": resets[0]}

    model, h, c = fresh()
    logits, h, c = model(ids[0], resets[0], h, c)
    loss = loss_of(logits, targets[0])
    loss.backward()
    out |= {"logits": logits, "loss": loss.view(1), "h": h}
    if cell == "lstm":
        out["c"] = c
    for name, p in model.trained().items():
        out[f"param.{name}"] = p.detach().clone()
        out[f"grad.{name}"] = p.grad.clone()

    for kind, (optimizer_class, settings) in OPTIMIZERS.items():
        model, h, c = fresh()
        optimizer = optimizer_class(model.trained().values(), lr=LR, **settings)
        losses, norms = [], []
        for k in range(CHUNKS):
            logits, h, c = model(ids[k], resets[k], h.detach(), c.detach())
            loss = loss_of(logits, targets[k])
            optimizer.zero_grad()
            loss.backward()
            norms.append(nn.utils.clip_grad_norm_(model.trained().values(), CLIP).view(1))
            optimizer.step()
            losses.append(loss.detach().view(1))
        out[f"{kind}.losses"], out[f"{kind}.norms"] = torch.cat(losses), torch.cat(norms)
        for name, p in model.trained().items():
            out[f"{kind}.param.{name}"] = p.detach()
        clipped = int((out[f"{kind}.norms"] > CLIP).sum())
        assert clipped >= 8, f"{cell}-{layers} {kind}: only {clipped} of {CHUNKS} steps clipped"
    return {name: t.detach() for name, t in out.items()}


def difference(a, b):
    """Relative difference in the Euclidean norm; of zero tensors the absolute one."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    norm = np.linalg.norm(a)
    return float(np.linalg.norm(a - b) / (norm if norm > 0 else 1.0))


def kind_of(name):
    """Under which heading a tensor's float32 difference is reported."""
    if name in ("logits", "loss", "h", "c"):
        return "forward"
    if name.startswith("grad."):
        return "gradients"
    for kind in OPTIMIZERS:
        if name.startswith(f"{kind}."):
            return kind
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with the files instead of writing them")
    args = parser.parse_args()
    torch.set_num_threads(1)
    worst, bad = {}, 0
    for cell, layers, hidden, vocab in CASES:
        case = f"{cell}-{layers}"
        truth = {k: v.numpy() for k, v in run_case(cell, layers, hidden, vocab, torch.float64).items()}
        rounded = {k: v.numpy() for k, v in run_case(cell, layers, hidden, vocab, torch.float32).items()}
        for name in truth:
            if kind := kind_of(name):
                d = difference(truth[name], rounded[name])
                worst[kind] = max(worst.get(kind, (0.0, "")), (d, f"{case} {name}"))
        tensors = {k: np.ascontiguousarray(v.astype(np.int32) if v.dtype == np.int64 else v) for k, v in truth.items()}
        path = FOLDER / f"{case}.safetensors"
        if args.check:
            with safe_open(path, "numpy") as f:
                assert set(f.keys()) == set(tensors), f"{path}: other tensors than this script makes"
                off = max((difference(tensors[k], f.get_tensor(k)), k) for k in tensors)
            bad += off[0] > CHECK_TOLERANCE
            print(f"{path.name}: largest relative difference {off[0]:.1e} ({off[1]})")
            continue
        metadata = {
            "cell": cell, "vocab": vocab, "hidden": hidden, "layers": layers, "steps": STEPS, "streams": STREAMS,
            "chunks": CHUNKS, "lr": LR, "clip": CLIP, "ignore": IGNORE, "torch": torch.__version__.split("+")[0],
        }  # fmt: skip
        metadata |= {f"optimizer.{kind}": json.dumps(settings) for kind, (_, settings) in OPTIMIZERS.items()}
        FOLDER.mkdir(parents=True, exist_ok=True)
        save_file(tensors, path, metadata={k: str(v) for k, v in metadata.items()})
        print(f"{path.name}: {path.stat().st_size} bytes, loss {truth['loss'][0]:.6f}")
    print("largest relative difference of PyTorch's own float32 from its float64:")
    for kind, (d, where) in worst.items():
        print(f"  {kind:<10} {d:.1e}  ({where})")
    if bad:
        sys.exit(f"error: {bad} files differ by more than {CHECK_TOLERANCE:.0e}")


if __name__ == "__main__":
    main()
