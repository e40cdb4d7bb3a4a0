"""Overload in simulated time: what is let in is answered in time, the rest is refused at once."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from xlmr.errors import OverloadedError
from xlmr.serving.forecast import Forecast, Load
from xlmr.serving.scheduler import Job, Scheduler

BUDGET = 1024
SECONDS = 20.0


def truth(tokens: int, squares: int) -> float:
    """An engine of 4,400 tokens a second, with attention and a fixed cost of two milliseconds."""
    return tokens / 4400 + squares * 1e-7 + 0.002


@dataclass
class Asked:
    """One request of the simulated traffic."""

    at: float
    lengths: list[int]
    wait: float
    priority: int = 1

    @property
    def tokens(self) -> int:
        return sum(self.lengths)


@dataclass
class House:
    """A queue, a forecast, and engines whose time is simulated."""

    engines: int = 1
    noise: float = 0.1
    batch_seconds: float = 0.1
    seed: int = 3
    in_time: list[Asked] = field(default_factory=list)
    late: list[Asked] = field(default_factory=list)
    refused: list[tuple[Asked, float]] = field(default_factory=list)
    dropped: list[Asked] = field(default_factory=list)
    hints: list[float] = field(default_factory=list)
    pause: tuple[float, float] = (1e9, 0.0)

    def run(self, traffic: list[Asked]) -> House:
        dice = random.Random(self.seed)
        queue: Scheduler[Job] = Scheduler(budget=BUDGET)
        forecast = Forecast(
            queue,
            engines=self.engines,
            budget=BUDGET,
            batch_seconds=self.batch_seconds,
            measured=[(64, 64 * 64, truth(64, 64 * 64)), (512, 512 * 512, truth(512, 512 * 512))],
        )
        whose: dict[Job, Asked] = {}
        busy: dict[int, tuple[float, Load, list]] = {}
        coming = sorted(traffic, key=lambda one: one.at)
        now = 0.0
        while coming or busy or len(queue):
            moments = [ends for ends, _, _ in busy.values()] + [one.at for one in coming[:1]]
            now = max(now, min(moments, default=now))
            while coming and coming[0].at <= now:
                self._ask(coming.pop(0), queue, forecast, whose, now)
            for engine, (ends, load, batch) in list(busy.items()):
                if ends <= now:
                    del busy[engine]
                    forecast.ended(engine, load, ends - forecast._running[engine][0])
                    self._answer(batch, whose, now)
            for engine in set(range(self.engines)) - set(busy):
                self.dropped += [whose.pop(job) for job in queue.expired(now)]
                a, b, _ = forecast.batch.coefficients
                batch = queue.take(now, seconds=self.batch_seconds, pace=(a, b))
                if not batch:
                    continue
                load = Load.of([p.job.lengths[i] for p in batch for i in p.indexes])
                forecast.begun(engine, load, now)
                takes = truth(int(load.tokens), int(load.squares))
                takes *= 1 + dice.uniform(-self.noise, self.noise)
                if self.pause[0] <= now:
                    takes, self.pause = takes + self.pause[1], (1e9, 0.0)
                busy[engine] = (now + takes, load, batch)
        return self

    def _ask(self, asked, queue, forecast, whose, now) -> None:
        deadline = now + asked.wait
        load = Load.of(asked.lengths)
        try:
            forecast.check(load, deadline=deadline, priority=asked.priority, now=now)
        except OverloadedError as refusal:
            self.refused.append((asked, refusal.retry_after_s))
            return
        job = Job(
            asked.lengths, rows="first", arrived=now, deadline=deadline, priority=asked.priority
        )
        queue.add(job, seconds=forecast.batch.seconds(load.tokens, load.squares))
        whose[job] = asked

    def _answer(self, batch, whose, now) -> None:
        for piece in batch:
            job = piece.job
            if not job.waits and job in whose:
                asked = whose.pop(job)
                (self.in_time if now <= asked.at + asked.wait else self.late).append(asked)

    def goodput(self) -> float:
        """Tokens a second that were answered in time."""
        return sum(one.tokens for one in self.in_time) / SECONDS


def traffic(
    tokens_per_second: float,
    *,
    seed: int = 1,
    wait: float = 0.5,
    texts: tuple[int, int] = (1, 1),
    mixed: bool = False,
) -> list[Asked]:
    """Poisson arrivals of log-normal lengths, as online traffic is."""
    dice = random.Random(seed)
    asked: list[Asked] = []
    at, tokens = 0.0, 0
    while at < SECONDS:
        count = dice.randint(*texts)
        lengths = [max(3, min(512, round(dice.lognormvariate(3.2, 0.9)))) for _ in range(count)]
        asked.append(Asked(at, lengths, wait * (dice.choice([1, 2, 6]) if mixed else 1)))
        tokens += sum(lengths)
        mean = tokens / len(asked)
        at += dice.expovariate(tokens_per_second / mean)
    return asked


MILLISECOND_A_TOKEN = [(50, 0, 0.05), (500, 0, 0.5)] * 30

# What the engine does with full batches of this traffic.
PEAK = 4100.0


@pytest.mark.parametrize("engines", [1, 3])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_at_three_times_the_load_goodput_stays_above_ninety_percent_of_peak(engines, seed):
    peak = House(engines).run(traffic(0.9 * PEAK * engines, seed=seed)).goodput()
    house = House(engines).run(traffic(3 * PEAK * engines, seed=seed))
    assert house.goodput() > 0.9 * peak
    assert house.goodput() > 0.85 * PEAK * engines
    let_in = len(house.in_time) + len(house.late) + len(house.dropped)
    assert len(house.late) + len(house.dropped) < 0.02 * let_in
    assert house.refused


def test_without_overload_nobody_is_refused():
    house = House().run(traffic(0.6 * PEAK, wait=1.0))
    assert not house.refused
    assert not house.dropped
    assert not house.late


@pytest.mark.parametrize("texts", [(1, 32), (32, 32)])
def test_large_requests_are_let_in_or_refused_as_one(texts):
    house = House().run(traffic(3 * PEAK, wait=2.0, texts=texts))
    assert house.goodput() > 0.85 * PEAK
    assert len(house.late) + len(house.dropped) < 0.05 * len(house.in_time)


def test_different_deadlines_do_not_make_each_other_late():
    house = House().run(traffic(3 * PEAK, mixed=True))
    assert house.goodput() > 0.85 * PEAK
    assert len(house.late) + len(house.dropped) < 0.03 * len(house.in_time)


def test_after_a_pause_of_the_machine_it_goes_on_as_before():
    calm = House().run(traffic(0.8 * PEAK, wait=1.0)).goodput()
    paused = House(pause=(5.0, 2.0)).run(traffic(0.8 * PEAK, wait=1.0)).goodput()
    assert paused > 0.8 * calm


def test_urgent_requests_are_let_in_where_others_are_refused():
    asked = traffic(3 * PEAK)
    for number, one in enumerate(asked):
        one.priority = 0 if number % 5 == 0 else 2
    house = House().run(asked)
    urgent = [one for one in house.in_time if one.priority == 0]
    refused = [one for one, _ in house.refused if one.priority == 0]
    assert len(urgent) > 0.97 * (len(urgent) + len(refused))
    assert house.goodput() > 0.8 * PEAK


def test_who_comes_back_when_told_is_let_in():
    """The hint is neither far too short nor far too long: the queue is short enough by then."""
    queue: Scheduler[Job] = Scheduler(budget=BUDGET)
    forecast = Forecast(
        queue, engines=1, budget=BUDGET, batch_seconds=0.1, measured=MILLISECOND_A_TOKEN
    )
    load = Load.of([100])
    for _ in range(40):
        queue.add(Job([100], rows="all", arrived=0.0, deadline=1.0), seconds=0.1)
    with pytest.raises(OverloadedError) as refusal:
        forecast.check(load, deadline=1.0, priority=1, now=0.0)
    wait = refusal.value.retry_after_s
    assert 3.0 < wait < 5.0
    for _ in range(round(wait / 0.1)):
        queue.take(0.0, seconds=0.11, pace=(1e-3, 0.0))
    forecast.check(load, deadline=wait + 1.0, priority=1, now=wait)


def forecast_of(*jobs: Job, **options) -> Forecast:
    queue: Scheduler[Job] = Scheduler(budget=BUDGET)
    for one in jobs:
        queue.add(one, seconds=0.0)
    usual = {"engines": 1, "budget": BUDGET, "batch_seconds": 0.1}
    return Forecast(queue, **usual | options, measured=MILLISECOND_A_TOKEN)


def refuses(forecast: Forecast, *lengths: int, deadline: float, priority=1, now=0.0) -> bool:
    try:
        forecast.check(Load.of(lengths), deadline=deadline, priority=priority, now=now)
    except OverloadedError:
        return True
    return False


def test_what_makes_others_late_is_refused_though_it_had_time_itself():
    tight = Job([400], rows="all", arrived=0.0, deadline=0.7)
    assert not refuses(forecast_of(tight), 10, deadline=0.35)
    assert refuses(forecast_of(tight), 200, deadline=0.35)
    assert not refuses(forecast_of(tight), 200, deadline=2.0)
    late_already = Job([900], rows="all", arrived=0.0, deadline=0.7)
    assert not refuses(forecast_of(late_already), 200, deadline=0.35)


def test_work_that_is_being_tokenised_counts():
    forecast = forecast_of(Job([300], rows="all", arrived=0.0, deadline=0.6))
    assert not refuses(forecast, 100, deadline=0.6)
    forecast.expect(Load.of([200]))
    assert refuses(forecast, 100, deadline=0.6)
    forecast.expected(Load.of([200]))
    assert not refuses(forecast, 100, deadline=0.6)


def test_an_engine_that_hangs_is_believed_less_and_less():
    forecast = forecast_of()
    forecast.begun(0, Load.of([100]), 0.0)
    assert not refuses(forecast, 100, deadline=0.5)
    assert refuses(forecast, 100, deadline=5.5, now=5.0)


def test_an_idle_engine_that_seems_too_slow_is_tried_again_now_and_then():
    """Else a machine that was paused while it was measured would refuse for ever."""
    forecast = forecast_of()
    tried = [not refuses(forecast, 500, deadline=now + 0.2, now=now) for now in range(12)]
    assert tried.count(True) == 2
    assert refuses(forecast, 1, deadline=20.0, now=20.0)
    assert refuses(forecast, 1, deadline=19.0, now=20.0)


def test_several_engines_share_the_queue_but_not_one_text():
    jobs = [Job([300], rows="all", arrived=0.0, deadline=0.6) for _ in range(2)]
    assert refuses(forecast_of(*jobs), 100, deadline=0.6)
    assert not refuses(forecast_of(*jobs, engines=2), 100, deadline=0.6)
    waiting = Job([10], rows="all", arrived=0.0, deadline=0.1)
    assert refuses(forecast_of(waiting, engines=2), 500, deadline=0.55)
    assert not refuses(forecast_of(waiting, engines=2), 250, 250, deadline=0.55)
