from __future__ import annotations

import numpy as np
import pytest

from xlmr.drift.seeing import sight_of
from xlmr.drift.signals import Sight
from xlmr.types import Accounting, Classification, Embedding, LabelScore

CUT = Accounting(tokens=8, total_tokens=12, truncated=True, windows=1, unknown=2)
LABELS = (LabelScore("spam", 0.75), LabelScore("ham", 0.25))


def test_an_answer_of_one_label() -> None:
    answer = Classification(LABELS, CUT, abstained=True, entropy=0.5)
    assert sight_of(answer, 40) == Sight(12, 40, 2, True, "spam", 0.75, 0.5, True)


def test_a_value_is_no_label() -> None:
    answer = Classification((LabelScore("stars", 4.5),), CUT)
    assert sight_of(answer, 40) == Sight(12, 40, 2, True, None, None, None, None)


@pytest.mark.parametrize(
    ("text", "width"),
    [("kun upel", 1.0), ("kůň úpěl", 12 / 8), ("нет", 2.0), ("\ud800", 3.0), ("", None)],
)
def test_how_wide_letters_are(text: str, width: float | None) -> None:
    answer = Embedding(np.zeros(3, np.float32), CUT)
    assert sight_of(answer, len(text), text).bytes_per_character == width


def test_of_a_long_text_only_the_beginning_is_read() -> None:
    answer = Embedding(np.zeros(3, np.float32), CUT)
    assert sight_of(answer, 9000, "a" * 1000 + "я" * 8000).bytes_per_character == 1.0


def test_a_vector_says_how_texts_are_written() -> None:
    answer = Embedding(np.zeros(3, np.float32), CUT)
    assert sight_of(answer, 0) == Sight(12, 0, 2, True, None, None, None, None)
