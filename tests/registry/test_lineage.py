"""Where a version comes from, read as far as it can be read."""

from __future__ import annotations

from typing import Any

import pytest

from xlmr.registry.journal import Entry
from xlmr.registry.lineage import evidence_on, parent_digests, told_by

DATA = {"split": "train", "file": "en.train.jsonl", "rows": 40, "sha256": "d" * 64}
LINEAGE: dict[str, Any] = {
    "method": "lora",
    "seed": 7,
    "encoder": {"name": "starter", "digest": "a" * 64},
    "data": [DATA],
    "options": {"epochs": 3},
    "code": "c" * 64,
    "versions": {"xlmr": "0.1.0"},
    "compressed": [
        {"parent": {"name": "router", "digest": "b" * 64}, "texts": [DATA | {"split": "all"}]}
    ],
}


def test_it_tells_recipe_code_parents_and_data() -> None:
    told = list(told_by(LINEAGE))
    assert [name for name, _ in told] == ["recipe", "code", "parent", "parent", "data", "data"]
    said = "\n".join(value for _, value in told)
    assert "lora, seed 7, options " in said
    assert f"{'c' * 64}, xlmr 0.1.0" in said
    assert f"starter {'a' * 64}" in said
    assert f"train en.train.jsonl, 40 rows, {'d' * 64}" in said
    assert "compressed by texts en.train.jsonl" in said
    assert parent_digests(LINEAGE) == {"a" * 64, "b" * 64}
    # Two recipes that differ in one option differ in what is said of them.
    others = dict(told_by(LINEAGE | {"options": {"epochs": 4}}))
    assert others["recipe"] != told[0][1]


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"data": "x", "encoder": 3, "compressed": {}, "versions": [], "options": 1},
        {"data": [1, None, {}], "compressed": [{"parent": "x", "texts": 4}, None], "method": []},
    ],
)
def test_what_others_wrote_never_breaks_it(odd: dict[str, Any]) -> None:
    list(told_by(odd))
    parent_digests(odd)


def test_what_a_version_went_live_by() -> None:
    def line(seq: int, version: int, evidence: str = "", *, override: bool = False) -> Entry:
        said = {"actor": "ada", "action": "alias", "name": "router", "alias": "live"}
        return Entry(
            **said, version=version, evidence=evidence, override=override, seq=seq, at_us=1, hash=""
        )

    entries = [line(1, 1, "e"), line(2, 2, "f"), line(3, 2), line(4, 2, override=True)]
    assert [entry.seq for entry in evidence_on(2, entries)] == [2, 4]
