from __future__ import annotations

import io
import json
import logging
import sys

import pytest

from xlmr.telemetry.logs import (
    Fingerprinter,
    JsonFormatter,
    JsonRequestLog,
    RequestRecord,
    configure_logging,
)

MARK = "a text that must stay private"


def record(code: str = "ok", fingerprints: tuple[str, ...] = ()) -> RequestRecord:
    return RequestRecord(
        request="r1",
        task="classify",
        model="router",
        code=code,
        ms=1.5,
        items=2,
        tokens=9,
        languages=("de", "ja"),
        fingerprints=fingerprints,
    )


def test_a_request_is_one_line_of_json():
    stream = io.BytesIO()
    JsonRequestLog("info", stream).write(record())
    line = json.loads(stream.getvalue())
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info",
        "event": "request",
        "request": "r1",
        "task": "classify",
        "model": "router",
        "code": "ok",
        "ms": 1.5,
        "items": 2,
        "tokens": 9,
        "languages": ["de", "ja"],
    }


@pytest.mark.parametrize(
    ("level", "code", "written"),
    [("warning", "ok", False), ("warning", "engine_error", True), ("error", "internal", True)],
)
def test_the_level_decides(level, code, written):
    stream = io.BytesIO()
    JsonRequestLog(level, stream).write(record(code))
    assert bool(stream.getvalue()) is written


def test_fingerprints_are_wanted_at_debug_only():
    assert JsonRequestLog("debug", io.BytesIO()).wants_fingerprints
    assert not JsonRequestLog("info", io.BytesIO()).wants_fingerprints


def test_a_fingerprint_tells_equal_texts_within_one_process_only():
    one, other = Fingerprinter(), Fingerprinter()
    assert one(MARK) == one(MARK) != one(MARK + "!")
    assert one(MARK) != other(MARK)
    assert len(one("\ud800")) == 16


def test_an_exceptions_words_are_not_written():
    def read(text: str) -> None:
        raise ValueError(text)

    try:
        read(MARK)
    except ValueError:
        entry = logging.LogRecord("xlmr", 40, "", 0, "it failed", (), sys.exc_info())
    line = json.loads(JsonFormatter().format(entry))
    assert line["exception"] == "ValueError"
    assert line["frames"][-1].endswith(" read")
    assert MARK not in json.dumps(line)


def test_the_web_servers_log_is_json_from_warnings_on(capsys):
    loggers = [logging.getLogger(name) for name in ("xlmr", "uvicorn", "uvicorn.error")]
    before = [(log, log.handlers, log.propagate, log.level) for log in loggers]
    try:
        configure_logging("debug")
        logging.getLogger("uvicorn.error").info("hidden")
        logging.getLogger("uvicorn.error").warning("shown")
        logging.getLogger("xlmr.serving").debug("shown too")
    finally:
        for log, handlers, propagate, level in before:
            log.handlers, log.propagate = handlers, propagate
            log.setLevel(level)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["message"] for line in lines] == ["shown", "shown too"]
