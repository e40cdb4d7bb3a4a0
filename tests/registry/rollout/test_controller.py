"""A look leads to what it should, once, whoever looks; and nothing is half done."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.postgres import postgres_server
from tests.registry.parts import gate_report, small_models
from tests.registry.rollout.parts import catalogue_with_versions, fair, move_live

from xlmr.errors import (
    DataError,
    ForbiddenError,
    PromotionError,
    RegistryConflictError,
    RegistryError,
    RegistryUnavailableError,
    SettingsError,
    VersionNotFoundError,
    XlmrError,
)
from xlmr.registry.catalogue import Catalogue
from xlmr.registry.journal import Entry
from xlmr.registry.registry import Registry
from xlmr.registry.roles import Actor
from xlmr.registry.rollout.assignment import Ensemble, Single, Weighted
from xlmr.registry.rollout.board import Board
from xlmr.registry.rollout.burn import Window
from xlmr.registry.rollout.controller import Controller
from xlmr.registry.rollout.counts import SqlCounts
from xlmr.registry.rollout.evidence import Counts, Evidence
from xlmr.registry.rollout.kept import Rollout
from xlmr.registry.rollout.plan import Plan, make_plan
from xlmr.registry.rollout.state import State, start
from xlmr.registry.store import Store

PLAN = make_plan({"objective_ms": 100.0})
QUICK = make_plan({"objective_ms": 100.0, "watch": {"minutes": 10, "units": 50}})


class Place:
    """A registry, its rollouts, and a clock that a test sets."""

    def __init__(self, catalogue: Catalogue, store: Path, actor: Actor | None = None) -> None:
        self.now = 1_000.0
        self.catalogue = catalogue
        self.registry = Registry(catalogue, Store(str(store)), actor or Actor("ada"))
        self.board = Board(catalogue)
        self.counts = SqlCounts(catalogue)
        self.controller = self.another()
        self._sequence = 0

    def another(self) -> Controller:
        return Controller(self.board, self.counts, self.registry, now=lambda: self.now)

    def begin(self, plan: Plan = PLAN) -> State:
        state, actions = start(
            "router", live="1", candidate="2", plan=plan, salt="s-1", now=self.now
        )
        self.board.begin(Rollout(state=state, counts="database"), actions, actor="ada")
        return state

    def state(self) -> State:
        state = self.board.state("router")
        assert state is not None
        return state

    def count(self, evidence: Evidence, minutes: dict[int, Window] | None = None) -> None:
        self._sequence += 1
        state = self.state()
        self.counts.add(
            state.salt,
            state.epoch,
            server="a",
            sequence=self._sequence,
            evidence=evidence,
            minutes=minutes or {},
        )

    def look(self) -> State:
        state = self.controller.look("router")
        assert state is not None
        return state

    def go_on(self) -> State:
        """Shows all that the present stage asks for, and looks once it has had its time."""
        state = self.state()
        stage = state.plan.stages[state.step]
        self.count(fair(2 * stage.units, stage.null_share))
        self.now += 60.0 * stage.minutes + 1.0
        return self.look()

    def lines(self) -> list[Entry]:
        self.catalogue.whole().check()
        return [e for e in self.catalogue.entries() if e.action.startswith("rollout")]


@pytest.fixture
def place(database: str, tmp_path: Path) -> Iterator[Place]:
    with contextlib.closing(catalogue_with_versions(database)) as catalogue:
        yield Place(catalogue, tmp_path / "store")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return small_models(tmp_path_factory.mktemp("models"), 3)


@pytest.fixture
def real(tmp_path: Path, models: list[Path]) -> Iterator[Place]:
    """With models: version 1 is live, 2 and 3 never were."""
    with contextlib.closing(Catalogue(str(tmp_path / "catalogue.db"))) as catalogue:
        made = Place(catalogue, tmp_path / "store")
        for model in models:
            made.registry.push("router", model)
        made.registry.set_alias("router@1", "live", report=gate_report(models[0]))
        yield made


def test_a_good_version_goes_all_the_way(place: Place) -> None:
    assert place.controller.look("router") is None
    place.begin(QUICK)
    for stage in range(1, 5):
        state = place.go_on()
        assert (state.phase, state.step) == ("running", stage), state.sentence
        # Nothing of the stage before is counted in this one, nor kept.
        assert place.counts.read(state.salt, stage) == Evidence()
        assert place.counts.read(state.salt, stage - 1) == Evidence()
    state = place.go_on()
    assert state.phase == "watching"
    assert place.board.table(["router"])["router"].route == Single("2")
    assert place.look() == state
    place.now += 601.0
    assert place.look().phase == "watching"
    place.count(Evidence(arms={"2": {"de": Counts(units=60)}}))
    assert place.look().phase == "done"
    assert place.look().phase == "done"
    actions = [line.action for line in place.lines()]
    assert actions[:5] == ["rollout.start", *["rollout.advance"] * 4]
    assert actions[5] == "rollout.promote"
    assert actions[-1] == "rollout.done"


def test_a_bad_version_goes_back_by_itself(place: Place) -> None:
    place.begin()
    place.go_on()
    place.count(fair(200, 0.01, harmed=60))
    place.now += 1.0
    state = place.look()
    assert state.phase == "rolled_back"
    assert state.sentence.startswith("Back: 5xx on 60 of 200 requests of the candidate")
    last = place.lines()[-1]
    assert (last.action, last.reason) == ("rollout.abort", state.sentence)
    findings = {found["test"]: found for found in json.loads(last.detail)["findings"]}
    assert findings["5xx"]["log_e"] > findings["5xx"]["threshold"]
    assert place.board.table(["router"])["router"].live == "1"
    # What was counted last can still be looked at.
    seen = place.controller.see("router")
    assert seen is not None
    assert seen.evidence.counts("candidate").events == {"5xx": 60}
    assert seen.judged is None


def test_a_promoted_version_that_burns_goes_back_by_itself(place: Place) -> None:
    place.begin()
    for _ in range(5):
        place.go_on()
    minute = int(place.now // 60)
    place.count(Evidence(arms={"2": {"de": Counts(units=9)}}), {minute: Window(100, 50)})
    state = place.look()
    assert state.phase == "rolled_back"
    assert place.board.table(["router"])["router"].live == "1"
    (moved,) = [e for e in place.catalogue.entries(alias="live") if e.action == "rollback"]
    assert moved.reason == state.sentence
    assert state.sentence.startswith("Back: 50.0 times")


def test_looks_that_say_the_same_are_not_all_written(place: Place) -> None:
    place.begin()
    for _ in range(100):
        place.look()
        place.now += 1.0
    held = [line for line in place.lines() if line.action == "rollout.hold"]
    assert len(held) == 2
    assert json.loads(held[0].detail)["outcome"] == "hold"
    # Another reason is another look.
    place.count(fair(2000, 0.5))
    assert place.look().step == 0
    assert len(place.lines()) == 4


def test_without_data_somebody_is_asked_and_nothing_passes(place: Place) -> None:
    place.begin()
    place.now += 2 * 86_400.0
    assert place.look().undecided
    assert place.look().undecided
    asked = [line for line in place.lines() if line.action == "rollout.inconclusive"]
    assert len(asked) == 1
    assert place.go_on().step == 1


def test_somebody_who_moves_the_alias_ends_it(place: Place) -> None:
    place.begin()
    place.go_on()
    move_live(place.catalogue, 3)
    assert place.board.table(["router"])["router"].route == Single("3")
    state = place.look()
    assert (state.phase, state.sentence) == ("rolled_back", "Over: 3 was made live by hand.")
    assert place.lines()[-1].action == "rollout.over"
    assert place.board.table(["router"])["router"].live == "3"


def test_many_who_look_at_once_take_one_step(place: Place) -> None:
    place.begin()
    stage = PLAN.stages[0]
    place.count(fair(2 * stage.units, stage.null_share))
    place.now += 60.0 * stage.minutes + 1.0
    looking = threading.Barrier(4)
    found: list[State | XlmrError | None] = []

    def look() -> None:
        controller = place.another()
        seen = controller.see("router")
        assert seen is not None
        looking.wait(30)  # all have judged the same counts before the first one acts
        try:
            found.append(controller.act(seen))
        except XlmrError as fault:
            found.append(fault)

    workers = [threading.Thread(target=look) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert found == [place.state()] * 4
    assert place.state().step == 1
    assert [line.action for line in place.lines()] == ["rollout.start", "rollout.advance"]


def test_a_database_that_goes_away_leaves_nothing_half_done(tmp_path: Path) -> None:
    with postgres_server() as server:
        catalogue = catalogue_with_versions(server.url)
        place = Place(catalogue, tmp_path)
        place.begin()
        place.count(fair(2000, 0.5))
        place.now += 3600.0
        seen = place.controller.see("router")
        assert seen is not None
        server.stop()
        with pytest.raises(RegistryUnavailableError):
            place.controller.look("router")
        with pytest.raises(RegistryUnavailableError):
            place.controller.act(seen)
        server.start()
        assert place.state().step == 0
        assert place.look().step == 1
        assert len(place.lines()) == 2
        catalogue.close()


def test_counts_that_were_lost_are_no_reason_to_do_anything(place: Place) -> None:
    place.begin()
    place.count(Evidence(arms={"candidate": {"de": Counts(events={"negative_feedback": 1})}}))
    with pytest.raises(DataError, match="negative_feedback"):
        place.controller.look("router")
    assert place.state().step == 0


def test_counts_elsewhere_are_not_taken_for_none(place: Place) -> None:
    state, actions = start("router", live="1", candidate="2", plan=PLAN, salt="s", now=0.0)
    place.board.begin(Rollout(state=state, counts="redis"), actions, actor="ada")
    with pytest.raises(SettingsError, match="counted in the redis"):
        place.controller.look("router")
    # The way back needs no counts.
    assert place.controller.command("router", "abort", reason="slow").phase == "rolled_back"


def test_a_person_goes_on_and_back(place: Place) -> None:
    with pytest.raises(VersionNotFoundError):
        place.controller.command("router", "promote", reason="why")
    place.begin()
    for _ in range(5):
        place.controller.command("router", "promote", reason="it is an emergency")
    assert place.board.table(["router"])["router"].live == "2"
    with pytest.raises(SettingsError, match="reason"):
        place.controller.command("router", "abort", reason=" ")
    assert place.controller.command("router", "abort", reason="slow").phase == "rolled_back"
    assert place.board.table(["router"])["router"].live == "1"
    assert place.lines()[-1].reason == "Back: ada says slow."
    with pytest.raises(SettingsError, match="rolled back"):
        place.controller.command("router", "promote", reason="again")


def test_a_start_needs_a_report_and_the_promotion_rests_on_it(
    real: Place, models: list[Path]
) -> None:
    with pytest.raises(PromotionError, match="gate's report"):
        real.controller.start("router@2", PLAN)
    with pytest.raises(PromotionError, match="compared it with nothing"):
        real.controller.start("router@2", PLAN, report=gate_report(models[1]))
    assert real.board.state("router") is None
    report = gate_report(models[1], live=models[0])
    state = real.controller.start("router@2", make_plan({}), report=report, objective_ms=80.0)
    assert state.plan.objective_ms == 80.0
    for _ in range(5):
        real.controller.command("router", "promote", reason="why not")
    (begun,) = [line for line in real.lines() if line.action == "rollout.start"]
    moved = real.catalogue.entries(alias="live")[-1]
    assert begun.evidence
    assert moved.evidence == begun.evidence
    assert real.registry.store.get(f"evidence/{begun.evidence}.json") is not None


def test_what_a_start_refuses(real: Place, models: list[Path]) -> None:
    def refused(kind: type[XlmrError], match: str, reference: str, **more: Any) -> None:
        with pytest.raises(kind, match=match):
            real.controller.start(reference, more.pop("plan", PLAN), override="test", **more)

    refused(SettingsError, "live already", "router@1")
    refused(SettingsError, "how slow", "router@2", plan=make_plan({}))
    refused(VersionNotFoundError, "router@9", "router@9")
    real.registry.push("other", models[0])
    refused(RegistryError, "nothing is live", "other@1")
    real.controller.start("router@2", PLAN, override="no data yet", languages=("de",))
    assert real.state().plan.languages == ("de",)
    refused(RegistryConflictError, "2 is running", "router@3")
    begun = real.lines()[0]
    assert (begun.override, begun.reason) == (True, "no data yet")
    # Somebody made another version live by hand: that rollout is over, and the next may start.
    real.registry.set_alias("router@3", "live", override="emergency")
    real.controller.start("router@2", PLAN, override="no data yet")
    assert real.state().live == "3"


def test_only_those_who_may_promote_start_and_end_rollouts(real: Place, tmp_path: Path) -> None:
    reader = Place(real.catalogue, tmp_path / "store", Actor("eve", frozenset({"read"})))
    acts: list[Callable[[], Any]] = [
        lambda: reader.controller.start("router@2", PLAN, override="why not"),
        lambda: reader.controller.command("router", "abort", reason="why not"),
        lambda: reader.controller.set_route("router", None),
    ]
    for act in acts:
        with pytest.raises(ForbiddenError):
            act()
    # A server that may only read carries on what somebody else has started.
    real.controller.start("router@2", PLAN, override="no data yet")
    assert reader.look().phase == "running"


def test_a_split_is_among_versions_that_may_answer(real: Place, models: list[Path]) -> None:
    split = Weighted({"1": 1.0, "2": 1.0}, "x")
    with pytest.raises(PromotionError):
        real.controller.set_route("router", split)
    with pytest.raises(VersionNotFoundError):
        real.controller.set_route("router", Weighted({"9": 1.0}, "x"), override="why not")
    real.controller.set_route("router", split, report=gate_report(models[1], live=models[0]))
    line = real.catalogue.entries()[-1]
    assert (line.action, line.override, len(line.evidence)) == ("route", False, 64)
    both = Ensemble({"1": 1.0, "3": 1.0})
    real.controller.set_route("router", both, override="an experiment")
    line = real.catalogue.entries()[-1]
    assert (line.override, line.reason) == (True, "an experiment")
    assert real.board.table(["router"])["router"].route == both


def test_a_rollout_that_is_over_is_in_nobodys_way(real: Place) -> None:
    state, actions = start("router", live="1", candidate="2", plan=PLAN, salt="s", now=0.0)
    real.board.begin(Rollout(state=state, counts="redis"), actions, actor="ada")
    real.controller.command("router", "abort", reason="we do without Redis from now on")
    assert real.controller.start("router@3", PLAN, override="no data yet").candidate == "3"
    assert real.look().phase == "running"


def test_what_answers_is_not_collected(real: Place) -> None:
    real.controller.start("router@2", PLAN, override="no data yet")
    later = a_year_later(real.registry)
    assert [v.version for v in later.gc(days=0, grace=timedelta(0)).versions] == [3]
    assert real.registry.verify("router@2").files


def a_year_later(registry: Registry) -> Registry:
    later = datetime.now(UTC) + timedelta(days=365)
    return Registry(registry.catalogue, registry.store, Actor("ada"), now=lambda: later)
