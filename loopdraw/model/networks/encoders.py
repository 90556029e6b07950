"""The networks: encoders from a shape to its latent, and the builders of encoders and decoders.

Plain `nn.Module`s that know no options, files or datasets. Module, parameter and buffer names and
their order are those of the published checkpoints, so state dicts load strictly both ways.

In the shape comments B is the batch, T timesteps, F features of a timestep, L latent size,
C d_model. Sequences are time-first, (T, B, F), at the interface.
"""

import torch
import torch.nn.functional as F
from torch import nn

from loopdraw.model.networks.decoders import LstmDecoder, TransformerDecoder
from loopdraw.model.networks.layers import (
    FourierMap,
    FullyConnected,
    PositionalEmbedding,
    TransformerStack,
)
from loopdraw.model.networks.packed import pays_to_pack, run_packed
from loopdraw.model.networks.planned import PlannedDecoder, PlannedEncoder

ARCHITECTURES = ("lstm", "transformer", "lstm+transformer", "pointnet+transformer")


def build_encoder(
    architecture,
    *,
    n_features,
    max_length,
    latent_size,
    n_planes=None,
    transformer_arch_version=0,
    fc_hidden_sizes=(64, 64),
    d_model=128,
    n_layers=4,
    n_heads=1,
    ffwd_size=256,
    lstm_hidden_size=64,
    bidirectional=False,
    pointnet_hidden_size=128,
):
    """The encoder of one of `ARCHITECTURES`; settings of the other architectures play no part.

    Parameters
    ----------
    architecture : str
    n_features : int
        Features of a timestep, flag included.
    max_length : int
        Timesteps of the longest sequence, without start steps.
    latent_size : int
    n_planes : int
        Planes of the dataset; transformer arch version 4 needs it.

    Returns
    -------
    nn.Module
        Called as `encoder(sequence, padding)`, or `encoder(points)` for `pointnet+transformer`;
        gives mu and log sigma squared, (B, L) each.

    Raises
    ------
    ValueError
        On an unknown architecture or settings that do not fit together.
    """
    _check_architecture(architecture)
    if architecture == "lstm":
        return LstmEncoder(
            n_features, latent_size, fc_hidden_sizes, lstm_hidden_size, bidirectional
        )
    if architecture == "pointnet+transformer":
        return PointNetEncoder(latent_size, pointnet_hidden_size)
    if architecture == "transformer" and transformer_arch_version == 4:
        (hidden_size,) = fc_hidden_sizes
        return PlannedEncoder(
            n_features, n_planes, latent_size, hidden_size, d_model, n_layers, n_heads, ffwd_size
        )
    stack = TransformerStack(d_model, n_layers, n_heads, ffwd_size)
    return TransformerEncoder(n_features, max_length, latent_size, fc_hidden_sizes, stack)


def build_decoder(
    architecture,
    *,
    n_features,
    has_flag,
    max_length,
    latent_size,
    n_planes=None,
    fc_hidden_sizes=(64, 64),
    transformer_arch_version=0,
    d_model=128,
    n_layers=4,
    n_heads=1,
    ffwd_size=256,
    dropout=0.0,
    fourier_map_size=None,
    fourier_map_sigma=4.0,
    lstm_hidden_size=64,
    lstm_n_layers=1,
):
    """The decoder of one of `ARCHITECTURES`; settings of the other architectures play no part.

    Parameters
    ----------
    architecture : str
    n_features : int
        Features of a timestep, flag included.
    has_flag : bool
        Whether the last feature is the level-up flag, which comes out as a logit.
    max_length : int
        Timesteps of the longest sequence, without start steps.
    latent_size : int
    n_planes : int
        Planes of the dataset; transformer arch version 4 needs it.

    Returns
    -------
    nn.Module
        Called as `decoder(inputs, z)` for a whole sequence, or through `begin` and `step`.

    Raises
    ------
    ValueError
        On an unknown architecture or settings that do not fit together.
    """
    _check_architecture(architecture)
    if architecture in ("lstm", "lstm+transformer"):
        return LstmDecoder(
            n_features, max_length, latent_size, fc_hidden_sizes, lstm_hidden_size, lstm_n_layers
        )
    if transformer_arch_version == 4:
        (hidden_size,) = fc_hidden_sizes
        return PlannedDecoder(
            n_features,
            n_planes,
            max_length,
            latent_size,
            hidden_size,
            d_model,
            n_layers,
            n_heads,
            ffwd_size,
        )
    stack = TransformerStack(d_model, n_layers, n_heads, ffwd_size, dropout)
    fourier_map = None
    if fourier_map_size is not None:
        fourier_map = FourierMap(fourier_map_size, fourier_map_sigma)
    return TransformerDecoder(
        n_features,
        has_flag,
        max_length,
        latent_size,
        fc_hidden_sizes,
        transformer_arch_version,
        fourier_map,
        stack,
    )


def _check_architecture(architecture):
    if architecture not in ARCHITECTURES:
        raise ValueError(f"architecture {architecture!r} is none of {', '.join(ARCHITECTURES)}")


class TransformerEncoder(nn.Module):
    """A zero step is put before the sequence; what comes out at it becomes mu and log sigma²."""

    def __init__(self, n_features, max_length, latent_size, fc_hidden_sizes, stack):
        super().__init__()
        C = stack.d_model
        self.linear_in_to_enc = nn.Linear(n_features, C)
        self.positional_embedding = PositionalEmbedding(max_length + 1, C)
        self.transformer_encoder = stack
        self.fc_enc_out_to_mu = FullyConnected(C, fc_hidden_sizes, latent_size)
        self.fc_enc_out_to_sigma = FullyConnected(C, fc_hidden_sizes, latent_size)

    def forward(self, sequence, padding):
        """
        Parameters
        ----------
        sequence : (T, B, F) float
            Normalised timesteps, without a start step; T may be less than `max_length`.
        padding : (T, B) bool
            True where a timestep is padding.

        Returns
        -------
        mu, log_sigma_squared : (B, L) float
        """
        x = F.pad(sequence.transpose(0, 1), (0, 0, 1, 0))  # (B, 1 + T, F)
        seen = F.pad(~padding.t(), (1, 0), value=True)  # (B, 1 + T)
        x = self.positional_embedding(self.linear_in_to_enc(x))
        layers = list(self.transformer_encoder.layers)
        if pays_to_pack(x):
            x = run_packed(layers, x, seen, first_only=True)  # (B, C)
        else:
            seen, last = seen[:, None, None], layers.pop()
            for layer in layers:
                x = layer(x, seen)
            x = last(x, seen, first_only=True)[:, 0]
        return self.fc_enc_out_to_mu(x), self.fc_enc_out_to_sigma(x)

    def latent_layers(self):
        """The linear layers that mu and log sigma squared come out of."""
        return self.fc_enc_out_to_mu.last, self.fc_enc_out_to_sigma.last


class LstmEncoder(nn.Module):
    """The hidden state after the last timestep, of one or both directions, to mu and log sigma²."""

    def __init__(self, n_features, latent_size, fc_hidden_sizes, hidden_size, bidirectional):
        super().__init__()
        self.lstm = nn.LSTM(n_features, hidden_size, bidirectional=bidirectional)
        n_out = hidden_size * (2 if bidirectional else 1)
        self.fc_enc_out_to_mu = FullyConnected(n_out, fc_hidden_sizes, latent_size)
        self.fc_enc_out_to_sigma = FullyConnected(n_out, fc_hidden_sizes, latent_size)

    def forward(self, sequence, padding):
        """As `TransformerEncoder.forward`."""
        lengths = (~padding).sum(dim=0).clamp(min=1).cpu()
        packed = nn.utils.rnn.pack_padded_sequence(sequence, lengths, enforce_sorted=False)
        _, (hidden, _) = self.lstm(packed)  # (directions, B, hidden_size)
        x = hidden.transpose(0, 1).flatten(1)
        return self.fc_enc_out_to_mu(x), self.fc_enc_out_to_sigma(x)

    def latent_layers(self):
        """As `TransformerEncoder.latent_layers`."""
        return self.fc_enc_out_to_mu.last, self.fc_enc_out_to_sigma.last


class PointNet(nn.Module):
    """A point cloud to one vector, in the manner of Qi et al., PointNet, 2017."""

    def __init__(self, hidden_size, n_out):
        super().__init__()
        self.fc_pos = nn.Linear(3, 2 * hidden_size)
        self.fc_0 = nn.Linear(2 * hidden_size, hidden_size)
        self.fc_1 = nn.Linear(2 * hidden_size, hidden_size)
        self.fc_2 = nn.Linear(2 * hidden_size, hidden_size)
        self.fc_3 = nn.Linear(2 * hidden_size, hidden_size)
        self.fc_c = nn.Linear(hidden_size, n_out)

    def forward(self, points):
        """Points (B, N, 3) to (B, n_out); their order plays no part."""
        x = self.fc_pos(points)  # (B, N, 2 hidden_size)
        for layer in (self.fc_0, self.fc_1, self.fc_2):
            x = layer(F.relu(x))
            pooled = x.amax(dim=1, keepdim=True).expand_as(x)
            x = torch.cat([x, pooled], dim=-1)
        x = self.fc_3(F.relu(x))
        return self.fc_c(F.relu(x.amax(dim=1)))


class PointNetEncoder(nn.Module):
    """Two PointNets over points sampled on the surface, one for mu and one for log sigma²."""

    def __init__(self, latent_size, hidden_size):
        super().__init__()
        self.pointnet_to_mu = PointNet(hidden_size, latent_size)
        self.pointnet_to_sigma = PointNet(hidden_size, latent_size)

    def forward(self, points):
        """Points (B, N, 3) to mu and log sigma squared, (B, L) each."""
        return self.pointnet_to_mu(points), self.pointnet_to_sigma(points)

    def latent_layers(self):
        """As `TransformerEncoder.latent_layers`."""
        return self.pointnet_to_mu.fc_c, self.pointnet_to_sigma.fc_c
