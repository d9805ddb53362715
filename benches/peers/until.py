#!/usr/bin/env python3
"""Seconds of training to a validation loss, this program and PyTorch in turn, a pair a seed.

    benches/peers/until.py TRAIN VAL [--loss 1.65] [--seeds 3] [--threads 2] [--device cuda] [--binary target/release/songrnn-fast]

Both train a 1x150 LSTM on 32 streams of 100 characters with Adam at 2e-3, clip at 5 and validate after every epoch; the
clock runs from the first step and through the validations. PyTorch's side is what people write: the tunes end to end, cut
into 32 streams, the state carried; a ready one-hot, nn.LSTM, fused Adam. This program's starts a new state at every tune.
Both read the tunes in another order each epoch (in one order PyTorch's side stayed above 1.65 with two of three seeds).
Both losses are of the same characters: <start> and <end> are one token each, and nobody is asked to predict <start>. (Spelled
out they are a dozen characters a tune that every network soon knows, and lower the mean by a twentieth.)
Prints a line a run and the medians; needs PyTorch in the Python that runs it.
"""
import argparse
import json
import os
import re
import statistics
import subprocess
import tempfile
import time

B, T, H, RATE, CLIP = 32, 100, 150, 2e-3, 5.0


START, END = "\ue000", "\ue001"


def tokens(text):
    """The text with <start> and <end> as one character each, without the white space around them."""
    return re.sub(r"\s*<end>\s*", END, re.sub(r"\s*<start>\s*", START, text))


def ours(asked, seed):
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "run")
        command = [asked.binary, "train", asked.train, "--val", asked.val, "--layers", "1", "--hidden", str(H),
                   "--batch", str(B), "--seq-len", str(T), "--lr", str(RATE), "--clip", str(CLIP), "--dropout", "0",
                   "--schedule", "constant", "--epochs", str(asked.epochs), "--seed", str(seed), "--device", asked.device,
                   "--threads", str(asked.threads), "--precision", asked.precision, "--out", out]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        events = [json.loads(line) for line in open(os.path.join(out, "metrics.jsonl"), encoding="utf-8")]
    for event in events:
        if event["event"] == "validation" and event["nats_per_char"] <= asked.loss:
            return event["seconds"], round(event["epoch"])
    return None


def pytorch(asked, seed):
    import torch  # on a GPU with its defaults: TF32 in cuDNN's products
    from torch.nn.functional import cross_entropy, one_hot

    if asked.threads:
        torch.set_num_threads(asked.threads)
    torch.manual_seed(seed)
    texts = [tokens(open(path, encoding="utf-8").read()) for path in (asked.train, asked.val)]
    ids = {c: i for i, c in enumerate(sorted(set(texts[0] + texts[1])))}
    tunes = [[torch.tensor([ids[c] for c in tune], device=asked.device) for tune in re.findall(f"[^{END}]+{END}?", text)]
             for text in texts]
    vocab, start = len(ids), ids.get(START, -100)

    def streams(tunes, order):
        all_ids = torch.cat([tunes[i] for i in order])
        length = (len(all_ids) - 1) // B
        cut = [all_ids[i:i + B * length].view(B, length).t().contiguous() for i in (0, 1)]
        return [(cut[0][t:t + T], cut[1][t:t + T]) for t in range(0, length, T)]

    val = streams(tunes[1], range(len(tunes[1])))
    shuffled = lambda: streams(tunes[0], torch.randperm(len(tunes[0])).tolist())
    rnn, head = torch.nn.LSTM(vocab, H).to(asked.device), torch.nn.Linear(H, vocab).to(asked.device)
    weights = [*rnn.parameters(), *head.parameters()]
    adam = torch.optim.Adam(weights, lr=RATE, fused=True)
    if asked.device != "cpu":  # libraries are loaded when first used
        warm, _ = rnn(one_hot(val[0][0], vocab).float())
        head(warm).sum().backward()
        torch.cuda.synchronize()
    begun = time.perf_counter()
    for epoch in range(1, asked.epochs + 1):
        state = None
        for x, y in shuffled():
            adam.zero_grad(set_to_none=True)
            h, state = rnn(one_hot(x, vocab).float(), state)
            state = tuple(part.detach() for part in state)
            loss = cross_entropy(head(h).flatten(0, 1), y.flatten(), ignore_index=start)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, CLIP)
            adam.step()
        with torch.no_grad():
            state, total, count = None, 0.0, 0
            for x, y in val:
                h, state = rnn(one_hot(x, vocab).float(), state)
                logits, y = head(h).flatten(0, 1), y.flatten()
                total += cross_entropy(logits, y, ignore_index=start, reduction="sum")
                count += int((y != start).sum())
        if float(total) / count <= asked.loss:
            return time.perf_counter() - begun, epoch
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train")
    parser.add_argument("val")
    parser.add_argument("--loss", type=float, default=1.65)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=80, help="give up after so many")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--precision", default="f32", help="of this program's side; PyTorch's is f32, which is faster there")
    parser.add_argument("--binary", default="target/release/songrnn-fast")
    asked = parser.parse_args()
    found = {"songrnn-fast": [], "pytorch": []}
    for seed in range(1, asked.seeds + 1):
        for name, run in (("songrnn-fast", ours), ("pytorch", pytorch)):
            result = run(asked, seed)
            if result is None:
                print(f"seed {seed}  {name:13} not in {asked.epochs} epochs", flush=True)
            else:
                found[name].append(result)
                print(f"seed {seed}  {name:13}{result[0]:8.2f} s  {result[1]:3} epochs", flush=True)
    medians = {name: statistics.median(s for s, _ in runs) for name, runs in found.items() if runs}
    if len(medians) == 2:
        ratio = medians["pytorch"] / medians["songrnn-fast"]
        print(f"medians: songrnn-fast {medians['songrnn-fast']:.2f} s, pytorch {medians['pytorch']:.2f} s, ratio {ratio:.2f}")
        each = {name: statistics.median(s / e for s, e in runs) for name, runs in found.items()}
        print(f"an epoch: songrnn-fast {each['songrnn-fast']:.3f} s, pytorch {each['pytorch']:.3f} s, "
              f"ratio {each['pytorch'] / each['songrnn-fast']:.2f}")


if __name__ == "__main__":
    main()
