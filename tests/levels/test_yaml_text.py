from __future__ import annotations

import pytest
import yaml

from xlmr.levels.yaml_text import yaml_text

AWKWARD = [
    "", "yes", "No", "null", "~", "1", "1e3", "0x1f", "a: b", "# x", "- x", " x", "x ", "'", '"',
    "é", "{{ $value }}", "2026-12-24", "12:30", "a\\b", "%", "@", "|", "x\ny", 'x "y"\n  z', "…",
]  # fmt: skip


@pytest.mark.parametrize("text", AWKWARD)
def test_strings_come_back(text):
    document = {"a": text, "b": [text, {"c": text}], "d": {"e": {"f": text}}}
    assert yaml.safe_load(yaml_text(document)) == document


def test_documents_come_back():
    document = {"a": 1, "b": -0.5, "c": True, "d": [], "e": {}, "f": [[1, [2]], [{"g": [3]}]]}
    assert yaml.safe_load(yaml_text(document, heading="one\ntwo")) == document


def test_queries_are_lines_that_people_can_read():
    assert yaml_text({"expr": 'up{job="x"}\n  == 0'}) == 'expr: |-\n  up{job="x"}\n    == 0\n'
