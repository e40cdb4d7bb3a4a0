"""Arrivals wait for nobody and look like users."""

from __future__ import annotations

import json

import numpy as np
import pytest

from xlmr.errors import SettingsError
from xlmr.evaluation.load.traffic import draw_traffic


def test_arrivals_are_a_poisson_process() -> None:
    asks = draw_traffic(rate=200, seconds=50, seed=1)
    at_s = np.array([ask.at_s for ask in asks])
    assert (np.diff(at_s) >= 0).all()
    assert at_s[0] >= 0
    assert at_s[-1] < 50
    # 10,000 expected, with a standard deviation of 100.
    assert len(asks) == pytest.approx(10_000, abs=500)
    gaps = np.diff(at_s)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.05)


def test_two_runs_of_one_seed_are_the_same() -> None:
    first, second, other = (draw_traffic(rate=50, seconds=4, seed=seed) for seed in (3, 3, 4))
    assert first == second
    assert first != other


def test_texts_are_of_many_languages_and_lengths_and_hardly_repeat() -> None:
    texts = [json.loads(ask.body)["input"] for ask in draw_traffic(rate=500, seconds=4, seed=5)]
    assert len(set(texts)) > 0.97 * len(texts)
    letters = "".join(texts)
    assert all(letter in letters for letter in ("و", "ש", "क", "京", "ร", "в", "ü"))
    lengths = np.array([len(text) for text in texts])
    assert np.percentile(lengths, 95) > 4 * np.median(lengths)


def test_tasks_go_to_their_doors_with_their_models() -> None:
    asks = draw_traffic(
        rate=100, seconds=4, seed=1, tasks=("embed", "classify"), models={"classify": "router"}
    )
    paths = {ask.path for ask in asks}
    assert paths == {"/v1/embeddings", "/v1/classify"}
    for ask in asks:
        named = json.loads(ask.body).get("model")
        assert named == ("router" if ask.path == "/v1/classify" else None)


def test_given_texts_are_asked() -> None:
    asks = draw_traffic(rate=100, seconds=2, seed=1, texts=["a", "b"])
    assert {json.loads(ask.body)["input"] for ask in asks} == {"a", "b"}


def test_a_task_without_a_door_is_refused() -> None:
    with pytest.raises(SettingsError, match="dance"):
        draw_traffic(rate=1, seconds=1, seed=1, tasks=("dance",))
