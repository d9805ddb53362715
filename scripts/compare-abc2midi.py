#!/usr/bin/env python3
"""Compare the MIDI of `songrnn-fast midi` with abc2midi's, tune by tune.

    scripts/compare-abc2midi.py [--binary target/debug/songrnn-fast] [--strict] [--show N] BOOK.abc...

Each tune of each book is cut out, decorations that abc2midi plays (rolls, staccato, trills, fermatas: `!..!`, and
`~ . v u H T` before a note) and `I:` lines (remarks in some books, on which abc2midi stumbles) are
stripped, and both programs read the same text: abc2midi with `-NFNP -NGRA`. Compared
are the sequences of (onset, pitch) of the melody, onsets in ticks of 480 a quarter, those of one onset sorted by
pitch; abc2midi's one-tick delays are allowed for. Counted are the tunes on which abc2midi prints no "Error"
(`--strict`: neither "Error" nor "Warning"). Exits 1 when a book agrees on less than 98% of them.
"""
import argparse
import collections
import os
import re
import subprocess
import sys
import tempfile

# Onsets may differ by this many ticks: abc2midi starts at tick 1 and rounds each duration by itself.
TOLERANCE = 4
# abc2midi strikes the notes of a chord this many ticks apart.
STRUM = 10


def decode(data):
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def split_book(text):
    tunes, current = [], None
    for line in text.splitlines():
        if line.startswith("X:"):
            if current:
                tunes.append(current)
            current = [line]
        elif current is not None:
            if line.strip():
                current.append(line)
            else:
                tunes.append(current)
                current = None
    if current:
        tunes.append(current)
    return tunes


def strip_decorations(lines):
    out, body = [], False
    for line in lines:
        field = re.match(r"[A-Za-z+]:", line) and not (body and re.match(r"[A-Ga-gxz]:[|:]", line))
        if line.startswith("I:"):
            continue
        if field or line.startswith("%"):
            body = body or line.startswith("K:")
            out.append(line)
            continue
        if body:
            # Quoted text is left alone; the rest loses its decorations.
            pieces = re.split(r'("[^"]*")', line)
            for i in range(0, len(pieces), 2):
                piece = re.sub(r"!(?:[A-Za-z0-9.<>^+()]{1,20})!", "", pieces[i])
                pieces[i] = re.sub(r"[~vuHT]|\.(?!\|)", "", piece)
            line = "".join(pieces)
        out.append(line)
    return "\n".join(out) + "\n"


def read_midi(data):
    """[[(onset, pitch), ...] per track], and the name of each track."""
    def number(pos):
        value = 0
        while True:
            byte = data[pos]
            pos += 1
            value = value << 7 | byte & 127
            if byte < 128:
                return value, pos
    pos, tracks = 14, []
    while pos + 8 <= len(data):
        end = pos + 8 + int.from_bytes(data[pos + 4:pos + 8], "big")
        pos += 8
        now, status, notes, name, channels = 0, 0, [], "", set()
        while pos < end:
            delta, pos = number(pos)
            now += delta
            if data[pos] & 128:
                status = data[pos]
                pos += 1
            if status in (0xff, 0xf0, 0xf7):
                kind = None
                if status == 0xff:
                    kind = data[pos]
                    pos += 1
                size, pos = number(pos)
                if kind == 3 and not name:
                    name = data[pos:pos + size].decode("latin-1")
                pos += size
                continue
            if status >> 4 == 9 and data[pos + 1]:
                notes.append((now, data[pos]))
            pos += 1 if status >> 4 in (12, 13) else 2
        tracks.append((name, notes))
        pos = end
    return tracks


def sequence(tracks, drop_chords):
    notes = [n for name, track in tracks for n in track if not (drop_chords and name == "chords")]
    return sorted(notes)


def first_difference(ours, theirs):
    """Index of the first of our notes that theirs lack, or None when all agree. Chords are compared as sets."""
    i = 0
    while i < len(ours):
        j = i
        while j < len(ours) and ours[j][0] == ours[i][0]:
            j += 1
        chord, onset = theirs[i:j], ours[i][0]
        late = TOLERANCE + STRUM * (j - i - 1)
        if sorted(n[1] for n in ours[i:j]) != sorted(n[1] for n in chord):
            return i
        if any(not onset - TOLERANCE <= n[0] <= onset + late for n in chord):
            return i
        i = j
    return None if len(theirs) == len(ours) else len(ours)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("books", nargs="+")
    parser.add_argument("--binary", default="target/debug/songrnn-fast")
    parser.add_argument("--strict", action="store_true", help="leave out tunes with warnings too")
    parser.add_argument("--show", type=int, default=0, help="print this many disagreements of each book")
    args = parser.parse_args()
    binary = os.path.abspath(args.binary)
    total, worst = collections.Counter(), 1.0
    for book in args.books:
        with open(book, "rb") as file:
            tunes = split_book(decode(file.read()))
        count = collections.Counter()
        with tempfile.TemporaryDirectory() as folder:
            combined = []
            for number, lines in enumerate(tunes, 1):
                text = strip_decorations(["X:%d" % number] + lines[1:])
                combined.append(text)
            source = os.path.join(folder, "all.abc")
            with open(source, "w", encoding="utf-8") as file:
                file.write("\n".join(combined))
            made = os.path.join(folder, "ours")
            run = subprocess.run([binary, "midi", source, "--no-chords", "--out", made], capture_output=True, text=True)
            ours_path = {}
            for line in run.stdout.splitlines():
                match = re.match(r"all-(\d+)", os.path.basename(line))
                ours_path[int(match.group(1))] = line
            for number, text in enumerate(combined, 1):
                abc = os.path.join(folder, "one.abc")
                mid = os.path.join(folder, "one.mid")
                with open(abc, "w", encoding="utf-8") as file:
                    file.write(text)
                if os.path.exists(mid):
                    os.remove(mid)
                theirs = subprocess.run(["abc2midi", abc, "-NFNP", "-NGRA", "-NGUI", "-o", mid], capture_output=True)
                said = theirs.stdout.decode("latin-1")
                if "Error" in said or theirs.returncode or (args.strict and "Warning" in said):
                    count["left out"] += 1
                    continue
                if not os.path.exists(mid):
                    count["left out"] += 1
                    continue
                with open(mid, "rb") as file:
                    b = sequence(read_midi(file.read()), False)
                a = []
                if number in ours_path:
                    with open(ours_path[number], "rb") as file:
                        a = sequence(read_midi(file.read()), True)
                i = first_difference(a, b)
                if i is None:
                    count["agree"] += 1
                else:
                    count["differ"] += 1
                    if count["differ"] <= args.show:
                        print("---- %s %d: %d and %d notes, first difference at %d: %s and %s"
                              % (book, number, len(a), len(b), i, a[i:i + 3], b[i:i + 3]))
                        print(text)
                        print("\n".join(l for l in said.splitlines() if "Warning" in l))
        compared = count["agree"] + count["differ"]
        share = count["agree"] / compared if compared else 1.0
        worst = min(worst, share)
        print("%s: %d tunes, %d compared, %d agree (%.2f%%), %d left out (abc2midi complains)"
              % (os.path.basename(book), len(tunes), compared, count["agree"], 100 * share, count["left out"]))
        sys.stdout.flush()
        total.update(count)
    compared = total["agree"] + total["differ"]
    print("total: %d compared, %d agree (%.2f%%)" % (compared, total["agree"], 100 * total["agree"] / max(compared, 1)))
    return 0 if worst >= 0.98 else 1


if __name__ == "__main__":
    sys.exit(main())
