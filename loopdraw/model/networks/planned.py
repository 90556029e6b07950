"""Version 4 of the transformer: a plan of the whole shape first, then one loop after another.

The decoder of versions 0 to 3 knows where it is only by counting timesteps, so one wrong flag
shifts all that follows. Here the latent first becomes a *plan*: one token for each plane, made all
at once, which says how many loops the plane has and roughly where they lie. Loops are then decoded
in turn. Each step knows from the flags so far in which plane it is, and looks up what the plan says
of that plane and the next. It still sees all loops before it, so an edited loop changes those that
follow.

A step at plane p, loop k (numbers in the order of the sequence) works out

    h      causal transformer over the steps so far, each with its p, k, the plan at p and p + 1,
           and how far its loop departs from what the plan says of it
    flag   does the next loop open a plane?  what the plan says + a correction from h
    next   that makes the next loop's place p', k'
    points what the plan says of the loop at p', k' + a correction from h and from the loop k' of
           the plane below p' and its departure

Departures are what an edit looks like from within: the plan does not know of it, so the loops after
it can only follow it from there.

Blocks are pre-norm with GELU. In the shape comments B is the batch, T timesteps, F features of a
timestep (the flag last), N = F - 1, L latent size, C d_model, P planes, K loops of a plane told
apart, H heads. Sequences are time-first, (T, B, F), at the interface. Plane numbers p are 0 at the
start step, 1 to P on the planes, and P + 1 past the last one.
"""

import functools

import torch
import torch.nn.functional as F
from torch import nn

from loopdraw.model.networks.decoders import DecoderState
from loopdraw.model.networks.fast_paths import (
    MemoryHolds,
    apply_alone,
    apply_layer,
    new_memory,
    rows_function,
)
from loopdraw.model.networks.packed import attend_packed, pays_to_pack, run_packed

K = 8  # loops of a plane that are told apart; later ones share the last number
PLAN_LAYERS, PLAN_FFWD = 2, 256
SLOT = 32  # numbers of a plane between latent and plan, and between loops and latent
BEFORE_THE_FIRST = 8.0  # logit: the first loop always opens a plane


def places(flags):
    """Where timesteps lie, read off their flags.

    Parameters
    ----------
    flags : (B, T) float, 1 where a timestep opens a plane; the first one always does

    Returns
    -------
    plane : (B, T) int, from 1
    index : (B, T) int, number of the loop in its plane, from 0
    """
    opens = F.pad(flags[:, 1:] > 0.5, (1, 0), value=True)
    plane = opens.long().cumsum(1)
    steps = torch.arange(flags.shape[1], device=flags.device).expand_as(plane)
    first = torch.where(opens, steps, 0).cummax(1).values
    return plane, steps - first


def at_joints(plane, present, n_planes):
    """Which loops lie beside a change of the number of loops from plane to plane.

    There, parts begin, end, split or merge.

    Parameters
    ----------
    plane : (B, T) int, from 1: see `places`
    present : (B, T) bool, which timesteps are there
    n_planes : int, P; a plane past them ends the sequence and is none

    Returns
    -------
    (B, T) bool
    """
    plane = plane.clamp(max=n_planes + 1)
    counts = plane.new_zeros(len(plane), n_planes + 2).scatter_add(1, plane, present.long())
    changes = counts[:, 1:n_planes] != counts[:, 2 : n_planes + 1]  # between planes 1 to P
    beside = F.pad(changes, (1, 2)) | F.pad(changes, (2, 1))
    return beside.gather(1, plane) & present


class Block(nn.Module):
    """Self-attention and a feed-forward net, each after a norm."""

    def __init__(self, d_model, n_heads, ffwd_size):
        super().__init__()
        self.n_heads = n_heads
        self.norm1, self.norm2 = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
        self.qkv, self.proj = nn.Linear(d_model, 3 * d_model), nn.Linear(d_model, d_model)
        self.wide, self.narrow = nn.Linear(d_model, ffwd_size), nn.Linear(ffwd_size, d_model)

    def forward(self, x, mask=None, causal=False, memory=None):
        """Steps (B, T, C) to steps; `memory` (B, 2, H, S, D) receives their keys and values."""
        q, k, v = (
            self.qkv(self.norm1(x)).unflatten(-1, (3, self.n_heads, -1)).permute(2, 0, 3, 1, 4)
        )
        if memory is not None:
            memory[:, 0, :, : x.shape[1]], memory[:, 1, :, : x.shape[1]] = k, v
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
        return self._after_attention(x, y.transpose(1, 2).flatten(2))

    def packed(self, x, lengths, causal):
        """As `forward`, of sequences (n, C) of these `lengths` that follow each other."""
        y = attend_packed(self.qkv(self.norm1(x)), lengths, self.n_heads, causal)
        return self._after_attention(x, y)

    def _after_attention(self, x, y):
        x = x + self.proj(y)
        return x + self.narrow(F.gelu(self.wide(self.norm2(x))))

    def stepper(self, alone=False):
        """A function of one step (B, C), the memory and the step's row there; see `forward`.

        With `alone`, as in `PlannedDecoder.begin`.
        """
        to_qkv, to_proj, to_wide, to_narrow = (
            rows_function(layer.weight, layer.bias, alone)
            for layer in (self.qkv, self.proj, self.wide, self.narrow)
        )
        norm1, norm2 = (_norm_function(norm) for norm in (self.norm1, self.norm2))

        def step(x, memory, row):
            qkv = to_qkv(norm1(x)).view(len(x), 3, self.n_heads, 1, -1)
            memory[:, :, :, row] = qkv[:, 1:, :, 0]
            k, v = memory[:, :, :, : row + 1].unbind(1)
            y = F.scaled_dot_product_attention(qkv[:, 0], k, v)  # (B, H, 1, D)
            x = x + to_proj(y.reshape(x.shape))
            return x + to_narrow(F.gelu(to_wide(norm2(x))))

        return step


def _norm_function(norm):
    return functools.partial(
        torch.layer_norm,
        normalized_shape=norm.normalized_shape,
        weight=norm.weight,
        bias=norm.bias,
        eps=norm.eps,
    )


class PlannedEncoder(nn.Module):
    """Loops attend to each other; their sums, a slot for each plane, become mu and log sigma²."""

    def __init__(
        self, n_features, n_planes, latent_size, hidden_size, d_model, n_layers, n_heads, ffwd
    ):
        super().__init__()
        self.n_planes = n_planes
        self.inp = nn.Linear(n_features, d_model)
        self.plane = nn.Embedding(n_planes + 2, d_model)
        self.loop = nn.Embedding(K, d_model)
        self.blocks = nn.ModuleList(Block(d_model, n_heads, ffwd) for _ in range(n_layers))
        self.norm = nn.LayerNorm(d_model)
        self.slot = nn.Linear(d_model, SLOT)
        self.pooled = nn.Linear(n_planes * SLOT, hidden_size)
        self.mu = nn.Linear(hidden_size, latent_size)
        self.log_sigma_squared = nn.Linear(hidden_size, latent_size)

    def forward(self, sequence, padding):
        """As `encoders.TransformerEncoder.forward`."""
        x, padding = sequence.transpose(0, 1), padding.t()  # (B, T, F), (B, T)
        plane, index = places(x[..., -1])
        beyond = self.n_planes + 1
        plane = plane.clamp(max=beyond).masked_fill(padding, beyond)
        x = self.inp(x) + self.plane(plane) + self.loop(index.clamp(max=K - 1))
        if self.training and pays_to_pack(x):
            x = run_packed(self.blocks, x, ~padding)
        else:  # also where a latent must not depend on the others, to the last bit
            for block in self.blocks:
                x = block(x, ~padding[:, None, None])
        x = self.slot(self.norm(x))  # (B, T, SLOT)
        slots = x.new_zeros(len(x), self.n_planes + 2, SLOT)
        slots = slots.scatter_add(1, plane[..., None].expand_as(x), x)[:, 1:beyond]
        h = F.gelu(self.pooled(slots.flatten(1)))
        return self.mu(h), self.log_sigma_squared(h)

    def hidden_matrices(self):
        """The weights between hidden layers; see `optimizers.Muon`."""
        return [*self.blocks.parameters(), self.slot.weight, self.pooled.weight]

    def latent_layers(self):
        """As `encoders.TransformerEncoder.latent_layers`."""
        return self.mu, self.log_sigma_squared


class PlannedDecoder(nn.Module):
    """The decoder; see the top of this file."""

    def __init__(
        self,
        n_features,
        n_planes,
        max_length,
        latent_size,
        hidden_size,
        d_model,
        n_layers,
        n_heads,
        ffwd,
    ):
        super().__init__()
        N, C = n_features - 1, d_model
        self.n_features, self.n_planes, self.max_length = n_features, n_planes, max_length
        self.n_heads, self.d_model = n_heads, d_model
        # the plan
        self.z_wide, self.z_slots = (
            nn.Linear(latent_size, hidden_size),
            nn.Linear(hidden_size, n_planes * SLOT),
        )
        self.plan_in = nn.Linear(SLOT, C)
        self.plan_place = nn.Parameter(0.1 * torch.randn(n_planes, C))
        self.plan_blocks = nn.ModuleList(Block(C, n_heads, PLAN_FFWD) for _ in range(PLAN_LAYERS))
        self.plan_norm = nn.LayerNorm(C)
        self.plan_last = nn.Linear(C, K)  # logit: is loop k the last of its plane?
        self.this_plane, self.next_plane = nn.Linear(C, C), nn.Linear(C, C)
        self.slot_plan, self.slot_loop = nn.Linear(C, C), nn.Embedding(K, C)
        self.slot_out = nn.Linear(C, C)  # what the plan says of one loop
        self.plan_points = nn.Linear(C, N)
        # the steps so far
        self.start = nn.Parameter(torch.zeros(C))
        self.inp = nn.Linear(n_features + N, C)
        self.plane, self.loop = nn.Embedding(n_planes + 2, C), nn.Embedding(K, C)
        self.blocks = nn.ModuleList(Block(C, n_heads, ffwd) for _ in range(n_layers))
        self.norm = nn.LayerNorm(C)
        self.flag = nn.Linear(C, 1)
        # the next loop
        self.below = nn.Linear(2 * N + 1, C)
        self.head_norm = nn.LayerNorm(C)
        self.head_wide, self.head_narrow = nn.Linear(C, 2 * C), nn.Linear(2 * C, C)
        self.out_norm = nn.LayerNorm(C)
        self.out = nn.Linear(C, N)
        self._initialise()

    def _initialise(self):
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.7 * module.in_features**-0.5)
                nn.init.zeros_(module.bias)
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.1)
        with torch.no_grad():
            for stack in (self.blocks, self.plan_blocks):
                for block in stack:
                    for weight in (block.proj.weight, block.narrow.weight):
                        weight *= (2 * len(stack)) ** -0.5
            for weight in (self.flag.weight, self.out.weight):
                weight *= 0.1

    # ---------------------------------------------------------------------------------- the plan

    def plan(self, z):
        """What the latents (B, L) say of every plane.

        Returns
        -------
        context : (B, P + 2, C), for the steps on planes 0 to P + 1
        slots : (B, P + 2, C), for the loops on them
        last : (B, P + 2, K), logits: is loop k the last of its plane?
        """
        x = self.z_slots(F.gelu(self.z_wide(z))).unflatten(-1, (self.n_planes, SLOT))
        x = self.plan_in(x) + self.plan_place
        for block in self.plan_blocks:
            x = block(x)
        x = self.plan_norm(x)  # (B, P, C)
        last = F.pad(self.plan_last(x), (0, 0, 1, 0), value=BEFORE_THE_FIRST)
        last = F.pad(last, (0, 0, 0, 1))
        around = F.pad(x, (0, 0, 1, 2))  # planes 0 to P + 2
        context = self.this_plane(around)[:, :-1] + self.next_plane(around)[:, 1:]
        return context, self.slot_plan(around)[:, :-1], last

    def read_plan(self, plan, flags):
        """What a plan says of a whole sequence.

        Parameters
        ----------
        plan : what `plan` returns
        flags : (T, B) float, the true flags, which say where the loops lie

        Returns
        -------
        (T, B, F), flags as logits; the first flag has no meaning
        """
        _, slots, last = plan
        plane, index = self._places(flags.t())  # with the start step before them
        logits = last.flatten(1).gather(1, (plane * K + index)[:, :-1])
        points = self.plan_points(self._slot(slots, plane[:, 1:], index[:, 1:]))
        return torch.cat([points, logits[..., None]], dim=-1).transpose(0, 1)

    def _slot(self, slots, plane, index):
        """What the plan says of the loops at (plane, index), each (B, T): (B, T, C)."""
        at = slots.gather(1, plane[..., None].expand(*plane.shape, self.d_model))
        return self.slot_out(F.gelu(at + self.slot_loop(index)))

    # ------------------------------------------------------------------------- the steps, at once

    def forward(self, inputs, z, padding=None, skips_padding=False, next_flags=None, plan=None):
        """Teacher-forced outputs of a whole sequence.

        Parameters
        ----------
        inputs, z : as in `decoders.TransformerDecoder.forward`
        padding, skips_padding : as there, but padding alone changes nothing, so it may be left out
        next_flags : (T, B) float, optional
            The true flags of the timesteps that follow, which say where these lie. Without them
            the predicted ones do.
        plan : what `plan` returns of z, if it is known already

        Returns
        -------
        (T, B, F) float : the timestep that follows each input step, its flag as a logit
        """
        x = inputs.transpose(0, 1)  # (B, T, F)
        plane, index = self._places(x[:, 1:, -1])
        context, slots, last = plan or self.plan(z)
        departure = x[..., :-1] - self.plan_points(self._slot(slots, plane, index))
        h = self._embed(x, departure, plane, index, context)
        if padding is not None and skips_padding and pays_to_pack(h):
            h = run_packed(self.blocks, h, ~padding.t(), causal=True)
        else:
            for block in self.blocks:
                h = block(h, causal=True)
        h = self.norm(h)
        logits = last.flatten(1).gather(1, plane * K + index) + self.flag(h)[..., 0]
        opens = logits > 0 if next_flags is None else next_flags.t() > 0.5
        plane_after, index_after = self._next_place(plane, index, opens)
        slot = self._slot(slots, plane_after, index_after)
        loops = torch.cat([x[..., :-1], departure], dim=-1)
        below = self._loops_below(loops, plane, index, plane_after, index_after)
        points = self.plan_points(slot) + self._correction(h, slot, below)
        return torch.cat([points, logits[..., None]], dim=-1).transpose(0, 1)

    def _places(self, flags):
        """Plane and number of the loops with these flags (B, T), after a start step at 0, 0."""
        plane, index = places(flags)
        plane = F.pad(plane, (1, 0)).clamp(max=self.n_planes + 1)
        return plane, F.pad(index, (1, 0)).clamp(max=K - 1)

    def _next_place(self, plane, index, opens):
        opens = opens | (plane == 0)
        plane_after = (plane + opens).clamp(max=self.n_planes + 1)
        return plane_after, torch.where(opens, 0, (index + 1).clamp(max=K - 1))

    def _embed(self, x, departure, plane, index, context, apply=apply_layer):
        """What the blocks see of the steps (B, T, F) that lie at (plane, index)."""
        x = apply(self.inp, torch.cat([x, departure], dim=-1))
        x = torch.where((plane == 0)[..., None], self.start, x)
        x = x + self.plane(plane) + self.loop(index)
        return x + context.gather(1, plane[..., None].expand_as(x))

    def _loops_below(self, loops, plane, index, plane_after, index_after):
        """For each next loop, the loop of the same number in the plane below it.

        Parameters
        ----------
        loops : (B, T, 2 N), loops and departures, which lie at (plane, index)
        plane_after, index_after : (B, T), where the next loops lie

        Returns
        -------
        (B, T, 2 N + 1), the loop, its departure and 1; all 0 where there is none
        """
        B, T = plane.shape
        steps = torch.arange(T, device=plane.device).expand(B, T)
        rows = plane.new_full((B, (self.n_planes + 2) * K), T)
        rows = rows.scatter(1, plane * K + index, steps)
        rows[:, :K] = T  # the start step is no loop
        row = rows.gather(1, (plane_after - 1).clamp(min=0) * K + index_after)
        row = torch.where(row <= steps, row, T)
        table = F.pad(F.pad(loops, (0, 1), value=1.0), (0, 0, 0, 1))  # row T: all 0
        return table.gather(1, row[..., None].expand(B, T, table.shape[-1]))

    def _correction(self, h, slot, below, apply=apply_layer):
        x = h + slot + apply(self.below, below)
        wide = F.gelu(apply(self.head_wide, self.head_norm(x)))
        x = x + apply(self.head_narrow, wide)
        return apply(self.out, self.out_norm(x))

    # --------------------------------------------------------------------- the steps, one by one

    @torch.no_grad()
    def begin(self, z, alone=False):
        """As `decoders.TransformerDecoder.begin`.

        With `alone`, each of the latents is decoded as if it were the only one, to the last bit.
        """
        B, n_layers = len(z), len(self.blocks)
        state = DecoderState(
            inputs=z.new_zeros(B, self.max_length, self.n_features),
            memory=new_memory(
                z,
                MemoryHolds.KEYS_AND_VALUES,
                B,
                n_layers,
                self.n_heads,
                self.max_length,
                self.d_model,
            ),
            steppers=[block.stepper(alone) for block in self.blocks],
        )
        state.apply = apply_alone if alone else apply_layer
        state.plane = z.new_zeros(B, self.max_length, dtype=torch.long)
        state.index = torch.zeros_like(state.plane)
        state.departure = torch.zeros_like(state.inputs[..., :-1])
        if not alone:
            self._condition(state, z)
            return state
        parts = [DecoderState(None, None) for _ in z]
        for part, row in zip(parts, z.split(1), strict=True):
            self._condition(part, row)
        for name in ("z", "context", "slots", "last", "planned"):
            setattr(state, name, torch.cat([getattr(part, name) for part in parts]))
        return state

    @torch.no_grad()
    def step(self, state, x):
        """As `decoders.TransformerDecoder.step`. Flags of the input count as 0 or 1."""
        x = torch.cat([x[:, :-1], (x[:, -1:] > 0.5).to(x.dtype)], dim=1)
        t = state._take(x)
        if t > 0:
            plane, index = self._next_place(
                state.plane[:, t - 1], state.index[:, t - 1], x[:, -1] > 0.5
            )
            state.plane[:, t], state.index[:, t] = plane, index
        plane, index = state.plane[:, t : t + 1], state.index[:, t : t + 1]  # (B, 1)
        rows = torch.arange(len(x), device=x.device)[:, None]
        departure = x[:, None, :-1] - state.planned[rows, plane * K + index]
        state.departure[:, t] = departure[:, 0]
        h = self._embed(x[:, None], departure, plane, index, state.context, state.apply)[:, 0]
        for step, memory in zip(state.steppers, state.memory.unbind(1), strict=True):
            h = step(h, memory, t)
        h = self.norm(h)[:, None]  # (B, 1, C)
        logits = (
            state.last.flatten(1).gather(1, plane * K + index) + state.apply(self.flag, h)[..., 0]
        )
        plane_after, index_after = self._next_place(plane, index, logits > 0)
        place = plane_after * K + index_after
        below = self._loop_below(state, t, plane_after, index_after)
        points = self._correction(h, state.slots[rows, place], below, state.apply)
        points = state.planned[rows, place] + points
        return torch.cat([points[:, 0], logits], dim=-1)

    def _loop_below(self, state, t, plane_after, index_after):
        """As `_loops_below` for the step after `t`: (B, 1, 2 N + 1)."""
        seen = slice(0, t + 1)
        here = (state.plane[:, seen] == plane_after - 1) & (state.index[:, seen] == index_after)
        here &= plane_after > 1
        steps = torch.arange(1, t + 2, device=here.device)
        latest = (here * steps).amax(dim=1)  # (B,), 0 where there is none
        rows = torch.arange(len(latest), device=here.device)
        found = latest > 0
        row = (latest - 1).clamp(min=0)
        loop = torch.cat([state.inputs[rows, row, :-1], state.departure[rows, row]], dim=-1)
        return F.pad(loop, (0, 1), value=1.0)[:, None] * found[:, None, None]

    @torch.no_grad()
    def recondition(self, state, z):
        """As `decoders.TransformerDecoder.recondition`."""
        self._condition(state, z)

    def _condition(self, state, z):
        """Set what depends on z and fill the memory of the steps taken so far."""
        state.z = z.clone()
        state.context, slots, state.last = self.plan(z)
        # Of all places at once, (B, (P + 2) K, ...): the steps look up theirs.
        every_place = torch.arange((self.n_planes + 2) * K, device=z.device).expand(len(z), -1)
        state.slots = self._slot(slots, every_place // K, every_place % K)
        state.planned = self.plan_points(state.slots)
        n = state.length
        if n > 0:
            x, plane, index = state.inputs[:, :n], state.plane[:, :n], state.index[:, :n]
            rows = torch.arange(len(x), device=x.device)[:, None]
            departure = x[..., :-1] - state.planned[rows, plane * K + index]
            state.departure[:, :n] = departure
            x = self._embed(x, departure, plane, index, state.context)
            for block, memory in zip(self.blocks, state.memory.unbind(1), strict=True):
                x = block(x, causal=True, memory=memory)

    def hidden_matrices(self):
        """The weights between hidden layers; see `optimizers.Muon`."""
        layers = (
            *(self.z_wide, self.z_slots, self.plan_in, self.this_plane, self.next_plane),
            *(self.slot_plan, self.slot_out, self.head_wide, self.head_narrow),
        )
        blocks = (self.plan_blocks, self.blocks)
        return [
            *(weight for stack in blocks for weight in stack.parameters()),
            *(layer.weight for layer in layers),
        ]

    def latent_inputs(self):
        """As `decoders.TransformerDecoder.latent_inputs`."""
        return [(self.z_wide.weight, self.z_wide.bias)]
