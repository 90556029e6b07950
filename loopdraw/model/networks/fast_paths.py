"""Fast paths through the transformer layers: single steps, for decoding.

What they compute is what `layers` computes; only the order of the work is another. Shape comments
are as in `layers`.
"""

import enum
import functools

import torch
import torch.nn.functional as F

# Weights in a layer up to which a plain matrix-vector product is fastest: a step finds them in the
# cache.
IN_CACHE = 40_000


def rows_function(weight, bias, alone=False):
    """`F.linear` for the few rows of one decoding step, made ready so that it is fast.

    A step reads every weight once, so memory bandwidth bounds it, or, where the weights stay in the
    cache, the number of calls. On a CPU, `F.linear` of one row reaches half of that bandwidth; a
    batch of two matrix-vector products, and for a few rows the product with the weights on the
    left, come close to all of it.

    Parameters
    ----------
    weight : (n, m) tensor
    bias : (n,) tensor
    alone : each row comes out as if it were the only one, to the last bit. A product of several
        rows adds up in another order than one of a single row, so each is a product of its own.

    Returns
    -------
    function from (B, m) to (B, n)
    """
    if weight.is_cuda:
        return lambda x: F.linear(x, weight, bias)
    column, in_halves = bias[:, None], len(weight) % 2 == 0 and weight.numel() > IN_CACHE
    if in_halves:
        halves, half_columns = weight.view(2, -1, weight.shape[1]), bias.view(2, -1, 1)

    def rows(x):
        if alone and len(x) > 1:
            return _rows_alone(weight, bias, x, in_halves)
        if len(x) > 8:
            return F.linear(x, weight, bias)
        if len(x) > 1:
            return torch.addmm(column, weight, x.t()).t().contiguous()
        if in_halves:
            return torch.baddbmm(half_columns, halves, x.t().expand(2, -1, 1)).view(1, -1)
        return torch.addmv(bias, weight, x[0])[None]

    return rows


def _rows_alone(weight, bias, x, in_halves=False):
    """Products of single rows, all by one call; see `rows_function`."""
    (n, m), B = weight.shape, len(x)
    rows = x[:, None]
    if in_halves:
        columns = bias[:, None].expand(B, n, 1)
        return torch.baddbmm(columns, weight.expand(B, n, m), rows.transpose(1, 2))[:, :, 0]
    if n == 1:
        return torch.cat([F.linear(row, weight, bias) for row in x.split(1)])
    return torch.baddbmm(bias.expand(B, 1, n), rows, weight.t().expand(B, m, n))[:, 0]


def apply_layer(layer, x):
    """What a linear layer makes of `x` (..., m)."""
    return layer(x)


def apply_alone(layer, x):
    """The same to the last bit whatever the other rows of `x` (..., m) are: see `rows_function`."""
    rows = _rows_alone(layer.weight, layer.bias, x.reshape(-1, x.shape[-1]))
    return rows.view(*x.shape[:-1], -1)


class MemoryHolds(enum.Enum):
    """What a decoder keeps of each step behind it."""

    KEYS_AND_VALUES = enum.auto()
    STEPS = enum.auto()  # the steps themselves: see `_fold`


def cheapest_memory(n_heads):
    """What to keep. With one head it is the steps: that costs some 15 steps, and saves a third."""
    return MemoryHolds.STEPS if n_heads == 1 else MemoryHolds.KEYS_AND_VALUES


def new_memory(like, holds, n_shapes, n_layers, n_heads, n_steps, d_model):
    """An empty memory for sequences of `n_steps`.

    Parameters
    ----------
    like : tensor, whose type and device it has
    holds : MemoryHolds

    Returns
    -------
    (B, layers, 2, H, S, D) float for keys and values, (B, layers, 1, 1, S, C) for steps
    """
    n_kept = 1 if holds is MemoryHolds.STEPS else 2
    return like.new_empty(n_shapes, n_layers, n_kept, n_heads, n_steps, d_model // n_heads)


def remember_in(memory, holds):
    """What `TransformerLayer.forward` calls to fill a layer's memory with its first steps."""

    def remember(steps, keys_and_values):
        kept = steps[:, None, None]
        if holds is MemoryHolds.KEYS_AND_VALUES:
            kept = keys_and_values.transpose(0, 1)
        memory[:, :, :, : steps.shape[1]] = kept

    return remember


def stepper(layer, memory_holds):
    """A function that takes one step `x` (B, C) to its output, without dropout.

    Modules are looked up once and not in every step: the time of small networks goes there.
    """
    attend = _attention_stepper(layer.self_attn, memory_holds)
    widen = rows_function(layer.linear1.weight, layer.linear1.bias)
    narrow = rows_function(layer.linear2.weight, layer.linear2.bias)
    normalise, normalise_again = (
        functools.partial(
            torch.layer_norm,
            normalized_shape=norm.normalized_shape,
            weight=norm.weight,
            bias=norm.bias,
            eps=norm.eps,
        )
        for norm in (layer.norm1, layer.norm2)
    )

    def step(x, memory, position):
        x = normalise(attend(x, memory, position).add_(x))
        return normalise_again(narrow(widen(x).relu_()).add_(x))

    return step


def _attention_stepper(attention, memory_holds):
    """A function that attends from one step `x` (B, C) to itself and all before it.

    It takes `x`, the layer's memory (see `new_memory`) and the step's row there.
    """
    H = attention.n_heads
    if memory_holds is MemoryHolds.STEPS:
        query_weight, query_bias, out_weight, out_bias = _fold(attention)
        first = rows_function(query_weight, query_bias)
    else:
        first = rows_function(attention.in_proj_weight, attention.in_proj_bias)
        out_weight, out_bias = attention.out_proj.weight, attention.out_proj.bias
    last = rows_function(out_weight, out_bias)

    def step(x, memory, position):
        if memory_holds is MemoryHolds.STEPS:
            q, kept = first(x)[:, None, None], x[:, None, None]
        else:
            qkv = first(x).view(len(x), 3, H, 1, -1)
            q, kept = qkv[:, 0], qkv[:, 1:, :, 0]  # (B, H, 1, D), (B, 2, H, D)
        memory[:, :, :, position] = kept
        seen = memory[:, :, :, : position + 1].unbind(1)  # keys first, values last
        y = F.scaled_dot_product_attention(q, seen[0], seen[-1])  # (B, H, 1, D)
        return last(y.reshape(x.shape))

    return step


def _fold(attention):
    """Weights and biases of the two maps that one head amounts to when nothing is trained.

    A score (Wq x)ᵀ(Wk y) is (Wkᵀ Wq x)ᵀ y, and outputs are Wo Wv times a mean of the y. So the
    steps themselves serve as keys and values: half the memory to read and to write, and a
    third less work in a whole layer, once the two products have been made. (The bias of the
    keys adds the same to all scores of a step, which the softmax takes out again.)
    """
    query, key, value = attention.in_proj_weight.chunk(3)
    query_bias, _, value_bias = attention.in_proj_bias.chunk(3)
    out, out_bias = attention.out_proj.weight, attention.out_proj.bias
    return key.t() @ query, query_bias @ key, out @ value, out @ value_bias + out_bias
