"""Negatives are near, of the same language, and no right answers that happen to be missing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from tests.tiny import tiny_model

from xlmr.evaluation.suites import RankRow
from xlmr.model.bundle import open_bundle
from xlmr.training.negatives import Embed, drawn, mine, mine_with
from xlmr.training.sentence_vectors import Told, Vectors

ANGLES = {
    "q": 0,
    "right": 10,
    "suspicious": 12,
    "hard": 40,
    "harder": 30,
    "easy": 120,
    "opposite": 180,
    "Right!": 10,
    "other": 90,
    "fremd": 20,
}


def on_a_circle(calls: list[str] | None = None) -> Embed:
    """Texts as directions in a plane, by their angle."""

    def embed(texts: Sequence[str], prompt: str, told: Told) -> Vectors:
        if calls is not None:
            calls.append(prompt)
        radians = np.deg2rad([ANGLES[text] for text in texts])
        return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)

    return embed


def row(query: str, positive: str, *negatives: str, language: str = "en") -> RankRow:
    return RankRow(query, positive, negatives, language, 1)


POOL = [row("other", text) for text in ("suspicious", "hard", "harder", "easy", "opposite")]


def found(rows: Sequence[RankRow], count: int) -> tuple[str, ...]:
    return mine_with(on_a_circle(), rows, count, prompts=("a", "b"))[0]


def test_the_nearest_come_first_and_what_is_as_near_as_the_answer_is_left_out() -> None:
    assert found([row("q", "right"), *POOL], 2) == ("harder", "hard")
    assert found([row("q", "right"), *POOL], 9) == ("harder", "hard", "easy", "opposite")


def test_own_and_equal_texts_are_no_negatives() -> None:
    rows = [row("q", "right", "hard"), row("other", "Right!"), row("other", "q"), *POOL]
    assert found(rows, 2) == ("harder", "easy")


def test_what_another_row_gives_as_right_is_no_negative() -> None:
    rows = [row("q", "right"), row("Q?", "harder"), *POOL]
    ANGLES.setdefault("Q?", 0)
    assert found(rows, 2) == ("hard", "easy")


def test_other_languages_are_not_searched() -> None:
    rows = [row("q", "right"), *POOL, row("other", "fremd", language="de")]
    mined = mine_with(on_a_circle(), rows, 1, prompts=("a", "b"))
    assert mined[0] == ("harder",)
    assert mined[-1] == ()


def test_queries_and_documents_have_their_prompts() -> None:
    calls: list[str] = []
    mine_with(on_a_circle(calls), [row("q", "right")], 1, prompts=("query", "passage"))
    assert calls == ["query", "passage"]


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [row("q", "right"), *POOL, row("easy", "hard")]
    whole = mine_with(on_a_circle(), rows, 3, prompts=("a", "b"))
    monkeypatch.setattr("xlmr.training.negatives._BLOCK", 1)
    assert mine_with(on_a_circle(), rows, 3, prompts=("a", "b")) == whole


def test_no_rows_have_no_negatives() -> None:
    assert (
        mine_with(
            lambda texts, _, told: np.empty((len(texts), 2), np.float32), [], 3, prompts=("", "")
        )
        == []
    )


def test_a_model_mines_with_its_own_vectors_and_repeats_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XLMR_CACHE_DIR", str(tmp_path / "cache"))
    bundle = open_bundle(tiny_model(tmp_path, "embed"))
    rows = [row("hello world", "anna"), row("paris", "berlin"), row("money", "refund")]
    mined = mine(bundle, rows, 2, prompts=("", ""))
    assert mined == mine(bundle, rows, 2, prompts=("", ""))
    for own, some in zip(rows, mined, strict=True):
        assert own.positive not in some


def test_it_tells_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XLMR_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr("xlmr.training.sentence_vectors._CHUNK_TEXTS", 2)
    bundle = open_bundle(tiny_model(tmp_path, "embed"))
    rows = [row("hello", "anna"), row("paris", "anna", "berlin", "money")]
    heard: list[float] = []
    read = 0

    def told(*, done: float, tokens: int) -> None:
        nonlocal read
        heard.append(done)
        read += tokens

    mine(bundle, rows, 1, prompts=("", ""), told=told)
    assert heard == pytest.approx([2 / 5, 4 / 5, 1.0])  # two queries, three documents
    texts = ["hello", "paris", "anna", "berlin", "money"]
    assert read == sum(len(each.ids) for each in bundle.tokenizer.encode_many(texts))


def test_random_ones_fill_up() -> None:
    rows = [row("q", "right"), *POOL]
    taken = [("harder",), *[()] * len(POOL)]
    [first, *_] = drawn(rows, taken, 3)
    assert len(first) == 3
    assert set(first) <= {"suspicious", "hard", "easy", "opposite"}
    assert drawn(rows, taken, 3)[0] == first
    assert set(drawn(rows, taken, 99)[0]) == {"suspicious", "hard", "easy", "opposite"}
