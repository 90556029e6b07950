"""The published algorithms, plainly written: what `run.py` measures this project against.

Decoding re-runs the whole padded sequence for every step, slicing reads the mesh file again for
every plane, training makes a batch from host arrays each time, saving writes everything anew. The
networks are those of `nn.TransformerEncoder`, with the weights of ours, so that both sides compute
the same numbers; `tests/test_benchmarks.py` checks that they do.
"""

import copy

import numpy as np
import torch
import torch.nn.functional as F
import trimesh
from torch import nn

from loopdraw.loops.geometry import project, sort_by_area
from loopdraw.model.training import GRADIENT_SCALE


def torch_stack(stack):
    """A `layers.TransformerStack` as PyTorch's own modules, weights copied."""
    layer = nn.TransformerEncoderLayer(
        stack.d_model, stack.n_heads, stack.layers[0].linear1.out_features, dropout=0.0
    )
    layers = nn.TransformerEncoder(layer, len(stack.layers), enable_nested_tensor=False)
    layers.load_state_dict(stack.state_dict())
    return layers.to(stack.layers[0].linear1.weight.device)


class PlainEncoder(nn.Module):
    """A `encoders.TransformerEncoder`, of copied weights."""

    def __init__(self, ours):
        super().__init__()
        self.linear_in_to_enc = copy.deepcopy(ours.linear_in_to_enc)
        self.positions = copy.deepcopy(ours.positional_embedding.positional_embedding_additives)
        self.transformer_encoder = torch_stack(ours.transformer_encoder)
        self.fc_enc_out_to_mu = copy.deepcopy(ours.fc_enc_out_to_mu)
        self.fc_enc_out_to_sigma = copy.deepcopy(ours.fc_enc_out_to_sigma)

    def forward(self, sequence, padding):
        """Timesteps (T, B, F) and padding (T, B) to mu and log sigma squared, (B, L) each."""
        start = sequence.new_zeros(1, *sequence.shape[1:])
        x = self.linear_in_to_enc(torch.cat([start, sequence]))  # (1 + T, B, C)
        x = x + self.positions[: len(x), None]
        padding = torch.cat([torch.zeros_like(padding[:1]), padding])
        x = self.transformer_encoder(x, src_key_padding_mask=padding.t())[0]
        return self.fc_enc_out_to_mu(x), self.fc_enc_out_to_sigma(x)


class PlainDecoder(nn.Module):
    """A `encoders.TransformerDecoder` of arch version 1, of copied weights."""

    def __init__(self, ours):
        super().__init__()
        assert ours.arch_version == 1, "only the published settings are written plainly"
        self.linear_in_to_dec = copy.deepcopy(ours.linear_in_to_dec)
        self.positions = copy.deepcopy(ours.positional_embedding.positional_embedding_additives)
        self.transformer_decoder = torch_stack(ours.transformer_decoder)
        self.linear_dec_to_out = copy.deepcopy(ours.linear_dec_to_out)
        self.fc_latent_to_start_embedding = copy.deepcopy(ours.fc_latent_to_start_embedding)

    def forward(self, inputs, z, padding=None):
        """Input steps (T, B, F) and latents (B, L) to the steps that follow, (T, B, F)."""
        x = torch.cat([self.fc_latent_to_start_embedding(z)[None], inputs[1:]])
        x = self.linear_in_to_dec(x) + self.positions[: len(x), None]  # (T, B, C)
        mask = torch.ones(len(x), len(x), dtype=torch.bool, device=x.device).triu(1)
        padding = None if padding is None else padding.t()
        x = self.transformer_decoder(x, mask=mask, src_key_padding_mask=padding)
        return self.linear_dec_to_out(x)


@torch.no_grad()
def decode(decoder, z, n_steps, n_features):
    """Decode one latent z (1, L): (n_steps, F), normalised, flags after the sigmoid."""
    inputs = z.new_zeros(n_steps, 1, n_features)
    outputs = z.new_zeros(n_steps, n_features)
    for t in range(n_steps):
        timestep = decoder(inputs, z)[t]  # (1, F)
        timestep[:, -1].sigmoid_()
        outputs[t] = timestep[0]
        if t + 1 < n_steps:
            inputs[t + 1] = timestep
    return outputs


class PlainTraining:
    """Training of a model of ours in the plain way, on copies of its networks.

    Parameters
    ----------
    model : vae.LoopSeqEncoderDecoderModel
    dataset : dataset.LoopSeqDataset
    """

    def __init__(self, model, dataset, lr=0.001):
        self.model, self.info, self.device = model, model.info, model.device
        self.sequences, self.lengths = dataset.sequences, dataset.lengths
        self.encoder, self.decoder = PlainEncoder(model.encoder), PlainDecoder(model.decoder)
        self.optimizers = [
            torch.optim.Adam(network.parameters(), lr=lr, betas=(0.9, 0.999))
            for network in (self.encoder, self.decoder)
        ]

    def batch(self, indices):
        """inputs (T + 1, B, F), targets (T, B, F), padding (T + 1, B), made of host arrays."""
        start = np.zeros((1, self.info.representation.n_features))
        inputs, padding = [], []
        for i in indices:
            item = (self.sequences[i] - self.info.dataset_mean) / self.info.dataset_std
            item[self.lengths[i] :] = 0.0
            first = (start - self.info.dataset_mean) / self.info.dataset_std
            inputs.append(np.concatenate([first, item]))
            padding.append(np.arange(len(item) + 1) > self.lengths[i])
        inputs = np.stack(inputs, axis=1).astype(np.float32)
        padding = np.stack(padding, axis=1)
        return [torch.from_numpy(array).to(self.device) for array in (inputs, inputs[1:], padding)]

    def losses(self, indices, noise):
        """Reconstruction loss and KL divergence of a batch, with L2 and a flag."""
        inputs, targets, padding = self.batch(indices)
        mu, log_sigma_squared = self.encoder(targets, padding[1:])
        z = mu + noise * torch.exp(0.5 * log_sigma_squared)
        outputs = self.decoder(inputs[:-1], z, padding[:-1])
        present = ~padding[1:]
        outputs, targets = outputs[present], targets[present]
        reconstruction = F.mse_loss(outputs[:, :-1], targets[:, :-1])
        entropy = F.binary_cross_entropy_with_logits(outputs[:, -1], targets[:, -1])
        reconstruction = reconstruction + self.model.binary_flag_loss_weight * entropy
        terms = 1 + log_sigma_squared - mu**2 - torch.exp(log_sigma_squared)
        return reconstruction, -0.5 * terms.sum() / mu.shape[1]

    def step(self, indices, noise):
        """One training step; both losses as numbers, for the log."""
        reconstruction, kl = self.losses(indices, noise)
        kl = self.model.enc_kl_weight * torch.clamp(kl, min=self.model.enc_kl_min)
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        (GRADIENT_SCALE * (reconstruction + kl)).backward()
        for optimizer in self.optimizers:
            optimizer.step()
        return reconstruction.item(), kl.item()


def slice_file(path, planes):
    """Loops of a mesh file by plane, as `slicing.slice_mesh` gives them.

    Parameters
    ----------
    path : of a clean, closed mesh
    planes : (P, 4, 3) float

    Returns
    -------
    list of P lists of (k, 2) float loops, by decreasing area
    """
    loops_by_plane = []
    for plane in planes:
        mesh = trimesh.load(path, force="mesh", process=False)
        segments = trimesh.intersections.mesh_plane(mesh, plane[0], plane[1])  # (s, 2, 3)
        loops = [project(loop, plane) for loop in _chained(segments)]
        loops_by_plane.append(sort_by_area(loops))
    return loops_by_plane


def _chained(segments):
    """Segments (s, 2, 3) that share end points, as closed loops of points (k, 3)."""
    neighbours = {}
    for a, b in np.round(segments, 7).tolist():
        a, b = tuple(a), tuple(b)
        neighbours.setdefault(a, []).append(b)
        neighbours.setdefault(b, []).append(a)
    loops = []
    while neighbours:
        point = next(iter(neighbours))
        loop = []
        while point in neighbours:
            loop.append(point)
            following = neighbours.pop(point)
            point = next((other for other in following if other in neighbours), None)
        loops.append(np.array(loop))
    return loops


def save_partial(path, planes, sequences, filenames, representation_id):
    """Write sequences, a list of (T_i, F) arrays, as a cache: one padded array, all of it anew."""
    longest = max(map(len, sequences))
    widths = [((0, longest - len(sequence)), (0, 0)) for sequence in sequences]
    padded = np.stack([np.pad(s, width) for s, width in zip(sequences, widths, strict=True)])
    np.savez(
        path,
        planes=planes,
        meshes_reprs=padded,
        loop_repr_type=representation_id,
        loaded_obj_filenames=np.array(filenames),
        next_index_to_load=len(sequences),
        failed_meshes_indices=np.zeros(0, dtype=np.int64),
    )
