"""Decoders: from a latent to a loop sequence, whole or step by step.

For training a decoder sees a whole sequence at once. For generation it takes one step at a time:

    state = decoder.begin(z)
    outputs = decoder.step(state, inputs)

and keeps what it needs of the steps behind it, so that a step costs one row of work instead of the
whole sequence. Decoders are to be in evaluation mode for that, and all calls with one state either
inside `torch.inference_mode()` or outside.

In the shape comments B is the batch, T timesteps, F features of a timestep, L latent size,
C d_model, H attention heads, D = C / H. Sequences are time-first, (T, B, F), at the interface.
"""

import torch
import torch.nn.functional as F
from torch import nn

from loopdraw.model.networks.fast_paths import (
    cheapest_memory,
    new_memory,
    remember_in,
    rows_function,
    stepper,
)
from loopdraw.model.networks.layers import (
    FourierTimesteps,
    FullyConnected,
    PositionalEmbedding,
)
from loopdraw.model.networks.packed import pays_to_pack, run_packed


class DecoderState:
    """What a decoder keeps between the steps of decoding B sequences together.

    Every tensor attribute has the batch first.

    Attributes
    ----------
    length : int
        Steps taken so far.
    z : (B, L) float
    inputs : (B, max_length, F) float
        The steps as they were given.
    memory : (B, ...) float
        What the decoder remembers of each step: keys and values, or hidden states.
    steppers : list
        Transformers: the function of each layer that takes a step, and that to the outputs.
    starts : (B, n, F) float
        Transformers: inputs of the first n steps, whatever is given.
    flag_shift : (B, max_length) float or None
        Transformers: what z adds to the flag of each step.
    """

    def __init__(self, inputs, memory, steppers=()):
        self.length = 0
        self.inputs = inputs
        self.memory = memory
        self.steppers = steppers

    def rewind(self, t):
        """Forget the steps from `t` on; what follows is as if they had never been taken."""
        if not 0 <= t <= self.length:
            raise ValueError(f"cannot rewind to step {t}: {self.length} steps were taken")
        self.length = t

    @torch.no_grad()
    def select(self, index):
        """Keep only the rows `index` of the batch, in that order.

        Rows that stay in their place cost nothing: to drop a row, put the last one in its place.

        Parameters
        ----------
        index : (n,) int tensor or list, n <= B
        """
        index = torch.as_tensor(index, dtype=torch.long, device=self.inputs.device)
        if len(index) > len(self.inputs):
            raise ValueError(f"cannot keep {len(index)} rows of {len(self.inputs)}")
        moved = (index != torch.arange(len(index), device=index.device)).nonzero()[:, 0]
        for name, rows in vars(self).items():
            if torch.is_tensor(rows):
                rows[moved] = rows[index[moved]]
                setattr(self, name, rows[: len(index)])

    def _take(self, x):
        """Record the next step's input `x` (B, F); the step's number."""
        t = self.length
        if t == self.inputs.shape[1]:
            raise ValueError(f"the decoder was made for {t} steps and all were taken")
        self.inputs[:, t] = x
        self.length = t + 1
        return t


class TransformerDecoder(nn.Module):
    """Causal transformer; how z enters depends on `arch_version`.

    ==  ==========================================================================================
    0   a learned start step is input 0; a net turns z into one more token in front of all steps
    1   a net turns z into input step 0
    2   as 1, and a net turns z into one number per timestep that is added to the flag's logit
    3   as 1, with five nets for input steps 0 to 4; what comes out there is not fed back
    ==  ==========================================================================================

    With Fourier features, a rounding error in one loop comes out ten or more times larger in the
    next, so after a few loops the shape depends on the order in which numbers were summed. For a
    latent to give the same shape alone, in a batch, after a rewind and in the published program,
    such a decoder steps as the published one does: each row alone, the whole padded sequence anew.
    """

    def __init__(
        self,
        n_features,
        has_flag,
        max_length,
        latent_size,
        fc_hidden_sizes,
        arch_version,
        fourier_map,
        stack,
    ):
        super().__init__()
        if arch_version not in (0, 1, 2, 3):
            raise ValueError(f"transformer arch version {arch_version} is none of 0, 1, 2, 3")
        if arch_version == 2 and not has_flag:
            raise ValueError("transformer arch version 2 needs a representation with a flag")

        def latent_net(n_out):
            return FullyConnected(latent_size, fc_hidden_sizes, n_out, tanh=True)

        self.arch_version = arch_version
        self.n_features = n_features
        self.max_length = max_length
        self.n_heads = stack.n_heads
        self.d_model = stack.d_model
        self.n_tokens_before = 1 if arch_version == 0 else 0
        if arch_version == 0:
            self.sequence_start_embedding = nn.Parameter(torch.randn(n_features))
        self.linear_in_to_dec = nn.Linear(n_features, stack.d_model)
        self.runs_whole_sequences = fourier_map is not None
        if fourier_map is not None:
            features = FourierTimesteps(n_features, has_flag, fourier_map)
            to_dec = nn.Linear(features.n_out, stack.d_model)
            self.linear_in_to_dec = nn.Sequential(features, to_dec)
        self.positional_embedding = PositionalEmbedding(max_length + 1, stack.d_model)
        self.transformer_decoder = stack
        self.linear_dec_to_out = nn.Linear(stack.d_model, n_features)
        if arch_version == 0:
            self.fc_latent_to_dec_cls = latent_net(stack.d_model)
        elif arch_version == 3:
            nets = [latent_net(n_features) for _ in range(5)]
            self.fc_latent_to_start_embedding = nn.ModuleList(nets)
        else:
            self.fc_latent_to_start_embedding = latent_net(n_features)
        if arch_version == 2:
            self.fc_latent_to_binary_flags = latent_net(max_length)

    def forward(self, inputs, z, padding=None, skips_padding=False):
        """Teacher-forced outputs of a whole sequence.

        Parameters
        ----------
        inputs : (T, B, F) float
            Step 0 is the start step, step t the timestep t - 1 of the sequence.
        z : (B, L) float
        padding : (T, B) bool, optional
            True where an input step is padding. Padding comes last, so it changes nothing but the
            outputs at padding steps: leave it out unless those matter.
        skips_padding : bool
            Outputs at padding steps, which must come last, do not matter: no work is done for them
            where that is faster.

        Returns
        -------
        (T, B, F) float
            The timestep that follows each input step, its flag as a logit.
        """
        x = self._tokens(inputs.transpose(0, 1), self._starts(z), z)
        layers = self.transformer_decoder.layers
        mask = None
        if padding is not None:
            seen = F.pad(~padding.t(), (self.n_tokens_before, 0), value=True)  # (B, tokens)
        if padding is not None and skips_padding and pays_to_pack(x):
            x = run_packed(layers, x, seen, causal=True)
        else:
            if padding is not None and not skips_padding:
                seen = seen[:, None, None]
                mask = seen & seen.new_ones(x.shape[1], x.shape[1]).tril()  # (B, 1, tokens, tokens)
            for layer in layers:
                x = layer(x, mask, causal=mask is None)
        outputs = self.linear_dec_to_out(x[:, self.n_tokens_before :]).transpose(0, 1)
        if self.arch_version == 2:
            shift = self.fc_latent_to_binary_flags(z).t()[: len(inputs), :, None]  # (T, B, 1)
            outputs = torch.cat([outputs[..., :-1], outputs[..., -1:] + shift], dim=-1)
        return outputs

    @torch.no_grad()
    def begin(self, z):
        """A `DecoderState` for decoding from `z` (B, L) step by step, before the first step."""
        layers, out = self.transformer_decoder.layers, self.linear_dec_to_out
        n_steps, holds = self.max_length + self.n_tokens_before, cheapest_memory(self.n_heads)
        state = DecoderState(
            inputs=z.new_zeros(len(z), self.max_length, self.n_features),
            memory=new_memory(z, holds, len(z), len(layers), self.n_heads, n_steps, self.d_model),
            steppers=[
                *(stepper(layer, holds) for layer in layers),
                rows_function(out.weight, out.bias),
            ],
        )
        self._condition(state, z)
        return state

    @torch.no_grad()
    def step(self, state, x):
        """The outputs (B, F) that follow the next input step `x` (B, F), flags as logits.

        The first `x` is the zero start step. ValueError once `max_length` steps were taken.
        """
        t = state._take(x)
        if self.runs_whole_sequences:
            rows = [
                self(row[:, None], z[None])[t] for row, z in zip(state.inputs, state.z, strict=True)
            ]
            return torch.cat(rows)
        if t < state.starts.shape[1]:
            x = state.starts[:, t]
        position = t + self.n_tokens_before
        x = self.linear_in_to_dec(x)
        x = x + self.positional_embedding.positional_embedding_additives[position]  # (B, C)
        *steppers, to_outputs = state.steppers
        for step, memory in zip(steppers, state.memory.unbind(1), strict=True):
            x = step(x, memory, position)
        outputs = to_outputs(x)
        if state.flag_shift is not None:
            outputs[:, -1] += state.flag_shift[:, t]
        return outputs

    @torch.no_grad()
    def recondition(self, state, z):
        """Go on as if all steps so far had been taken with the new `z` (B, L)."""
        if self.arch_version == 0:
            raise ValueError("transformer arch version 0 cannot change its latent while decoding")
        self._condition(state, z)

    def latent_inputs(self):
        """Weight (n, L) and bias (n,) of every layer that z goes into, as views."""
        if self.arch_version == 0:
            nets = [self.fc_latent_to_dec_cls]
        elif self.arch_version == 3:
            nets = list(self.fc_latent_to_start_embedding)
        else:
            nets = [self.fc_latent_to_start_embedding]
        if self.arch_version == 2:
            nets.append(self.fc_latent_to_binary_flags)
        return [(net.first.weight, net.first.bias) for net in nets]

    def _starts(self, z):
        """Inputs of the first steps that z or training prescribes, (B, n, F)."""
        if self.arch_version == 0:
            return self.sequence_start_embedding.expand(len(z), 1, -1)
        if self.arch_version == 3:
            return torch.stack([net(z) for net in self.fc_latent_to_start_embedding], dim=1)
        return self.fc_latent_to_start_embedding(z)[:, None]

    def _tokens(self, inputs, starts, z):
        """What the layers see for `inputs` (B, T, F): (B, n_tokens_before + T, C)."""
        n = starts.shape[1]
        x = torch.cat([starts[:, : inputs.shape[1]], inputs[:, n:]], dim=1)
        x = self.linear_in_to_dec(x)
        if self.arch_version == 0:
            x = torch.cat([self.fc_latent_to_dec_cls(z)[:, None], x], dim=1)
        return self.positional_embedding(x)

    def _condition(self, state, z):
        """Set what depends on z and fill the memory of the steps taken so far."""
        state.z = z.clone()
        state.starts = self._starts(z).clone()
        state.flag_shift = self.fc_latent_to_binary_flags(z) if self.arch_version == 2 else None
        x = self._tokens(state.inputs[:, : state.length], state.starts, z)
        if x.shape[1] > 0 and not self.runs_whole_sequences:
            holds = cheapest_memory(self.n_heads)
            for layer, memory in zip(
                self.transformer_decoder.layers, state.memory.unbind(1), strict=True
            ):
                x = layer(x, causal=True, remember=remember_in(memory, holds))


class LstmDecoder(nn.Module):
    """LSTM whose first layer starts from a hidden state made of z; z is appended to every input."""

    def __init__(self, n_features, max_length, latent_size, fc_hidden_sizes, hidden_size, n_layers):
        super().__init__()
        self.n_features = n_features
        self.max_length = max_length
        self.latent_to_lstm_hidden = FullyConnected(
            latent_size, fc_hidden_sizes, hidden_size, tanh=True
        )
        self.lstm = nn.LSTM(n_features + latent_size, hidden_size, n_layers)
        self.fc = nn.Linear(hidden_size, n_features)

    def forward(self, inputs, z, padding=None, skips_padding=False):
        """As `TransformerDecoder.forward`; padding comes last and plays no part at all."""
        x = torch.cat([inputs, z.expand(len(inputs), -1, -1)], dim=-1)
        outputs, _ = self.lstm(x, self._first_hidden(z))
        return self.fc(outputs)

    @torch.no_grad()
    def begin(self, z):
        """As `TransformerDecoder.begin`."""
        state = DecoderState(
            inputs=z.new_zeros(len(z), self.max_length, self.n_features),
            # Row t: hidden and cell state of every layer before step t.
            memory=z.new_empty(
                len(z), self.max_length + 1, 2, self.lstm.num_layers, self.lstm.hidden_size
            ),
        )
        self.recondition(state, z)
        return state

    @torch.no_grad()
    def step(self, state, x):
        """As `TransformerDecoder.step`."""
        t = state._take(x)
        before = state.memory[:, t].permute(1, 2, 0, 3).contiguous()  # (2, layers, B, hidden_size)
        x = torch.cat([x, state.z], dim=-1)[None]
        outputs, after = self.lstm(x, (before[0], before[1]))
        state.memory[:, t + 1] = torch.stack(after).permute(2, 0, 1, 3)
        return self.fc(outputs[0])

    @torch.no_grad()
    def recondition(self, state, z):
        """As `TransformerDecoder.recondition`, by taking all steps again."""
        state.z = z.clone()
        state.memory[:, 0] = torch.stack(self._first_hidden(z)).permute(2, 0, 1, 3)
        n_steps, state.length = state.length, 0
        for t in range(n_steps):
            self.step(state, state.inputs[:, t])

    def latent_inputs(self):
        """As `TransformerDecoder.latent_inputs`."""
        first = self.latent_to_lstm_hidden.first
        beside = self.lstm.weight_ih_l0[:, self.n_features :], self.lstm.bias_ih_l0
        return [(first.weight, first.bias), beside]

    def _first_hidden(self, z):
        """Hidden and cell state before the first step, (layers, B, hidden_size) each."""
        zeros = z.new_zeros(self.lstm.num_layers, len(z), self.lstm.hidden_size)
        return torch.cat([self.latent_to_lstm_hidden(z)[None], zeros[1:]]), zeros
