from __future__ import annotations

import json
from collections.abc import Iterable
from functools import reduce
from operator import add

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlmr.drift import signals
from xlmr.drift.signals import EDGES, OTHER, SIGNALS, Sight, Signals, name_of_bin
from xlmr.errors import DataError

LABELS = ("spam", "ham")
USUAL = Sight(
    tokens=20,
    characters=80,
    unknown=0,
    truncated=False,
    label="ham",
    confidence=0.93,
    entropy=0.3,
    abstained=False,
)
UNSURE = st.none() | st.floats(0.0, 1.0)
SIGHTS = st.builds(
    Sight,
    tokens=st.integers(0, 9000),
    characters=st.integers(0, 20_000),
    unknown=st.integers(0, 50),
    truncated=st.booleans(),
    label=st.sampled_from([None, *LABELS, "never promised"]),
    confidence=UNSURE,
    entropy=UNSURE,
    abstained=st.none() | st.booleans(),
    bytes_per_character=st.none() | st.floats(1.0, 4.0),
)
SEEN = st.lists(st.tuples(st.sampled_from(["de", "sw", "th"]), SIGHTS), max_size=12)


def counted(rows: Iterable[tuple[str, Sight]]) -> Signals:
    found = Signals("3", "classify", LABELS)
    for language, sight in rows:
        found.see(language, sight)
    return found


@given(st.lists(SEEN, min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_counts_add_up_over_servers_in_any_order(servers, random) -> None:  # type: ignore[no-untyped-def]
    everything = counted(row for rows in servers for row in rows)
    parts = [counted(rows) for rows in servers]
    random.shuffle(parts)
    assert reduce(add, parts) == everything
    assert reduce(lambda one, other: other + one, parts) == everything


@given(SEEN)
def test_written_and_read_back_they_are_the_same(rows: list[tuple[str, Sight]]) -> None:
    found = counted(rows)
    assert Signals.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_a_sum_shares_nothing_with_its_parts() -> None:
    part = counted([("de", USUAL)])
    whole = part + counted([])
    whole.see("de", USUAL)
    assert part.languages["de"].rows == 1
    assert whole.languages["de"].rows == 2


@pytest.mark.parametrize(
    ("signal", "expected"),
    [
        ("confidence", "confidence from 0.925"),
        ("entropy", "entropy from 0.3"),
        ("tokens", "tokens from 16"),
        ("tokens_per_character", "tokens per character from 0.2358"),
        ("unknown_pieces", "no unknown pieces"),
        ("truncated", "not truncated"),
        ("abstained", "not abstained"),
        ("label", "label ham"),
    ],
)
def test_a_text_counts_once_where_it_belongs(signal: str, expected: str) -> None:
    bins = counted([("de", USUAL)]).languages["de"].bins[signal]
    assert sum(bins) == 1
    assert name_of_bin(signal, bins.index(1), LABELS) == expected


def test_edges_rise() -> None:
    assert all(list(edges) == sorted(set(edges)) for edges in EDGES.values())


def test_what_is_not_said_is_not_counted() -> None:
    silent = Sight(0, 0, 0, False, None, None, None, None)
    sketch = counted([("de", silent)]).languages["de"]
    said = {signal for signal in SIGNALS if sum(sketch.bins[signal])}
    assert (sketch.rows, said) == (1, {"tokens", "truncated"})


def test_callers_own_labels_are_not_kept() -> None:
    found = counted([("de", USUAL._replace(label="my neighbour Erika"))])
    assert found.languages["de"].bins["label"] == [0, 0, 1]
    assert "Erika" not in json.dumps(found.to_json())


def test_invented_languages_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "MOST_LANGUAGES", 3)
    found = counted((language, USUAL) for language in ("de", "sw", "x1", "x2", "de"))
    assert {name: sketch.rows for name, sketch in found.languages.items()} == {
        "de": 2,
        "sw": 1,
        OTHER: 2,
    }
    both = found + counted([("x3", USUAL)])
    assert sum(sketch.rows for sketch in both.languages.values()) == 6
    assert len(both.languages) == 3


def test_other_versions_do_not_add_up() -> None:
    with pytest.raises(DataError, match="3/classify and 4/classify"):
        counted([]) + Signals("4", "classify", LABELS)


def test_more_labels_than_are_told_apart_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 63"):
        Signals("3", "classify", tuple(map(str, range(64))))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("version",), 3),
        (("languages", "de", "rows"), -1),
        (("languages", "de", "bins", "confidence"), [1, 2]),
        (("languages", "de", "bins", "surprise"), [1]),
        (("languages", "de", "millionths"), []),
        (("labels",), ["spam", "spam"]),
    ],
)
def test_something_else_is_refused(path: tuple[str, ...], value: object) -> None:
    plain = counted([("de", USUAL)]).to_json()
    place = plain
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(DataError, match="signals"):
        Signals.from_json(plain)


@given(SEEN)
def test_counts_from_before_a_signal_was_counted_are_read_and_written_as_they_were(
    rows: list[tuple[str, Sight]],
) -> None:
    found = counted((name, sight._replace(bytes_per_character=None)) for name, sight in rows)
    written = found.to_json()
    assert not any("bytes_per_character" in each["bins"] for each in written["languages"].values())
    assert Signals.from_json(json.loads(json.dumps(written))) == found
    later = counted([("de", USUAL._replace(bytes_per_character=1.5))])
    both = found + later
    assert sum(both.languages["de"].bins["bytes_per_character"]) == 1
