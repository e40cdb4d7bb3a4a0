from __future__ import annotations

import numpy as np
import pytest

from xlmr.model.heads.answer import Span, best_span
from xlmr.model.heads.fill import top_pieces
from xlmr.types import Encoding

QUESTION = 2  # tokens


def window(offsets: list[tuple[int, int]]) -> Encoding:
    """`<s> q q </s></s> context </s>` over a context's tokens."""
    before = 1 + QUESTION + 2
    length = before + len(offsets) + 1
    return Encoding(
        ids=tuple(range(length)),
        offsets=((0, 0), (0, 1), (2, 3), (0, 0), (0, 0), *offsets, (0, 0)),
        segments=(-1, 0, 0, -1, -1, *[1] * len(offsets), -1),
        total_tokens=length,
        unknown=0,
    )


def logits(
    tokens: int, *, starts: dict[int, float], ends: dict[int, float], nowhere: float = -5.0
) -> np.ndarray:
    """Scores of a window; positions count tokens of the context, "nowhere" is the first token."""
    scores = np.full((2, tokens + 6), 0.0, np.float32)
    scores[:, 0] = nowhere
    for row, given in enumerate((starts, ends)):
        for place, score in given.items():
            scores[row, place + 5] = score
    return scores


def offsets_of(context: str, pieces: list[str]) -> list[tuple[int, int]]:
    found, at = [], 0
    for piece in pieces:
        start = context.index(piece, at)
        at = start + len(piece)
        found.append((start, at))
    return found


CONTEXT = "Anna lives in Paris now"
OFFSETS = offsets_of(CONTEXT, CONTEXT.split())


def ask(
    rows: np.ndarray, *, most: int = 30, must_answer: bool = False, context: str = CONTEXT
) -> tuple[str, Span]:
    span = best_span(
        context, [window(OFFSETS)], [rows], max_answer_tokens=most, must_answer=must_answer
    )
    return context[span.start : span.end], span


def test_the_best_span() -> None:
    assert ask(logits(5, starts={3: 9}, ends={3: 9}))[0] == "Paris"
    assert ask(logits(5, starts={2: 9}, ends={3: 9}))[0] == "in Paris"


def test_an_answer_does_not_end_before_it_begins() -> None:
    text, _ = ask(logits(5, starts={3: 9}, ends={1: 9, 4: 1}))
    assert text == "Paris now"


def test_an_answer_is_no_longer_than_asked() -> None:
    rows = logits(5, starts={0: 9}, ends={1: 1, 4: 9})
    assert ask(rows)[0] == CONTEXT
    assert ask(rows, most=2)[0] == "Anna lives"
    assert len(ask(rows, most=1)[0].split()) == 1


def test_spans_stand_in_the_context_only() -> None:
    rows = logits(5, starts={3: 1}, ends={3: 1})
    rows[:, 1:5] = 50  # the question and the separators
    rows[:, -1] = 50
    assert ask(rows)[0] == "Paris"


def test_no_answer() -> None:
    rows = logits(5, starts={3: 2}, ends={3: 2}, nowhere=6)
    text, span = ask(rows)
    assert (text, span.start, span.end) == ("", 0, 0)
    assert span.score == span.no_answer_score > 0.9
    text, forced = ask(rows, must_answer=True)
    assert text == "Paris"
    assert forced.score < forced.no_answer_score == span.no_answer_score


def test_probabilities_by_hand() -> None:
    rows = np.full((2, 11), -np.inf, np.float32)
    rows[:, 0] = np.log(1)
    rows[:, 5:10] = 0
    rows[:, 8] = np.log(3)  # Paris: 3 of 1 + 4 + 3
    _, span = ask(rows)
    assert span.score == pytest.approx((3 / 8) ** 2)
    assert span.no_answer_score == pytest.approx((1 / 8) ** 2)


def test_a_context_without_tokens_has_no_answer() -> None:
    span = best_span(
        " ", [window([])], [np.zeros((2, 6), np.float32)], max_answer_tokens=9, must_answer=True
    )
    assert (span.start, span.end) == (0, 0)


def test_far_apart_logits_are_no_nan() -> None:
    _, span = ask(logits(5, starts={3: 35}, ends={3: 35}, nowhere=-60))
    assert span.score == pytest.approx(1)
    assert span.no_answer_score == pytest.approx(0)


def test_chinese_answers_are_spans_of_a_run_without_spaces() -> None:
    context = "我住在北京市"
    offsets = [(0, 0), (0, 1), (1, 3), (3, 5), (5, 6)]  # a bare space token stands first
    for first, answer in ((3, "北京"), (1, "我住在北京")):
        rows = logits(5, starts={first: 9}, ends={3: 9})
        span = best_span(context, [window(offsets)], [rows], max_answer_tokens=9, must_answer=False)
        assert context[span.start : span.end] == answer


def test_an_answer_may_begin_but_not_end_in_a_bare_space_token() -> None:
    offsets = [(0, 0), (0, 2)]
    rows = logits(2, starts={0: 9}, ends={0: 9, 1: 1})
    span = best_span("北京", [window(offsets)], [rows], max_answer_tokens=9, must_answer=False)
    assert (span.start, span.end) == (0, 2)


def test_the_best_of_all_windows() -> None:
    windows = [window(OFFSETS[:3]), window(OFFSETS[2:])]
    rows = [
        logits(3, starts={0: 1}, ends={0: 1}, nowhere=8),  # sure that it is not here
        logits(3, starts={1: 6}, ends={1: 6}, nowhere=-8),
    ]
    span = best_span(CONTEXT, windows, rows, max_answer_tokens=9, must_answer=False)
    assert CONTEXT[span.start : span.end] == "Paris"
    assert span.score > 0.9


def test_no_answer_only_if_no_window_has_one() -> None:
    windows = [window(OFFSETS[:3]), window(OFFSETS[2:])]
    rows = [logits(3, starts={}, ends={}, nowhere=9), logits(3, starts={}, ends={}, nowhere=7)]
    span = best_span(CONTEXT, windows, rows, max_answer_tokens=9, must_answer=False)
    assert (span.start, span.end) == (0, 0)
    assert span.no_answer_score > 0.9


def test_top_pieces_fall_and_ties_go_by_id() -> None:
    found = top_pieces(np.log(np.array([1, 2, 4, 2, 1], np.float32)), 3)
    assert [piece for piece, _ in found] == [2, 1, 3]
    assert [score for _, score in found] == pytest.approx([0.4, 0.2, 0.2])


def test_more_pieces_than_there_are() -> None:
    assert len(top_pieces(np.zeros(4, np.float32), 9)) == 4
