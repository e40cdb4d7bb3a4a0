"""The prediction follows the engine, is never negative, and one bad moment does not ruin it."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xlmr.serving.estimate import BatchSeconds, Delay, LeastTokens

paces = st.floats(1e-6, 1e-2)
batches = st.lists(
    st.tuples(st.lists(st.integers(1, 512), min_size=1, max_size=32), st.floats(0, 100)),
    max_size=40,
)


def work(lengths: list[int]) -> tuple[int, int]:
    return sum(lengths), sum(length * length for length in lengths)


def taught(a: float, b: float, c: float, *, rounds: int = 300, noise: float = 0.0) -> BatchSeconds:
    dice = random.Random(1)
    # The warm-up was disturbed: it says three times what is true.
    predicted = BatchSeconds([(128, 128 * 128, 3 * (a * 128 + b * 128 * 128 + c))])
    for _ in range(rounds):
        tokens, squares = work([dice.randint(3, 512) for _ in range(dice.randint(1, 16))])
        seconds = (a * tokens + b * squares + c) * (1 + dice.uniform(-noise, noise))
        predicted.observe(tokens, squares, seconds)
    return predicted


@given(seen=batches, asked=st.lists(st.integers(1, 512), min_size=1, max_size=40))
def test_it_is_never_negative_and_more_work_never_takes_less(seen, asked):
    predicted = BatchSeconds()
    for lengths, seconds in seen:
        predicted.observe(*work(lengths), seconds)
    assert min(predicted.coefficients) >= 0
    assert predicted.seconds(*work(asked)) <= predicted.seconds(*work([*asked, 7]))


@settings(max_examples=30, deadline=None)
@given(a=paces, attention=st.floats(0, 2), fixed=st.floats(0, 200))
def test_an_engine_that_keeps_the_law_is_predicted_within_ten_percent(a, attention, fixed):
    # What a text of 512 tokens spends in attention, and a batch at all, in units of a token's time.
    b, c = attention * a / 512, fixed * a
    predicted = taught(a, b, c)
    for lengths in ([20], [40] * 10, [512], [512] * 8, [3, 512, 40]):
        tokens, squares = work(lengths)
        truth = a * tokens + b * squares + c
        assert predicted.seconds(tokens, squares) == pytest.approx(truth, rel=0.1)


def test_noise_averages_out():
    predicted = taught(2e-4, 1e-7, 1e-3, noise=0.5)
    assert predicted.seconds(256, 8 * 32 * 32) == pytest.approx(
        2e-4 * 256 + 1e-7 * 8192 + 1e-3, rel=0.15
    )


def test_before_anything_was_seen_the_warm_up_speaks():
    assert BatchSeconds([(100, 10_000, 0.2)]).seconds(50, 2500) == pytest.approx(0.1, rel=0.05)


def test_a_machine_that_slows_down_is_followed():
    predicted = taught(2e-4, 0.0, 1e-3)
    for _ in range(150):
        predicted.observe(256, 8192, 3 * (2e-4 * 256 + 1e-3))
    assert predicted.seconds(256, 8192) == pytest.approx(3 * (2e-4 * 256 + 1e-3), rel=0.3)


def test_one_pause_of_a_minute_does_not_make_it_refuse_everything():
    predicted = taught(2e-4, 0.0, 1e-3)
    usual = predicted.seconds(256, 8192)
    predicted.observe(256, 8192, 60.0)
    assert predicted.seconds(256, 8192) < 2 * usual


requests = st.lists(st.tuples(st.integers(1, 4000), st.integers(1, 2000)), max_size=60)


@given(seen=requests, characters=st.integers(0, 10_000))
def test_least_tokens_is_a_bound_for_everything_of_the_last_generation(seen, characters):
    least = LeastTokens(generation=10)
    for had, became in seen:
        least.observe(had, became)
    bound = least.tokens(characters)
    if len(seen) < 10:
        assert bound == 0
    for had, became in seen[-10:]:
        assert bound <= became / had * characters * (1 + 1e-12)


def test_one_odd_text_is_forgotten_after_two_generations():
    least = LeastTokens(generation=10)
    least.observe(1000, 1)
    for _ in range(30):
        least.observe(100, 25)
    assert least.tokens(400) == 100
    assert LeastTokens().tokens(400) == 0
    least.observe(0, 2)
    assert least.tokens(400) == 100


@given(st.integers(0, 2**32 - 1), st.floats(0.0, 0.3))
def test_the_delay_bounds_all_but_a_few_answers(seed, usual):
    generator = np.random.default_rng(seed)
    delay = Delay()
    late = usual + generator.exponential(0.02, 6000)
    exceeded = []
    for one in late.tolist():
        exceeded.append(one > delay.seconds)
        delay.observe(one)
    assert 0.005 < sum(exceeded[-3000:]) / 3000 < 0.04


def test_answers_that_come_as_predicted_need_no_delay():
    delay = Delay()
    for _ in range(100):
        delay.observe(0.5)
    assert delay.seconds > 0.1
    for _ in range(10_000):
        delay.observe(-0.01)
    assert delay.seconds == 0.0
