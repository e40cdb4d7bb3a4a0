"""JSON log lines that cannot hold a user's text.

Requests are logged through `RequestRecord` alone: it has no field a text would fit in. Everything
else goes through the standard library's logging with `JsonFormatter`, which writes an exception's
type and its frames but never its message, since messages of foreign libraries may quote input.
"""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
import sys
import threading
import time
import traceback
from collections.abc import Callable
from functools import lru_cache
from typing import BinaryIO, Protocol, TextIO

import msgspec

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


class RequestRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one request once it is over. `code` is "ok" or an error's code."""

    request: str
    task: str
    model: str
    code: str
    ms: float
    items: int
    tokens: int
    languages: tuple[str, ...]
    fingerprints: tuple[str, ...] = ()


class RequestLog(Protocol):
    """The port requests are logged through."""

    @property
    def wants_fingerprints(self) -> bool:
        """Whether records should carry keyed hashes of the texts."""

    def write(self, record: RequestRecord) -> None:
        """Logs one request."""


class JsonRequestLog:
    """Writes a line for each request; refused and failed ones too."""

    def __init__(self, level: str, stream: BinaryIO | None = None) -> None:
        self._level = _LEVELS[level]
        self._stream = sys.stderr.buffer if stream is None else stream
        self._encoder = msgspec.json.Encoder()

    @property
    def wants_fingerprints(self) -> bool:
        """At debug level only."""
        return self._level <= _LEVELS["debug"]

    def write(self, record: RequestRecord) -> None:
        """Writes the record where the level lets it through: faults of ours count as errors."""
        severity = "error" if record.code in ("engine_error", "internal") else "info"
        if _LEVELS[severity] < self._level:
            return
        fields = msgspec.structs.asdict(record)
        if not record.fingerprints:
            del fields["fingerprints"]
        line = {"time": _now(), "level": severity, "event": "request", **fields}
        self._stream.write(self._encoder.encode(line) + b"\n")
        self._stream.flush()


class Fingerprinter:
    """A keyed hash of a text: equal texts of one process can be told, no text can be guessed.

    The key is random and dies with the process, so a fingerprint means nothing outside of it.
    """

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)

    def __call__(self, text: str) -> str:
        """16 hexadecimal digits for the text."""
        data = text.encode("utf-8", "surrogatepass")
        return hashlib.blake2b(data, key=self._key, digest_size=8).hexdigest()


class JsonFormatter(logging.Formatter):
    """One JSON object a line; of an exception only its type and frames.

    Of foreign messages only the first line is written, and none of its arguments: asyncio, for one,
    puts the `repr` of results and exceptions below.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Renders the record."""
        own = record.name.partition(".")[0] == "xlmr"
        line: dict[str, object] = {
            "time": _now(record.created),
            "level": record.levelname.lower(),
            "event": "log",
            "logger": record.name,
            "message": record.getMessage() if own else str(record.msg).partition("\n")[0],
        }
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = record.exc_info[0].__name__
            frames = traceback.extract_tb(record.exc_info[2])
            line["frames"] = [f"{f.filename}:{f.lineno} {f.name}" for f in frames][-20:]
        return json.dumps(line, ensure_ascii=False)


class _Handler(logging.StreamHandler[TextIO]):
    def handleError(self, record: logging.LogRecord) -> None:
        """Says nothing: the standard handler would print the exception's words to stderr."""


def configure_logging(level: str, stream: TextIO | None = None) -> Callable[[], None]:
    """Sends every logger of the process to stderr as JSON; foreign ones from warnings on.

    Threads that die of an exception are logged the same way. Returns what undoes all of it.
    """
    root, own = logging.getLogger(), logging.getLogger("xlmr")
    before = root.handlers, root.level, own.level, threading.excepthook
    handler = _Handler(sys.stderr if stream is None else stream)
    handler.setFormatter(JsonFormatter())
    root.handlers = [handler]
    root.setLevel(max(_LEVELS[level], logging.WARNING))
    own.setLevel(_LEVELS[level])
    threading.excepthook = _log_dead_thread

    def undo() -> None:
        root.handlers = before[0]
        root.setLevel(before[1])
        own.setLevel(before[2])
        threading.excepthook = before[3]

    return undo


def _log_dead_thread(death: threading.ExceptHookArgs) -> None:
    if death.exc_value is None:
        return
    exc_info = (death.exc_type, death.exc_value, death.exc_traceback)
    logging.getLogger("xlmr.threads").critical("a thread has died", exc_info=exc_info)


def _now(seconds: float | None = None) -> str:
    seconds = time.time() if seconds is None else seconds
    return f"{_second(int(seconds))}.{int(seconds % 1 * 1000):03d}Z"


@lru_cache(maxsize=2)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
