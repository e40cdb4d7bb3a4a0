"""Signatures estimate how much two texts share, and banding finds the pairs that share most."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from xlmr.evaluation.minhash import (
    BANDS,
    SHUFFLES,
    WIDTH,
    candidates,
    estimate,
    jaccard,
    pieces,
    signatures,
)

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)
ONE_PAIR = np.array([[0, 1]])


def random_text(random: np.random.Generator, length: int) -> str:
    return "".join(random.choice(list("abcdefghij klmnop"), length))


def estimated(first: str, second: str) -> float:
    return float(estimate(signatures([first, second]), ONE_PAIR)[0])


@given(texts, texts, st.integers(0, 40))
def test_the_estimate_is_within_six_deviations_of_the_truth(a: str, b: str, shared: int) -> None:
    first, second = a + "x" * 3 + b[:shared], b[:shared] + "x" * 3 + a
    truth = jaccard(pieces(first), pieces(second))
    deviation = (truth * (1 - truth) / SHUFFLES) ** 0.5
    assert abs(estimated(first, second) - truth) <= 6 * deviation + 1e-9


def test_the_estimate_is_right_on_average_and_as_sharp_as_promised() -> None:
    random = np.random.default_rng(0)
    errors, truths = [], []
    for _ in range(600):
        text = random_text(random, 150)
        other = text[: random.integers(10, 150)] + random_text(random, 40)
        truths.append(jaccard(pieces(text), pieces(other)))
        errors.append(estimated(text, other) - truths[-1])
    assert 0.2 < np.std(truths) < 0.4  # pairs of every kind
    assert abs(np.mean(errors)) < 0.006  # three deviations of a mean of 600
    expected = np.sqrt(np.mean(np.array(truths) * (1 - np.array(truths)) / SHUFFLES))
    assert 0.85 < np.std(errors) / expected < 1.15


@given(st.lists(texts, min_size=1, max_size=6))
def test_a_signature_depends_on_its_own_text_only(said: list[str]) -> None:
    together = signatures(said)
    assert together.shape == (len(said), SHUFFLES)
    for i, text in enumerate(said):
        np.testing.assert_array_equal(signatures([text])[0], together[i])


def test_blocks_leave_no_seam() -> None:
    random = np.random.default_rng(1)
    said = [random_text(random, length) for length in (70_000, 3, 66_000, 40_000, 40_000, 8)]
    together = signatures(said)
    for i, text in enumerate(said):
        np.testing.assert_array_equal(signatures([text])[0], together[i])


def test_pieces_are_runs_of_characters_and_a_short_text_is_one() -> None:
    assert pieces("abcdefg") == {"abcde", "bcdef", "cdefg"}
    assert pieces("ab") == {"ab"}
    assert WIDTH == 5
    assert jaccard(pieces("abcdefg"), pieces("abcdef")) == 2 / 3


def test_candidates_stand_in_different_groups_and_come_once() -> None:
    random = np.random.default_rng(2)
    text = random_text(random, 100)
    said = [text, text + "x", random_text(random, 100), text + "y", random_text(random, 100)]
    found = candidates(signatures(said), np.array([0, 0, 1, 1, 2]))
    assert found.tolist() == [[0, 3], [1, 3]]


def test_nothing_has_no_candidates() -> None:
    empty = signatures([])
    assert candidates(empty, np.empty(0, np.int64)).shape == (0, 2)
    assert estimate(empty, np.empty((0, 2), np.int64)).shape == (0,)


def test_very_many_texts_alike_do_not_make_every_pair() -> None:
    said = [f"please turn on the light in the large meeting room number {i}" for i in range(2000)]
    groups = np.repeat([0, 1], 1000)
    found = candidates(signatures(said), groups)
    assert len(found) < BANDS * 1000 * 100  # of 1,000,000 pairs in every band
    assert set(found[:, 0].tolist()) == set(range(1000))
