from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import save_file

from xlmr.drift.embedding import (
    VECTORS_FILE,
    Reservoir,
    freeze_vectors,
    look_closer,
    read_vectors,
    write_vectors,
)
from xlmr.errors import DataError

WIDTH = 96
TOPICS = np.random.default_rng(7).normal(size=(6, WIDTH))


def vectors(rng: np.random.Generator, rows: int, topics: tuple[int, ...]) -> NDArray[np.float32]:
    found = TOPICS[rng.choice(topics, rows)] + rng.normal(0.0, 0.6, (rows, WIDTH))
    normed: NDArray[np.float32] = found / np.linalg.norm(found, axis=1, keepdims=True)
    return normed.astype(np.float32)


RNG = np.random.default_rng(0)
REFERENCE = vectors(RNG, 2000, (0, 1, 2, 3))
SPACE, ROWS = freeze_vectors({"de": REFERENCE})
BEFORE = ROWS["de"]
IDS = [f"id{place}" for place in range(400)]


def row(place: int) -> NDArray[np.float16]:
    return np.array([place, place / 2], np.float16)


def sample(ids: list[str], size: int) -> Reservoir:
    found = Reservoir(size)
    for name in ids:
        found.keep(name, row(int(name)))
    return found


@given(st.lists(st.integers(0, 60).map(str), max_size=60), st.integers(0, 60), st.integers(1, 9))
def test_samples_of_servers_make_the_sample_of_all(ids: list[str], cut: int, size: int) -> None:
    whole = sample(ids, size).to_json()
    assert (sample(ids[:cut], size) + sample(ids[cut:], size)).to_json() == whole
    assert (sample(ids[cut:], size) + sample(ids[:cut], size)).to_json() == whole
    assert len(whole["ids"]) == min(size, len(set(ids)))


@given(st.lists(st.integers(0, 60).map(str), max_size=20))
def test_a_sample_is_read_back(ids: list[str]) -> None:
    written = json.dumps(sample(ids, 8).to_json())
    assert Reservoir.from_json(json.loads(written)).to_json() == json.loads(written)


def test_early_and_late_texts_are_as_likely_to_be_kept() -> None:
    kept = [int(name) for name in sample([str(place) for place in range(8000)], 400).rows()[0]]
    assert 150 < sum(place < 4000 for place in kept) < 250


def test_what_would_not_be_kept_is_not_wanted() -> None:
    found = sample([str(place) for place in range(100)], 10)
    kept = set(found.rows()[0])
    wanted = [str(place) for place in range(100, 2000) if found.wants(str(place))]
    assert 0 < len(wanted) < 400
    assert not any(map(found.wants, kept))


@pytest.mark.parametrize(
    "change", [{"rows": "?"}, {"rows": "AAAA"}, {"width": -3}, {"ids": ["a"]}, {"size": "many"}]
)
def test_a_sample_of_something_else_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(DataError, match="reservoir"):
        Reservoir.from_json(sample(["1", "2", "3"], 8).to_json() | change)


def test_vectors_are_read_back(tmp_path: Path) -> None:
    assert read_vectors(tmp_path) is None
    write_vectors(SPACE, {"de": BEFORE}, tmp_path)
    read = read_vectors(tmp_path)
    assert read is not None
    space, rows = read
    np.testing.assert_array_equal(rows["de"], BEFORE)
    np.testing.assert_array_equal(space.place(REFERENCE[1::2]), BEFORE)
    assert (tmp_path / VECTORS_FILE).stat().st_size < 200_000


@pytest.mark.parametrize("rows", [b"", b"no tensors"])
def test_a_file_that_holds_no_vectors_is_refused(tmp_path: Path, rows: bytes) -> None:
    (tmp_path / VECTORS_FILE).write_bytes(rows)
    with pytest.raises(DataError, match="cannot be read"):
        read_vectors(tmp_path)


def test_vectors_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    fixed = {"mean": SPACE.mean_D, "components": SPACE.components_PD}
    save_file(fixed | {"rows.de": BEFORE[:, 1:].copy()}, tmp_path / VECTORS_FILE)
    with pytest.raises(DataError, match="do not fit"):
        read_vectors(tmp_path)


def test_what_lies_off_the_reference_shows_in_its_distance() -> None:
    flat = np.zeros((50, WIDTH), np.float32)
    flat[:, :4] = RNG.normal(size=(50, 4))
    space, _ = freeze_vectors({"de": flat})
    off = flat[:1].copy()
    off[0, 50] = 3.0
    kept = space.place(np.concatenate([flat[:1], off]))
    np.testing.assert_allclose(kept[0, :4], kept[1, :4], atol=0.01)
    assert (float(kept[0, -1]), float(kept[1, -1])) == pytest.approx((0.0, 3.0), abs=0.02)


def test_the_same_kind_of_texts_is_not_accused() -> None:
    rng = np.random.default_rng(1)
    looks = [
        look_closer(BEFORE, SPACE.place(vectors(rng, 200, (0, 1, 2, 3))), IDS[:200], seed=seed)
        for seed in range(4)
    ]
    assert not any(look.found for look in looks)
    assert sum(look.p_value <= 0.05 for look in looks) <= 1
    assert np.mean([look.auc for look in looks]) == pytest.approx(0.5, abs=0.04)


def test_a_new_topic_is_found_and_shown() -> None:
    rng = np.random.default_rng(2)
    now = np.concatenate([vectors(rng, 280, (0, 1, 2, 3)), vectors(rng, 120, (5,))])
    look = look_closer(BEFORE, SPACE.place(now), IDS, tested=30)
    assert look.found
    assert look.p_value == pytest.approx(0.001)
    newest = look.clusters[0]
    assert newest.was < 0.05 < 0.2 < newest.now
    assert all(int(name.removeprefix("id")) >= 280 for name in newest.typical)
    assert look == look_closer(BEFORE, SPACE.place(now), IDS, tested=30)


def test_a_small_difference_is_not_worth_telling_however_sure() -> None:
    rng = np.random.default_rng(3)
    many = np.concatenate([vectors(rng, 1860, (0, 1, 2, 3)), vectors(rng, 140, (5,))])
    look = look_closer(BEFORE, SPACE.place(many), [str(place) for place in range(2000)])
    assert look.p_value <= 0.01
    assert not look.found


def test_rows_that_are_all_alike_are_no_difference() -> None:
    alike = np.ones((40, 5), np.float16)
    look = look_closer(alike, alike, IDS[:40])
    assert (look.found, look.p_value) == (False, 1.0)


def test_a_handful_of_rows_says_nothing() -> None:
    with pytest.raises(DataError, match="ten rows"):
        look_closer(BEFORE, BEFORE[:9], IDS[:9])
    with pytest.raises(DataError, match="four rows"):
        freeze_vectors({"de": REFERENCE[:1], "sw": REFERENCE[:0]})
