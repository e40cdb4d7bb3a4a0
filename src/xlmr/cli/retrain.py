"""`xlmr retrain`: whether to train again, and with --run all that follows, up to the shadow."""

from __future__ import annotations

import json
import platform
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from xlmr.cli.feedback_place import json_option, opened, read_json
from xlmr.cli.registry_place import place_options, settings_of
from xlmr.cli.retraining import Ended, Means, abandon, alone, carry_out, order_path
from xlmr.cli.rollout_place import opened_controller, read_plan
from xlmr.errors import DataError
from xlmr.feedback.examples import examples_at
from xlmr.feedback.selected import checked
from xlmr.feedback.store import Store, microseconds
from xlmr.loop.accuracy import Estimate, estimate
from xlmr.loop.retrain import (
    ORDERED,
    Facts,
    Limits,
    NoOrder,
    Order,
    Training,
    decide,
    last_learned_us,
    order_detail,
    trainings_of,
)
from xlmr.loop.suspicion import Suspicion, read_suspicions
from xlmr.registry.journal import Line
from xlmr.registry.rollout.controller import Controller
from xlmr.training.later import Said, said_of
from xlmr.training.recipe import Recipe, make_recipe, read_recipe

_HOUR_US = 3_600_000_000
_REFUSED = 3
_LIMITS: dict[str, tuple[click.ParamType[Any], str]] = {
    "least_labels": (click.IntRange(min=1), "Labelled texts that must be new."),
    "least_in_drifted": (click.IntRange(min=0), "Of them, in one of the languages that drifted."),
    "enough_labels": (click.IntRange(min=1), "So many new ones are a reason by themselves."),
    "least_accuracy": (click.FloatRange(0, 1), "Share of right answers each language should have."),
    "days": (click.FloatRange(min=0), "Between two trainings."),
    "runs": (click.IntRange(min=1), "Trainings in 30 days."),
    "hours": (click.FloatRange(min=0), "Hours of computing in 30 days."),
}


def _limit_options(command: Callable[..., None]) -> Callable[..., None]:
    for name, (kind, said) in reversed(_LIMITS.items()):
        option = "--" + name.replace("_", "-")
        default = getattr(Limits(), name)
        command = click.option(option, type=kind, default=default, show_default=True, help=said)(
            command
        )
    return command


@click.command("retrain")
@click.argument("name")
@click.option("--run", is_flag=True, help="Carry the order out; or the one that was interrupted.")
@click.option(
    "--recipe",
    "recipe_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Of the live version, as `xlmr train --show-recipe` prints it; --run needs it. Without "
    "one, labels are taken to be single labels.",
)
@click.option(
    "--test",
    type=click.Path(path_type=Path, exists=True),
    help="Rows for the gate (`xlmr gate --data`); --run needs them.",
)
@click.option(
    "--policy", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Of the gate."
)
@click.option(
    "--plan",
    "plan_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Of the rollout, as `xlmr rollout plan` prints it.  [the default plan]",
)
@click.option("--objective-ms", type=click.FloatRange(min=0, min_open=True), help="Of the rollout.")
@click.option(
    "--drift-report",
    "drift_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="What `xlmr drift report --json` wrote.",
)
@_limit_options
@click.option(
    "--stale-hours",
    type=click.FloatRange(min=0),
    default=24.0,
    show_default=True,
    help="An order of another machine that is older has been given up.",
)
@click.option(
    "--work",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where an order is carried out.  [the cache directory]",
)
@place_options("feedback", "redis_url", "trusted_keys", "sign_key")
@json_option
def retrain_command(
    name: str,
    run: bool,
    recipe_path: Path | None,
    test: Path | None,
    policy: Path | None,
    plan_path: Path | None,
    objective_ms: float | None,
    drift_path: Path | None,
    stale_hours: float,
    work: Path | None,
    as_json: bool,
    **place: Any,
) -> None:
    """Decide whether NAME is trained again: an order and why, or the reasons not to.

    \b
      xlmr retrain router --drift-report drift.json
      xlmr retrain router --drift-report drift.json --run --recipe router.toml --test data

    With --run the order is carried out: the parent's rows and all labelled texts known by now are
    learned from, the gate compares the new version with the live one, it is signed, pushed, and
    begins its rollout in the shadow. A run that was killed goes on where it stood; two at a time do
    one. Order and outcome stand in the registry's journal.

    Ends with 0, also where there is nothing to do, and with 3 if the gate refuses.
    """
    limits = Limits(**{key: place.pop(key) for key in _LIMITS})
    recipe = _recipe(recipe_path) if recipe_path is not None else None
    means = _means(recipe, test, policy, plan_path, objective_ms) if run else None
    suspicions: Sequence[Suspicion] = ()
    if drift_path is not None:
        suspicions = read_suspicions(read_json(drift_path), model=name, origin=str(drift_path))
    directory = work or settings_of(place).cache_dir / "retrain" / name
    with opened_controller(place) as controller, opened(place) as store:
        said = said_of(recipe) if recipe is not None else None
        asked = _Asked(name, controller, store, suspicions, limits, directory, said)
        if means is None:
            _tell(asked.decided(), None, as_json=as_json)
            return
        for role in ("push", "promote"):
            controller.registry.actor.must(role)
        with alone(directory) as only:
            found = asked.order(stale_hours) if only else _busy(name)
            if isinstance(found, NoOrder):
                _tell(found, None, as_json=as_json)
                return
            order, training = found
            ended = carry_out(
                name, training, means, controller=controller, store=store, directory=directory
            )
    _tell(order, ended, as_json=as_json, number=training.order)
    if ended.outcome == "refused":
        raise SystemExit(_REFUSED)


class _Asked:
    """What is asked: whether a name is to be trained again."""

    def __init__(
        self,
        name: str,
        controller: Controller,
        store: Store,
        suspicions: Sequence[Suspicion],
        limits: Limits,
        directory: Path,
        said: Said | None,
    ) -> None:
        self._said = said
        self._name, self._controller, self._store = name, controller, store
        self._suspicions, self._limits, self._directory = suspicions, limits, directory
        self._host = f"{platform.node()}:{directory.absolute()}"

    def decided(self) -> Order | NoOrder:
        """By what is known now."""
        return decide(self._facts(self._trainings()), self._limits)

    def order(self, stale_hours: float) -> tuple[Order, Training] | NoOrder:
        """The order to carry out: one that was interrupted here, or a new one, written down."""
        for training in (each for each in self._trainings() if not each.outcome):
            # Where machines come and go, the directory that they share knows its order.
            known = order_path(self._directory, training.order).exists()
            if known or training.host == self._host:
                why = (f"order {training.order} was interrupted, and goes on",)
                return Order(training.parent, training.at_us, {}, why), training
            if microseconds() - training.at_us > stale_hours * _HOUR_US:
                abandon(self._controller, self._name, training)
        trainings = self._trainings()
        facts = self._facts(trainings)
        decision = decide(facts, self._limits)
        if isinstance(decision, NoOrder):
            return decision
        return self._given(decision, trainings)

    def _given(self, order: Order, before: Sequence[Training]) -> tuple[Order, Training] | NoOrder:
        registry, host = self._controller.registry, self._host
        line = Line(
            actor=registry.actor.name,
            action=ORDERED,
            name=self._name,
            version=order.parent,
            reason="; ".join(order.why),
            detail=order_detail(order, host=host),
        )
        with registry.catalogue.change() as change:
            if trainings_of(change.entries(name=self._name)) != list(before):
                return NoOrder(("somebody else gave an order at this moment",))
            entry = change.note(line)
        return order, Training(order=entry.seq, at_us=order.at_us, parent=order.parent, host=host)

    def _trainings(self) -> list[Training]:
        return trainings_of(self._controller.registry.catalogue.entries(name=self._name))

    def _facts(self, trainings: Sequence[Training]) -> Facts:
        now_us = microseconds()
        labels, left_out = self._new_labels(last_learned_us(trainings), now_us)
        standing = self._controller.board.standing(self._name)
        rollout = standing.rollout
        rolling = rollout is not None and not rollout.state.over
        return Facts(
            now_us=now_us,
            live=int(standing.live or 0),
            rolling=rollout.state.candidate if rollout is not None and rolling else "",
            labels=labels,
            left_out=left_out,
            accuracy=self._accuracy(standing.live),
            suspicions=self._suspicions,
            trainings=trainings,
        )

    def _new_labels(self, since_us: int, now_us: int) -> tuple[dict[str, int], str]:
        """Labelled texts by language that were none at the last training; why others are not."""
        known = {e.id for e in examples_at(self._store, since_us, model=self._name)}
        found, left_out, said = Counter[str](), 0, self._said
        for each in examples_at(self._store, now_us, model=self._name):
            if each.id in known:
                continue
            if said is not None and said.read(each.text, each.label) is None:
                left_out += 1
            else:
                found[each.language] += 1
        expected = said.expected if said is not None else ""
        why = f"{left_out} labels cannot be learned from: expected {expected}"
        return dict(found), why if left_out else ""

    def _accuracy(self, live: str) -> dict[str, Estimate]:
        if not live:
            return {}
        rows: dict[str, list[tuple[float, bool]]] = {}
        for each in checked(self._store, model=self._name, version=live):
            right = each.label == each.predicted
            rows.setdefault(each.language, []).append((each.inclusion, right))
        found = {language: estimate(said) for language, said in sorted(rows.items())}
        return {language: each for language, each in found.items() if each is not None}


def _recipe(path: Path) -> Recipe:
    """Everything that can be wrong with it before an hour is spent on it is said here."""
    made = make_recipe(read_recipe(path), origin=str(path))
    said_of(made)
    made.to_toml()
    for needed in (made.encoder, made.data.train):
        if not Path(needed).exists():
            raise DataError(f"{needed}: not there, and {path} names it")
    return made


def _means(
    recipe: Recipe | None,
    test: Path | None,
    policy: Path | None,
    plan: Path | None,
    objective_ms: float | None,
) -> Means:
    if recipe is None or test is None:
        raise click.UsageError("--run needs --recipe and --test")
    return Means(
        recipe=recipe, test=test, policy=policy, plan=read_plan(plan), objective_ms=objective_ms
    )


def _busy(name: str) -> NoOrder:
    return NoOrder((f"another retraining of {name} is going on here",))


def _tell(found: Order | NoOrder, ended: Ended | None, *, as_json: bool, number: int = 0) -> None:
    said: dict[str, Any] = {"order": isinstance(found, Order), "why": list(found.why)}
    if isinstance(found, Order):
        said |= {"parent": found.parent, "labels": dict(found.labels)}
    if ended is not None:
        said |= {
            "number": number,
            "outcome": ended.outcome,
            "version": ended.version,
            "hours": round(ended.hours, 4),
            "refused": list(ended.why),
        }
    click.echo(json.dumps(said) if as_json else _in_words(found, ended))


def _in_words(found: Order | NoOrder, ended: Ended | None) -> str:
    if isinstance(found, NoOrder):
        return "\n".join(["no order", *(f"  {why}" for why in found.why)])
    lines = [f"train again from version {found.parent}", *(f"  {why}" for why in found.why)]
    if found.labels:
        lines.append(f"  new labels: {', '.join(f'{k} {v}' for k, v in found.labels.items())}")
    if ended is not None and ended.outcome == "shadow":
        lines.append(f"version {ended.version} is in the shadow")
    elif ended is not None:
        lines += ["the gate refused it", *(f"  {why}" for why in ended.why)]
    return "\n".join(lines)
