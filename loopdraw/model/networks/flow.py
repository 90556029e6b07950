"""The network of a rectified flow, which `fit_prior` fits to latents."""

import torch
import torch.nn.functional as F
from torch import nn

from loopdraw.model.prior import FLOW_FREQUENCIES

FLOW_WIDTH, FLOW_BLOCKS = 192, 4


class _Block(nn.Module):
    def __init__(self, width, dropout):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.wide = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        self.narrow = nn.Linear(width, width)

    def forward(self, x):
        return x + self.narrow(self.dropout(F.silu(self.wide(self.norm(x)))))


class FlowNetwork(nn.Module):
    """The velocity of a rectified flow. `prior.FlowPrior` computes the same in numpy."""

    def __init__(self, latent_size, width=FLOW_WIDTH, n_blocks=FLOW_BLOCKS, dropout=0.0):
        super().__init__()
        n_inputs = latent_size + 2 * len(FLOW_FREQUENCIES)
        self.frequencies = torch.tensor(FLOW_FREQUENCIES, dtype=torch.float32)
        self.enter = nn.Linear(n_inputs, width)
        self.blocks = nn.ModuleList(_Block(width, dropout) for _ in range(n_blocks))
        self.leave = nn.Linear(width, latent_size)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, z, t):
        """Velocities (B, L) at places z (B, L) and times t (B,)."""
        angles = t[:, None] * self.frequencies
        x = self.enter(torch.cat([z, angles.sin(), angles.cos()], dim=1))
        for block in self.blocks:
            x = block(x)
        return self.leave(x)
