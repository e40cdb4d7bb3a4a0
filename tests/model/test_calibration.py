"""`calibration.json`: read strictly, found by language, and heard by every answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.tiny import LABELS, tiny_model

from xlmr.errors import InputError, ModelRefusedError
from xlmr.evaluation.abstention import fit_abstention
from xlmr.model.bundle import open_bundle
from xlmr.model.calibration import (
    CALIBRATION_FILE,
    Abstention,
    Calibration,
    Target,
    Temperatures,
    Thresholds,
    key_of,
    read_calibration,
)
from xlmr.model.predictor import Predictor, load

ENGLISH, RUSSIAN = "where is my parcel and my money", "привет мир где моя посылка сегодня"
NEVER = Abstention(None, 0.1, 0.95, None, 0.0, 50)
ALWAYS = Abstention(0.0, 0.1, 0.95, 0.05, 1.0, 50)


def opened(directory: Path, calibration: Calibration | None = None) -> Predictor:
    if calibration is not None:
        (directory / CALIBRATION_FILE).write_text(json.dumps(calibration.to_json()))
    return load(directory, runtime="reference")


def test_it_survives_its_file(tmp_path: Path) -> None:
    confidence = np.linspace(0.4, 1.0, 300)
    fitted = Calibration(
        temperatures=Temperatures(1.5, {"de": 1.25}, 0.2),
        thresholds=Thresholds(Target("precision", 0.9), {"hate": None}, {"de": {"hate": 0.25}}),
        abstention={"*": fit_abstention(confidence, confidence > 0.5, risk=0.1)},
    )
    assert read_calibration(tmp_path) is None
    (tmp_path / CALIBRATION_FILE).write_text(json.dumps(fitted.to_json()))
    assert read_calibration(tmp_path) == fitted
    assert Calibration.from_json({"format": 1}) == Calibration()


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({}, "format"),
        ({"format": 2}, "expected 1, got 2"),
        ({"format": 1, "temperatures": {"everywhere": "hot"}}, r"\$\.temperatures"),
        (Calibration(Temperatures(0.0, {}, 1.0)).to_json(), "a temperature is not"),
        (Calibration(Temperatures(1.0, {"de": -1.0}, 1.0)).to_json(), "a temperature is not"),
    ],
)
def test_another_file_is_refused(value: dict[str, Any], place: str) -> None:
    with pytest.raises(ModelRefusedError, match=place):
        Calibration.from_json(value)


@pytest.mark.parametrize(
    ("language", "keys", "found"),
    [
        ("de", ("de", "en"), "de"),
        ("ar", ("arb_Arab", "en"), "arb_Arab"),
        ("eng_Latn", ("en",), "en"),
        ("pt", ("pt-BR",), "pt-BR"),
        ("pt", ("pt-BR", "pt-PT"), None),
        ("pt-PT", ("pt-BR", "pt-PT"), "pt-PT"),
        ("sw", ("de",), None),
        (None, ("de",), None),
    ],
)
def test_a_language_is_found_by_any_of_its_names(
    language: str | None, keys: tuple[str, ...], found: str | None
) -> None:
    assert key_of(language, keys) == found


def test_scores_are_divided_by_the_temperature_of_their_language(tmp_path: Path) -> None:
    directory = tiny_model(tmp_path, "classify")
    plain = opened(directory)
    raw = plain.classify([ENGLISH, RUSSIAN], raw_scores=True)
    assert [
        (a.language, a.calibrated, a.abstained, a.chosen) for a in plain.classify([ENGLISH])
    ] == [(None, False, None, None)]
    model = opened(directory, Calibration(Temperatures(3.0, {"ru": 0.5}, 0.2)))
    answers = model.classify([ENGLISH, RUSSIAN])
    assert [answer.language for answer in answers] == ["en", "ru"]
    for answer, outputs, divisor in zip(answers, raw, (3.0, 0.5), strict=True):
        powers = {one.label: np.exp(one.score / divisor) for one in outputs.labels}
        for one in answer.labels:
            assert one.score == pytest.approx(powers[one.label] / sum(powers.values()), abs=1e-5)
        assert answer.calibrated
        assert answer.label == outputs.label
    said = model.classify([ENGLISH], languages=["ru"])[0]
    assert said.language == "ru"
    assert said.score != pytest.approx(answers[0].score, abs=1e-3)
    assert model.classify([ENGLISH], raw_scores=True)[0].labels == raw[0].labels
    assert not model.classify([ENGLISH], raw_scores=True)[0].calibrated


def test_a_language_is_only_asked_for_where_it_matters(tmp_path: Path) -> None:
    directory = tiny_model(tmp_path, "classify")
    model = opened(directory, Calibration(Temperatures(3.0, {}, 0.2)))
    answer = model.classify([ENGLISH])[0]
    assert (answer.language, answer.calibrated) == (None, True)


@pytest.mark.parametrize("languages", ["en", ["en"], ["en", "de", "fr"]])
def test_one_language_for_each_text(tmp_path: Path, languages: Any) -> None:
    model = opened(tiny_model(tmp_path, "classify"))
    with pytest.raises(InputError, match="expected 2 in a list") as caught:
        model.classify([ENGLISH, RUSSIAN], languages=languages)
    assert caught.value.path == "$.languages"


def test_an_answer_too_unsure_is_marked(tmp_path: Path) -> None:
    directory = tiny_model(tmp_path, "classify")
    model = opened(directory, Calibration(abstention={"*": ALWAYS, "ru": NEVER}))
    assert [a.abstained for a in model.classify([ENGLISH, RUSSIAN])] == [False, True]
    only = opened(directory, Calibration(abstention={"ru": NEVER}))
    assert [a.abstained for a in only.classify([ENGLISH, RUSSIAN])] == [None, True]
    assert only.classify([RUSSIAN], raw_scores=True)[0].abstained is None


def test_labels_that_reach_their_threshold_are_chosen(tmp_path: Path) -> None:
    directory = tiny_model(tmp_path, "multi_label")
    angry, urgent, polite = LABELS["multi_label"]
    scores = {s.label: s.score for s in opened(directory).classify([ENGLISH])[0].labels}
    plain = opened(directory).classify([ENGLISH], top=1)[0]
    assert set(plain.chosen or ()) == {label for label, score in scores.items() if score >= 0.5}
    everywhere = {angry: scores[angry] - 1e-4, urgent: scores[urgent] + 1e-4, polite: None}
    own = {"ru": {polite: 0.0}}
    thresholds = Thresholds(Target("f1"), everywhere, own)
    model = opened(directory, Calibration(thresholds=thresholds))
    english = model.classify([ENGLISH], languages=["en"])[0]
    assert (english.chosen, english.abstained) == ((angry,), None)
    assert polite in (model.classify([ENGLISH], languages=["ru"])[0].chosen or ())


def test_thresholds_of_another_head_are_refused(tmp_path: Path) -> None:
    directory = tiny_model(tmp_path, "multi_label")
    with pytest.raises(ModelRefusedError, match="a label of the model has no threshold"):
        opened(directory, Calibration(thresholds=Thresholds(Target("f1"), {"calm": 0.5}, {})))


def test_values_are_left_as_they_are(tmp_path: Path) -> None:
    directory = tiny_model(tmp_path, "regression")
    before = opened(directory).classify([ENGLISH])[0].score
    answer = opened(directory, Calibration(Temperatures(3.0, {}, 0.2))).classify([ENGLISH])[0]
    assert (answer.score, answer.calibrated) == (before, False)


def test_the_digest_tells_of_it(tmp_path: Path) -> None:
    directory = tiny_model(tmp_path, "classify")
    digests = [open_bundle(directory).digest]
    for temperature in (2.0, 3.0):
        opened(directory, Calibration(Temperatures(temperature, {}, 0.2)))
        digests.append(open_bundle(directory).digest)
    assert len(set(digests)) == 3
    (directory / CALIBRATION_FILE).unlink()
    assert open_bundle(directory).digest == digests[0]
