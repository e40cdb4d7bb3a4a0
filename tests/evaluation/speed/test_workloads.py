from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlmr.errors import InputError
from xlmr.evaluation.speed.subject import SHAPES
from xlmr.evaluation.speed.workloads import (
    MOST_TOKENS,
    batch_of,
    choose_workloads,
    parse_workloads,
    standard_workloads,
)

NAMES = st.text(min_size=1, max_size=8)
LENGTHS = st.lists(st.integers(1, 512), min_size=1, max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(st.dictionaries(NAMES, LENGTHS, min_size=1))
def test_what_is_written_is_read(workloads: dict[str, list[int]]) -> None:
    parsed = parse_workloads(json.dumps(workloads), max_tokens=512)
    assert parsed == {name: tuple(lengths) for name, lengths in workloads.items()}
    assert list(parsed) == list(workloads)


@given(JSON)
def test_any_json_is_read_or_refused(value: object) -> None:
    try:
        parsed = parse_workloads(json.dumps(value), max_tokens=512)
    except InputError:
        return
    assert all(1 <= length <= 512 for lengths in parsed.values() for length in lengths)


@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_refused(text: bytes) -> None:
    try:
        parsed = parse_workloads(text, max_tokens=512)
    except InputError:
        return
    assert parsed


@given(LENGTHS, st.data())
def test_the_index_that_is_wrong_is_named(lengths: list[int], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(lengths) - 1))
    lengths[index] = data.draw(st.sampled_from([0, -1, 513, 10**30]))
    with pytest.raises(InputError, match="a text has 1 to 512") as caught:
        parse_workloads(json.dumps({"fine": [1], "bad": lengths}), max_tokens=512)
    assert caught.value.path == f"$.bad[{index}]"


@pytest.mark.parametrize(
    ("text", "path", "message"),
    [
        ("", "$", "not JSON at line 1, column 1"),
        ('{"a": [1,]}', "$", "not JSON at line 1"),
        ("[" * 100_000, "$", "not JSON"),
        ("[1]", "$", "expected an object, got list"),
        ("{}", "$", "no workloads"),
        ('{"a": []}', "$.a", "at least one length"),
        ('{"a": 4}', "$.a", "expected a list"),
        ('{"a": [4, "5"]}', "$.a[1]", "expected a whole number, got str"),
        ('{"a": [true]}', "$.a[0]", "expected a whole number, got bool"),
        ('{"a": [4.0]}', "$.a[0]", "expected a whole number, got float"),
        ('{"a": [1], "a": [2]}', "$.a", "named twice"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_wrong_is_said(text: str, path: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_workloads(text, max_tokens=512)
    assert caught.value.path == path
    assert message in caught.value.message


def test_a_workload_that_no_memory_holds_is_refused() -> None:
    lengths = [512] * (MOST_TOKENS // 512 + 1)
    with pytest.raises(InputError, match="at most") as caught:
        parse_workloads(json.dumps({"vast": lengths}), max_tokens=512)
    assert caught.value.path == "$.vast"


def test_mixed_is_what_it_says() -> None:
    lengths = standard_workloads()["mixed"]
    assert len(lengths) == 32
    assert sum(lengths) == 928
    assert (min(lengths), max(lengths)) == (4, 117)
    assert 22 <= np.median(lengths) <= 26


def test_workloads_the_model_cannot_read_are_left_out_or_refused_by_name() -> None:
    assert "1x512" in choose_workloads([], max_tokens=512)
    assert "1x512" not in choose_workloads([], max_tokens=256)
    with pytest.raises(InputError, match="1 to 256"):
        choose_workloads(["1x512"], max_tokens=256)
    with pytest.raises(InputError, match="known: 8x32"):
        choose_workloads(["9x9"], max_tokens=512)


@given(LENGTHS)
def test_a_batch_has_the_lengths_and_no_padding(lengths: list[int]) -> None:
    config = replace(SHAPES["base"], vocabulary=100)
    batch = batch_of(lengths, config)
    assert np.diff(batch.starts).tolist() == lengths
    assert batch.ids_T.min() > config.pad_id
    assert batch.ids_T.max() < 100
