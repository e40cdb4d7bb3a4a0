"""A trap seen in other servers: a setting of the log that changes what the model is given.

Theirs cut the texts for the log in place, and logged whole prompts by default. Here the answers are
the same bytes at every level, and no text reaches a log, a metric or a trace, whatever goes wrong.
"""

from __future__ import annotations

import io
import json
import logging
import random

import pytest
from tests.collector import collecting
from tests.serving.conftest import running
from tests.tiny import tiny_model, write_linear_head

from xlmr.serving.http.app import OPERATIONS
from xlmr.serving.http.endpoint import Inference
from xlmr.telemetry.logs import JsonRequestLog, configure_logging
from xlmr.telemetry.otlp import OtlpExporter
from xlmr.telemetry.traces import Tracer

MARK = "Marzipanschwein"
JSON = {"content-type": "application/json"}
WORDS = ("hello", "world", "where", "is", "my", "parcel", "你好", "мир")
LONG = " ".join(random.Random(0).choices(WORDS, k=4000))
ASKED = [
    {"input": ["hello world", "где посылка", LONG, "", "half \ud800", "x" * 30_000]},
    {"input": LONG, "long": "window"},
    {"input": [LONG, LONG], "long": "error"},
    {"input": "hello", "top": 1},
    {"input": 3},
]


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    """A model of every kind."""
    root = tmp_path_factory.mktemp("kinds")
    places = [tiny_model(root, kind) for kind in ("tag", "answer", "rerank", "fill", "zero_shot")]
    router = tiny_model(root, "embed").rename(root / "router")
    write_linear_head(router, ("refund", "delivery", "other"))
    return [str(place) for place in (*places, router)]


def answers_at(level, place, cache_dir):
    """What is answered while a log of that level is kept, and what is logged."""
    requests, rest = io.BytesIO(), io.BytesIO()
    log = JsonRequestLog(level, requests)
    undo = configure_logging(level, rest)
    try:
        with running([place], log=log, cache_dir=cache_dir, max_chars=25_000) as house:
            replies = [
                house.client.post(
                    "/v1/classify",
                    content=json.dumps(body),
                    headers=JSON | {"x-request-id": f"r-{number}"},
                )
                for number, body in enumerate(ASKED)
            ]
    finally:
        undo()
        log.close()
    return [(reply.status_code, reply.content) for reply in replies], requests.getvalue()


def test_the_level_of_the_log_changes_no_answer(kinds, tmp_path):
    router = kinds[-1]
    answers, logged = answers_at("error", router, tmp_path)
    assert [status for status, _ in answers] == [200, 200, 422, 200, 422]
    items = json.loads(answers[0][1])["items"]
    assert items[2]["truncated"]
    assert json.loads(answers[1][1])["items"][0]["windows"] > 1
    assert not logged
    for level in ("warning", "info", "debug"):
        again, logged = answers_at(level, router, tmp_path)
        assert again == answers, level
        assert bool(logged) == (level in ("info", "debug"))


def marked(value, every):
    """An example of the documentation with the mark in its texts, or in every string there is."""
    if isinstance(value, dict):
        return {key: marked(inner, every) for key, inner in value.items()}
    if isinstance(value, list):
        return [marked(inner, every) for inner in value]
    if not isinstance(value, str):
        return value
    a_text = " " in value or not value.isascii()
    return f"{value} {MARK}" if every or a_text else value


def bodies(operation):
    """Good bodies of an operation, and bad ones of every sort."""
    example = operation.example or {"input": f"hello {MARK}"}
    good = marked(example, every=False)
    yield json.dumps(good)
    yield json.dumps(good | {"model": "router"})
    yield json.dumps(marked(example, every=True))
    yield json.dumps(good | {MARK: MARK})
    yield json.dumps(good | {"model": MARK})
    yield json.dumps(dict.fromkeys(good, MARK))
    yield json.dumps([MARK])
    yield json.dumps(good)[:-2]
    yield json.dumps(good) + MARK
    yield f'{{"input": "{MARK} \\ud800"}}'
    yield json.dumps(MARK * 100_000)
    yield MARK


def ask_everything(house):
    """Every way to ask, with a good body and bad ones; which paths gave an answer."""
    answered = set()
    version = house.plane.pool.models["router"].ref.version
    for operation in OPERATIONS:
        if not isinstance(operation, Inference):
            continue
        path = operation.path.replace("{model}", "router").replace("{version}", version)
        for body in bodies(operation):
            reply = house.client.post(path, content=body.encode(), headers=JSON)
            assert reply.status_code < 500 or reply.json()
            if reply.status_code == 200:
                answered.add(operation.path)
        house.client.post(path, content=MARK, headers={"content-type": f"text/{MARK}"})
    return answered


def test_no_text_reaches_a_log_a_metric_or_a_trace(kinds, tmp_path, capfd):
    requests, rest = io.BytesIO(), io.BytesIO()
    log = JsonRequestLog("debug", requests)
    undo = configure_logging("debug", rest)
    with collecting() as collector:
        tracer = Tracer(OtlpExporter(collector.address, version="1"), ratio=1.0)
        options = {"cache_dir": tmp_path, "max_body_bytes": 500_000}
        with running(kinds, log=log, tracer=tracer, **options) as house:
            answered = ask_everything(house)
            strange = {
                "x-request-id": f"{MARK} {MARK}",
                "traceparent": MARK,
                "authorization": f"Bearer {MARK}",
                "x-request-deadline-ms": MARK,
                "x-request-priority": MARK,
                MARK: MARK,
            }
            house.client.post(f"/{MARK}?q={MARK}", content=MARK, headers=strange)
            house.client.post("/v1/classify", json={"input": MARK}, headers=strange)
            house.gated.fault = RuntimeError(MARK)
            failed = house.client.post("/v1/tag", json={"input": f"anna {MARK}"})
            house.gated.fault = None
            page = house.client.get("/metrics").text
        undo()
        log.close()
        tracer.close()
        traces = b"".join(collector.bodies)
        spans = collector.spans
    assert failed.status_code == 500
    assert MARK not in failed.text
    missing = {op.path for op in OPERATIONS if isinstance(op, Inference)} - answered
    assert not missing
    lines = [json.loads(line) for line in requests.getvalue().splitlines()]
    assert {"ok", "invalid_json", "invalid_input", "body_too_large", "engine_error"} <= {
        line["code"] for line in lines
    }
    assert any("fingerprints" in line for line in lines)
    assert len(spans) > len(lines)
    assert b"RuntimeError" in rest.getvalue()
    said = "".join(capfd.readouterr()).encode()
    told = {"requests": requests.getvalue(), "log": rest.getvalue(), "standard": said}
    for name, data in (told | {"page": page.encode(), "traces": traces}).items():
        assert MARK.lower().encode() not in data.lower(), name
    logging.getLogger("xlmr").debug("the handlers are as they were")
