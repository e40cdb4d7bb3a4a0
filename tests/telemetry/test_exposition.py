from __future__ import annotations

import math

import pytest
from prometheus_client.parser import text_string_to_metric_families

from xlmr.telemetry.exposition import Observed, Row, page, samples
from xlmr.telemetry.metric import counter, gauge, histogram

COUNTER = counter("x_items", "items", "Texts, of a kind.", "model", "kind")
GAUGE = gauge("x_depth", "tokens", "Waiting.")
HISTOGRAM = histogram("x_seconds", "seconds", "Time.", (0.001, 1, 10.0), "stage")


def parsed(*rows):
    return list(text_string_to_metric_families(page(rows)))


def test_what_is_written_is_read_again():
    rows = [
        Row(COUNTER, {("a", "b"): 3, ("c", "d"): 0.5}),
        Row(GAUGE, {(): 7}),
        Row(HISTOGRAM, {("queue",): Observed([1, 0, 2, 1], 12.5)}),
    ]
    items, depth, seconds = parsed(*rows)
    assert (items.name, items.type, items.documentation) == (
        "x_items",
        "counter",
        "Texts, of a kind.",
    )
    assert [(s.name, s.labels, s.value) for s in items.samples] == [
        ("x_items_total", {"model": "a", "kind": "b"}, 3.0),
        ("x_items_total", {"model": "c", "kind": "d"}, 0.5),
    ]
    assert [(s.name, s.labels, s.value) for s in depth.samples] == [("x_depth", {}, 7.0)]
    assert [s.value for s in seconds.samples] == [1, 1, 3, 4, 4, 12.5]
    assert [s.labels.get("le") for s in seconds.samples][:4] == ["0.001", "1", "10.0", "+Inf"]
    for family, row in zip((items, depth, seconds), rows, strict=True):
        same = [(s.name, s.labels, s.value) for s in family.samples]
        assert same == [(name, labels, float(value)) for name, labels, value in samples([row])]


@pytest.mark.parametrize("name", ['quo"te', "back\\slash", "line\nbreak", "ключ", ""])
def test_any_name_stands_in_a_label(name):
    (family,) = parsed(Row(COUNTER, {(name, "b"): 1}))
    assert family.samples[0].labels["model"] == name


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, 1e300, 5e-324, -0.1])
def test_any_number_is_written(value):
    (family,) = parsed(Row(GAUGE, {(): value}))
    read = family.samples[0].value
    assert read == value or (math.isnan(read) and math.isnan(value))


def test_without_labels_a_histogram_has_its_bounds_alone():
    metric = histogram("x_tokens", "tokens", "Together.", (1, 2))
    (family,) = parsed(Row(metric, {(): Observed([0, 1, 0], 2.0)}))
    assert family.samples[0].labels == {"le": "1"}
    assert [s.value for s in family.samples] == [0, 1, 1, 1, 2.0]
