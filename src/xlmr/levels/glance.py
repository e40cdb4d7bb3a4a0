"""One server at a glance: what `xlmr top` shows, as plain values. Pure."""

from __future__ import annotations

from typing import Any

from xlmr.levels.reading import Span
from xlmr.levels.series import CALLERS_OWN
from xlmr.telemetry.table import STAGES

_BY = ("model", "version")


def glance(span: Span) -> dict[str, Any]:
    """Everything by name, ready for `json.dumps`.

    Rates are a second's, latencies milliseconds, shares 0 to 1. What was not observed is None.
    """
    now = span.now
    codes = {code: n for (code,), n in span.grown("xlmr_requests_total", "code").items()}
    return {
        "seconds": span.seconds,
        "requests": {
            "total": sum(codes.values()),
            "per_second": _rate(span, sum(codes.values())),
            "failed": sum(n for code, n in codes.items() if code not in ("ok", *CALLERS_OWN)),
            "codes": codes,
        },
        "latency_ms": _latency(span, "xlmr_request_seconds"),
        "stages_ms": {stage: _p95(span, "xlmr_stage_seconds", stage=stage) for stage in STAGES},
        "tokens_per_second": _rate(span, span.total("xlmr_tokens_total")),
        "queue": {
            "requests": now.value("xlmr_queue_requests"),
            "tokens": now.value("xlmr_queue_tokens"),
            "oldest_s": now.value("xlmr_queue_oldest_seconds"),
            "refused": {r: n for (r,), n in span.grown("xlmr_sheds_total", "reason").items() if n},
        },
        "engine": {
            "threads": now.value("xlmr_engine_threads"),
            "busy": _rate(span, span.total("xlmr_engine_busy_seconds_total")),
            "faults": span.total("xlmr_engine_faults_total"),
            "worker_restarts": span.total("xlmr_worker_restarts_total"),
        },
        "memory": {
            "resident": {p: n for (p,), n in _now(span, "xlmr_resident_memory_bytes", "process")},
            "held": now.value("xlmr_memory_held_bytes"),
            "limit": now.value("xlmr_memory_limit_bytes") or None,
        },
        "cache_hits": _share(
            span.total("xlmr_cache_hits_total"),
            span.total("xlmr_cache_hits_total") + span.total("xlmr_cache_misses_total"),
        ),
        "registry_age_s": now.value("xlmr_registry_age_seconds") or None,
        "models": _models(span),
        "languages": _languages(span),
        "routes": [
            {"model": model, "arm": arm, "requests": n}
            for (model, arm), n in sorted(
                span.grown("xlmr_route_requests_total", "model", "arm").items()
            )
        ],
        "shadow": {
            o: n for (o,), n in span.grown("xlmr_shadow_requests_total", "outcome").items() if n
        },
    }


def _models(span: Span) -> list[dict[str, Any]]:
    """Versions by name, loading and failed ones as well."""
    asked = span.grown("xlmr_requests_total", *_BY)
    own = {
        version: sum(
            n
            for (*where, code), n in span.grown("xlmr_requests_total", *_BY, "code").items()
            if tuple(where) == version and code not in ("ok", *CALLERS_OWN)
        )
        for version in asked
    }
    return [
        {
            "model": model,
            "version": version,
            "state": state,
            "requests": asked.get((model, version), 0.0),
            "failed": own.get((model, version), 0.0),
            **_latency(span, "xlmr_request_seconds", model=model, version=version),
        }
        for (model, version, state), is_so in sorted(
            span.now.values("xlmr_model_state", *_BY, "state").items()
        )
        if is_so
    ]


def _languages(span: Span) -> list[dict[str, Any]]:
    """The most frequent first; a language nobody asked in is left out."""
    answered = span.grown("xlmr_items_total", "language")
    sure = span.grown("xlmr_confidence_ratio_sum", "language")
    counted = span.grown("xlmr_confidence_ratio_count", "language")
    abstained = span.grown("xlmr_abstained_items_total", "language")
    return [
        {
            "language": key[0],
            "texts": texts,
            "confidence": _share(sure.get(key, 0.0), counted.get(key, 0.0)),
            "abstained": _share(abstained[key], counted.get(key, 0.0))
            if key in abstained
            else None,
        }
        for key, texts in sorted(answered.items(), key=lambda item: (-item[1], item[0]))
        if texts
    ]


def _now(span: Span, name: str, *by: str) -> list[tuple[tuple[str, ...], float]]:
    return list(span.now.values(name, *by).items())


def _latency(span: Span, name: str, **labels: str) -> dict[str, float | None]:
    shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
    return {key: _ms(span.quantile(name, share, **labels)) for key, share in shares.items()}


def _p95(span: Span, name: str, **labels: str) -> float | None:
    return _ms(span.quantile(name, 0.95, **labels))


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000


def _rate(span: Span, grown: float) -> float | None:
    return grown / span.seconds if span.seconds else None


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None
