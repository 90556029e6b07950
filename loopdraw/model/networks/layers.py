"""The pieces that the networks are made of: small nets, embeddings, transformer layers.

Parameter and buffer names are those of the published checkpoints. In the shape comments B is the
batch, T timesteps, C d_model, H attention heads, D = C / H; the batch comes first, which is what
attention wants.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from loopdraw.model.networks.packed import attend_packed


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

    def forward(self, x, mask=None, causal=False, first_only=False, remember=None):
        """Attend among the steps of `x` (B, T, C); see `TransformerLayer.forward`."""
        C = x.shape[-1]
        if first_only:
            q = F.linear(x[:, :1], self.in_proj_weight[:C], self.in_proj_bias[:C])
            kv = F.linear(x, self.in_proj_weight[C:], self.in_proj_bias[C:])
        else:
            q, kv = F.linear(x, self.in_proj_weight, self.in_proj_bias).split([C, 2 * C], dim=-1)
        q = q.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)  # (B, H, T, D)
        kv = kv.unflatten(-1, (2, self.n_heads, -1)).permute(2, 0, 3, 1, 4)  # (2, B, H, T, D)
        if remember is not None:
            remember(x, kv)
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(
            q, kv[0], kv[1], attn_mask=mask, dropout_p=dropout, is_causal=causal
        )
        return self.out_proj(y.transpose(1, 2).flatten(2))  # (B, T, C)


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

    def forward(self, x, mask=None, causal=False, first_only=False, remember=None):
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
        remember : function, optional
            Called with the steps (B, T, C) and their keys and values (2, B, H, T, D).
        """
        attended = self.self_attn(x, mask, causal, first_only, remember)
        return self.after_attention(x[:, :1] if first_only else x, attended)

    def packed(self, x, lengths, causal):
        """As `forward`, of sequences (n, C) of these `lengths` that follow each other."""
        attention = self.self_attn
        qkv = F.linear(x, attention.in_proj_weight, attention.in_proj_bias)
        dropout = attention.dropout if attention.training else 0.0
        attended = attend_packed(qkv, lengths, attention.n_heads, causal, dropout)
        return self.after_attention(x, attention.out_proj(attended))

    def after_attention(self, x, attended):
        """The rest of the layer: both norms and the feed-forward net."""
        x = self.norm1(x + self.dropout(attended))
        forwarded = self.linear2(self.dropout(F.relu(self.linear1(x))))
        return self.norm2(x + self.dropout(forwarded))


class TransformerStack(nn.Module):
    """Transformer layers, one after the other."""

    def __init__(self, d_model, n_layers, n_heads, ffwd_size, dropout=0.0):
        super().__init__()
        self.d_model = d_model
        self.n_heads = n_heads
        self.layers = nn.ModuleList(
            TransformerLayer(d_model, n_heads, ffwd_size, dropout) for _ in range(n_layers)
        )
