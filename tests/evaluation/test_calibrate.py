"""Temperatures make probabilities honest, and a language without rows is not left alone."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlmr.errors import DataError
from xlmr.evaluation.abstention import fit_abstention
from xlmr.evaluation.calibrate import (
    Calibration,
    Temperatures,
    best_temperature,
    fit_temperatures,
    judge_temperatures,
    probabilities,
)
from xlmr.evaluation.metrics.calibration import log_loss
from xlmr.evaluation.thresholds import Target, Thresholds


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
    fitted = fit_temperatures(logits_NC, gold_N, languages)
    assert fitted.of("en") == pytest.approx(3.0, rel=0.1)
    own = best_temperature(logits_NC[3000:], gold_N[3000:])
    expected = math.exp((60 * math.log(own) + 200 * math.log(fitted.everywhere)) / 260)
    assert fitted.of("sw") == pytest.approx(expected)
    assert own < fitted.of("sw") < fitted.everywhere == fitted.of("xx")


def test_probabilities_become_honest() -> None:
    fitted = fit_temperatures(*two_languages())
    logits_NC, gold_N = honest(2000, 3)
    english, swahili = judge_temperatures(
        fitted,
        np.concatenate([logits_NC[:1500] * 3.0, logits_NC[1500:] * 3.0]),
        gold_N,
        ["en"] * 1500 + ["sw"] * 500,
        samples=50,
    )
    assert (english.language, english.n, swahili.n) == ("en", 1500, 500)
    assert english.ece_after < 0.05 < english.ece_before
    for found in (english, swahili):  # Swahili mostly by what the others taught it
        assert found.ece_after < 0.6 * found.ece_before
        assert found.brier_after < found.brier_before
        assert found.ece_after_interval[0] <= found.ece_after <= found.ece_after_interval[1]
    assert json.loads(json.dumps(english.to_json()))["n"] == 1500


def test_a_language_is_judged_alike_whatever_else_is_there() -> None:
    logits_NC, gold_N = honest(200, 4)
    same = Temperatures(1.5, {}, 200.0)
    alone = judge_temperatures(same, logits_NC[:90], gold_N[:90], ["de"] * 90, samples=20)
    both = judge_temperatures(same, logits_NC, gold_N, ["de"] * 90 + ["ar"] * 110, samples=20)
    assert both[1] == alone[0]


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


def test_it_survives_its_file() -> None:
    confidence = np.linspace(0.4, 1.0, 300)
    fitted = Calibration(
        temperatures=Temperatures(1.5, {"de": 1.25}, 200.0),
        thresholds=Thresholds(Target("precision", 0.9), {"hate": None}, {"de": {"hate": 0.25}}),
        abstention={"*": fit_abstention(confidence, confidence > 0.5, risk=0.1)},
    )
    assert Calibration.from_json(json.loads(json.dumps(fitted.to_json()))) == fitted
    assert Calibration.from_json({}) == Calibration()


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ([], "calibration: "),
        ({"temperatures": {"everywhere": "hot"}}, r"\$\.temperatures"),
        (Calibration(Temperatures(0.0, {}, 1.0)).to_json(), "a temperature is not"),
        (Calibration(Temperatures(1.0, {"de": -1.0}, 1.0)).to_json(), "a temperature is not"),
    ],
)
def test_another_file_is_refused(value: object, place: str) -> None:
    with pytest.raises(DataError, match=place):
        Calibration.from_json(value)


def test_nothing_cannot_be_calibrated() -> None:
    with pytest.raises(ValueError, match="0 gold"):
        fit_temperatures(np.zeros((0, 2)), np.zeros(0, int), [])
    with pytest.raises(ValueError, match="prior_rows"):
        fit_temperatures(np.zeros((1, 2)), np.zeros(1, int), ["de"], prior_rows=0.0)
    with pytest.raises(ValueError, match="1 gold, 1 predicted, 2 rows"):
        judge_temperatures(
            Temperatures(1.0, {}, 1.0), np.zeros((1, 2)), np.zeros(1, int), ["de", "en"]
        )
