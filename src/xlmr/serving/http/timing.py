"""Headers that say where the time of a request went, and which trace it is part of."""

from __future__ import annotations

from xlmr.serving.dataplane import Answered, Trace

Header = tuple[bytes, bytes]


def timing_headers(answered: Answered) -> tuple[Header, ...]:
    """Whole milliseconds by the names that text-embeddings-inference gave them, and, with
    fractions, W3C's `server-timing`, which browsers and proxies show.
    """
    timing = answered.timing
    tokenise_ms, queue_ms = timing.tokenise_s * 1000, timing.queue_s * 1000
    infer_ms, total_ms = timing.infer_s * 1000, timing.total_s * 1000
    return (
        (b"x-compute-tokens", b"%d" % answered.tokens),
        (b"x-total-time", b"%d" % total_ms),
        (b"x-tokenization-time", b"%d" % tokenise_ms),
        (b"x-queue-time", b"%d" % queue_ms),
        (b"x-inference-time", b"%d" % infer_ms),
        (
            b"server-timing",
            b"tokenise;dur=%.3f, queue;dur=%.3f, infer;dur=%.3f, total;dur=%.3f"
            % (tokenise_ms, queue_ms, infer_ms, total_ms),
        ),
    )


def trace_headers(trace: Trace | None) -> tuple[Header, ...]:
    """`traceresponse` where the request is traced, so that its caller finds it."""
    if trace is None or not trace.sampled:
        return ()
    return ((b"traceresponse", trace.traceparent.encode()),)
