"""Latents to loop sequences, one timestep after another, with the user's edits on the way.

The decoder keeps the keys and values of the steps it has taken, so each step costs one row; many
latents decode as one batch. An intervention function sees every timestep before it becomes the
next input, which is how moving one loop changes all that follow.
"""

import numpy as np
import torch

from loopdraw.threads import threads_for

# A sequence that has ended is noticed at most this many steps late. Looking at every step would
# cost more than the steps saved, and on a GPU every look waits for the device.
STEPS_BETWEEN_END_CHECKS = 8


class InterventionState:
    """What an intervention function keeps from one timestep of a shape to the next.

    Calling it gives the index of the current loop. The function itself advances the index, with
    `state.modify(lambda i: i + 1)`. `retrieve("latent_z")` is the (1, latent size) latent of the
    shape, `retrieve("latent_size")` its size; other keys are the function's own.
    """

    def __init__(self, latent):
        self._index = 0
        self._values = {"latent_z": latent, "latent_size": latent.shape[-1]}

    def __call__(self):
        return self._index

    def modify(self, function):
        """Replace the index by `function(index)`."""
        self._index = function(self._index)

    def put(self, value):
        """Set the index."""
        self._index = value

    def store(self, key, value):
        """Keep a value for later timesteps of this shape."""
        self._values[key] = value

    def retrieve(self, key):
        """The value kept under `key`; KeyError if there is none."""
        return self._values[key]


@torch.inference_mode()
def decode_batch(decoder, latents, n_steps, representation, ended=None):
    """Decode latents into normalised sequences.

    Parameters
    ----------
    decoder : a decoder of `encoders`, in evaluation mode
    latents : (B, latent size) tensor
    n_steps : int, timesteps of a sequence
    representation : representations.Representation
        A flag, the last feature, is passed through a sigmoid.
    ended : function or None
        Maps the sequences so far, a (b, steps, F) array, to a (b,) bool array: those that have
        ended. They stop costing.

    Returns
    -------
    (B, n_steps, F) float32 tensor; what follows the end of a sequence has no meaning
    """
    n_features = representation.n_features
    outputs = latents.new_zeros(len(latents), n_steps, n_features)
    active = torch.arange(len(latents), device=latents.device)
    with threads_for(len(latents)):
        state = decoder.begin(latents)
        step_input = latents.new_zeros(len(latents), n_features)
        for t in range(n_steps):
            step_input = decoder.step(state, step_input)  # (b, F)
            if representation.has_flag:
                step_input[:, -1].sigmoid_()
            outputs[active, t] = step_input
            if ended is None or (t + 1) % STEPS_BETWEEN_END_CHECKS:
                continue
            going_on = np.flatnonzero(~ended(outputs[active, : t + 1].cpu().numpy()))
            if not len(going_on):
                break
            if len(going_on) < len(active):
                going_on = torch.from_numpy(going_on).to(latents.device)
                state.select(going_on)
                active, step_input = active[going_on], step_input[going_on]
    return outputs


@torch.inference_mode()
def decode_with_intervention(decoder, latent, n_steps, representation, intervention, dataset):
    """Decode one latent, every timestep passing through the user's function.

    Parameters
    ----------
    decoder, n_steps, representation : as in `decode_batch`
    latent : (1, latent size) tensor
    intervention : `loop_generation_intervention(dataset, ts_i_state, ts)`
        Takes a normalised timestep (1, F) and returns the new one, or a tuple of it and a function
        from the latent (1, latent size) to one that conditions all further steps.
    dataset : what the function gets as its dataset: `dataset_mean`, `dataset_std` and more

    Returns
    -------
    (n_steps, F) float32 tensor

    Raises
    ------
    ValueError
        When the function returns something else, or a new latent with arch version 0.
    """
    memory = InterventionState(latent)
    outputs = latent.new_zeros(n_steps, representation.n_features)
    timestep = latent.new_zeros(1, representation.n_features)
    with threads_for(1):
        state = decoder.begin(latent)
        for t in range(n_steps):
            timestep = decoder.step(state, timestep)  # (1, F)
            if representation.has_flag:
                timestep[:, -1].sigmoid_()
            answer = intervention(dataset, memory, timestep.clone())
            change_latent = None
            if isinstance(answer, tuple):
                answer, change_latent = answer
            timestep = _as_tensor(answer, timestep, f"timestep of loop {t}")
            outputs[t] = timestep[0]
            if change_latent is not None:
                latent = _as_tensor(change_latent(latent.clone()), latent, f"latent after loop {t}")
                decoder.recondition(state, latent)
                memory.store("latent_z", latent)
    return outputs


def _as_tensor(value, like, what):
    """A user's tensor or array, in the shape, type and place of `like`."""
    value = torch.as_tensor(value, dtype=like.dtype, device=like.device)
    if value.numel() != like.numel():
        raise ValueError(
            f"the intervention function returned a {what} of shape {tuple(value.shape)}; "
            f"it must be {tuple(like.shape)}"
        )
    if not torch.isfinite(value).all():
        raise ValueError(f"the intervention function returned a {what} that is not finite")
    return value.reshape(like.shape)
