#!/usr/bin/env python3
"""PyTorch at its best on the cases of `songrnn-fast bench`; rows in the columns of the speed records.

    songrnn-fast bench train --cases paper --list | benches/peers/pytorch.py [--csv FILE] [--seconds S] [--machine NAME]
    benches/peers/pytorch.py --cases FILE ...       one JSON object a line, as --list prints them
    benches/peers/pytorch.py --serve                for `songrnn-fast bench ... --vs pytorch`

What is measured. train: the same model (one-hot characters into nn.LSTM, GRU or RNN, linear, cross-entropy), backward,
clip_grad_norm_, fused Adam, state carried and detached; autocast for bf16 and f16, GradScaler for f16; on CUDA the
batch is copied from pinned memory each step and the loss read every 20. The one-hot input is made by F.one_hot or
gathered from a constant identity, whichever is faster (the note says which). sample: B streams step by step,
temperature 0.8, state and characters never leave the device; nn.LSTM a step, or a cell by hand over one addmm and a
gather of input rows; drawn by multinomial or by an exponential race; the fastest counts. layer: nn.LSTM alone over
a ready one-hot input, forward (recording for backward), and forward and backward from a ready gradient.
Tiers: eager; graph (CUDA: a captured step replayed); compile (torch.compile of model and loss; --tiers asks for it).
What is not done: a tune that starts within a chunk does not reset its stream, since nn.LSTM cannot, and no character
is banned when sampling. Both save PyTorch work that songrnn-fast does.

Serving: a case as one line of JSON is answered by `ready {...}` once warm, `run N` by the milliseconds a step over N
steps (of layers `run N forward` by those of the forward pass), by `error ...` what fails.
"""

import argparse
import contextlib
import csv
import json
import math
import os
import statistics
import sys
import tempfile
import time

try:
    import torch
    import torch.nn.functional as F
except ImportError:
    torch = None

COLUMNS = (
    "date commit machine device driver cuda cudnn what engine tier precision cell hidden layers batch seq_len vocab "
    "chars_per_second ms_per_step ms_spread repeats peak_mb note"
).split()
SHORT = {"bf16": "bfloat16", "f16": "float16"}
GROUP_MS = 5.0  # A measurement on the processor is as many steps as take this long.
GPU_STEPS = 20  # Steps a measurement on a GPU; the loss is read after each.
MOST = 200
TEMPERATURE = 0.8


class Unsupported(Exception):
    """A case that cannot be run, and why."""


def device_of(case):
    wanted = case["device"]
    if wanted == "auto":
        wanted = "cuda:0" if torch.cuda.is_available() else "cpu"
    if wanted.startswith("cuda") and not torch.cuda.is_available():
        raise Unsupported("this PyTorch sees no GPU")
    if wanted == "emulated":
        raise Unsupported("there is no emulated device for PyTorch")
    return torch.device(wanted)


def set_up(case, precision):
    """Threads and TF32 as the case says; gives the device."""
    if case.get("threads", 0) > 0:
        torch.set_num_threads(case["threads"])
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.manual_seed(1)
    return device_of(case)


def autocast(device, precision):
    if precision in SHORT:
        return torch.autocast(device.type, getattr(torch, SHORT[precision]), cache_enabled=False)
    return contextlib.nullcontext()


def recurrent(case, device):
    kind = getattr(torch.nn, case["cell"].upper())
    return kind(case["vocab"], case["hidden"], case["layers"]).to(device)


def zero_state(case, device):
    h = torch.zeros(case["layers"], case["batch"], case["hidden"], device=device)
    return (h, torch.zeros_like(h)) if case["cell"] == "lstm" else h


def tensors(state):
    return state if isinstance(state, tuple) else (state,)


class Model(torch.nn.Module if torch else object):
    """Characters [T, B], targets [T, B], state -> mean cross-entropy, state."""

    def __init__(self, case, form):
        super().__init__()
        self.rnn = recurrent(case, "cpu")
        self.head = torch.nn.Linear(case["hidden"], case["vocab"])
        self.form, self.vocab = form, case["vocab"]
        self.register_buffer("identity", torch.eye(case["vocab"]))

    def forward(self, ids, targets, state):
        if self.form == "one_hot":
            x = F.one_hot(ids, self.vocab).to(torch.float32)
        else:
            x = F.embedding(ids, self.identity)
        out, state = self.rnn(x, state)
        logits = self.head(out)
        return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten()), state


def captured(step):
    """`step` as a CUDA graph, after warming up on a side stream."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph


def trainer(case, precision, tier, form):
    """One training step as a function."""
    device = set_up(case, precision)
    on_gpu = device.type == "cuda"
    model = Model(case, form).to(device)
    parameters = list(model.parameters())
    adam = torch.optim.Adam(parameters, lr=1e-6, fused=True, **({"capturable": True} if on_gpu else {}))
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "f16")
    forward = torch.compile(model) if tier == "compile" else model
    size = (case["seq_len"], case["batch"])
    host = [torch.randint(0, case["vocab"], size) for _ in range(2)]
    host = [x.pin_memory() for x in host] if on_gpu else host
    ids, targets = (x.to(device) for x in host)
    state = zero_state(case, device)
    loss = torch.zeros((), device=device)

    def whole():
        adam.zero_grad(set_to_none=True)
        with autocast(device, precision):
            value, new = forward(ids, targets, state)
        scaler.scale(value).backward()
        scaler.unscale_(adam)
        torch.nn.utils.clip_grad_norm_(parameters, 5.0)
        scaler.step(adam)
        scaler.update()
        for kept, now in zip(tensors(state), tensors(new)):
            kept.copy_(now.detach())
        loss.copy_(value.detach())

    graph = captured(whole) if tier == "graph" else None

    def step():
        if on_gpu:
            ids.copy_(host[0], non_blocking=True)
            targets.copy_(host[1], non_blocking=True)
        whole() if graph is None else graph.replay()

    step.read = loss.item
    return step


def layer(case, precision, tier, backward):
    """The recurrent layers forward, recording for backward, and with `backward` that as well."""
    device = set_up(case, precision)
    rnn = recurrent(case, device)
    ids = torch.randint(0, case["vocab"], (case["seq_len"], case["batch"]), device=device)
    x, state = F.one_hot(ids, case["vocab"]).float(), zero_state(case, device)
    with autocast(device, precision):
        gradient = torch.randn_like(rnn(x, state)[0]) * 1e-3

    def whole():
        rnn.zero_grad(set_to_none=True)
        with autocast(device, precision):
            out, _ = rnn(x, state)
        if backward:
            out.backward(gradient)

    if tier == "graph":
        return captured(whole).replay
    return torch.compile(whole) if tier == "compile" else whole


def by_hand(case, rnn, kind):
    """One step of all layers by hand: ids [B], states -> top h [B, H], states."""
    weights = []
    for k in range(case["layers"]):
        w_ih, w_hh = (getattr(rnn, f"weight_{which}_l{k}").data for which in ("ih", "hh"))
        b_ih, b_hh = (getattr(rnn, f"bias_{which}_l{k}").data for which in ("ih", "hh"))
        b_in = b_ih if case["cell"] == "gru" else b_ih + b_hh
        # The first layer's rows are gathered, bias included.
        w_in = (w_ih.t() + b_in).contiguous() if k == 0 else w_ih.t().contiguous()
        weights.append([w.to(kind) for w in (w_in, b_in, w_hh.t().contiguous(), b_hh)])
    cell = case["cell"]

    def step(ids, states):
        x, new = None, []
        for k, (w_in, b_in, w_hh, b_hh) in enumerate(weights):
            h, c = states[k]
            given = w_in[ids] if k == 0 else torch.addmm(b_in, x, w_in)
            if cell == "gru":
                r, z, n = given.chunk(3, 1)
                hr, hz, hn = torch.addmm(b_hh, h, w_hh).chunk(3, 1)
                r, z = torch.sigmoid(r + hr), torch.sigmoid(z + hz)
                n = torch.tanh(n + r * hn)
                h = n + z * (h - n)
            else:
                gates = torch.addmm(given, h, w_hh)
                if cell == "lstm":
                    i, f, g, o = gates.chunk(4, 1)
                    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
                    h = torch.sigmoid(o) * torch.tanh(c)
                else:
                    h = torch.tanh(gates)
            x = h
            new.append((h, c))
        return x, new

    return step


def by_module(case, rnn, kind):
    """The same through nn.LSTM, GRU or RNN, a sequence of one step."""
    identity = torch.eye(case["vocab"], device=rnn.weight_hh_l0.device, dtype=kind)

    def step(ids, state):
        out, state = rnn(identity[ids][None], state)
        return out[0], state

    return step


def sampler(case, precision, tier, cell, draw):
    """All B tunes of T characters as a function."""
    device = set_up(case, precision)
    kind = getattr(torch, SHORT.get(precision, "float32"))
    rnn = recurrent(case, device).to(kind)
    head = torch.nn.Linear(case["hidden"], case["vocab"]).to(device, kind)
    batch, length = case["batch"], case["seq_len"]
    step = (by_hand if cell == "by hand" else by_module)(case, rnn, kind)

    def zero():
        if cell == "by hand":
            h = torch.zeros(case["layers"], 2, batch, case["hidden"], device=device, dtype=kind)
            return [(of_layer[0], of_layer[1]) for of_layer in h]
        states = tuple(t.to(kind) for t in tensors(zero_state(case, device)))
        return states if case["cell"] == "lstm" else states[0]

    def choose(h):
        p = torch.softmax(head(h).float() / TEMPERATURE, -1)
        if draw == "multinomial":
            return torch.multinomial(p, 1)[:, 0]
        return (p / torch.empty_like(p).exponential_(1)).argmax(-1)

    @torch.inference_mode()
    def loop():
        ids, state, out = torch.zeros(batch, dtype=torch.long, device=device), zero(), []
        for _ in range(length):
            h, state = step(ids, state)
            ids = choose(h)
            out.append(ids)
        return torch.stack(out).cpu()

    if tier != "graph":
        return loop
    if cell != "by hand":
        raise Unsupported("the graph is of the cell by hand")
    with torch.inference_mode():
        ids, state = torch.zeros(batch, dtype=torch.long, device=device), zero()
        out = torch.zeros(length, batch, dtype=torch.long, device=device)
        place = torch.zeros(1, dtype=torch.long, device=device)

        def one():
            h, new = step(ids, state)
            ids.copy_(choose(h))
            for old, now in zip(state, new):
                old[0].copy_(now[0])
                if now[1] is not old[1]:
                    old[1].copy_(now[1])
            out.index_copy_(0, place.remainder(length), ids[None])
            place.add_(1)

        graph = captured(one)

    @torch.inference_mode()
    def replayed():
        for tensor in [ids, place, *(t for pair in state for t in pair)]:
            tensor.zero_()
        for _ in range(length):
            graph.replay()
        return out.cpu()

    return replayed


def forms(case, tier):
    """Ways to write the same thing; the fastest counts."""
    if case["what"] == "train":
        return ["one_hot", "gather"]
    if case["what"] == "sample":
        draws = ["multinomial", "exponential race"]
        return [(cell, draw) for cell in ["by hand", "module"] for draw in draws if tier != "graph" or cell == "by hand"]
    return [None]


def build(case, precision, tier, form):
    if case["what"] == "train":
        return trainer(case, precision, tier, form)
    if case["what"] == "sample":
        if tier == "compile":
            raise Unsupported("sampling is not compiled here")
        return sampler(case, precision, tier, *form)
    return layer(case, precision, tier, True)


def run_steps(step, steps, device):
    """Milliseconds a step over `steps` steps."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    begun = time.perf_counter()
    for done in range(1, steps + 1):
        step()
        if done % GPU_STEPS == 0 and hasattr(step, "read"):
            step.read()
    if device.type == "cuda":
        torch.cuda.synchronize()
    elif hasattr(step, "read"):
        step.read()
    return (time.perf_counter() - begun) * 1e3 / steps


def warm(step, device, seconds=0.2):
    begun, count, best = time.perf_counter(), 0, math.inf
    while count < 3 or time.perf_counter() - begun < seconds:
        best = min(best, run_steps(step, 1, device))
        count += 1
    return best


def group_of(case, step, device):
    """Steps a measurement."""
    if case["what"] == "sample":
        return 1
    if device.type == "cuda":
        return GPU_STEPS
    return min(max(math.ceil(GROUP_MS / warm(step, device, 0.0)), 1), 1000)


def fastest(case, precision, tier):
    """The fastest way to write it: (step, how); errors of all ways if none works."""
    device, best, failures = device_of(case), None, []
    for form in forms(case, tier):
        try:
            step = build(case, precision, tier, form)
            ms = warm(step, device)
            ms = min([ms] + [run_steps(step, group_of(case, step, device), device) for _ in range(3)])
        except Exception as why:  # noqa: BLE001: whatever PyTorch cannot do is told, not fatal
            failures.append(f"{form}: {type(why).__name__}: {str(why).splitlines()[0] if str(why) else ''}")
            continue
        if best is None or ms < best[0]:
            best = (ms, step, form)
    if best is None:
        raise Unsupported("; ".join(failures))
    how = " ".join(best[2]) if isinstance(best[2], tuple) else (best[2] or "nn module")
    return best[1], how


def quartiles(times):
    """Median and interquartile range, interpolated as NumPy does."""
    if len(times) == 1:
        return times[0], 0.0
    low, middle, high = statistics.quantiles(times, n=4, method="inclusive")
    return middle, high - low


def base_row(case, precision, tier, machine):
    device = device_of(case)
    row = dict.fromkeys(COLUMNS, "")
    row.update({k: case[k] for k in ("cell", "hidden", "layers", "batch", "seq_len", "vocab")})
    row.update(date=time.strftime("%Y-%m-%d", time.gmtime()), machine=machine, engine="pytorch", tier=tier)
    row.update(precision=precision, device="cpu")
    if device.type == "cuda":
        cudnn = torch.backends.cudnn.version() or 0
        row.update(device=torch.cuda.get_device_name(device), cuda=torch.version.cuda)
        row.update(cudnn=f"{cudnn // 10000}.{cudnn % 10000 // 100}.{cudnn % 100}")
        with contextlib.suppress(OSError), open("/sys/module/nvidia/version", encoding="ascii") as file:
            row["driver"] = file.read().strip()
    return row


def base_note(case, how):
    words = [f"torch {torch.__version__}", how]
    if device_of(case).type == "cpu":
        words.append(f"{torch.get_num_threads()} threads")
    if case.get("tune_starts"):
        words.append("no tune resets its stream")
    return "; ".join(words)


def finished(row, what, case, times, note):
    middle, spread = quartiles(times)
    row = dict(row, what=what, ms_per_step=f"{middle:.5g}", ms_spread=f"{spread:.3g}", repeats=len(times), note=note)
    if middle > 0:
        row["chars_per_second"] = f"{case['batch'] * case['seq_len'] / (middle / 1e3):.0f}"
    else:
        row.update(ms_per_step="", ms_spread="", note=f"lost in the noise; {note}")
    if torch.cuda.is_available() and device_of(case).type == "cuda":
        row["peak_mb"] = f"{torch.cuda.max_memory_allocated() / 1e6:.1f}"
    return row


def enough(times, begun, seconds):
    return len(times) >= 3 and (len(times) >= MOST or time.perf_counter() - begun >= seconds)


def measure(case, precision, tier, seconds, machine):
    """Rows of one case."""
    device = device_of(case)
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    row = base_row(case, precision, tier, machine)
    if case["what"] != "layer":
        step, how = fastest(case, precision, tier)
        group, times, begun = group_of(case, step, device), [], time.perf_counter()
        while not enough(times, begun, seconds):
            times.append(run_steps(step, group, device))
        return [finished(row, case["what"], case, times, base_note(case, how))]
    parts = [layer(case, precision, tier, backward) for backward in (False, True)]
    note = base_note(case, "nn module alone, one-hot input made before")
    return forward_and_backward(case, row, parts, seconds, note)


def forward_and_backward(case, row, parts, seconds, note):
    """Rows of a forward pass, and of what forward and backward take longer, measured in turn."""
    device = device_of(case)
    for part in parts:
        warm(part, device)
    group, forward, longer, begun = group_of(case, parts[1], device), [], [], time.perf_counter()
    while not enough(forward, begun, seconds):
        one, both = (run_steps(part, group, device) for part in parts)
        forward.append(one)
        longer.append(both - one)
    return [
        finished(row, "layer_fwd", case, forward, f"forward, recording for backward; {note}"),
        finished(row, "layer_bwd", case, longer, f"what forward and backward took longer than forward; {note}"),
    ]


def layer_rows(case, precision, tier, arguments, engine, build):
    """Rows of another library's layers, made by `build(case, precision, tier, backward)`."""
    parts = [build(case, precision, tier, backward) for backward in (False, True)]
    torch.cuda.reset_peak_memory_stats()
    row = dict(base_row(case, precision, tier, arguments.machine), engine=engine)
    return forward_and_backward(case, row, parts, arguments.seconds, base_note(case, f"{engine} layers alone"))


def tiers_of(case, asked):
    if asked:
        return asked
    return ["eager", "graph"] if device_of(case).type == "cuda" else ["eager"]


def precisions_of(case):
    """f32 is measured in TF32 as well where there is such a thing."""
    tf32 = case["precision"] == "f32" and device_of(case).type == "cuda"
    return ["f32", "tf32"] if tf32 else [case["precision"]]


def read_cases(file):
    cases, seen = [], set()
    for line in file:
        if line.strip():
            case = json.loads(line)
            # Our kernels are nothing to a peer.
            key = json.dumps({k: v for k, v in case.items() if k != "kernel"}, sort_keys=True)
            if key not in seen:
                seen.add(key)
                cases.append(case)
    return cases


def broken():
    """Whether an error has spoilt the device for this process, as an illegal address does: every later call fails."""
    try:
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
    except Exception:  # noqa: BLE001
        return True
    return False


def go_on(arguments, cases, skip):
    """The measurements from number `skip` on, in a process that takes the place of this one."""
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl", delete=False, encoding="utf-8") as file:
        file.writelines(json.dumps(case) + "\n" for case in cases)
    words = [sys.argv[0], "--cases", file.name, "--skip", str(skip), "--seconds", str(arguments.seconds)]
    words += ["--machine", arguments.machine]
    words += ["--csv", arguments.csv] if arguments.csv else []
    words += ["--threads", str(arguments.threads)] if arguments.threads else []
    words += ["--tiers", ",".join(arguments.tiers)] if arguments.tiers else []
    print(f"the device is spoilt for this process; measurement {skip} and what follows in another", file=sys.stderr, flush=True)
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *words])


def listed(arguments, engine, measured):
    """Measures every case by `measured(case, precision, tier)`; rows to standard output or --csv as they come."""
    with open(arguments.cases, encoding="utf-8") if arguments.cases else contextlib.nullcontext(sys.stdin) as file:
        cases = read_cases(file)
    if arguments.skip:
        os.unlink(arguments.cases)  # written for this process
    wanted = []
    for case in cases:
        try:
            wanted += [(case, p, t) for p in precisions_of(case) for t in tiers_of(case, arguments.tiers)]
        except Unsupported as why:
            print(f"SKIP {case}: {why}", file=sys.stderr)
    mode = "a" if arguments.skip else "w"
    with open(arguments.csv, mode, encoding="utf-8", newline="") if arguments.csv else contextlib.nullcontext(sys.stdout) as out:
        writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
        if not arguments.skip:
            writer.writeheader()
        for number, (case, precision, tier) in enumerate(wanted[arguments.skip:], arguments.skip + 1):
            spoilt = False
            try:
                rows = measured(case, precision, tier)
            except Exception as why:  # noqa: BLE001
                what = "layer_fwd" if case["what"] == "layer" else case["what"]
                reason = f"{type(why).__name__}: {why}".replace("\n", " ")[:300]
                row = base_row(case, precision, tier, arguments.machine)
                rows = [dict(row, engine=engine, what=what, note=f"not measured: {reason}")]
                spoilt = broken()
            for row in rows:
                writer.writerow(row)
                print(f"{row['what']} {case['cell']} {case['layers']}x{case['hidden']} B{case['batch']} T{case['seq_len']} "
                      f"{precision} {tier}: {row['ms_per_step'] or row['note']} ms", file=sys.stderr)
            out.flush()
            if spoilt and number < len(wanted):
                go_on(arguments, cases, number)


def serve():
    """The fastest tier of the case that is read, for a program that measures in turn with it."""
    step = forward = device = None
    for line in sys.stdin:
        try:
            if line.startswith("run "):
                what, words = forward if line.split()[2:] == ["forward"] else step, line.split()
                answer = f"{run_steps(what, int(words[1]), device):.9g}"
            else:
                case = json.loads(line)
                step, device, best, failures = None, device_of(case), math.inf, []
                for tier in tiers_of(case, None):
                    try:
                        found, how = fastest(case, case["precision"], tier)
                    except Unsupported as why:
                        failures.append(f"{tier}: {why}")
                        continue
                    ms = min(run_steps(found, group_of(case, found, device), device) for _ in range(3))
                    if ms < best:
                        best, step = ms, found
                        words = dict(base_row(case, case["precision"], tier, ""), note=base_note(case, how))
                if step is None:
                    raise Unsupported("; ".join(failures))
                if case["what"] == "layer":
                    forward = layer(case, case["precision"], words["tier"], False)
                    warm(forward, device)
                answer = "ready " + json.dumps({k: v for k, v in words.items() if v != ""})
        except Exception as why:  # noqa: BLE001
            answer = f"error {type(why).__name__}: {why}".replace("\n", " ")
        print(answer, flush=True)


def parser(description):
    found = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--cases", help="file of cases, one JSON object a line; default: standard input")
    found.add_argument("--csv", help="file for the rows; default: standard output")
    found.add_argument("--seconds", type=float, default=5.0, help="time a case once it is warm")
    found.add_argument("--threads", type=int, help="threads, in the place of the cases'")
    found.add_argument("--machine", default="", help="the machine's name in the rows")
    found.add_argument("--skip", type=int, default=0, help="measurements that are done already, rows of which --csv has")
    found.add_argument("--tiers", type=lambda text: text.split(","), help="eager,graph,compile; default: eager, and on CUDA graph")
    return found


def main():
    arguments = parser(__doc__)
    arguments.add_argument("--serve", action="store_true", help="cases and runs are asked for on standard input")
    arguments = arguments.parse_args()
    if torch is None:
        print("SKIP pytorch: not installed (pip install torch)", flush=True)
        return
    if arguments.serve:
        serve()
        return

    def measured(case, precision, tier):
        case = dict(case, threads=arguments.threads or case.get("threads", 0))
        return measure(case, precision, tier, arguments.seconds, arguments.machine)

    listed(arguments, "pytorch", measured)


if __name__ == "__main__":
    main()
