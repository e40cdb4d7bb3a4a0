"""Temperatures make probabilities honest, and a language without rows is not left alone."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xlmr.evaluation.calibrate import (
    as_choices,
    best_temperature,
    choose_temperatures,
    cross_fit,
    divisors,
    fit_temperatures,
    judge_temperatures,
    probabilities,
)
from xlmr.evaluation.metrics.calibration import log_loss
from xlmr.model.calibration import Temperatures


def honest(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits [N, 4] and classes drawn with exactly the probabilities they state."""
    chance = np.random.default_rng(seed)
    logits_NC = chance.normal(0.0, 2.0, (rows, 4))
    return logits_NC, np.array([chance.choice(4, p=row) for row in probabilities(logits_NC)])


def two_languages() -> tuple[np.ndarray, np.ndarray, list[str]]:
    """English is three times too sure over 3000 rows, Swahili half as sure as it may over 60."""
    english, swahili = honest(3000, 1), honest(60, 2)
    logits_NC = np.concatenate([english[0] * 3.0, swahili[0] * 0.5])
    return logits_NC, np.concatenate([english[1], swahili[1]]), ["en"] * 3000 + ["sw"] * 60


def test_each_language_finds_its_own_as_far_as_its_rows_carry() -> None:
    logits_NC, gold_N, languages = two_languages()
    fitted = fit_temperatures(logits_NC, gold_N, languages, spread=0.1)
    assert fitted.of("en") == pytest.approx(3.0, rel=0.1)
    own = best_temperature(logits_NC[3000:], gold_N[3000:])
    assert own < fitted.of("sw") < fitted.everywhere == fitted.of("xx") == fitted.of(None)
    looser = fit_temperatures(logits_NC, gold_N, languages, spread=1.0)
    assert own < looser.of("sw") < fitted.of("sw")


def test_one_language_alone_needs_no_temperature_of_its_own() -> None:
    logits_NC, gold_N = honest(300, 5)
    fitted = choose_temperatures(logits_NC * 2.0, gold_N, ["en"] * 300)
    assert fitted.by_language == {}
    assert fitted.everywhere == pytest.approx(2.0, rel=0.15)


def test_a_language_with_wrong_labels_moves_no_other() -> None:
    parts = [honest(300, seed) for seed in range(6)]
    logits_NC = np.concatenate([logits for logits, _ in parts]) * 2.0
    gold_N = np.concatenate([gold for _, gold in parts])
    gold_N[1500:] = np.random.default_rng(0).integers(0, 4, 300)
    languages = [code for code in ("ar", "de", "en", "fr", "sw", "xx") for _ in range(300)]
    fitted = choose_temperatures(logits_NC, gold_N, languages)
    assert fitted.of("xx") > 6.0
    for language in ("ar", "de", "en", "fr", "sw", "unseen"):
        assert fitted.of(language) == pytest.approx(2.0, rel=0.2)


def test_a_few_rows_that_are_all_right_do_not_freeze_it() -> None:
    logits_NC = np.array([[2.0, 0.0], [0.0, 1.5], [1.0, 0.2]])
    gold_N = logits_NC.argmax(axis=1)
    assert best_temperature(logits_NC, gold_N) == pytest.approx(0.05)
    assert fit_temperatures(logits_NC, gold_N, ["en"] * 3).everywhere > 0.2


def test_probabilities_become_honest_on_rows_no_fit_saw() -> None:
    logits_NC, gold_N, languages = two_languages()
    divisor_N = cross_fit(logits_NC, gold_N, languages)
    english, swahili = judge_temperatures(divisor_N, logits_NC, gold_N, languages, samples=50)
    assert (english.language, english.n, swahili.n) == ("en", 3000, 60)
    assert english.ece_after < 0.05 < english.ece_before
    assert english.brier_after < english.brier_before
    assert english.ece_after_interval[0] <= english.ece_after <= english.ece_after_interval[1]
    assert json.loads(json.dumps(english.to_json()))["n"] == 3000


def test_no_row_decides_about_itself() -> None:
    logits_NC, gold_N = honest(400, 7)
    languages = ["de", "en"] * 200
    before_N = cross_fit(logits_NC, gold_N, languages)
    changed_N = gold_N.copy()
    changed_N[10] = (gold_N[10] + 1) % 4
    after_N = cross_fit(logits_NC, changed_N, languages)
    assert after_N[10] == before_N[10]
    assert not np.array_equal(after_N, before_N)


def test_a_temperature_that_helps_nobody_is_left_alone() -> None:
    logits_NC, gold_N = honest(2000, 8)
    languages = ["de"] * 1000 + ["en"] * 1000
    fitted = choose_temperatures(logits_NC, gold_N, languages)
    for language in ("de", "en"):
        assert fitted.of(language) == pytest.approx(1.0, rel=0.12)


def test_a_language_that_is_right_already_is_left_as_it_is() -> None:
    parts = [honest(100, seed) for seed in range(8)]
    logits_NC = np.concatenate([logits for logits, _ in parts])
    logits_NC[100:] *= 2.5
    languages = [code for code in ("en", *"abcdefg") for _ in range(100)]
    fitted = choose_temperatures(logits_NC, np.concatenate([gold for _, gold in parts]), languages)
    assert fitted.of("en") == 1.0
    for language in "abcdefg":
        assert fitted.of(language) == pytest.approx(2.5, rel=0.25)


def test_what_chance_makes_stands_beside_what_is_measured() -> None:
    logits_NC, gold_N = honest(900, 3)
    boastful = judge_temperatures(np.full(900, 0.5), logits_NC, gold_N, ["en"] * 900, samples=50)
    [found] = judge_temperatures(np.ones(900), logits_NC, gold_N, ["en"] * 900, samples=50)
    assert found.ece_after == pytest.approx(found.ece_by_chance, abs=0.02)
    assert found.ece_beyond_chance_interval[0] == 0.0
    assert boastful[0].ece_beyond_chance_interval[0] > 0.05 > 2 * boastful[0].ece_by_chance - 0.02


def test_labels_that_do_not_exclude_each_other_are_choices_between_two() -> None:
    generator = np.random.default_rng(0)
    logits_NC = generator.normal(0.0, 2.0, (1500, 3))
    gold_NC = generator.random((1500, 3)) < 1.0 / (1.0 + np.exp(-logits_NC))
    choices = as_choices(logits_NC * 2.5, gold_NC, ["en"] * 1500)
    assert choices[0].shape == (4500, 2)
    assert probabilities(choices[0])[:, 1] == pytest.approx(
        1.0 / (1.0 + np.exp(-2.5 * logits_NC.ravel()))
    )
    assert choose_temperatures(*choices).everywhere == pytest.approx(2.5, rel=0.1)


def test_a_language_is_judged_alike_whatever_else_is_there() -> None:
    logits_NC, gold_N = honest(200, 4)
    same_N = np.full(200, 1.5)
    alone = judge_temperatures(same_N[:90], logits_NC[:90], gold_N[:90], ["de"] * 90, samples=20)
    languages = ["de"] * 90 + ["ar"] * 110
    both = judge_temperatures(same_N, logits_NC, gold_N, languages, samples=20)
    assert both[1] == alone[0]


@settings(deadline=None)
@given(st.integers(1, 30), st.integers(1, 4), st.integers(0, 99))
def test_any_rows_can_be_calibrated(rows: int, count: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    logits_NC = generator.normal(size=(rows, 3)) * 50.0
    gold_N = generator.integers(0, 3, rows)
    languages = [f"l{i % count}" for i in range(rows)]
    found_N = cross_fit(logits_NC, gold_N, languages)
    assert found_N.shape == (rows,)
    assert np.all((found_N >= 0.05) & (found_N <= 20.0))
    fitted = choose_temperatures(logits_NC, gold_N, languages)
    assert divisors(fitted, languages).shape == (rows,)


@given(st.integers(0, 1000), st.floats(0.2, 5.0))
def test_the_best_temperature_undoes_a_scaling(seed: int, scale: float) -> None:
    generator = np.random.default_rng(seed)
    logits_NC = generator.normal(size=(40, 3))
    gold_N = generator.integers(0, 3, 40)
    found = best_temperature(logits_NC, gold_N)
    loss = log_loss(logits_NC / found, gold_N)
    assert loss <= min(log_loss(logits_NC / t, gold_N) for t in (0.05, 0.3, 1.0, 3.0, 20.0)) + 1e-9
    if 0.3 < found < 3.0:
        assert best_temperature(logits_NC * scale, gold_N) == pytest.approx(found * scale, rel=1e-3)


def test_nothing_cannot_be_calibrated() -> None:
    nothing = np.zeros((0, 2)), np.zeros(0, int), []
    for fit in (fit_temperatures, choose_temperatures, cross_fit):
        with pytest.raises(ValueError, match="0 gold"):
            fit(*nothing)
    with pytest.raises(ValueError, match="spread"):
        fit_temperatures(np.zeros((1, 2)), np.zeros(1, int), ["de"], spread=0.0)
    with pytest.raises(ValueError, match="1 gold, 1 predicted, 2 rows"):
        judge_temperatures(np.ones(1), np.zeros((1, 2)), np.zeros(1, int), ["de", "en"])
    with pytest.raises(ValueError, match="2 temperatures for 1 rows"):
        judge_temperatures(np.ones(2), np.zeros((1, 2)), np.zeros(1, int), ["de"])
    assert Temperatures(1.0, {}, 1.0).of("de") == math.exp(0.0)
