#!/usr/bin/env python3
"""Writes a large made-up ABC tunebook, for measuring `songrnn-fast pack`.

    scripts/gen_corpus.py FILE MEGABYTES [--start-end] [--seed N]

Tunes have the shape of real ones (some 350 characters, 40% header) and nearly all differ; one in a hundred is a
duplicate under another number and title. The same arguments give the same file.
"""
import argparse
import random

NOTES = ["A", "B", "c", "d", "e", "f", "g", "G", "F", "E", "D", "a", "b", "^c", "=f", "_B", "A,", "c'", "z"]
LENGTHS = ["", "", "", "2", "/", "3/2", ">", "-"]
WORDS = "The Merry Old Silver Miller Lass of Kerry Rambling Pitcher Fair Maid Green Road to Sligo Été Ó".split()


def bar(rng):
    return "".join(rng.choice(NOTES) + rng.choice(LENGTHS) for _ in range(rng.randint(4, 7)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("file")
    parser.add_argument("megabytes", type=float)
    parser.add_argument("--start-end", action="store_true", help="tunes between <start> and <end>")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    bars = [bar(rng) for _ in range(4000)]
    titles = [" ".join(rng.choices(WORDS, k=rng.randint(2, 5))) for _ in range(5000)]
    written, number, body = 0, 0, ""
    with open(args.file, "wb", buffering=1 << 20) as out:
        while written < args.megabytes * 1e6:
            number += 1
            if number % 100 or not body:
                lines = []
                for _ in range(rng.randint(2, 8)):
                    a, b, c, d = rng.choices(bars, k=4)
                    lines.append(f"{a}|{b}|{c}|{d}|")
                body = "\n".join(lines)
            tune = (
                f"X:{number}\nT:{rng.choice(titles)}\nR:reel\nZ:made up, id:gen-{args.seed}-{number}\n"
                f"M:4/4\nL:1/8\nQ:1/4=120\nK:{rng.choice('CDGAEF')}\n{body}\n"
            )
            text = f"<start>\n{tune}<end>\n" if args.start_end else f"{tune}\n"
            written += out.write(text.encode())
    print(f"{args.file}: {number} tunes, {written} bytes")


if __name__ == "__main__":
    main()
