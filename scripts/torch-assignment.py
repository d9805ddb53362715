#!/usr/bin/env python3
"""The assignment's protocol in PyTorch, for holding `study --protocol assignment` against it (docs/study.md describes it).

    scripts/torch-assignment.py lstm|gru|rnn TRAIN VAL [--epochs 100] [--hidden 150] [--seed 1]

TRAIN and VAL are texts of <start> ... <end> songs whose validation characters all occur in training. Prints training loss, loss over
one random slice of every validation song, the lowest such loss so far, and the loss over whole songs, in nats a character.
"""
import argparse
import random
import re

import torch

SLICE = 31  # 30 inputs and 30 targets
SHORTEST = 41


def songs(path):
    text = open(path, encoding="utf-8").read()
    parts = (part + "<end>\n" for part in re.split(r"<end>\n?", text))
    return [song for song in parts if len(song) >= SHORTEST]


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("cell", choices=["lstm", "gru", "rnn"])
parser.add_argument("train")
parser.add_argument("val")
parser.add_argument("--epochs", type=int, default=100)
parser.add_argument("--hidden", type=int, default=150)
parser.add_argument("--seed", type=int, default=1)
asked = parser.parse_args()

torch.set_num_threads(1)
torch.manual_seed(asked.seed)
random.seed(asked.seed)
train, val = songs(asked.train), songs(asked.val)
ids = {c: i for i, c in enumerate(sorted(set("".join(train))))}
train, val = ([torch.tensor([ids[c] for c in song]) for song in part] for part in (train, val))
cell = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}[asked.cell]
rnn, head = cell(len(ids), asked.hidden), torch.nn.Linear(asked.hidden, len(ids))
optimizer = torch.optim.Adam([*rnn.parameters(), *head.parameters()], lr=1e-3, foreach=False, fused=True)
one_hot = torch.eye(len(ids))


def a_slice(song):
    at = random.randint(0, len(song) - SLICE)
    return song[at : at + SLICE]


def loss(text):
    return torch.nn.functional.cross_entropy(head(rnn(one_hot[text[:-1]])[0]), text[1:])


best = float("inf")
for epoch in range(1, asked.epochs + 1):
    random.shuffle(train)
    total = 0.0
    for song in train:
        optimizer.zero_grad()
        one = loss(a_slice(song))
        one.backward()
        optimizer.step()
        total += one.item()
    with torch.no_grad():
        slices = sum(loss(a_slice(song)).item() for song in val) / len(val)
        best = min(best, slices)
        if epoch in (1, 2, 5) or epoch % 10 == 0:
            chars = sum(len(song) - 1 for song in val)
            whole = sum(loss(song).item() * (len(song) - 1) for song in val) / chars
            print(f"{epoch:4} training {total / len(train):.3f} slices {slices:.3f} best {best:.3f} whole {whole:.4f}", flush=True)
