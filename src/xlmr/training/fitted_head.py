"""A new head starts from a linear fit on the frozen encoder, not from random weights.

From random weights a head needs most of a small data set to find its scale, and what it sends down
meanwhile pulls the encoder about for nothing. The fit reads some rows without gradients and costs a
fraction of an epoch.

How hard it is held is found for each data set: where dropout moves a vector farther than one row
differs from the next, weights that tell the rows apart would make training begin worse than
guessing. So a fifth of the rows is kept back and judges, read with dropout as training reads.

Shapes: P vectors that the last layer reads, D their width, C outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from xlmr.training.devices import Device
from xlmr.training.objective import Feature
from xlmr.training.recipe import Recipe
from xlmr.training.schedule import token_batches

# Features that are read, and their tokens: more would say little new about so few weights.
_MOST_FEATURES, _MOST_TOKENS = 5000, 200_000
# One feature of so many judges.
_JUDGES = 5
# What the squared weights may count in the fit, on vectors of unit spread. The last, and a small
# data set is known by heart before the encoder has learned anything; the first, and the head is
# hardly better than a random one.
_STRENGTHS = (1e4, 3e3, 1e3, 3e2, 1e2, 30.0, 10.0, 3.0, 1.0)
_ITERATIONS = 200

# What outputs [P, C] cost, summed over features.
Cost = Callable[[Any, Sequence[Feature]], Any]
# Weights [C, D] and biases [C], tensors.
Head = tuple[Any, ...]


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
    judges = some[_JUDGES - 1 :: _JUDGES] or some
    others = [feature for i, feature in enumerate(some) if (i + 1) % _JUDGES]
    reader = _Reader(network, layer, objective, recipe, device)
    known, kept_back = reader.read(others), reader.read(judges)
    disturbed = reader.read(judges, dropout=True)
    solved = []
    if device.leads:
        solved = [_solve(known, kept_back, disturbed, objective.cost, layer.out_features)]
    _give(layer, device.gathered(solved)[0])
    return True


@dataclass(frozen=True, slots=True)
class _Read:
    """What the last layer reads, [P, D], and of which features, in the vectors' order."""

    vectors_PD: NDArray[np.float32]
    features: Sequence[Feature]


@dataclass(frozen=True, slots=True)
class _Reader:
    """Shows the network features and keeps what its last layer reads."""

    network: Any
    layer: Any
    objective: Any
    recipe: Recipe
    device: Device

    def read(self, features: Sequence[Feature], *, dropout: bool = False) -> _Read:
        """Every process reads its share and gets all of it; the same for any number of them."""
        budget = self.recipe.run.batch_tokens
        places = token_batches([feature.length for feature in features], budget=budget)
        found: list[tuple[int, NDArray[np.float32]]] = []
        self.network.train(dropout)
        with self.device.inference(self.recipe.run.precision):
            for number in range(self.device.rank, len(places), self.device.processes):
                batch = [features[i] for i in places[number]]
                with self.device.seeded(self.recipe.seed, number):
                    found.append((number, self._vectors(batch)))
        by_number = dict(self.device.gathered(found))
        vectors_PD = np.concatenate([by_number[number] for number in range(len(places))])
        return _Read(vectors_PD, [features[i] for indices in places for i in indices])

    def _vectors(self, batch: Sequence[Feature]) -> NDArray[np.float32]:
        """Of one batch."""
        seen: list[Any] = []
        hook = self.layer.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        try:
            self.objective.predict(self.network, batch)
        finally:
            hook.remove()
        vectors_PD: NDArray[np.float32] = self.objective.read(seen[0], batch).float().cpu().numpy()
        return vectors_PD


def _drawn(features: Sequence[Feature], seed: int) -> list[Feature]:
    """All features, or as many of them, drawn by lot, as are enough; at least one."""
    lot = np.random.default_rng(seed).permutation(len(features))
    tokens = np.cumsum([features[i].tokens for i in lot])
    count = max(1, int(np.searchsorted(tokens, _MOST_TOKENS, side="right")))
    return [features[i] for i in sorted(lot[: min(count, _MOST_FEATURES)].tolist())]


def _solve(
    known: _Read, kept_back: _Read, disturbed: _Read, cost: Cost, outputs: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weights [C, D] and biases [C] for the vectors as they are; scaling is folded in.

    Args:
        known: to fit on.
        kept_back: what judges, for the last fit.
        disturbed: the same with dropout.
        cost: the loss.
        outputs: C.
    """
    import torch

    every = _Read(
        np.concatenate([known.vectors_PD, kept_back.vectors_PD]),
        [*known.features, *kept_back.features],
    )
    mean_D = every.vectors_PD.mean(axis=0)
    spread = max(float(np.sqrt(every.vectors_PD.var(axis=0).mean())), 1e-6)
    every, known, disturbed = (
        _Read((read.vectors_PD - mean_D) / spread, read.features)
        for read in (every, known, disturbed)
    )
    nothing = torch.zeros(outputs, len(mean_D)), torch.zeros(outputs)
    head, best, least = nothing, _STRENGTHS[0], np.inf
    for strength in _STRENGTHS:
        head = _fit(known, cost, strength, head)
        loss = float(_mean_cost(disturbed, cost, head))
        if not loss < least:
            break
        best, least = strength, loss
    weight_CD, bias_C = (tensor.numpy() for tensor in _fit(every, cost, best, nothing))
    return weight_CD / spread, bias_C - weight_CD @ mean_D / spread


def _fit(read: _Read, cost: Cost, strength: float, start: Head) -> Head:
    """The best head where the squares of weights and biases count so much."""
    import torch

    weight_CD, bias_C = head = tuple(tensor.clone().requires_grad_() for tensor in start)
    count = len(read.features)
    search = torch.optim.LBFGS(head, max_iter=_ITERATIONS, line_search_fn="strong_wolfe")

    def step() -> Any:
        search.zero_grad()
        # The biases too: that of a class of which no row was drawn would fall without end.
        held = strength / 2 * (weight_CD.square().sum() + bias_C.square().sum() / count)
        loss = _mean_cost(read, cost, head) + held / count
        loss.backward()
        return loss

    with torch.enable_grad():
        search.step(step)
    return weight_CD.detach(), bias_C.detach()


def _mean_cost(read: _Read, cost: Cost, head: Head) -> Any:
    """What a head costs, a feature."""
    import torch

    weight_CD, bias_C = head
    outputs_PC = torch.from_numpy(read.vectors_PD) @ weight_CD.T + bias_C
    return cost(outputs_PC, read.features) / len(read.features)


def _give(layer: Any, solved: tuple[NDArray[np.float32], NDArray[np.float32]]) -> None:
    import torch

    with torch.no_grad():
        for parameter, values in zip((layer.weight, layer.bias), solved, strict=True):
            parameter.copy_(torch.from_numpy(values))
