"""No caller gets more than its quota over any stretch of time, and what it may have it gets."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlmr.errors import InputError, QuotaError
from xlmr.serving.quota import Buckets, Quotas, Refill, Refusal, refills
from xlmr.telemetry.metrics import Metrics
from xlmr.types import Caller, Quota

RATES = st.floats(0.01, 1000)
STEPS = st.lists(
    st.tuples(st.floats(0, 30), st.floats(0, 300), st.booleans()), min_size=1, max_size=60
)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@given(RATES, st.floats(0.5, 500), STEPS)
def test_over_any_stretch_of_time_no_more_than_the_burst_and_what_flows_in(rate, burst, steps):
    buckets, now = Buckets({"tokens": Refill(rate, burst)}, 0.0), 0.0
    taken: list[tuple[float, float]] = []
    for pause, amount, returned in steps:
        now += pause
        if buckets.take(now, tokens=amount) is None:
            if returned:
                buckets.take(now, tokens=-amount)
            else:
                taken.append((now, amount))
    for first, (start, _) in enumerate(taken):
        total = 0.0
        for end, amount in taken[first:]:
            total += amount
            assert total <= (burst + (end - start) * rate) * (1 + 1e-9) + 1e-9


@given(RATES, st.floats(0.5, 500), st.floats(0, 500), st.floats(0, 500))
def test_after_the_time_it_was_told_a_caller_gets_what_it_asked_for(rate, burst, first, second):
    buckets = Buckets({"tokens": Refill(rate, burst)}, 0.0)
    buckets.take(0.0, tokens=min(first, burst))
    wanted = min(second, burst)
    refusal = buckets.take(0.0, tokens=wanted)
    if refusal is not None:
        early = Buckets(buckets.refills, 0.0)
        early.learn(0.0, buckets.levels)
        if refusal.wait_s > 1e-6:
            assert early.would_refuse(refusal.wait_s * 0.99, tokens=wanted) is not None
        assert buckets.take(refusal.wait_s * (1 + 1e-9) + 1e-6, tokens=wanted) is None


def test_fractions_of_a_request_a_second_add_up():
    buckets = Buckets({"requests": Refill(0.25, 1.0)}, 0.0)
    assert buckets.take(0.0, requests=1.0) is None
    assert buckets.take(1.0, requests=1.0) == Refusal("requests", 3.0)
    assert buckets.take(3.9, requests=1.0) is not None
    assert buckets.take(4.0, requests=1.0) is None


def test_both_buckets_or_neither_and_the_one_that_takes_longer_is_named():
    buckets = Buckets({"requests": Refill(1, 2), "tokens": Refill(10, 100)}, 0.0)
    assert buckets.take(0.0, requests=1.0, tokens=90.0) is None
    assert buckets.take(0.0, requests=1.0, tokens=40.0) == Refusal("tokens", 3.0)
    assert buckets.levels == {"requests": 1.0, "tokens": 10.0}
    assert buckets.take(0.0, requests=1.5, tokens=10.5) == Refusal("requests", 0.5)
    assert buckets.would_refuse(0.0, requests=1.0, tokens=10.0) is None
    assert buckets.take(0.0, requests=1.0, tokens=10.0) is None


@given(st.floats(-1e6, 1e6), st.floats(0, 100))
def test_a_clock_that_jumps_grants_at_most_one_burst_and_costs_nothing(jump, later):
    buckets = Buckets({"tokens": Refill(1.0, 50.0)}, 0.0)
    assert buckets.take(0.0, tokens=50.0) is None
    assert buckets.would_refuse(jump, tokens=50.0 * (1 + 1e-9)) is not None
    buckets.would_refuse(jump + later, tokens=1.0)
    assert buckets.levels["tokens"] >= min(50.0, later) - 1e-6


def test_bursts_that_are_not_given_are_ten_seconds_worth():
    assert refills(Quota(requests_per_s=0.01, tokens_per_s=30)) == {
        "requests": Refill(0.01, 1.0),
        "tokens": Refill(30, 300.0),
    }
    assert refills(Quota(tokens_per_s=30, token_burst=40)) == {"tokens": Refill(30, 40)}
    assert refills(Quota()) == {}


def quotas_of(clock: Clock, metrics: Metrics, **default: float) -> Quotas:
    return Quotas(metrics=metrics, default=Quota(**default) if default else None, clock=clock)


def test_a_request_is_charged_as_one_and_given_back_as_one():
    clock, metrics = Clock(), Metrics()
    quotas = quotas_of(clock, metrics, requests_per_s=1, request_burst=2, tokens_per_s=10)

    async def run() -> None:
        one = quotas.open(Caller("a"), items=3)
        await one.take(60)
        await one.take(40)
        with pytest.raises(QuotaError) as refusal:
            await quotas.open(Caller("a"), items=0).take(30)
        assert refusal.value.retry_after_s == pytest.approx(3)
        one.give_back()
        one.give_back()
        two = quotas.open(Caller("a"), items=3)
        await two.take(100)
        # A request without tokens of its own, all its answers known, costs itself alone.
        three = quotas.open(Caller("a"), items=0)
        await three.take(0)
        await three.take(0)
        with pytest.raises(QuotaError) as refusal:
            quotas.open(Caller("a"), items=0)
        assert refusal.value.retry_after_s == pytest.approx(1)

    asyncio.run(run())
    assert metrics.value("xlmr_quota_refusals_total", quota="tokens") == 1
    assert metrics.value("xlmr_quota_refusals_total", quota="requests") == 1


def test_what_can_never_be_granted_is_no_matter_of_waiting():
    quotas = quotas_of(Clock(), Metrics(), tokens_per_s=10)

    async def run() -> None:
        # More than the least that so many texts can have: it is refused once they are counted.
        with pytest.raises(InputError, match="100 at once"):
            await quotas.open(Caller("a"), items=80).take(101)
        await quotas.open(Caller("a"), items=1).take(100)

    asyncio.run(run())


def test_a_caller_with_nothing_left_is_refused_before_its_texts_are_read():
    clock = Clock()
    quotas = quotas_of(clock, Metrics(), tokens_per_s=10)

    async def run() -> None:
        await quotas.open(Caller("a"), items=1).take(95)
        quotas.open(Caller("a"), items=2)
        with pytest.raises(QuotaError) as refusal:
            quotas.open(Caller("a"), items=3)
        assert refusal.value.retry_after_s == pytest.approx(0.1)
        clock.now += refusal.value.retry_after_s + 1e-6
        quotas.open(Caller("a"), items=3)

    asyncio.run(run())


def test_callers_do_not_share_and_a_quota_of_ones_own_comes_first():
    quotas = quotas_of(Clock(), Metrics(), requests_per_s=1, request_burst=1)
    generous = Quota(requests_per_s=1, request_burst=100)

    async def run() -> None:
        for name in ("a", "b"):
            await quotas.open(Caller(name), items=1).take(5)
            with pytest.raises(QuotaError):
                quotas.open(Caller(name), items=1)
        for _ in range(50):
            await quotas.open(Caller("c", quota=generous), items=1).take(5)
        # Another quota under the same name, as after a change of the key file, begins anew; going
        # back and forth does not.
        await quotas.open(Caller("c"), items=1).take(5)
        for _ in range(50):
            await quotas.open(Caller("c", quota=generous), items=1).take(5)
        for caller in (Caller("c"), Caller("c", quota=generous)):
            with pytest.raises(QuotaError):
                quotas.open(caller, items=1)
        assert quotas.open(Caller("d", quota=Quota()), items=10**9) is None

    asyncio.run(run())


def test_without_any_quota_nobody_is_counted():
    quotas = quotas_of(Clock(), Metrics())
    assert quotas.open(Caller("a"), items=10**9) is None
    assert not quotas._buckets


def test_callers_without_number_do_not_fill_the_memory():
    quotas = quotas_of(Clock(), Metrics(), requests_per_s=1)
    for number in range(10_500):
        quotas.open(Caller(str(number)), items=1)
    assert len(quotas._buckets) == 10_000
    assert {name for name, _ in quotas._buckets} == {str(number) for number in range(500, 10_500)}
