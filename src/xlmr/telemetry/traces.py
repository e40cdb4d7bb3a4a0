"""Traces: whose a request is, what its stages were, and who is told. Runs without OpenTelemetry.

While a request lives a trace is three ids. Its spans are made when it is over, from moments that
are kept anyway, by a thread that hands them to an exporter; a collector that is slow or gone costs
spans, never requests. Attributes are names and numbers: no text, no part of one.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from xlmr.telemetry.outbox import Outbox

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED = 1

# Some 2 MB; at a thousand traced requests a second, two seconds of them.
_MOST_WAITING = 2048
_GATHERING_SECONDS = 0.5
# Requests in one export: some 500 KB.
_EXPORTED_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Trace:
    """A request's place in a trace.

    Attributes:
        id: 32 hexadecimal digits, of the whole trace.
        span: 16 hexadecimal digits, of the request in this server.
        parent: 16 hexadecimal digits of the caller's span; empty where the trace begins here.
        sampled: whether its spans are exported.
    """

    id: str
    span: str
    parent: str
    sampled: bool

    @property
    def traceparent(self) -> str:
        """What a request made for this one would carry, and what `traceresponse` says."""
        return f"00-{self.id}-{self.span}-{_SAMPLED if self.sampled else 0:02x}"


class Stage(msgspec.Struct, frozen=True, gc=False):
    """A part of a request, on the clock of `time.perf_counter`."""

    name: str
    started: float
    ended: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A request that is over, as an exporter gets it.

    Attributes:
        fault: whether it failed by a fault of ours.
        epoch_s: what lies between the clock of its moments and the Unix epoch.
    """

    trace: Trace
    name: str
    started: float
    ended: float
    stages: Sequence[Stage]
    attributes: Mapping[str, str | int]
    fault: bool
    epoch_s: float


class Exporter(Protocol):
    """The port spans leave by."""

    def export(self, requests: Sequence[Finished]) -> bool:
        """Hands spans over, in the tracer's thread; False where they were not taken."""

    def close(self) -> None:
        """Ends an export that waits, from another thread."""


class Tracer:
    """Decides which requests are traced, and passes on those that are over."""

    def __init__(
        self,
        exporter: Exporter,
        *,
        ratio: float,
        on_export: Callable[[int], None] = lambda spans: None,
        on_drop: Callable[[int, str], None] = lambda spans, reason: None,
        most_waiting: int = _MOST_WAITING,
    ) -> None:
        """Starts its thread.

        Args:
            exporter: told of requests; owned by the tracer.
            ratio: share of the traces that begin here which are sampled. Where a caller's trace
                goes on, the caller has decided.
            on_export: told how many spans were taken.
            on_drop: told how many spans were lost, and why: `queue_full` or `collector`.
            most_waiting: requests beyond it are dropped.
        """
        self._exporter = exporter
        self._bound = round(ratio * 2**64)
        self._on_export, self._on_drop = on_export, on_drop
        self._outbox = Outbox(
            self._deliver,
            name="xlmr-traces",
            most_waiting=most_waiting,
            gathering_s=_GATHERING_SECONDS,
        )

    def begin(self, traceparent: str = "") -> Trace | None:
        """The trace of a request; None where it belongs to none and is not sampled.

        A `traceparent` that is not one is as good as none, as W3C Trace Context wants it.
        """
        found = _TRACEPARENT.fullmatch(traceparent) if traceparent else None
        if found is not None and _valid(found):
            sampled = bool(int(found[4], 16) & _SAMPLED)
            return Trace(found[2], _new_id(64), found[3], sampled)
        # The ids of traces are drawn evenly, so their lower half decides, as OpenTelemetry does it.
        id = _new_id(128)
        if int(id[16:], 16) >= self._bound:
            return None
        return Trace(id, _new_id(64), "", True)

    def end(
        self,
        trace: Trace,
        *,
        name: str,
        started: float,
        ended: float,
        stages: Sequence[Stage],
        attributes: Mapping[str, str | int],
        fault: bool,
    ) -> None:
        """Queues a sampled request that is over. Never waits, never raises."""
        if not trace.sampled:
            return
        finished = Finished(
            trace=trace,
            name=name,
            started=started,
            ended=ended,
            stages=stages,
            attributes=attributes,
            fault=fault,
            epoch_s=time.time() - time.perf_counter(),
        )
        if not self._outbox.put(finished):
            self._on_drop(_spans((finished,)), "queue_full")

    def flush(self) -> None:
        """Waits until what ended before is exported or lost, at most two seconds."""
        self._outbox.flush()

    def close(self) -> None:
        """Exports what waits, for at most two seconds, and ends."""
        self._outbox.close()
        self._exporter.close()

    def _deliver(self, requests: list[Finished]) -> None:
        for first in range(0, len(requests), _EXPORTED_AT_ONCE):
            some = requests[first : first + _EXPORTED_AT_ONCE]
            if self._exporter.export(some):
                self._on_export(_spans(some))
            else:
                self._on_drop(_spans(some), "collector")


def _spans(requests: Sequence[Finished]) -> int:
    return sum(1 + len(request.stages) for request in requests)


def _valid(found: re.Match[str]) -> bool:
    """Ids of zeros are none; version `ff` never is; version 0 has nothing behind the flags."""
    if found[1] == "ff" or (found[1] == "00" and found[5]):
        return False
    return bool(found[2].strip("0") and found[3].strip("0"))


def _new_id(bits: int) -> str:
    """Hexadecimal digits, never all 0."""
    return f"{random.getrandbits(bits) or 1:0{bits // 4}x}"
