"""A new head starts from a linear fit on the frozen encoder, not from random weights.

From random weights a head needs most of a small data set to find its scale, and what it sends down
meanwhile pulls the encoder about for nothing. The fit reads some rows once, without gradients; it
costs a fraction of an epoch, and what the encoder knows of other languages is kept better.

Shapes: P vectors that the last layer reads, D their width, C outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from xlmr.training.devices import Device
from xlmr.training.objective import Feature
from xlmr.training.recipe import Recipe
from xlmr.training.schedule import token_batches

# Features that are read, and their tokens: more would say little new about so few weights.
_MOST_FEATURES, _MOST_TOKENS = 5000, 200_000
# What the squared weights count in the fit, on vectors of unit spread. Much less, and every row of
# a small data set is known by heart before the encoder has learned anything; much more, and the
# head is hardly better than a random one.
_STRENGTH = 10.0
_ITERATIONS = 200


@runtime_checkable
class FitsHead(Protocol):
    """An objective whose outputs are linear in what a last layer reads."""

    def last_layer(self, network: Any) -> Any | None:
        """The linear layer; None where the encoder brought it along and it is to be kept."""

    def read(self, inputs: Any, batch: Sequence[Feature]) -> Any:
        """Of the layer's inputs for a batch those that are learned from, [P, D], in order."""

    def cost(self, outputs_PC: Any, batch: Sequence[Feature]) -> Any:
        """The objective's loss of a batch, from the layer's outputs for what `read` gave."""


def fit_head(
    network: Any, objective: object, features: Sequence[Feature], recipe: Recipe, device: Device
) -> bool:
    """Gives a new last layer its first weights, in place; every process gets the same.

    Args:
        network: on its device.
        objective: one that is not `FitsHead` is left alone.
        features: to learn from.
        recipe: the run.
        device: where.

    Returns:
        Whether a head was fitted.
    """
    if recipe.optimizer.head != "fitted" or not isinstance(objective, FitsHead):
        return False
    layer = objective.last_layer(network)
    if layer is None:
        return False
    some = _drawn(features, recipe.seed)
    places = token_batches([feature.length for feature in some], budget=recipe.run.batch_tokens)
    found: list[tuple[int, NDArray[np.float32]]] = []
    network.eval()
    with device.inference(recipe.run.precision):
        for number in range(device.rank, len(places), device.processes):
            batch = [some[i] for i in places[number]]
            found.append((number, _vectors(network, layer, objective, batch)))
    read = dict(device.gathered(found))
    ordered = [some[i] for indices in places for i in indices]
    solved = []
    if device.leads:
        vectors_PD = np.concatenate([read[number] for number in range(len(places))])
        solved = [_solve(vectors_PD, ordered, objective, layer.out_features)]
    _give(layer, device.gathered(solved)[0])
    return True


def _drawn(features: Sequence[Feature], seed: int) -> list[Feature]:
    """All features, or as many of them, drawn by lot, as are enough; at least one."""
    lot = np.random.default_rng(seed).permutation(len(features))
    tokens = np.cumsum([features[i].tokens for i in lot])
    count = max(1, int(np.searchsorted(tokens, _MOST_TOKENS, side="right")))
    return [features[i] for i in sorted(lot[: min(count, _MOST_FEATURES)].tolist())]


def _vectors(
    network: Any, layer: Any, objective: Any, batch: Sequence[Feature]
) -> NDArray[np.float32]:
    """What the layer reads of a batch, [P, D]."""
    seen: list[Any] = []
    hook = layer.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    try:
        objective.predict(network, batch)
    finally:
        hook.remove()
    vectors_PD: NDArray[np.float32] = objective.read(seen[0], batch).float().cpu().numpy()
    return vectors_PD


def _solve(
    vectors_PD: NDArray[np.float32], features: Sequence[Feature], objective: FitsHead, outputs: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weights [C, D] and biases [C] for the vectors as they are; scaling is folded in."""
    import torch

    mean_D = vectors_PD.mean(axis=0)
    spread = max(float(np.sqrt(vectors_PD.var(axis=0).mean())), 1e-6)
    inputs_PD = torch.from_numpy((vectors_PD - mean_D) / spread)
    weight_CD = torch.zeros(outputs, inputs_PD.shape[1], requires_grad=True)
    bias_C = torch.zeros(outputs, requires_grad=True)
    search = torch.optim.LBFGS(
        [weight_CD, bias_C], max_iter=_ITERATIONS, line_search_fn="strong_wolfe"
    )

    def step() -> Any:
        search.zero_grad()
        # The biases too: that of a class of which no row was drawn would fall without end.
        held = _STRENGTH / 2 * (weight_CD.square().sum() + bias_C.square().sum() / len(features))
        loss = (objective.cost(inputs_PD @ weight_CD.T + bias_C, features) + held) / len(features)
        loss.backward()
        return loss

    with torch.enable_grad():
        search.step(step)
    weights = weight_CD.detach().numpy() / spread
    return weights, bias_C.detach().numpy() - weights @ mean_D


def _give(layer: Any, solved: tuple[NDArray[np.float32], NDArray[np.float32]]) -> None:
    import torch

    with torch.no_grad():
        for parameter, values in zip((layer.weight, layer.bias), solved, strict=True):
            parameter.copy_(torch.from_numpy(values))
