from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from xlmr.drift.mix import decompose, split
from xlmr.drift.reference import Expected, Judged, Reference
from xlmr.drift.signals import Signals, Sketch, empty_sketch

COUNTS = arrays(np.float64, (4, 3), elements=st.integers(0, 50).map(float))


@given(COUNTS, COUNTS)
def test_both_parts_are_all_of_the_change(before_LB: np.ndarray, after_LB: np.ndarray) -> None:
    mix_LB, within_LB = decompose(before_LB, after_LB)
    if before_LB.sum() and after_LB.sum():
        change_B = after_LB.sum(axis=0) / after_LB.sum() - before_LB.sum(axis=0) / before_LB.sum()
        np.testing.assert_allclose((mix_LB + within_LB).sum(axis=0), change_B, atol=1e-12)
    else:
        assert not mix_LB.any()
        assert not within_LB.any()


@given(COUNTS, COUNTS)
def test_backwards_it_is_the_same_change(before_LB: np.ndarray, after_LB: np.ndarray) -> None:
    there, back = decompose(before_LB, after_LB), decompose(after_LB, before_LB)
    np.testing.assert_allclose(np.stack(there), -np.stack(back), atol=1e-12)


def sketch(sure: int, unsure: int) -> Sketch:
    found = empty_sketch(0)
    found.rows = sure + unsure
    found.bins["confidence"][20], found.bins["confidence"][3] = sure, unsure
    return found


def reference(mix: dict[str, int]) -> Reference:
    unknown = Judged([0] * 26, [0] * 26, [0] * 26)
    languages = {"de": Expected(sketch(90, 10), unknown), "sw": Expected(sketch(50, 50), unknown)}
    return Reference("classify", "shadow", (), languages, mix)


def seen(**languages: Sketch) -> Signals:
    return Signals("3", "classify", (), dict(languages))


def test_more_of_a_harder_language_is_a_change_of_the_mix() -> None:
    found = split(
        reference({"de": 900, "sw": 100}),
        seen(de=sketch(450, 50), sw=sketch(250, 250)),
        "confidence",
    )
    assert found.within == pytest.approx(0.0)
    assert found.mix == found.total == pytest.approx(0.4 * 0.4)


def test_a_language_that_became_harder_is_named() -> None:
    found = split(
        reference({"de": 500, "sw": 500}),
        seen(de=sketch(350, 150), sw=sketch(250, 250)),
        "confidence",
    )
    assert found.mix == pytest.approx(0.0)
    assert found.within == found.total == pytest.approx(0.1)
    assert found.by_language == pytest.approx({"de": 0.1, "sw": 0.0})


def test_both_at_once_are_told_apart() -> None:
    found = split(
        reference({"de": 500, "sw": 500}),
        seen(de=sketch(540, 60), sw=sketch(80, 320)),
        "confidence",
    )
    assert found.by_language == pytest.approx({"de": 0.0, "sw": 0.45 * 0.3})
    assert found.mix == pytest.approx(0.1 * (0.9 - 0.35))


def test_a_new_language_and_one_that_is_gone_belong_to_the_mix() -> None:
    found = split(
        reference({"de": 500, "sw": 500}), seen(de=sketch(90, 10), th=sketch(0, 100)), "confidence"
    )
    assert found.within == pytest.approx(0.0)
    assert found.mix == pytest.approx(0.25)


def test_without_a_known_mix_only_languages_change() -> None:
    found = split(reference({}), seen(de=sketch(90, 10), sw=sketch(0, 900)), "confidence")
    assert (found.mix, found.within) == pytest.approx((0.0, 0.9 * 0.5))
