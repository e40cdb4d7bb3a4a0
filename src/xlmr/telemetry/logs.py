"""JSON log lines that cannot hold a user's text.

Requests are logged through `RequestRecord` alone: it has no field a text would fit in. Everything
else goes through the standard library's logging with `JsonFormatter`, which writes an exception's
type and its frames but never its message, since messages of foreign libraries may quote input.

A log that cannot be written (a full disk, a reader that is gone or stands still) costs no request
anything: lines are written by a thread of their own, and what it cannot write it counts and drops.
"""

from __future__ import annotations

import contextlib
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
from typing import BinaryIO, Protocol

import msgspec

from xlmr.telemetry.line_writer import LineWriter

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
# Of how many texts of a request, and of how many of their characters, fingerprints are taken.
FINGERPRINTED_TEXTS = 8
_FINGERPRINTED_CHARS = 10_000
# Codes that name a fault of ours, not a caller's mistake or a refusal.
_FAULTS = frozenset({"engine_error", "non_finite", "internal"})


class RequestRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of one request once it is over. `code` is "ok" or an error's code.

    Attributes:
        request: the request's id.
        trace: the trace's id where it is part of one.
        caller: who asked, by the name of their key.
        ms: from its first byte to its answer, in milliseconds, as are the stages below.
        items: how many texts; `chars` are the characters of all of them.
        tokens: computed for it.
        lengths: characters of each of the first few texts.
        fingerprints: keyed hashes of the same texts, where they are wanted.
    """

    request: str
    task: str
    model: str
    code: str
    ms: float
    items: int
    tokens: int
    languages: tuple[str, ...]
    version: str = ""
    door: str = ""
    caller: str = ""
    trace: str = ""
    chars: int = 0
    lengths: tuple[int, ...] = ()
    fingerprints: tuple[str, ...] = ()
    read_ms: float = 0.0
    tokenise_ms: float = 0.0
    queue_ms: float = 0.0
    infer_ms: float = 0.0
    decode_ms: float = 0.0


class RequestLog(Protocol):
    """The port requests are logged through."""

    def takes(self, code: str) -> bool:
        """Whether a record with this code is written at all: else nobody need make it."""

    def write(self, record: RequestRecord) -> None:
        """Logs one request. Never raises, never waits."""


class JsonRequestLog:
    """Writes a line for each request; refused and failed ones too."""

    def __init__(
        self,
        level: str,
        stream: BinaryIO | None = None,
        *,
        on_drop: Callable[[int], None] = lambda lines: None,
    ) -> None:
        """Starts its thread.

        Args:
            level: from which on records are written; faults of ours are errors, all else is info.
            stream: where to; standard error by default.
            on_drop: told how many lines could not be written, from any thread.
        """
        self._level = _LEVELS[level]
        self._encode = msgspec.json.Encoder().encode
        self._lines = LineWriter(
            _standard_error() if stream is None else stream, self._render, on_drop=on_drop
        )

    def takes(self, code: str) -> bool:
        """Whether the level lets it through."""
        return _LEVELS[_severity(code)] >= self._level

    def write(self, record: RequestRecord) -> None:
        """Queues the record where the level lets it through."""
        severity = _severity(record.code)
        if _LEVELS[severity] >= self._level:
            self._lines.put((time.time(), severity, record))

    def close(self) -> None:
        """Writes what is queued, as far as it can be written."""
        self._lines.close()

    def flush(self) -> None:
        """Waits until what was written before has left, or cannot."""
        self._lines.flush()

    def _render(self, line: tuple[float, str, RequestRecord]) -> bytes:
        seconds, severity, record = line
        head = f'{{"time":"{_time(seconds)}","level":"{severity}","event":"request",'
        return head.encode() + self._encode(record)[1:]


def _severity(code: str) -> str:
    return "error" if code in _FAULTS else "info"


class Fingerprinter:
    """A keyed hash of a text: equal texts of one process can be told, no text can be guessed.

    The key is random and dies with the process, so a fingerprint means nothing outside of it. Of
    long texts the beginning and the length are hashed: it is done where requests are answered.
    """

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)

    def __call__(self, text: str) -> str:
        """16 hexadecimal digits for the text."""
        beginning = f"{len(text)} {text[:_FINGERPRINTED_CHARS]}"
        data = beginning.encode("utf-8", "surrogatepass")
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
            "time": _time(record.created),
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


class _Handler(logging.Handler):
    """Formats where something is said, since an exception is at hand only there; writes elsewhere.

    Says nothing of its own faults: the standard handler would print an exception's words to stderr.
    """

    def __init__(self, lines: LineWriter[str]) -> None:
        super().__init__()
        self._lines = lines
        self.setFormatter(JsonFormatter())

    def emit(self, record: logging.LogRecord) -> None:
        """Queues one line."""
        with contextlib.suppress(ValueError, TypeError):  # words that do not fit their arguments
            self._lines.put(self.format(record))

    def flush(self) -> None:
        """Waits until what was said before is written."""
        self._lines.flush()


def configure_logging(
    level: str,
    stream: BinaryIO | None = None,
    *,
    on_drop: Callable[[int], None] = lambda lines: None,
) -> Callable[[], None]:
    """Sends every logger of the process to stderr as JSON; foreign ones from warnings on.

    Threads that die of an exception are logged the same way. Returns what undoes all of it, once
    everything is written; `on_drop` is told how many lines could not be.
    """
    root, own = logging.getLogger(), logging.getLogger("xlmr")
    before = root.handlers, root.level, own.level, threading.excepthook
    lines: LineWriter[str] = LineWriter(
        _standard_error() if stream is None else stream, _encoded, on_drop=on_drop
    )
    root.handlers = [_Handler(lines)]
    root.setLevel(max(_LEVELS[level], logging.WARNING))
    own.setLevel(_LEVELS[level])
    threading.excepthook = _log_dead_thread

    def undo() -> None:
        lines.close()
        root.handlers = before[0]
        root.setLevel(before[1])
        own.setLevel(before[2])
        threading.excepthook = before[3]

    return undo


def _encoded(line: str) -> bytes:
    return line.encode("utf-8", "backslashreplace")


def _standard_error() -> BinaryIO | None:
    """Standard error as bytes; None where the process has none."""
    return None if sys.stderr is None else sys.stderr.buffer


def _log_dead_thread(death: threading.ExceptHookArgs) -> None:
    if death.exc_value is None:
        return
    exc_info = (death.exc_type, death.exc_value, death.exc_traceback)
    logging.getLogger("xlmr.threads").critical("a thread has died", exc_info=exc_info)


def _time(seconds: float) -> str:
    return f"{_second(int(seconds))}.{int(seconds % 1 * 1000):03d}Z"


@lru_cache(maxsize=2)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
