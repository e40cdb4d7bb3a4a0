from __future__ import annotations

import io
import json
import logging
import sys
import threading

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


@pytest.fixture
def lines():
    stream = io.StringIO()
    undo = configure_logging("debug", stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    undo()


def test_ours_are_logged_from_the_level_on_and_foreign_ones_from_warnings_on(lines):
    logging.getLogger("uvicorn.error").info("hidden")
    logging.getLogger("uvicorn.error").warning("shown")
    logging.getLogger("xlmr.serving").debug("shown %s", "too")
    assert [line["message"] for line in lines()] == ["shown", "shown too"]


def test_of_foreign_messages_arguments_and_further_lines_are_dropped(lines):
    logging.getLogger("asyncio").error(f"never retrieved\nfuture: {MARK}")
    logging.getLogger("other").error("failed on %s", MARK)
    assert [line["message"] for line in lines()] == ["never retrieved", "failed on %s"]


def test_a_thread_that_dies_is_logged_without_its_words(lines):
    def die() -> None:
        raise ValueError(MARK)

    thread = threading.Thread(target=die)
    thread.start()
    thread.join()
    (line,) = lines()
    assert (line["message"], line["exception"]) == ("a thread has died", "ValueError")
    assert MARK not in json.dumps(line)


def test_a_closed_stream_prints_nothing_elsewhere(capfd):
    stream = io.StringIO()
    undo = configure_logging("info", stream)
    stream.close()
    logging.getLogger("xlmr").error(MARK)
    undo()
    assert MARK not in "".join(capfd.readouterr())
