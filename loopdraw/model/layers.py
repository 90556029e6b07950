"""The pieces that the networks are made of: small nets, embeddings, transformer layers.

Parameter and buffer names are those of the published checkpoints. In the shape comments B is the
batch, T timesteps, C d_model, H attention heads, D = C / H; the batch comes first, which is what
attention wants.
"""

import functools
import math

import torch
import torch.nn.functional as F
from torch import nn

# Weights in a layer up to which a plain matrix-vector product is fastest: a step finds them in the
# cache.
IN_CACHE = 40_000


class FullyConnected(nn.Module):
    """Linear and LeakyReLU(0.01) per hidden size, then a Linear, then tanh if `tanh`."""

    def __init__(self, n_in, hidden_sizes, n_out, tanh=False):
        super().__init__()
        self.fcnet = nn.Sequential()
        for i, size in enumerate(hidden_sizes):
            self.fcnet.add_module(f"fc{i}", nn.Linear(n_in, size))
            self.fcnet.add_module(f"relu{i}", nn.LeakyReLU(0.01))
            n_in = size
        self.fcnet.add_module("out", nn.Linear(n_in, n_out))
        if tanh:
            self.fcnet.add_module("tanh", nn.Tanh())

    @property
    def first(self):
        """The linear layer that the input goes into."""
        return self.fcnet[0]

    @property
    def last(self):
        """The linear layer that the output, before any tanh, comes out of."""
        return self.fcnet.out

    def forward(self, x):
        return self.fcnet(x)


class PositionalEmbedding(nn.Module):
    """Sinusoids of the timestep index (Vaswani et al., Attention Is All You Need, section 3.5)."""

    def __init__(self, n_rows, d_model):
        super().__init__()
        rows = torch.arange(n_rows)[:, None]
        rates = torch.exp(torch.arange(0, d_model, 2) * (-math.log(10000.0) / d_model))
        table = torch.zeros(n_rows, d_model)
        table[:, 0::2] = torch.sin(rows * rates)
        table[:, 1::2] = torch.cos(rows * rates[: d_model // 2])
        self.register_buffer("positional_embedding_additives", table)

    def forward(self, x):
        """Add rows 0, 1, … to `x` (B, T, C); a ValueError if the table has too few."""
        table = self.positional_embedding_additives
        if x.shape[1] > len(table):
            raise ValueError(f"{x.shape[1]} steps, but the positional table has {len(table)} rows")
        return x + table[: x.shape[1]]


class FourierMap(nn.Module):
    """[sin, cos](2π p Bᵀ) of points p, B fixed (Tancik et al., Fourier Features, 2020)."""

    def __init__(self, size, sigma):
        super().__init__()
        self.register_buffer("fourier_map_B", torch.randn(size, 2) * sigma)

    def forward(self, points):
        # 2π multiplies the points, not the product: phases reach hundreds of turns, where another
        # order of rounding moves the features by 1e-4.
        phases = (2 * math.pi * points) @ self.fourier_map_B.t()  # (..., size)
        return torch.cat([phases.sin(), phases.cos()], dim=-1)  # (..., 2 size)


class FourierTimesteps(nn.Module):
    """Fourier features of every point of a timestep, one point after the other, then its flag."""

    def __init__(self, n_features, has_flag, fourier_map):
        super().__init__()
        self.n_coordinates = n_features - bool(has_flag)
        if self.n_coordinates % 2:
            raise ValueError(
                f"Fourier features need (u, v) points, but a timestep has {self.n_coordinates} "
                "coordinates: use a polyline representation"
            )
        self.n_out = self.n_coordinates * len(fourier_map.fourier_map_B) + bool(has_flag)
        self.fourier_map = fourier_map

    def forward(self, x):
        points = x[..., : self.n_coordinates].unflatten(-1, (-1, 2))  # (..., points, 2)
        features = self.fourier_map(points).flatten(-2)  # (..., points * 2 size)
        return torch.cat([features, x[..., self.n_coordinates :]], dim=-1)


def rows_function(weight, bias):
    """`F.linear` for the few rows of one decoding step, made ready so that it is fast.

    A step reads every weight once, so memory bandwidth bounds it, or, where the weights stay in the
    cache, the number of calls. On a CPU, `F.linear` of one row reaches half of that bandwidth; a
    batch of two matrix-vector products, and for a few rows the product with the weights on the
    left, come close to all of it.

    Parameters
    ----------
    weight : (n, m) tensor
    bias : (n,) tensor

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
        if len(x) > 8:
            return F.linear(x, weight, bias)
        if len(x) > 1:
            return torch.addmm(column, weight, x.t()).t().contiguous()
        if in_halves:
            return torch.baddbmm(half_columns, halves, x.t().expand(2, -1, 1)).view(1, -1)
        return torch.addmv(bias, weight, x[0])[None]

    return rows


def pays_to_pack(x):
    """Whether to leave padding out (`TransformerLayer.packed`) rather than to work on it too.

    On a CPU every row costs. On a GPU, and where code is compiled, fixed shapes are worth more.
    """
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


def _firsts(lengths):
    """Rows at which sequences of these lengths start that follow each other."""
    return [sum(lengths[:i]) for i in range(len(lengths))]


class SelfAttention(nn.Module):
    """Multi-head self-attention with the parameter names of `nn.MultiheadAttention`."""

    def __init__(self, d_model, n_heads, dropout):
        super().__init__()
        if d_model % n_heads:
            raise ValueError(f"d_model {d_model} cannot be shared among {n_heads} heads")
        self.n_heads = n_heads
        self.dropout = dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * d_model, d_model))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * d_model))
        self.out_proj = nn.Linear(d_model, d_model)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x, mask=None, causal=False, first_only=False, memory=None):
        """Attend among the steps of `x` (B, T, C); see `TransformerLayer.forward`."""
        C = x.shape[-1]
        if first_only:
            q = F.linear(x[:, :1], self.in_proj_weight[:C], self.in_proj_bias[:C])
            kv = F.linear(x, self.in_proj_weight[C:], self.in_proj_bias[C:])
        else:
            q, kv = F.linear(x, self.in_proj_weight, self.in_proj_bias).split([C, 2 * C], dim=-1)
        q = q.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)  # (B, H, T, D)
        kv = kv.unflatten(-1, (2, self.n_heads, -1)).permute(2, 0, 3, 1, 4)  # (2, B, H, T, D)
        if memory is not None:
            kept = kv.transpose(0, 1) if memory.shape[1] == 2 else x[:, None, None]
            memory[:, :, :, : x.shape[1]] = kept
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(
            q, kv[0], kv[1], attn_mask=mask, dropout_p=dropout, is_causal=causal
        )
        return self.out_proj(y.transpose(1, 2).flatten(2))  # (B, T, C)

    def packed(self, x, lengths, causal=False, first_only=False):
        """Attend within each of the sequences `x` (n, C); see `TransformerLayer.packed`."""
        C = x.shape[-1]
        weight, bias = self.in_proj_weight, self.in_proj_bias
        if first_only:
            q = F.linear(x[_firsts(lengths)], weight[:C], bias[:C]).split(1)
            kv = F.linear(x, weight[C:], bias[C:]).split(lengths)
        else:
            parts = F.linear(x, weight, bias).split(lengths)
            q, kv = zip(*(part.split([C, 2 * C], dim=-1) for part in parts), strict=True)
        dropout = self.dropout if self.training else 0.0
        outputs = []
        for q_part, kv_part in zip(q, kv, strict=True):
            q_part = q_part.unflatten(-1, (self.n_heads, -1)).transpose(0, 1)  # (H, T, D)
            k, v = kv_part.unflatten(-1, (2, self.n_heads, -1)).permute(1, 2, 0, 3)
            y = F.scaled_dot_product_attention(
                q_part[None], k[None], v[None], dropout_p=dropout, is_causal=causal
            )
            outputs.append(y[0].transpose(0, 1).flatten(1))  # (T, C)
        return self.out_proj(torch.cat(outputs))

    def fold(self):
        """Weights and biases of the two maps that one head amounts to when nothing is trained.

        A score (Wq x)ᵀ(Wk y) is (Wkᵀ Wq x)ᵀ y, and outputs are Wo Wv times a mean of the y. So the
        steps themselves serve as keys and values: half the memory to read and to write, and a
        third less work in a whole layer, once the two products have been made. (The bias of the
        keys adds the same to all scores of a step, which the softmax takes out again.)
        """
        query, key, value = self.in_proj_weight.chunk(3)
        query_bias, _, value_bias = self.in_proj_bias.chunk(3)
        out, out_bias = self.out_proj.weight, self.out_proj.bias
        return key.t() @ query, query_bias @ key, out @ value, out @ value_bias + out_bias

    def stepper(self, folds):
        """A function that attends from one step `x` (B, C) to itself and all before it.

        It takes `x`, `memory` (B, 2, H, S, D) and the step's row there; with `folds`, for which see
        `fold`, `memory` is (B, 1, 1, S, C).
        """
        H = self.n_heads
        if folds:
            query_weight, query_bias, out_weight, out_bias = self.fold()
            first = rows_function(query_weight, query_bias)
        else:
            first = rows_function(self.in_proj_weight, self.in_proj_bias)
            out_weight, out_bias = self.out_proj.weight, self.out_proj.bias
        last = rows_function(out_weight, out_bias)

        def step(x, memory, position):
            if folds:
                q, kept = first(x)[:, None, None], x[:, None, None]
            else:
                qkv = first(x).view(len(x), 3, H, 1, -1)
                q, kept = qkv[:, 0], qkv[:, 1:, :, 0]  # (B, H, 1, D), (B, 2, H, D)
            memory[:, :, :, position] = kept
            seen = memory[:, :, :, : position + 1].unbind(1)  # keys first, values last
            y = F.scaled_dot_product_attention(q, seen[0], seen[-1])  # (B, H, 1, D)
            return last(y.reshape(x.shape))

        return step


class TransformerLayer(nn.Module):
    """Post-norm ReLU layer with the names and initialisation of `nn.TransformerEncoderLayer`."""

    def __init__(self, d_model, n_heads, ffwd_size, dropout):
        super().__init__()
        self.self_attn = SelfAttention(d_model, n_heads, dropout)
        self.linear1 = nn.Linear(d_model, ffwd_size)
        self.linear2 = nn.Linear(ffwd_size, d_model)
        self.norm1 = nn.LayerNorm(d_model)
        self.norm2 = nn.LayerNorm(d_model)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x, mask=None, causal=False, first_only=False, memory=None):
        """
        Parameters
        ----------
        x : (B, T, C) float
        mask : (B or 1, 1, T or 1, T) bool, optional
            True where a step (third axis) may see another (last axis).
        causal : bool
            A step sees itself and those before it; not together with `mask`.
        first_only : bool
            Only the output of step 0 is wanted: (B, 1, C) for the price of one step.
        memory : (B, 2, H, S, D) or (B, 1, 1, S, C) float, optional
            Receives the keys and values of the steps, or the steps, for `step` to go on from.
        """
        attended = self.self_attn(x, mask, causal, first_only, memory)
        return self._after_attention(x[:, :1] if first_only else x, attended)

    def packed(self, x, lengths, causal=False, first_only=False):
        """As `forward`, of sequences that follow each other without padding.

        Parameters
        ----------
        x : (n, C) float
        lengths : list of int, steps of each sequence, n in all
        causal, first_only : as in `forward`; with `first_only` the result is (len(lengths), C)
        """
        attended = self.self_attn.packed(x, lengths, causal, first_only)
        return self._after_attention(x[_firsts(lengths)] if first_only else x, attended)

    def _after_attention(self, x, attended):
        x = self.norm1(x + self.dropout(attended))
        forwarded = self.linear2(self.dropout(F.relu(self.linear1(x))))
        return self.norm2(x + self.dropout(forwarded))

    def stepper(self, folds):
        """A function that takes one step `x` (B, C) as `SelfAttention.stepper` does; no dropout.

        Modules are looked up once and not in every step: the time of small networks goes there.
        """
        attend = self.self_attn.stepper(folds)
        widen = rows_function(self.linear1.weight, self.linear1.bias)
        narrow = rows_function(self.linear2.weight, self.linear2.bias)
        normalise, normalise_again = (
            functools.partial(
                torch.layer_norm,
                normalized_shape=norm.normalized_shape,
                weight=norm.weight,
                bias=norm.bias,
                eps=norm.eps,
            )
            for norm in (self.norm1, self.norm2)
        )

        def step(x, memory, position):
            x = normalise(attend(x, memory, position).add_(x))
            return normalise_again(narrow(widen(x).relu_()).add_(x))

        return step


class TransformerStack(nn.Module):
    """Transformer layers, one after the other."""

    def __init__(self, d_model, n_layers, n_heads, ffwd_size, dropout=0.0):
        super().__init__()
        self.d_model = d_model
        self.n_heads = n_heads
        self.layers = nn.ModuleList(
            TransformerLayer(d_model, n_heads, ffwd_size, dropout) for _ in range(n_layers)
        )
