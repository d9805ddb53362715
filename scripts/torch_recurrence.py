"""torch.nn.LSTM, GRU and RNN over long chunks on a CPU, several times faster than the modules' own backward pass.

Same parameters, same equations, same gradients: the modules accumulate the weight gradient step by step, here it is
one product over T x B, and a one-hot input is a row gather. compare-pytorch.py checks this code against the modules
before it trains with it. T time, B streams, G gates, H units.
"""

import torch
from torch import nn
from torch.autograd import Function


class Recurrence(Function):
    """One layer. x [T, B, G*H] input products (LSTM, RNN: with both biases; GRU: with bias_ih), weight [G*H, H], bias
    [G*H] (GRU: bias_hh, else None), h, c [B, H], keep [T, B, 1] (0: zero the state before this step) -> out [T, B, H],
    c [B, H] (zeros where the cell has none)."""

    @staticmethod
    def forward(ctx, cell, x, weight, bias, h, c, keep):
        steps, streams, _ = x.shape
        units = weight.shape[1]
        resets = (keep == 0).flatten(1).any(1).tolist()
        wt = weight.t().contiguous()
        out, before = x.new_empty(steps, streams, units), x.new_empty(steps, streams, units)
        gates = torch.empty_like(x)
        # LSTM: c before each step and tanh(c) after it; GRU: the recurrent product of the n gate.
        extra = x.new_empty(2 if cell == "lstm" else 1, steps, streams, units)
        for t in range(steps):
            if resets[t]:
                h, c = h * keep[t], c * keep[t]
            before[t] = h
            g = gates[t]
            if cell == "lstm":
                torch.addmm(x[t], h, wt, out=g)
                g[:, : 2 * units].sigmoid_()
                g[:, 2 * units : 3 * units].tanh_()
                g[:, 3 * units :].sigmoid_()
                i, f, n, o = g.split(units, 1)
                extra[0, t] = c
                c = torch.addcmul(f * c, i, n)
                torch.tanh(c, out=extra[1, t])
                h = torch.mul(o, extra[1, t], out=out[t])
            elif cell == "gru":
                product = torch.addmm(bias, h, wt)
                both = g[:, : 2 * units]
                torch.add(x[t, :, : 2 * units], product[:, : 2 * units], out=both)
                both.sigmoid_()
                extra[0, t] = product[:, 2 * units :]
                r, z, n = g.split(units, 1)
                torch.addcmul(x[t, :, 2 * units :], r, extra[0, t], out=n)
                n.tanh_()
                h = torch.addcmul(n, z, h - n, out=out[t])
            else:
                torch.addmm(x[t], h, wt, out=g)
                h = torch.tanh_(g)
                out[t] = h
        ctx.save_for_backward(gates, extra, before, weight, keep)
        ctx.cell, ctx.resets = cell, resets
        return out, c

    @staticmethod
    def backward(ctx, d_out, _):
        gates, extra, before, weight, keep = ctx.saved_tensors
        cell, steps, units = ctx.cell, gates.shape[0], weight.shape[1]
        d_x = torch.empty_like(gates)
        d_product = torch.empty_like(gates) if cell == "gru" else d_x
        # Factors that need no recurrence, all steps at once.
        if cell == "lstm":
            i, f, n, o = gates.split(units, 2)
            c_before, tanh_c = extra
            to_c = o * (1 - tanh_c * tanh_c)
            factors = torch.stack([n * i * (1 - i), c_before * f * (1 - f), i * (1 - n * n)], 2)
            to_o = tanh_c * o * (1 - o)
        elif cell == "gru":
            r, z, n = gates.split(units, 2)
            to_z, to_n = (before - n) * z * (1 - z), (1 - z) * (1 - n * n)
            to_r = extra[0] * r * (1 - r)
        else:
            to_a = 1 - gates * gates
        d_h, d_c = torch.zeros_like(before[0]), torch.zeros_like(before[0])
        for t in reversed(range(steps)):
            d_h = d_h + d_out[t]
            if cell == "lstm":
                d_c = torch.addcmul(d_c, d_h, to_c[t])
                d = d_x[t]
                torch.mul(d_c.unsqueeze(1), factors[t], out=d[:, : 3 * units].view(-1, 3, units))
                torch.mul(d_h, to_o[t], out=d[:, 3 * units :])
                d_c = d_c * f[t]
                d_h = d @ weight
            elif cell == "gru":
                d, p = d_x[t], d_product[t]
                torch.mul(d_h, to_z[t], out=d[:, units : 2 * units])
                d_n = torch.mul(d_h, to_n[t], out=d[:, 2 * units :])
                torch.mul(d_n, to_r[t], out=d[:, :units])
                p[:, : 2 * units] = d[:, : 2 * units]
                torch.mul(d_n, r[t], out=p[:, 2 * units :])
                d_h = torch.addmm(d_h * z[t], p, weight)
            else:
                torch.mul(d_h, to_a[t], out=d_x[t])
                d_h = d_x[t] @ weight
            if ctx.resets[t]:
                d_h, d_c = d_h * keep[t], d_c * keep[t]
        flat = d_product.flatten(0, 1)
        d_bias = flat.sum(0) if cell == "gru" else None
        return None, d_x, flat.t() @ before.flatten(0, 1), d_bias, None, None, None


def run(cell: str, rnn: nn.RNNBase, ids: torch.Tensor, keep: torch.Tensor, h: torch.Tensor, c: torch.Tensor):
    """All layers: ids [T, B], keep [T, B, 1], h and c [L, B, H] -> out [T, B, H], h and c after the chunk, detached."""
    below, hs, cs = None, [], []
    for layer in range(rnn.num_layers):
        w_ih, w_hh, b_ih, b_hh = (getattr(rnn, f"{k}_l{layer}") for k in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
        bias = b_ih if cell == "gru" else b_ih + b_hh
        x = nn.functional.embedding(ids, w_ih.t()) + bias if below is None else nn.functional.linear(below, w_ih, bias)
        below, last_c = Recurrence.apply(cell, x, w_hh, b_hh if cell == "gru" else None, h[layer], c[layer], keep)
        hs.append(below[-1].detach())
        cs.append(last_c.detach())
    return below, torch.stack(hs), torch.stack(cs)
