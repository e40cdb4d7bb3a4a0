from __future__ import annotations

from dataclasses import replace

import pytest
from tests.drift.parts import reference, signals, sketch

from xlmr.drift.accuracy import accuracies, released
from xlmr.drift.label_free import Labelled
from xlmr.drift.reference import Judged


def test_every_language_that_was_released_seen_or_labelled_has_its_figures() -> None:
    found = accuracies(
        reference(), signals(de=sketch(50, 50), tr=sketch(1, 1)), {"ja": Labelled(10, 5)}
    )
    assert list(found) == ["de", "ja", "sw", "tr"]
    known = {
        name: tuple(each is not None for each in (of.release, of.estimated, of.labelled))
        for name, of in found.items()
    }
    assert known == {
        "de": (True, True, False),
        "ja": (False, False, True),
        "sw": (True, False, False),
        "tr": (False, True, False),
    }
    assert [found[name].lost is None for name in found] == [False, True, True, True]


def test_release_is_what_labels_said_and_else_what_confidences_say() -> None:
    expected = reference(right=0.7).languages["de"]
    known = released(expected)
    assert known is not None
    assert known.share == pytest.approx(0.7)
    assert known.low < 0.7 < known.high
    nobody = Judged(*([0] * 26 for _ in range(3)))
    guessed = released(replace(expected, judged=nobody))
    assert guessed is not None
    assert guessed.share == pytest.approx(0.85, abs=0.01)
    assert guessed.high - guessed.low > known.high - known.low
