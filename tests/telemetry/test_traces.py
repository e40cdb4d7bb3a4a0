from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from xlmr.telemetry.traces import Stage, Trace, Tracer

ID, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{ID}-{SPAN}-01"


class Kept:
    """Keeps what it is told, or is away; `gate` holds it up."""

    def __init__(self, takes: bool = True) -> None:
        self.takes = takes
        self.requests: list[Any] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.closed = False

    def export(self, requests) -> bool:
        self.entered.set()
        assert self.gate.wait(20)
        self.requests += requests
        return self.takes

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def tracer_of():
    made = []

    def make(exporter=None, ratio=1.0, **options):
        exporter = Kept() if exporter is None else exporter
        made.append((Tracer(exporter, ratio=ratio, **options), exporter))
        return made[-1][0]

    yield make
    for tracer, exporter in made:
        exporter.gate.set()
        tracer.close()
        assert exporter.closed


def end(tracer: Tracer, trace: Trace, *stages: Stage) -> None:
    now = time.perf_counter()
    tracer.end(
        trace,
        name="classify",
        started=now - 1.0,
        ended=now,
        stages=stages,
        attributes={"xlmr.code": "ok"},
        fault=False,
    )


def test_a_callers_trace_goes_on(tracer_of):
    trace = tracer_of(ratio=0.0).begin(PARENT)
    assert (trace.id, trace.parent, trace.sampled) == (ID, SPAN, True)
    assert len(trace.span) == 16
    assert trace.span != SPAN
    assert trace.traceparent == f"00-{ID}-{trace.span}-01"


def test_a_caller_who_is_not_sampled_decides_that_too(tracer_of):
    exporter = Kept()
    tracer = tracer_of(exporter)
    trace = tracer.begin(f"00-{ID}-{SPAN}-00")
    assert (trace.id, trace.sampled) == (ID, False)
    assert trace.traceparent.endswith("-00")
    end(tracer, trace)
    tracer.flush()
    assert not exporter.requests


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "nonsense",
        PARENT.upper(),
        PARENT + "-more",
        PARENT[:-1],
        f"ff-{ID}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{ID}-{'0' * 16}-01",
    ],
)
def test_what_is_no_traceparent_begins_a_trace(tracer_of, wrong):
    trace = tracer_of().begin(wrong)
    assert trace.id != ID
    assert trace.parent == ""
    assert trace.sampled
    assert tracer_of(ratio=0.0).begin(wrong) is None


def test_later_versions_are_read_as_far_as_they_are_known(tracer_of):
    assert tracer_of().begin(f"01-{ID}-{SPAN}-01-what-may-come").id == ID


def test_the_ratio_is_that_of_traces_that_begin_here(tracer_of):
    tracer = tracer_of(ratio=0.25)
    traced = [trace for trace in (tracer.begin() for _ in range(4000)) if trace is not None]
    assert 800 < len(traced) < 1200
    assert len({trace.id for trace in traced}) == len(traced)


def test_what_is_over_is_exported_by_another_thread(tracer_of):
    exporter, exported = Kept(), []
    tracer = tracer_of(exporter, on_export=exported.append)
    trace = tracer.begin(PARENT)
    end(tracer, trace, Stage("queue", 1.0, 2.0), Stage("infer", 2.0, 3.0))
    tracer.flush()
    (request,) = exporter.requests
    assert request.trace is trace
    assert [stage.name for stage in request.stages] == ["queue", "infer"]
    assert exported == [3]
    assert abs(request.ended + request.epoch_s - time.time()) < 60


def test_a_collector_that_stands_still_costs_spans_and_nobody_waits(tracer_of):
    exporter, dropped = Kept(), []
    tracer = tracer_of(
        exporter, most_waiting=10, on_drop=lambda spans, reason: dropped.append((spans, reason))
    )
    exporter.gate.clear()
    end(tracer, tracer.begin())
    tracer._outbox._hurry.set()
    assert exporter.entered.wait(20)
    for _ in range(15):
        end(tracer, tracer.begin(), Stage("queue", 1.0, 2.0))
    assert dropped == [(2, "queue_full")] * 5
    exporter.gate.set()
    tracer.flush()
    assert len(exporter.requests) == 11


def test_what_the_collector_does_not_take_is_counted(tracer_of):
    dropped = []
    tracer = tracer_of(
        Kept(takes=False), on_drop=lambda spans, reason: dropped.append((spans, reason))
    )
    end(tracer, tracer.begin(), Stage("queue", 1.0, 2.0))
    tracer.flush()
    assert dropped == [(2, "collector")]
