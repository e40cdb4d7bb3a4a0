"""A rollout from the server's side: counts lead to a verdict, and a verdict to another route."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from xlmr.errors import RegistryUnavailableError
from xlmr.registry.opening import open_controller
from xlmr.registry.rollout.assignment import Canary, Single
from xlmr.registry.rollout.controller import Controller
from xlmr.registry.rollout.plan import make_plan
from xlmr.serving.follow.counting import Counting
from xlmr.serving.follow.ledger import Ledger
from xlmr.serving.routing.tally import Drained, Seen, Tally

PLAN = {
    "required": [],
    "shadow": {"share": 0.0},
    "steps": [{"share": 0.5, "units": 50, "minutes": 0}],
}


@contextlib.contextmanager
def rollouts(place) -> Iterator[Controller]:
    with open_controller(place.settings()) as controller:
        yield controller


def test_harm_that_two_servers_counted_takes_a_candidate_back(place, models, server_of):
    place.push(models[0], live=True)
    place.push(models[1])
    servers = [server_of(), server_of("other")]
    with rollouts(place) as controller:
        state = controller.start(
            "router@2", make_plan(PLAN), override="a test", objective_ms=1000.0
        )
        for server in servers:
            server.until(lambda server=server: isinstance(server.book.routes["router"], Canary))
            page = server.book.get("router", "classify")
            assert page is not None
            assert page.counting is not None
            assert (page.counting.salt, page.counting.epoch) == (state.salt, state.epoch)
            for _ in range(20):
                for arm in ("live", "candidate"):
                    server.tally.count(page.counting, arm, Seen("en"), caller="")
        servers[0].until(
            lambda: (
                [
                    controller.counts.read(state.salt, state.epoch).counts(arm).units
                    for arm in ("live", "candidate")
                ]
                == [40, 40]
            )
        )
        # One output that is no number, on one of the servers, and both go back.
        servers[1].tally.count(page.counting, "candidate", Seen("en", ("non_finite",)), caller="")
        for server in servers:
            server.until(lambda server=server: server.book.routes["router"] == Single("1"))
            server.until(lambda server=server: server.ready() == {"1"})
        after = controller.board.state("router")
        assert after is not None
        assert after.phase == "rolled_back"


class Away:
    """A store and a rollout that cannot be reached."""

    def __init__(self) -> None:
        self.looks = 0

    def counts(self):
        raise RegistryUnavailableError("away")

    def look(self, name: str) -> None:
        self.looks += 1
        if self.looks < 3:
            raise RegistryUnavailableError("away")


def test_what_cannot_be_reached_is_said_once_and_nothing_else_waits(caplog):
    away, tally = Away(), Tally()
    counting = Counting(
        Ledger("one"),
        drain=lambda now: tally.drain(now=now),
        counts=away.counts,
        look=away.look,
        names=["router"],
        every_s=0.01,
    )
    for _ in range(4):
        counting.round()
    assert away.looks == 4
    assert caplog.text.count("cannot be handed on") == 1
    assert caplog.text.count("the rollout of router is not judged") == 2


def test_the_last_counts_are_handed_on_at_the_end():
    drained: list[float] = []

    def drain(now: float) -> list[Drained]:
        drained.append(now)
        return []

    def counting() -> Counting:
        return Counting(
            Ledger("one"),
            drain=drain,
            counts=Away().counts,
            look=Away().look,
            names=[],
            every_s=60.0,
        )

    counting().close()
    assert drained == []
    begun = counting()
    begun.begin()
    begun.close()
    assert len(drained) == 1
