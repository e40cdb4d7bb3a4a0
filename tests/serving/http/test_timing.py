from __future__ import annotations

import re

import pytest

from xlmr.serving.dataplane import Answered, Timing
from xlmr.serving.http.timing import timing_lines
from xlmr.types import ModelRef

NAMES = ("x-compute-tokens", "x-total-time", "x-tokenization-time", "x-queue-time")
NAMES = (*NAMES, "x-inference-time")


def test_times_are_whole_milliseconds_and_fractions_in_the_standard_header():
    timing = Timing(tokenise_s=0.0009, queue_s=0.0021, infer_s=0.25, total_s=0.2577)
    answered = Answered("r1", ModelRef("router", "aa"), (), 42, timing)
    assert timing_lines(answered).split(b"\r\n") == [
        b"x-compute-tokens: 42",
        b"x-total-time: 257",
        b"x-tokenization-time: 0",
        b"x-queue-time: 2",
        b"x-inference-time: 250",
        b"server-timing: tokenise;dur=0.900, queue;dur=2.100, infer;dur=250.000, total;dur=257.700",
        b"",
    ]


@pytest.mark.parametrize("door", ["/v1/classify", "/v1/embeddings"])
def test_every_answer_says_where_its_time_went(house, door):
    model = "router" if door == "/v1/classify" else "sentences"
    reply = house.client.post(door, json={"input": "hello world", "model": model})
    assert reply.status_code == 200
    assert int(reply.headers["x-compute-tokens"]) > 0
    assert all(int(reply.headers[name]) >= 0 for name in NAMES)
    spent = dict(re.findall(r"(\w+);dur=([\d.]+)", reply.headers["server-timing"]))
    parts = [float(spent[name]) for name in ("tokenise", "queue", "infer")]
    assert all(part > 0 for part in parts[::2])
    assert sum(parts) <= float(spent["total"]) + 1.0
    assert int(float(spent["total"])) == int(reply.headers["x-total-time"])


def test_waiting_is_told_apart_from_computing(house_of):
    with house_of("router") as house:
        house.gated.gate.clear()
        first = house.later("/v1/classify", input="hello")
        assert house.gated.entered.acquire(timeout=10)
        second = house.later("/v1/classify", input="hello world")
        house.until(lambda: house.metrics.value("xlmr_queue_oldest_seconds") > 0.02)
        house.gated.gate.set()
        first.join(20)
        second.join(20)
        records = sorted(house.log.records, key=lambda record: record.lengths)
        assert records[1].queue_ms > 19
        assert records[0].infer_ms > 19


def test_errors_carry_no_times(house):
    reply = house.classify(input="hello", model="nobody")
    assert reply.status_code == 404
    assert not {*NAMES, "server-timing"} & set(reply.headers)
