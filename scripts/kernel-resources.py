#!/usr/bin/env python3
"""What every kernel takes of a multiprocessor: registers, static shared memory, stack and spills, from the logs that
build.rs keeps beside the compiled kernels. Compiles nothing itself, needs no GPU and nothing but Python.

    SONGRNN_KERNELS=require cargo build
    scripts/kernel-resources.py              prints the table
    scripts/kernel-resources.py --check      compares with kernels/resources.csv; exit code 1 where it got worse
    scripts/kernel-resources.py --write      makes the present state the recorded one

Worse is: a spill, whatever is recorded; more registers, static shared memory or stack than recorded; a kernel that is
recorded and gone, or there and not recorded. Dynamic shared memory is the launcher's and is not in these logs.
"""

import argparse
import csv
import io
import os
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
RECORD = ROOT / "kernels" / "resources.csv"
COLUMNS = ["kernel", "arch", "registers", "shared", "stack", "spill_stores", "spill_loads", "toolkit"]
# More of these is worse; spills are judged apart.
GROWTH = {"registers": "registers", "shared": "bytes of static shared memory", "stack": "bytes of stack"}

ENTRY = re.compile(r"Compiling entry function '([^']+)' for '([^']+)'")
PROPERTIES = re.compile(r"Function properties for (\S+)")
SPILLS = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers")
SHARED = re.compile(r"(\d+) bytes smem")


def fail(message):
    sys.exit(f"kernel-resources: error: {message}")


def parse(log, toolkit):
    """The rows of one log of `ptxas -v`."""
    rows, row, of_kernel = [], None, False
    for line in log.splitlines():
        if found := ENTRY.search(line):
            row = dict.fromkeys(COLUMNS, 0)
            row.update(kernel=found[1], arch=found[2], toolkit=toolkit)
            rows.append(row)
        elif found := PROPERTIES.search(line):
            # A function that was not inlined has properties of its own; they count for the kernel before it too.
            of_kernel = row is not None and found[1] == row["kernel"]
        elif row is not None and (found := SPILLS.search(line)):
            stack, stores, loads = map(int, found.groups())
            row["stack"] = stack if of_kernel else row["stack"] + stack
            row["spill_stores"] += stores
            row["spill_loads"] += loads
        elif row is not None and (found := USED.search(line)):
            row["registers"] = int(found[1])
            shared = SHARED.search(line)
            row["shared"] = int(shared[1]) if shared else 0
    return rows


def arch_key(arch):
    number = re.match(r"sm_(\d+)", arch)
    return (int(number[1]) if number else 0, arch)


def key(row):
    return (row["kernel"], row["arch"])


def order(rows):
    return sorted(rows, key=lambda row: (row["kernel"], arch_key(row["arch"])))


def from_cache(cache):
    """All kernels of the last build that used the cache."""
    current = cache / "current.csv"
    if not current.is_file():
        fail(f"{current} is missing: build first, with SONGRNN_KERNELS=require, or name the cache with --cache DIR")
    rows = {}
    with current.open(newline="", encoding="utf-8") as file:
        for image in csv.DictReader(file):
            if image["arch"] == "ptx":
                continue  # Registers are given by the driver that compiles it.
            log = cache / (image["entry"] + ".log")
            try:
                text = log.read_text(encoding="utf-8")
            except OSError as error:
                fail(f"{log}: {error.strerror}; build again")
            found = parse(text, image["toolkit"])
            if not found:
                fail(f"{log} names no kernel; was it compiled with -Xptxas -v?")
            for row in found:
                if key(row) in rows:
                    fail(f"two kernels are called {row['kernel']} ({row['arch']}); the second is in {image['file']}.cu")
                rows[key(row)] = row
    return rows


def from_record(path):
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if reader.fieldnames != COLUMNS:
                fail(f"{path}: columns are {reader.fieldnames}, expected {COLUMNS}; --write makes it anew")
            rows = [{c: v if c in ("kernel", "arch", "toolkit") else int(v) for c, v in r.items()} for r in reader]
    except FileNotFoundError:
        fail(f"{path} is missing; --write makes it")
    except (ValueError, TypeError) as error:
        fail(f"{path}: {error}; --write makes it anew")
    return {key(row): row for row in rows}


def spills(row):
    return row["spill_stores"] + row["spill_loads"]


def compare(now, record, partial):
    """(what is worse, what is better), a sentence each."""
    worse, better = [], []
    archs = {arch for _, arch in now}
    for row in order(now.values()):
        name = f"{row['kernel']} on {row['arch']}"
        before = record.get(key(row))
        if spills(row):
            was = "" if before is None else f" (recorded: {before['spill_stores']} and {before['spill_loads']})"
            worse.append(f"{name} spills: {row['spill_stores']} bytes stored, {row['spill_loads']} loaded{was}")
        if before is None:
            worse.append(f"{name} is not recorded: {row['registers']} registers, {row['shared']} bytes of shared memory")
            continue
        for column, what in GROWTH.items():
            if row[column] != before[column]:
                to = worse if row[column] > before[column] else better
                to.append(f"{name}: {before[column]} {what} before, {row[column]} now")
    for kernel, arch in sorted(record.keys() - now.keys(), key=lambda k: (k[0], arch_key(k[1]))):
        if arch in archs or not partial:
            worse.append(f"{kernel} on {arch} is recorded and was not compiled")
    return worse, better


def as_csv(rows):
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(order(rows.values()))
    return text.getvalue()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
    cache = pathlib.Path(os.environ.get("SONGRNN_KERNEL_CACHE") or target / "songrnn-kernels")
    parser.add_argument("--cache", type=pathlib.Path, default=cache, help=f"folder of the logs (default {cache})")
    parser.add_argument("--record", type=pathlib.Path, default=RECORD, help="the recorded state")
    parser.add_argument("--partial", action="store_true", help="check only the architectures that were compiled")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--check", action="store_true", help="compare with the record")
    what.add_argument("--write", action="store_true", help="write the record")
    options = parser.parse_args()

    now = from_cache(options.cache)
    if options.write:
        options.record.write_text(as_csv(now), encoding="utf-8")
        print(f"kernel-resources: {options.record}: {len(now)} rows")
        for row in order(now.values()):
            if spills(row):
                print(f"kernel-resources: warning: {row['kernel']} on {row['arch']} spills; --check will refuse it")
    elif options.check:
        record = from_record(options.record)
        worse, better = compare(now, record, options.partial)
        toolkits = [sorted({row["toolkit"] for row in rows.values()}) for rows in (record, now)]
        for line in better:
            print(f"kernel-resources: better: {line}")
        for line in worse:
            print(f"kernel-resources: WORSE: {line}", file=sys.stderr)
        if worse:
            if toolkits[0] != toolkits[1]:
                was, is_now = (", ".join(t) for t in toolkits)
                print(f"kernel-resources: the record was made with nvcc {was}, this is {is_now}", file=sys.stderr)
            print(
                "kernel-resources: mend the kernel; or, where this is meant, accept it with "
                "scripts/kernel-resources.py --write and commit kernels/resources.csv (a spill is never accepted)",
                file=sys.stderr,
            )
            sys.exit(1)
        archs = ", ".join(sorted({arch for _, arch in now}, key=arch_key))
        print(f"kernel-resources: {len(now)} kernels as recorded or better, no spill ({archs})")
    else:
        sys.stdout.write(as_csv(now))


if __name__ == "__main__":
    main()
