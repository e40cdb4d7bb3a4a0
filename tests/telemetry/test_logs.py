from __future__ import annotations

import io
import json
import logging
import sys
import threading
from typing import Any

import pytest

from xlmr.telemetry.logs import (
    Fingerprinter,
    JsonFormatter,
    JsonRequestLog,
    RequestRecord,
    configure_logging,
)

MARK = "a text that must stay private"


def record(code: str = "ok", **fields: Any) -> RequestRecord:
    return RequestRecord(
        request="r1",
        task="classify",
        model="router",
        code=code,
        ms=1.5,
        items=2,
        tokens=9,
        languages=("de", "ja"),
        **fields,
    )


def written(level: str, record: RequestRecord) -> bytes:
    stream = io.BytesIO()
    log = JsonRequestLog(level, stream)
    log.write(record)
    log.close()
    return stream.getvalue()


def test_a_request_is_one_line_of_json():
    line = json.loads(written("info", record()))
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
    ("level", "code", "shown"),
    [("warning", "ok", False), ("warning", "engine_error", True), ("error", "internal", True)],
)
def test_the_level_decides(level, code, shown):
    assert bool(written(level, record(code))) is shown


def test_what_is_known_is_written():
    fields = {
        "version": "3f2a",
        "door": "openai",
        "caller": "billing",
        "trace": "0af7651916cd43dd8448eb211c80319c",
        "lengths": [5, 11],
        "fingerprints": ["aa", "bb"],
        "read_ms": 0.1,
        "tokenise_ms": 0.2,
        "queue_ms": 0.3,
        "infer_ms": 0.4,
        "decode_ms": 0.5,
    }
    known = {
        key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()
    }
    line = json.loads(written("info", record(**known)))
    assert fields.items() <= line.items()


def test_a_name_that_is_no_text_costs_its_line_and_is_counted():
    stream, dropped = io.BytesIO(), []
    log = JsonRequestLog("info", stream, on_drop=dropped.append)
    log.write(record(caller="half \ud800"))
    log.write(record(caller="whole"))
    log.close()
    assert sum(dropped) == 1
    assert json.loads(stream.getvalue())["caller"] == "whole"


def test_a_fingerprint_tells_equal_texts_within_one_process_only():
    one, other = Fingerprinter(), Fingerprinter()
    assert one(MARK) == one(MARK) != one(MARK + "!")
    assert one(MARK) != other(MARK)
    assert len(one("\ud800")) == 16


def test_of_long_texts_the_beginning_and_the_length_are_told():
    fingerprint = Fingerprinter()
    long = "x" * 1_000_000
    assert fingerprint(long) != fingerprint(long + "x")
    assert fingerprint(long) != fingerprint("y" + long[1:])


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
    stream = io.BytesIO()
    undo = configure_logging("debug", stream)

    def read():
        logging.getLogger().handlers[0].flush()
        return [json.loads(line) for line in stream.getvalue().splitlines()]

    yield read
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
    stream, dropped = io.BytesIO(), []
    undo = configure_logging("info", stream, on_drop=dropped.append)
    stream.close()
    logging.getLogger("xlmr").error(MARK)
    undo()
    assert MARK not in "".join(capfd.readouterr())
    assert dropped == [1]


def test_words_that_do_not_fit_their_arguments_are_nobodys_fault(lines, capfd):
    wrong = logging.LogRecord("xlmr", 40, "", 0, "%d of them", (MARK,), None)
    logging.getLogger().handlers[0].handle(wrong)
    logging.getLogger("xlmr").error("said")
    assert [line["message"] for line in lines()] == ["said"]
    assert MARK not in "".join(capfd.readouterr())


def test_without_a_standard_error_there_is_no_log_and_no_fault(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    dropped = []
    log = JsonRequestLog("info", on_drop=dropped.append)
    log.write(record())
    log.close()
    assert dropped == [1]
