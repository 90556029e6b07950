"""Muon, an optimizer for the hidden matrices of a network, and the weights that it takes.

K. Jordan et al., Muon: An optimizer for hidden layers in neural networks (2024),
https://kellerjordan.github.io/posts/muon/. The momentum of each matrix is replaced by the nearest
matrix whose singular values are all about 1. Steps are scaled to the size of AdamW's, as in J. Liu
et al., Muon is Scalable for LLM Training (2025), so that both take the same learning rate.

torch.optim.Muon computes in bfloat16. CPUs without it are over ten times slower at that, so this
one stays in float32.
"""

import torch

LEAST_SIDE = 32  # smaller matrices are left to AdamW
MOMENTUM = 0.95
BETAS = (0.9, 0.98)  # of AdamW
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
N_ITERATIONS = 5
# Parts of the published names of embeddings, input and output layers.
OUTER_LAYERS = (
    *("positional_embedding", "linear_in_to_", "weight_ih_l0", "fc_pos"),
    *("linear_dec_to_out", "fcnet.out", "fc_c."),
)


def orthogonalise(matrices):
    """Move the singular values of matrices (..., n, m) to about 1 by Newton-Schulz iterations."""
    a, b, c = NEWTON_SCHULZ
    is_tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if is_tall else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(N_ITERATIONS):
        square = x @ x.mT
        x = a * x + (b * square + c * (square @ square)) @ x
    return x.mT if is_tall else x


class Muon(torch.optim.Optimizer):
    """Muon for some weights of a network and AdamW for the others.

    A matrix three times as high as wide is taken for three square ones, such as those that make
    queries, keys and values.

    Parameters
    ----------
    network : nn.Module
    lr : float
    weight_decay : float, of matrices; vectors such as biases never decay
    eps : float, of AdamW
    """

    def __init__(self, network, lr, weight_decay=0.01, eps=1e-8):
        hidden = hidden_matrices(network)
        taken = set(map(id, hidden))
        others = [weight for weight in network.parameters() if id(weight) not in taken]
        groups = [
            {"params": hidden, "is_hidden": True},
            {"params": [weight for weight in others if weight.ndim > 1], "is_hidden": False},
            {
                "params": [weight for weight in others if weight.ndim <= 1],
                "is_hidden": False,
                "weight_decay": 0.0,
            },
        ]
        # An empty group is no error to torch, and keeps the form of the state the same.
        super().__init__(groups, {"lr": lr, "weight_decay": weight_decay, "eps": eps})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if not weights:
                continue
            torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
            if group["is_hidden"]:
                self._muon(weights, group)
            else:
                self._adam(weights, group)

    def _muon(self, weights, group):
        gradients = [weight.grad for weight in weights]
        momenta = self._states(weights, "momentum")
        torch._foreach_lerp_(momenta, gradients, 1 - MOMENTUM)
        ahead = torch._foreach_lerp(gradients, momenta, MOMENTUM)  # Nesterov's
        by_shape = {}  # equal shapes are one product
        for weight, update in zip(weights, ahead, strict=True):
            n, m = update.shape
            parts = update.view(3, m, m) if n == 3 * m else update[None]
            by_shape.setdefault(parts.shape[1:], []).append((weight, parts))
        for shape, items in by_shape.items():
            updates = orthogonalise(torch.cat([parts for _, parts in items]))
            updates = updates.split([len(parts) for _, parts in items])
            for (weight, _), update in zip(items, updates, strict=True):
                step_size = group["lr"] * 0.2 * max(shape) ** 0.5
                weight.add_(update.reshape(weight.shape), alpha=-step_size)

    def _adam(self, weights, group):
        beta1, beta2 = BETAS
        gradients = [weight.grad for weight in weights]
        means, squares = (self._states(weights, name) for name in ("mean", "square"))
        torch._foreach_lerp_(means, gradients, 1 - beta1)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - beta2)
        step = group["step"] = group.get("step", 0) + 1
        scales = torch._foreach_sqrt(squares)
        torch._foreach_div_(scales, (1 - beta2**step) ** 0.5)
        torch._foreach_add_(scales, group["eps"])
        torch._foreach_addcdiv_(weights, means, scales, -group["lr"] / (1 - beta1**step))

    def _states(self, weights, name):
        for weight in weights:
            if name not in self.state[weight]:
                self.state[weight][name] = torch.zeros_like(weight)
        return [self.state[weight][name] for weight in weights]


def hidden_matrices(network):
    """The weights of a network that Muon is for: matrices between hidden layers.

    A network with a method `hidden_matrices` names them itself. Of others it is all but embeddings,
    input and output layers.
    """
    if hasattr(network, "hidden_matrices"):
        weights = network.hidden_matrices()
    else:
        weights = [
            weight
            for name, weight in network.named_parameters()
            if name != "fc.weight" and not any(word in name for word in OUTER_LAYERS)
        ]
    return [weight for weight in weights if weight.ndim == 2 and min(weight.shape) >= LEAST_SIDE]
