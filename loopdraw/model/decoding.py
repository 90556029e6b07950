"""Latents to loop sequences, one timestep after another.

The decoder keeps the keys and values of the steps it has taken, so each step costs one row; many
latents decode as one batch.
"""

import numpy as np
import torch

from loopdraw.threads import threads_for

# A sequence that has ended is noticed at most this many steps late. Looking at every step would
# cost more than the steps saved, and on a GPU every look waits for the device.
STEPS_BETWEEN_END_CHECKS = 8


@torch.inference_mode()
def decode_batch(decoder, latents, n_steps, representation, ended=None, alone=False):
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
    alone : decode each latent as if it were the only one, to the last bit; needs a decoder whose
        `begin` knows how

    Returns
    -------
    (B, n_steps, F) float32 tensor; what follows the end of a sequence has no meaning
    """
    n_features = representation.n_features
    outputs = latents.new_zeros(len(latents), n_steps, n_features)
    active = torch.arange(len(latents), device=latents.device)
    with threads_for(1 if alone else len(latents)):
        state = decoder.begin(latents, alone=True) if alone else decoder.begin(latents)
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
