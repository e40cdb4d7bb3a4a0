"""The run, on one page: `train` takes steps and yields them; whoever called shows, saves and stops.

Between two steps `State` is whole: what `State.to_dict` gives, written down and read back into a
new state, continues to the same bytes. No random state needs keeping: every step draws its dropout
and its masks from the seed, its own number and the process's rank.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from xlmr.errors import TrainingError
from xlmr.training.devices import Device, is_out_of_memory
from xlmr.training.embeddings import choose_rows
from xlmr.training.lora import add_updates
from xlmr.training.objective import Feature, Objective
from xlmr.training.optimizer import learning, make_optimizer
from xlmr.training.recipe import Recipe
from xlmr.training.schedule import epoch_steps, rate_factor, token_batches

# A loss this near to that of a network that knows nothing, for so many epochs, has collapsed. In
# fewer steps than these an epoch's mean says little.
_COLLAPSED, _COLLAPSED_EPOCHS, _LEAST_STEPS = 0.99, 3, 50


@dataclass(frozen=True, slots=True)
class DevScore:
    """What the dev rows say after an epoch. `macro` counts every language the same."""

    epoch: int
    metric: str
    macro: float
    by_language: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Step:
    """One update.

    Attributes:
        number: from 1.
        epoch: from 1.
        loss: mean over the step, weighted as the objective says.
        gradient_norm: before it was clipped.
        tokens: real ones, of all processes.
        learning_rate: of the head.
        seconds: since the step before.
        done: share of the run, 0 to 1.
        dev: where the step ends an epoch and there are dev rows.
        ends_epoch: whether it does.
    """

    number: int
    epoch: int
    loss: float
    gradient_norm: float
    tokens: int
    learning_rate: float
    seconds: float
    done: float
    ends_epoch: bool = False
    dev: DevScore | None = None


@dataclass
class State:
    """Where a run stands: the weights that learn, the optimizer, and the next step to take."""

    network: Any
    optimizer: Any
    epoch: int = 0
    place: int = 0
    number: int = 0
    epoch_loss: float = 0.0
    losses: list[float] = field(default_factory=list)
    scores: list[DevScore] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Tensors and plain values."""
        return {
            "weights": {name: p.detach() for name, p in learning(self.network)},
            "optimizer": self.optimizer.state_dict(),
            "place": [self.epoch, self.place, self.number, self.epoch_loss],
            "losses": list(self.losses),
            "scores": [[s.epoch, s.metric, s.macro, dict(s.by_language)] for s in self.scores],
        }

    def load(self, saved: Mapping[str, Any]) -> None:
        """Takes the place of what was saved, tensors included."""
        load_weights(self.network, saved["weights"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.epoch, self.place, self.number, self.epoch_loss = saved["place"]
        self.losses = list(saved["losses"])
        self.scores = [DevScore(*score) for score in saved["scores"]]

    @property
    def best(self) -> DevScore | None:
        """The best dev score so far, the first of equals."""
        return max(self.scores, key=lambda score: score.macro, default=None)


def load_weights(network: Any, weights: Mapping[str, Any]) -> None:
    """Puts saved weights into a network, in place."""
    for name, parameter in learning(network):
        parameter.data.copy_(weights[name])


def start(
    objective: Objective, features: Sequence[Feature], recipe: Recipe, device: Device
) -> State:
    """A new network on its device, and its optimizer.

    Args:
        objective: what is learned.
        features: everything the network will be shown, dev rows too.
        recipe: the run.
        device: where.
    """
    used = {token for feature in features for text in feature.texts for token in text}
    with device.seeded(recipe.seed):
        network = objective.network()
        if recipe.method == "lora":
            add_updates(network, recipe.lora)
        pad = int(network.config.pad_token_id)  # in no feature, and in most batches
        choose_rows(network, recipe.optimizer.train_embeddings, used | {pad})
    network = device.place(network)
    return State(network, make_optimizer(network, recipe.optimizer))


def train(
    state: State,
    objective: Objective,
    features: Sequence[Feature],
    dev_rows: Sequence[Any],
    dev_features: Sequence[Feature],
    recipe: Recipe,
    device: Device,
) -> Iterator[Step]:
    """Trains in place from where the state stands; the last step of an epoch carries the dev score.

    Raises:
        TrainingError: the loss is not a number or has collapsed, or memory ran out; says what to
            try.
    """
    lengths = [feature.length for feature in features]
    languages = [feature.language for feature in features]
    run, epochs = recipe.run, recipe.run.epochs
    while state.epoch < epochs and not _patience_lost(state.scores, run.patience):
        steps = epoch_steps(
            lengths,
            languages,
            budget=run.batch_tokens,
            balance=recipe.data.balance,
            together=run.accumulate * device.processes,
            seed=recipe.seed,
            epoch=state.epoch,
        )
        for place in range(state.place, len(steps)):
            started = time.perf_counter()
            batches = [[features[row] for row in rows] for rows in steps[place]]
            done = (state.epoch + (place + 0.5) / len(steps)) / epochs
            rate = recipe.optimizer.learning_rate * rate_factor(
                done, warmup=recipe.optimizer.warmup
            )
            loss, norm = _update(state, objective, batches, rate, recipe, device)
            state.number, state.place = state.number + 1, place + 1
            state.epoch_loss += (loss - state.epoch_loss) / state.place
            epoch, last = state.epoch + 1, state.place == len(steps)
            dev = None
            if last:
                state.losses.append(state.epoch_loss)
                state.epoch, state.place, state.epoch_loss = epoch, 0, 0.0
                dev = score(state.network, objective, dev_rows, dev_features, epoch, recipe, device)
                state.scores += [dev] if dev else []
                _check_collapse(state, objective.chance, recipe)
            yield Step(
                number=state.number,
                epoch=epoch,
                loss=loss,
                gradient_norm=norm,
                tokens=sum(feature.tokens for batch in batches for feature in batch),
                learning_rate=rate,
                seconds=time.perf_counter() - started,
                done=(epoch - 1 + (place + 1) / len(steps)) / epochs,
                ends_epoch=last,
                dev=dev,
            )


def score(
    network: Any,
    objective: Objective,
    rows: Sequence[Any],
    features: Sequence[Feature],
    epoch: int,
    recipe: Recipe,
    device: Device,
) -> DevScore | None:
    """The dev score of a network, every process taking its share; None without rows."""
    if not rows:
        return None
    network.eval()
    batches = token_batches([f.length for f in features], budget=recipe.run.batch_tokens)
    found: list[tuple[int, Any]] = []
    with device.inference(recipe.run.precision):
        for indices in batches[device.rank :: device.processes]:
            outputs = objective.predict(network, [features[i] for i in indices])
            found += zip(indices, outputs, strict=True)
    gathered = dict(device.gathered(found))
    by_language = objective.score(rows, features, [gathered[i] for i in range(len(features))])
    macro = float(np.mean(list(by_language.values())))
    return DevScore(epoch, objective.metric, macro, dict(by_language))


def _update(
    state: State,
    objective: Objective,
    batches: Sequence[Sequence[Feature]],
    rate: float,
    recipe: Recipe,
    device: Device,
) -> tuple[float, float]:
    """One step down the gradient of the mean loss over all batches; that loss, and its norm."""
    state.network.train()
    for group in state.optimizer.param_groups:
        group["lr"] = rate * group["rate_factor"]
    total = sum(objective.weight(feature) for batch in batches for feature in batch)
    own = batches[device.rank :: device.processes]
    random = np.random.default_rng([recipe.seed, state.number, device.rank])
    loss = 0.0
    try:
        with device.seeded(recipe.seed, state.number, device.rank):
            for batch in own:
                with device.autocast(recipe.run.precision):
                    part = objective.loss(state.network, batch, random) / total
                part.backward()
                loss += float(part.detach())
            named = learning(state.network)
            device.exchange(named)
            norm = device.clip(named, recipe.optimizer.clip)
            loss = device.summed(loss)
            _check_finite(loss, norm, state.number + 1, recipe)
            state.optimizer.step()
            state.optimizer.zero_grad(set_to_none=True)
    except (RuntimeError, MemoryError) as fault:
        if is_out_of_memory(fault):
            raise _too_large(batches, recipe) from fault
        raise
    return loss, norm


def _patience_lost(scores: Sequence[DevScore], patience: int) -> bool:
    """Whether so many epochs passed without one better than all before."""
    if not patience or len(scores) <= patience:
        return False
    return max(s.macro for s in scores[:-patience]) >= max(s.macro for s in scores[-patience:])


def _check_finite(loss: float, norm: float, number: int, recipe: Recipe) -> None:
    if math.isfinite(loss) and math.isfinite(norm):
        return
    rate = recipe.optimizer.learning_rate
    what = "loss" if not math.isfinite(loss) else "gradient"
    raise TrainingError(
        f"the {what} is not a number at step {number}; the last checkpoint stands",
        hint=f"try --set optimizer.learning_rate={rate / 4:g} (it was {rate:g}), "
        "or --set run.precision=fp32",
    )


def _check_collapse(state: State, chance: float | None, recipe: Recipe) -> None:
    losses = state.losses
    if chance is None or len(losses) < _COLLAPSED_EPOCHS or state.number < _LEAST_STEPS:
        return
    if min(losses[-_COLLAPSED_EPOCHS:]) < _COLLAPSED * chance:
        return
    rate = recipe.optimizer.learning_rate
    raise TrainingError(
        f"the loss is {losses[-1]:.3f} after {len(losses)} epochs; guessing by how often each "
        f"answer occurs gives {chance:.3f}: the network has learned nothing",
        hint=f"try --set optimizer.learning_rate={rate / 4:g} (it was {rate:g}), a longer "
        "optimizer.warmup, and look whether the labels can be told from the texts",
    )


def _too_large(batches: Sequence[Sequence[Feature]], recipe: Recipe) -> TrainingError:
    largest = max((max(f.length for f in batch) * len(batch) for batch in batches), default=0)
    half = max(8, recipe.run.batch_tokens // 2)
    return TrainingError(
        f"out of memory on a batch of {largest} tokens; the last checkpoint stands",
        hint=f"--set run.batch_tokens={half} --set run.accumulate={recipe.run.accumulate * 2}"
        ", and --set run.max_tokens lower where single texts are long",
    )
