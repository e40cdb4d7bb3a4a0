"""A tracker is told everything in order; when it fails or hangs, the run does not notice."""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from xlmr.errors import MissingExtraError, SettingsError
from xlmr.settings import Settings
from xlmr.training.loop import DevScore, Step
from xlmr.training.recipe import make_recipe
from xlmr.training.trackers import NAMES, figures, flat, make_tracker
from xlmr.training.trackers.courier import Courier
from xlmr.training.trackers.journal import Journal

RECIPE = make_recipe({"task": "tag", "encoder": "m", "data": {"train": "d"}})


def step(number: int, dev: DevScore | None = None) -> Step:
    return Step(
        number=number,
        epoch=1,
        loss=0.5,
        gradient_norm=1.0,
        tokens=10,
        learning_rate=1e-3,
        seconds=2.0,
        done=0.1,
        dev=dev,
    )


class Failing(Journal):
    """Raises what it is told to, at the steps it is told to."""

    def __init__(self, *numbers: int, fault: Exception | None = None) -> None:
        super().__init__(name="failing")
        self._numbers, self._fault = numbers, fault or OSError("no route to //me:secret@host")

    def step(self, step: Step) -> None:
        if step.number in self._numbers:
            raise self._fault
        super().step(step)


def run(tracker: Journal, directory: Path, steps: int) -> str:
    courier = Courier(tracker)
    courier.start(RECIPE, {}, directory)
    for number in range(1, steps + 1):
        courier.step(step(number))
    return courier.finish({"done": True}, directory)


def test_everything_is_told_in_order(tmp_path: Path) -> None:
    journal = Journal()
    assert run(journal, tmp_path, 20) == ""
    assert [step.number for step in journal.steps] == list(range(1, 21))
    assert journal.ends == [{"done": True}]


def test_a_second_start_finds_the_first(tmp_path: Path) -> None:
    journal = Journal()
    run(journal, tmp_path, 1)
    run(journal, tmp_path, 1)
    assert journal.known == ["", RECIPE.digest]


def test_faults_are_counted_and_said_once_without_passwords(tmp_path: Path) -> None:
    failing = Failing(2, 4)
    said = run(failing, tmp_path, 5)
    assert said == "failing: 2 of 7 messages lost (OSError: no route to //host)"
    assert [step.number for step in failing.steps] == [1, 3, 5]
    assert failing.ends == [{"done": True}]


@pytest.mark.parametrize("fault", [ValueError("x"), RuntimeError(), TypeError("y"), KeyError("z")])
def test_whatever_is_raised_stays_there(tmp_path: Path, fault: Exception) -> None:
    assert type(fault).__name__ in run(Failing(1, fault=fault), tmp_path, 2)


def test_a_server_that_is_gone_is_left_alone(tmp_path: Path) -> None:
    failing = Failing(*range(3, 100))
    # Told of the start and two steps; five faults in a row; then nothing more, not even the end.
    assert "99 of 102 messages lost" in run(failing, tmp_path, 100)
    assert [step.number for step in failing.steps] == [1, 2]
    assert failing.ends == []


def test_a_run_that_could_not_be_opened_is_told_nothing(tmp_path: Path) -> None:
    class Closed(Journal):
        def start(self, *_: Any, **__: Any) -> str:
            raise PermissionError("who are you")

    closed = Closed()
    assert "PermissionError: who are you" in run(closed, tmp_path, 3)
    assert not closed.steps
    assert not closed.ends


def test_a_tracker_that_hangs_is_not_waited_for(tmp_path: Path) -> None:
    release = threading.Event()

    class Hanging(Journal):
        def step(self, step: Step) -> None:
            release.wait(60.0)

    courier = Courier(Hanging(), patience_s=0.05)
    courier.start(RECIPE, {}, tmp_path)
    for number in range(1, 4):
        courier.step(step(number))
    said = courier.finish(None, tmp_path)
    release.set()
    assert "journal does not answer" in said


def test_without_a_tracker_nothing_happens(tmp_path: Path) -> None:
    courier = Courier(None)
    courier.start(RECIPE, {}, tmp_path)
    courier.step(step(1))
    assert courier.finish(None, tmp_path) == ""
    assert not list(tmp_path.iterdir())


def test_figures_carry_every_language() -> None:
    found = figures(step(3, DevScore(1, "span_f1", 0.5, {"en": 0.6, "ru": 0.4})))
    assert found["dev/span_f1/ru"] == 0.4
    assert found["dev/span_f1/macro"] == 0.5
    assert found["tokens_per_second"] == 5.0


def test_a_recipe_is_flat_for_those_who_want_it_so() -> None:
    values: Mapping[str, Any] = {"a": {"b": 1, "c": {}}, "d": "x", "e": [1, None]}
    assert flat(values) == {"a.b": "1", "d": "x", "e": "[1, null]"}


@pytest.mark.parametrize("name", NAMES)
def test_a_tracker_that_is_not_installed_says_what_to_install(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError) as caught:
        make_tracker(name)
    assert caught.value.hint == f"pip install 'xlmr[{name}]'"


def test_only_known_names_are_settings() -> None:
    assert make_tracker(Settings.from_environment({}).tracker) is None
    for name in NAMES:
        assert Settings.from_environment({"XLMR_TRACKER": name}).tracker == name
    with pytest.raises(SettingsError, match="XLMR_TRACKER"):
        Settings.from_environment({"XLMR_TRACKER": "tensorboard"})
