"""Header lines that say where the time of a request went, and which trace it is part of."""

from __future__ import annotations

from xlmr.serving.dataplane import Answered, Trace

_TIMING = (
    b"x-compute-tokens: %d\r\n"
    b"x-total-time: %d\r\n"
    b"x-tokenization-time: %d\r\n"
    b"x-queue-time: %d\r\n"
    b"x-inference-time: %d\r\n"
    b"server-timing: tokenise;dur=%.3f, queue;dur=%.3f, infer;dur=%.3f, total;dur=%.3f\r\n"
)


def timing_lines(answered: Answered) -> bytes:
    """Whole milliseconds by the names that text-embeddings-inference gave them, and, with
    fractions, W3C's `server-timing`, which browsers and proxies show.
    """
    timing = answered.timing
    tokenise_ms, queue_ms = timing.tokenise_s * 1000, timing.queue_s * 1000
    infer_ms, total_ms = timing.infer_s * 1000, timing.total_s * 1000
    whole = (answered.tokens, total_ms, tokenise_ms, queue_ms, infer_ms)
    return _TIMING % (*whole, tokenise_ms, queue_ms, infer_ms, total_ms)


def trace_line(trace: Trace | None) -> bytes:
    """`traceresponse` where the request is traced, so that its caller finds it."""
    if trace is None or not trace.sampled:
        return b""
    return b"traceresponse: %b\r\n" % trace.traceparent.encode()
