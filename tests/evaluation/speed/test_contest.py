"""The contest on a clock of its own, with runtimes that take exactly as long as they are told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlmr.evaluation.speed.contest import CEILING, Turn, hold, wait_until_quiet
from xlmr.evaluation.speed.contestant import Array, pad, split, unpad
from xlmr.evaluation.speed.standings import standings
from xlmr.evaluation.speed.subject import SHAPES
from xlmr.evaluation.speed.workloads import batch_of
from xlmr.types import Batch

CONFIG = replace(SHAPES["base"], vocabulary=100)
WORKLOADS = {"short": (10, 6), "long": (512,)}
LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=9)


class World:
    """A clock, how slow the machine is just now, and everything that happened."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slowness = 1.0
        self.events: list[str] = []

    def clock(self) -> float:
        return self.now

    def settle(self) -> None:
        self.events.append("settle")


class Fake:
    """Takes `seconds_per_token`, times how slow the machine is."""

    version = "1"

    def __init__(self, world: World, name: str, seconds_per_token: float) -> None:
        self.name = name
        self._world = world
        self._seconds = seconds_per_token

    def prepare(self, batch: Batch) -> Callable[[], None]:
        tokens = len(batch.ids_T)

        def compute() -> None:
            self._world.events.append(self.name)
            self._world.now += tokens * self._seconds * self._world.slowness

        return compute

    def texts(self, output: None, batch: Batch) -> list[Array]:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


def contest(world: World, *, seconds: float = 30.0, drift: float = 1.0) -> Iterator[Turn]:
    fakes = [Fake(world, "ours", 0.001), Fake(world, "fast", 0.002), Fake(world, "slow", 0.01)]

    def ceiling() -> dict[str, float]:
        # 4 operations a token, as fast as the machine is just now.
        rate = 8 / world.slowness
        world.slowness *= drift
        return {"int8": rate, "fp32": rate / 4}

    return hold(
        fakes,
        WORKLOADS,
        CONFIG,
        seconds=seconds,
        ceiling=ceiling,
        clock=world.clock,
        settle=world.settle,
    )


def test_everyone_takes_turns_and_the_machine_is_measured_each_round() -> None:
    turns = list(contest(World()))
    order = [turn.contestant for turn in turns]
    assert order == ["ours", "fast", "slow", CEILING] * (len(order) // 4)
    rounds = [turn.round for turn in turns if turn.workload == "short"]
    assert rounds == sorted(rounds)
    assert [turn.workload for turn in turns] == sorted(
        (turn.workload for turn in turns), reverse=True
    )


def test_a_fake_takes_as_long_as_it_says() -> None:
    for turn in contest(World()):
        if turn.contestant == "slow":
            tokens = sum(WORKLOADS[turn.workload])
            assert turn.seconds == pytest.approx(0.01 * tokens)
            assert turn.least == pytest.approx(0.01 * tokens)


def test_it_ends_on_time_but_not_before_three_rounds() -> None:
    for seconds, rounds in ((0.0, 3), (30.0, None)):
        world = World()
        turns = list(contest(world, seconds=seconds))
        last = max(turn.round for turn in turns if turn.workload == "long") + 1
        assert last == rounds or (rounds is None and last > 3)
        assert turns[-1].done == 1.0
        shares = [turn.done for turn in turns]
        assert shares == sorted(shares)


def test_short_work_is_warmed_and_repeated_and_each_turn_waits_for_quiet() -> None:
    world = World()
    turns = contest(world)
    next(turns)
    # A first run each, then the turn: quiet, one run to warm up, repeats until 0.05 s (4 x 0.016).
    assert world.events == ["ours", "fast", "slow", "settle", "ours", *["ours"] * 4]
    for turn in turns:
        if turn.workload == "long":
            break
    world.events.clear()
    next(turns)
    assert world.events == ["settle", "fast"], "a second's work is neither warmed nor repeated"


def test_standings_hold_although_the_machine_drifts() -> None:
    turns = list(contest(World(), seconds=200.0, drift=1.3))
    found = standings(turns, WORKLOADS, ours="ours", precision="int8", operations_per_token=4)
    for standing in found:
        assert standing.best_peer == "fast"
        assert standing.ratio == pytest.approx(2.0)
        # 4e-9 giga-operations a token, 0.001 s each, of 8 giga-operations a second.
        assert standing.ceiling_share == pytest.approx(4e-9 / 0.001 / 8)
        ours = standing.scores["ours"]
        assert ours.least < ours.median
        assert ours.tokens_per_s == pytest.approx(sum(standing.lengths) / ours.median)
    written = found[0].to_json()
    assert written["tokens"] == 16
    assert written["runtimes"]["ours"]["rounds"] == found[0].scores["ours"].rounds


def test_without_peers_or_a_ceiling_there_is_no_ratio_and_no_share() -> None:
    world = World()
    alone = hold(
        [Fake(world, "ours", 0.001)],
        {"short": (4,)},
        CONFIG,
        seconds=0,
        clock=world.clock,
        settle=world.settle,
    )
    (standing,) = standings(
        list(alone), {"short": (4,)}, ours="ours", precision="bf16", operations_per_token=1
    )
    assert standing.ratio is None
    assert standing.best_peer is None
    assert standing.ceiling_share is None


def test_quiet_comes_while_nothing_runs() -> None:
    wait_until_quiet()


@given(LENGTHS)
def test_padding_comes_off_again(lengths: list[int]) -> None:
    batch = batch_of(lengths, CONFIG)
    ids_BL, mask_BL = pad(batch, CONFIG.pad_id)
    assert ids_BL.shape == mask_BL.shape == (len(lengths), max(lengths))
    assert mask_BL.sum() == sum(lengths)
    assert (ids_BL[mask_BL == 0] == CONFIG.pad_id).all()
    flat_TD = batch.ids_T[:, None].astype(np.float32)
    texts = zip(
        unpad(ids_BL[:, :, None].astype(np.float32), batch), split(flat_TD, batch), strict=True
    )
    for unpadded_LD, flat_LD in texts:
        np.testing.assert_array_equal(unpadded_LD, flat_LD)
