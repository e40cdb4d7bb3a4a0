"""AdamW over the parameters that learn: which decay, and how fast each layer goes."""

from __future__ import annotations

import re
from typing import Any

from xlmr.training.recipe import Optimizer

_LAYER = re.compile(r"\.layer\.(\d+)\.")


def learning(network: Any) -> list[tuple[str, Any]]:
    """Names and parameters that learn, in the network's order; the same for a wrapped network."""
    network = getattr(network, "module", network)
    return [(name, p) for name, p in network.named_parameters() if p.requires_grad]


def make_optimizer(network: Any, options: Optimizer) -> Any:
    """AdamW in groups, each with its `rate_factor`: what its learning rate is multiplied by."""
    import torch

    named = learning(network)
    layers = max((depth for name, _ in named if (depth := _depth(name)) is not None), default=0)
    groups: dict[tuple[float, float], list[Any]] = {}
    for name, parameter in named:
        factor = options.layer_decay ** (layers - _height(name, layers))
        # Biases and norms are not decayed: pulling them to zero helps nothing.
        decay = options.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((factor, decay), []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": parameters, "rate_factor": factor, "weight_decay": decay}
            for (factor, decay), parameters in groups.items()
        ],
        lr=options.learning_rate,
        fused=True,
    )


def _depth(name: str) -> int | None:
    found = _LAYER.search(name)
    return int(found[1]) if found else None


def _height(name: str, layers: int) -> int:
    """The layer's place from below; embeddings lie under the lowest, heads count as the highest."""
    depth = _depth(name)
    if depth is not None:
        return depth
    return -1 if "embeddings" in name else layers
