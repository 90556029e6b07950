"""Sequences that follow each other without their padding, for training on a CPU.

What is computed is what `layers` computes; only the order of the work is another. In the shape
comments n is the number of steps of all sequences, C d_model, H attention heads, D = C / H.
"""

import torch
import torch.nn.functional as F

# Longer sequences attend by torch's own function, whose memory does not grow with their square.
LONGEST = 256


def pays_to_pack(x):
    """Whether to leave padding out rather than to work on it too.

    On a CPU every row costs. On a GPU, and where code is compiled, fixed shapes are worth more.
    """
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


def run_packed(layers, x, seen, causal=False, first_only=False):
    """What layers, one after the other, make of sequences without their padding.

    Parameters
    ----------
    layers : list of layers.TransformerLayer or planned.Block
    x : (B, T, C) float
    seen : (B, T) bool, False for padding, which comes last
    causal : bool, a step sees itself and those before it
    first_only : bool, only step 0 is wanted; of `TransformerLayer` without dropout

    Returns
    -------
    (B, T, C) float, or (B, C) with `first_only`; 0 where there is padding
    """
    lengths = seen.sum(dim=1).tolist()
    rows = x[seen]  # (n, C)
    for layer in layers[:-1] if first_only else layers:
        rows = layer.packed(rows, lengths, causal)
    if first_only:
        firsts = torch.cat([part[:1] for part in rows.split(lengths)])
        return layers[-1].after_attention(firsts, attend_first(layers[-1].self_attn, rows, lengths))
    return rows.new_zeros(x.shape).masked_scatter(seen[..., None], rows)


def attend_packed(qkv, lengths, n_heads, causal=False, dropout=0.0):
    """Attend within each of several sequences.

    Parameters
    ----------
    qkv : (n, 3 C) float, queries, keys and values of their steps
    lengths : list of int, steps of each sequence, n in all
    n_heads : int
    causal : bool, a step sees itself and those before it
    dropout : float, share of the attention weights that are set to 0

    Returns
    -------
    (n, C) float
    """
    is_exact = qkv.dtype in (torch.float32, torch.float64)
    if dropout == 0 and is_exact and max(lengths) <= LONGEST:
        return _Attention.apply(qkv, lengths, n_heads, causal)
    outputs = []
    for part in qkv.split(lengths):
        q, k, v = part.unflatten(-1, (3, n_heads, -1)).permute(1, 2, 0, 3)  # (H, T, D) each
        y = F.scaled_dot_product_attention(
            q[None], k[None], v[None], dropout_p=dropout, is_causal=causal
        )
        outputs.append(y[0].transpose(0, 1).flatten(1))  # (T, C)
    return torch.cat(outputs)


class _Attention(torch.autograd.Function):
    """`attend_packed` without dropout, written out.

    Torch's own function takes one sequence a call, works on each head in one thread on the way
    back, and its inputs and gradients are copied around.
    """

    @staticmethod
    def forward(ctx, qkv, lengths, n_heads, causal):
        (q, k, v), longest = _heads(qkv, n_heads, 3), max(lengths)
        mask = qkv.new_full((longest, longest), -torch.inf if causal else 0.0).triu_(1)
        scale = q.shape[-1] ** -0.5
        y = qkv.new_empty(len(qkv), qkv.shape[1] // 3)
        (y_heads,) = _heads(y, n_heads, 1)
        weights = []
        for length, rows in zip(lengths, _rows(lengths), strict=True):
            keys = k[:, rows].mT
            scores = torch.baddbmm(mask[:length, :length], q[:, rows], keys, alpha=scale)
            weights.append(scores.softmax(-1))  # (H, T, T)
            torch.bmm(weights[-1], v[:, rows], out=y_heads[:, rows])
        ctx.save_for_backward(qkv, *weights)
        ctx.lengths, ctx.n_heads = lengths, n_heads
        return y

    @staticmethod
    def backward(ctx, dy):
        (qkv, *weights), H = ctx.saved_tensors, ctx.n_heads
        dqkv = torch.empty_like(qkv)
        (q, k, v), (dq, dk, dv) = _heads(qkv, H, 3), _heads(dqkv, H, 3)
        (dy,), scale = _heads(dy.contiguous(), H, 1), q.shape[-1] ** -0.5
        for w, rows in zip(weights, _rows(ctx.lengths), strict=True):
            torch.bmm(w.mT, dy[:, rows], out=dv[:, rows])
            dw = torch.bmm(dy[:, rows], v[:, rows].mT)
            # of the scores: w (dw - sum of w dw), as softmax is differentiated
            ds = dw.sub_((w * dw).sum(-1, keepdim=True)).mul_(w).mul_(scale)
            torch.bmm(ds, k[:, rows], out=dq[:, rows])
            torch.bmm(ds.mT, q[:, rows], out=dk[:, rows])
        return dqkv, None, None, None


def attend_first(attention, x, lengths):
    """What the first step of each sequence attends to.

    A score (Wq a)ᵀ(Wk b) is (Wkᵀ Wq a)ᵀ b, and the mean of values Wv b is Wv times the mean of
    the b. So with few queries no step needs a key or a value of its own.

    Parameters
    ----------
    attention : layers.SelfAttention, without dropout
    x : (n, C) float
    lengths : list of int, steps of each sequence, n in all

    Returns
    -------
    (len(lengths), C) float
    """
    H, parts = attention.n_heads, x.split(lengths)
    weights, biases = attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3)
    query, key, value = (weight.unflatten(0, (H, -1)) for weight in weights)  # (H, D, C)
    query_bias, key_bias, value_bias = (bias.unflatten(0, (H, 1, -1)) for bias in biases)
    firsts = torch.cat([part[:1] for part in parts])  # (B, C)
    q = (firsts @ query.mT + query_bias) * query.shape[1] ** -0.5  # (H, B, D)
    shifts = (q @ key_bias.mT).unbind(1)  # (H, 1) each
    means = [
        torch.addmm(shift, rows, part.t()).softmax(-1) @ part
        for shift, rows, part in zip(shifts, (q @ key).unbind(1), parts, strict=True)
    ]
    y = torch.stack(means, dim=1) @ value.mT + value_bias  # (H, B, D)
    return attention.out_proj(y.transpose(0, 1).flatten(1))


def _heads(x, n_heads, n_parts):
    """The parts of rows (n, parts C), views (H, n, D) each."""
    return x.view(len(x), n_parts, n_heads, -1).permute(1, 2, 0, 3).unbind(0)


def _rows(lengths):
    """Slices of the rows of sequences of these lengths."""
    ends = torch.tensor(lengths).cumsum(0).tolist()
    return [slice(end - length, end) for length, end in zip(lengths, ends, strict=True)]
