"""Reads tunes from .abc tunebooks and <start>/<end> text by the project's rules, apart from the Rust reader.

Written from docs/ alone, so that a misreading on either side shows up as a different loss in torch-eval.py. Not for
large corpora: everything is held in memory.
"""

import codecs
from pathlib import Path

START, END, UNK = "<start>", "<end>", "<unk>"


def decode(data: bytes) -> str:
    """Bytes -> text: a UTF-8 byte order mark is dropped, and what is not UTF-8 is read as Latin-1."""
    if data.startswith(codecs.BOM_UTF8):
        data = data[len(codecs.BOM_UTF8) :]
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def lines_of(text: str) -> list[str]:
    """Lines without their ends (LF, CRLF or a lone CR) and trailing blanks; NULs and byte order marks are dropped."""
    text = text.replace("\0", "").replace("\ufeff", "")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return [line.rstrip(" \t") for line in text.split("\n")]


def finish(lines: list[str]) -> str:
    """A tune's lines -> its text: no newline at the end."""
    return "\n".join(lines).rstrip("\n")


def tunes_of(text: str) -> list[str]:
    """Every tune of a file: between <start> and <end> where the file has such lines, else from X: line to blank line.

    A tune also ends where the next one starts, and at the end of the file. One without text, or in a tunebook with
    nothing but its X: line, is none."""
    lines = lines_of(text)
    marked = START in lines
    tunes, current = [], None
    for line in lines + [None]:
        starts = line == START if marked else line is not None and line.startswith("X:")
        if current is not None and (starts or line is None or line == (END if marked else "")):
            tune = finish(current)
            if tune if marked else "\n" in tune:
                tunes.append(tune)
            current = None
        if starts:
            current = [] if marked else [line]
        elif current is not None:
            current.append(line)
    return tunes


def read_tunes(path: str | Path) -> list[str]:
    """The tunes of one file, in order."""
    tunes = tunes_of(decode(Path(path).read_bytes()))
    if not tunes:
        raise SystemExit(f"error: {path}: no tune found; expected X: lines, or text between <start> and <end> lines")
    return tunes


def vocabulary(tunes: list[str]) -> list[str]:
    """Index -> token: the special tokens, then the characters of these tunes in code point order."""
    return [START, END, UNK] + sorted(set("".join(tunes)))


def encode(tune: str, index: dict[str, int]) -> list[int]:
    """<start>, the tune's characters (unknown ones as <unk>), <end>."""
    unk = index.get(UNK, index[START])
    return [index[START]] + [index.get(ch, unk) for ch in tune] + [index[END]]
