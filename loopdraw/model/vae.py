"""The loop sequence VAE: encoder, decoder, losses, checkpoints, decoding.

Tensors are time-first: T timesteps, B shapes, F features, L latent size.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from loopdraw.checkpoints import checkpoint_label, load_state, load_states
from loopdraw.data.dataset import DatasetInfo, batch_of, load_datasets
from loopdraw.files import UserError
from loopdraw.loops.representations import eos_timestep
from loopdraw.model.decoding import decode_batch
from loopdraw.model.networks.encoders import build_decoder, build_encoder
from loopdraw.model.networks.planned import PlannedDecoder
from loopdraw.model.prior import NormalPrior, SettledPrior, load_prior
from loopdraw.options import options_for, parse_options
from loopdraw.processes import pick_device
from loopdraw.threads import threads_for

PLAN_SHARE = 0.5  # weight of the plan's own losses


class LoopSeqEncoderDecoderModel:
    """A transformer (or LSTM, or PointNet) VAE of loop sequences.

    Parameters
    ----------
    info : DatasetInfo
    device : torch.device or str
    architecture, ..., pointnet_hidden_size : the networks, see `build_encoder`, `build_decoder`
    reco_loss_type, binary_flag_loss_weight : see `reconstruction_loss`
    enc_kl_weight, enc_kl_min : see `kl_loss`; a weight of 0 makes it a plain autoencoder

    All have the names and defaults of the command line's options.
    """

    def __init__(
        self,
        info,
        device="cpu",
        *,
        architecture="lstm",
        latent_size=8,
        transformer_arch_version=0,
        enc_fc_hidden_sizes=(64, 64),
        dec_fc_hidden_sizes=(64, 64),
        enc_transformer_d_model=128,
        enc_transformer_n_layers=4,
        enc_transformer_n_heads=1,
        enc_transformer_ffwd_size=256,
        dec_transformer_d_model=128,
        dec_transformer_n_layers=4,
        dec_transformer_n_heads=1,
        dec_transformer_ffwd_size=256,
        dec_transformer_dropout=0.0,
        fourier_map_size=None,
        fourier_map_sigma=4.0,
        enc_lstm_hidden_size=64,
        enc_bidirectional=False,
        lstm_hidden_size=64,
        lstm_n_layers=1,
        pointnet_hidden_size=128,
        reco_loss_type="l2",
        binary_flag_loss_weight=1.0,
        enc_kl_weight=0.5,
        enc_kl_min=0.05,
    ):
        self.info = info
        self.device = torch.device(device)
        self.architecture = architecture
        self.latent_size = latent_size
        self.prior = NormalPrior(latent_size)  # what random latents are drawn from
        self.reco_loss_type = reco_loss_type
        self.binary_flag_loss_weight = binary_flag_loss_weight
        self.enc_kl_weight = enc_kl_weight
        self.enc_kl_min = enc_kl_min
        self.encoder = build_encoder(
            architecture,
            n_features=info.representation.n_features,
            max_length=info.n_timesteps,
            latent_size=latent_size,
            n_planes=info.n_planes,
            transformer_arch_version=transformer_arch_version,
            fc_hidden_sizes=enc_fc_hidden_sizes,
            d_model=enc_transformer_d_model,
            n_layers=enc_transformer_n_layers,
            n_heads=enc_transformer_n_heads,
            ffwd_size=enc_transformer_ffwd_size,
            lstm_hidden_size=enc_lstm_hidden_size,
            bidirectional=enc_bidirectional,
            pointnet_hidden_size=pointnet_hidden_size,
        ).to(self.device)
        self.decoder = build_decoder(
            architecture,
            n_features=info.representation.n_features,
            has_flag=info.representation.has_flag,
            max_length=info.n_timesteps,
            latent_size=latent_size,
            n_planes=info.n_planes,
            fc_hidden_sizes=dec_fc_hidden_sizes,
            transformer_arch_version=transformer_arch_version,
            d_model=dec_transformer_d_model,
            n_layers=dec_transformer_n_layers,
            n_heads=dec_transformer_n_heads,
            ffwd_size=dec_transformer_ffwd_size,
            dropout=dec_transformer_dropout,
            fourier_map_size=fourier_map_size,
            fourier_map_sigma=fourier_map_sigma,
            lstm_hidden_size=lstm_hidden_size,
            lstm_n_layers=lstm_n_layers,
        ).to(self.device)
        self.eval()

    @property
    def needs_point_clouds(self):
        """Whether the encoder reads points on the surface instead of loops."""
        return self.architecture.startswith("pointnet")

    @property
    def is_planned(self):
        """Whether the decoder plans the shape first: transformer version 4."""
        return isinstance(self.decoder, PlannedDecoder)

    @property
    def networks(self):
        """File name prefix -> network."""
        return {"enc": self.encoder, "dec": self.decoder}

    def train(self):
        self.encoder.train()
        self.decoder.train()

    def eval(self):
        self.encoder.eval()
        self.decoder.eval()

    def parameters(self):
        return [*self.encoder.parameters(), *self.decoder.parameters()]

    # Encoding and losses

    def encode_distribution(self, batch):
        """Mean and log variance of the latents of a batch, (B, L) each."""
        if batch.point_clouds is not None:
            return self.encoder(batch.point_clouds)
        told = batch.told or batch
        return self.encoder(told.targets, told.padding[1:])

    def encode(self, batch, use_sigma=False):
        """Latents of a batch, (B, L): the mean, or with `use_sigma` a sample about it."""
        with torch.inference_mode():
            mu, log_sigma_squared = self.encode_distribution(batch)
            return sample_latents(mu, log_sigma_squared) if use_sigma else mu

    def batch_of_sequence(self, sequence):
        """A sequence (T, F) as `decode` gives it as a batch of one shape."""
        steps = sequence[self.info.planes_of(sequence) >= 0].copy()
        if self.info.representation.has_flag:
            steps[:, -1] = steps[:, -1] > 0.5
        if self.info.use_eos_token:
            steps = np.concatenate([steps, eos_timestep(self.info.representation)[None]])
        return batch_of(self.info, steps, self.device)

    def encode_sequence(self, sequence):
        """The encoder's mean (L,) of a sequence (T, F) as `decode` gives it; float32 array."""
        with threads_for(1):
            return self.encode(self.batch_of_sequence(sequence))[0].cpu().numpy()

    def teacher_forced(self, batch, latents):
        """Decoder outputs (T, B, F) given the true timesteps before each; flags are logits.

        Where the output would be padding it has no meaning.
        """
        return self.decoder(batch.inputs[:-1], latents, batch.padding[1:], skips_padding=True)

    def losses(self, batch, noise=None, weights=None, n_present=None):
        """Reconstruction loss and KL divergence of a batch.

        Parameters
        ----------
        batch : Batch
        noise : (B, L) standard normal numbers that latents are sampled with; None for z = mu
        weights : (B,) 1 or 0, which items count; None for all
        n_present : number of true timesteps to average over; None for those of this batch

        Returns
        -------
        reconstruction : scalar tensor, as logged
        kl : scalar tensor, before weight and floor: see `kl_loss`
        """
        mu, log_sigma_squared = self.encode_distribution(batch)
        latents = mu
        if noise is not None and self.enc_kl_weight > 0:
            latents = mu + noise * torch.exp(0.5 * log_sigma_squared)
        kl = kl_divergence(mu, log_sigma_squared, weights)
        if self.is_planned:
            return self._planned_loss(batch, latents, weights, n_present), kl
        present = _present(batch, weights)
        outputs = self.teacher_forced(batch, latents)
        reconstruction = reconstruction_loss(
            outputs,
            batch.targets,
            present,
            present.sum() if n_present is None else n_present,
            self.info.representation.has_flag,
            self.reco_loss_type,
            self.binary_flag_loss_weight,
        )
        return reconstruction, kl

    def _planned_loss(self, batch, latents, weights, n_present):
        """As `reconstruction_loss`, and half of it again for what the plan alone says.

        The first flag is no decision. True flags say which loop of the plan a timestep is. The plan
        is of the shapes that the latents tell of, the loops are those of the batch.
        """
        plan = self.decoder.plan(latents)
        flags = batch.targets[..., -1]
        outputs = self.decoder(
            batch.inputs[:-1], latents, batch.padding[1:], True, next_flags=flags, plan=plan
        )
        told = batch.told or batch
        planned = self.decoder.read_plan(plan, told.targets[..., -1])
        if n_present is None:
            n_present = _present(batch, weights).sum()
        loss = self._planned_errors(outputs, batch, weights)
        loss = loss + PLAN_SHARE * self._planned_errors(planned, told, weights)
        return loss / n_present

    def _planned_errors(self, outputs, batch, weights):
        """Sum over the timesteps of a batch of the errors of `outputs` (T, B, F)."""
        present = _present(batch, weights)
        point_weights = present if batch.point_weights is None else present * batch.point_weights
        flag_weights = present if batch.flag_weights is None else present * batch.flag_weights
        difference = outputs[..., :-1] - batch.targets[..., :-1]
        error = difference.square() if self.reco_loss_type == "l2" else difference.abs()
        entropy = F.binary_cross_entropy_with_logits(
            outputs[1:, :, -1], batch.targets[1:, :, -1], reduction="none"
        )
        entropy = self.binary_flag_loss_weight * (entropy * flag_weights[1:]).sum()
        return (error.mean(dim=-1) * point_weights).sum() + entropy

    def kl_loss(self, kl, anneal=1.0):
        """The KL loss as logged: weight x annealing factor x the divergence, or its floor."""
        return self.enc_kl_weight * anneal * kl.clamp(min=self.enc_kl_min)

    # Decoding

    def decode(self, latents, full_length=False, alone=False):
        """Decode latents into sequences.

        Parameters
        ----------
        latents : (B, L) or (L,) array or tensor
        full_length : go on to the last timestep even where a sequence has ended
        alone : the same to the last bit as if each latent were decoded on its own

        Returns
        -------
        (B, T, F) float32 array, not normalised, flags between 0 and 1; all zero from the end of a
        sequence on (its end-of-sequence timestep, or the first loop past the last plane)

        Raises
        ------
        UserError
            When the latents have another size.
        """
        latents = torch.as_tensor(np.asarray(latents), dtype=torch.float32, device=self.device)
        if latents.ndim not in (1, 2) or latents.shape[-1] != self.latent_size:
            raise UserError(
                f"decode: latents of shape {tuple(latents.shape)}; a latent of this model is "
                f"{self.latent_size} numbers"
            )
        latents = latents.reshape(-1, self.latent_size)
        self.eval()
        if alone and not (self.is_planned and self.device.type == "cpu"):
            return np.concatenate([self.decode(row, full_length) for row in latents.split(1)])
        n_steps, representation = self.info.n_timesteps, self.info.representation
        ended = None if full_length else lambda so_far: self.lengths(so_far) <= so_far.shape[1]
        normalised = decode_batch(self.decoder, latents, n_steps, representation, ended, alone)
        normalised = normalised.cpu().numpy()
        sequences = self.info.unnormalise(normalised).astype(np.float32)
        if not full_length:
            sequences[np.arange(n_steps) >= self.lengths(normalised)[:, None]] = 0
        return sequences

    def lengths(self, normalised):
        """Timesteps that each sequence (B, t, F) takes with its ending one; over t: not ended."""
        lengths = []
        for sequence in self.info.unnormalise(normalised):
            placed = np.flatnonzero(self.info.planes_of(sequence) >= 0)
            lengths.append(placed[-1] + 2 if len(placed) else 1)
        return np.array(lengths)

    # Checkpoints

    def load(self, folder, epoch):
        """Load both networks from `folder`; `epoch` is a number, -1 for the latest.

        Raises
        ------
        UserError
            When a file is missing, damaged, or of another architecture or size, or the two are of
            different checkpoints.
        """
        names = {prefix: f"{prefix}{checkpoint_label(epoch)}_net.pth" for prefix in self.networks}
        states = load_states(folder, names.values(), self.device)
        for prefix, network in self.networks.items():
            path, state = Path(folder) / names[prefix], states[names[prefix]]
            self._check_n_timesteps(path, state)
            try:
                network.load_state_dict(state)
            except (RuntimeError, TypeError, AttributeError) as error:
                raise UserError(f"{path}: {_explain_mismatch(error)}") from None

    def _check_n_timesteps(self, path, state):
        table = state.get("positional_embedding.positional_embedding_additives")
        if getattr(table, "ndim", 0) > 0 and len(table) != self.info.n_timesteps + 1:
            raise UserError(
                f"{path}: made for sequences of {len(table) - 1} timesteps, but the dataset has "
                f"{self.info.n_timesteps}; give --dataroot the dataset that it was trained on "
                "(train and test sets together set the number)"
            )


def _present(batch, weights):
    """1 for each timestep of a batch that counts, (T, B); `weights` as for `losses`."""
    present = (~batch.padding[1:]).to(batch.targets.dtype)
    return present if weights is None else present * weights


def sample_latents(mu, log_sigma_squared):
    """Latents (B, L) drawn about `mu`, each with noise of its own."""
    return mu + torch.randn_like(mu) * torch.exp(0.5 * log_sigma_squared)


def reconstruction_loss(
    outputs, targets, present, n_present, has_flag, loss_type="l2", flag_weight=1.0
):
    """Mean error of the features plus the weighted cross-entropy of the flag, over true timesteps.

    Parameters
    ----------
    outputs, targets : (T, B, F); flags of the outputs are logits
    present : (T, B) float, 1 for true timesteps, 0 for padding
    n_present : number of true timesteps
    has_flag : whether the last feature is a flag
    loss_type : "l2" (mean squared) or "l1" (mean absolute)
    flag_weight : weight of the cross-entropy

    Returns
    -------
    scalar tensor
    """
    n_values = outputs.shape[-1] - int(has_flag)
    difference = outputs[..., :n_values] - targets[..., :n_values]
    error = difference.square() if loss_type == "l2" else difference.abs()
    # Weighted sums rather than boolean indexing: shapes stay fixed and no GPU is waited for.
    loss = (error.sum(dim=-1) * present).sum() / (n_present * n_values)
    if has_flag:
        entropy = F.binary_cross_entropy_with_logits(
            outputs[..., -1], targets[..., -1], reduction="none"
        )
        loss = loss + flag_weight * (entropy * present).sum() / n_present
    return loss


def kl_divergence(mu, log_sigma_squared, weights=None):
    """KL divergence from the standard normal, per latent number, summed over the batch.

    Kingma and Welling, Auto-Encoding Variational Bayes (2014), appendix B. `mu` and
    `log_sigma_squared` are (B, L), `weights` (B,) or None.
    """
    terms = (1 + log_sigma_squared - mu.square() - log_sigma_squared.exp()).sum(dim=-1)  # (B,)
    if weights is not None:
        terms = terms * weights
    return -0.5 * terms.sum() / mu.shape[-1]


def _explain_mismatch(error):
    """The first difference that torch's load_state_dict reports, on one line."""
    lines = [line.strip() for line in str(error).splitlines()[1:]]
    difference = lines[0].rstrip(".") if lines else str(error)
    return (
        "of another architecture or size than the options describe "
        f"({difference[:160]}); use the options it was trained with"
    )


def load_model(
    folder,
    *,
    optfile=None,
    settings=None,
    epoch=-1,
    info=None,
    device="cpu",
    prior=None,
    report=print,
):
    """Load a trained model from the folder of its checkpoint.

    Parameters
    ----------
    folder : path of the folder, with `enc…_net.pth` and `dec…_net.pth`
    optfile : path of the options that it was trained with; by default `opt.txt` in the folder.
        Published checkpoints need it.
    settings : dict of these options, in place of a file
    epoch : number of the checkpoint; -1 or None for the latest
    info : DatasetInfo; by default `dataset_info.npz` of the folder, or else what the dataset says
        that the options name
    device : torch.device or str
    prior : "auto": random latents are drawn from the prior in the folder, if one was fitted;
        "normal": from the standard normal. By default as the options say.
    report : function that gets lines of progress

    Returns
    -------
    LoopSeqEncoderDecoderModel, in evaluation mode

    Raises
    ------
    UserError
        When a file is missing, damaged, or of another model.
    """
    folder = Path(folder)
    if settings is None:
        optfile = Path(optfile or folder / "opt.txt")
        if not optfile.is_file():
            raise UserError(f"{optfile}: no such file; name the optfile the model was trained with")
        settings = vars(parse_options(["--optfile", str(optfile)]))
    info = info or DatasetInfo.load(folder, settings["loop_repr_type"])
    if info is None:
        # Before a dataset is loaded, which may take its time: is there a checkpoint at all?
        load_state(folder / f"dec{checkpoint_label(epoch)}_net.pth")
        if settings["dataroot"] is None:
            raise UserError(f"{folder}: has no dataset_info.npz; name the dataset by --dataroot")
        info = load_datasets(report=report, **options_for(load_datasets, settings))["train"].info
    model = LoopSeqEncoderDecoderModel(
        info, device, **options_for(LoopSeqEncoderDecoderModel, settings)
    )
    model.load(folder, epoch)
    if (prior or settings.get("prior")) != "normal":
        fitted = load_prior(folder, model.latent_size, model.decoder, report)
        settles = not (isinstance(fitted, NormalPrior) or model.needs_point_clouds)
        model.prior = SettledPrior(fitted, model) if settles else fitted
    return model


def load_model_and_sets(options, prior=None):
    """The model that a script's options name, and the sets of its dataset.

    Parameters
    ----------
    options : what `parse_options` returns
    prior : as in `load_model`

    Returns
    -------
    model : LoopSeqEncoderDecoderModel
    sets : dict of split to LoopSeqDataset, see `load_datasets`
    """
    info = DatasetInfo.load(options.save_dir, options.loop_repr_type)
    sets = load_datasets(info=info, **options_for(load_datasets, options))
    model = load_model(
        options.save_dir,
        settings=vars(options),
        epoch=options.load_epoch,
        info=sets["train"].info,
        device=pick_device(options.gpu_ids),
        prior=prior,
    )
    return model, sets
