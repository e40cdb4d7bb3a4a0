"""What orchestrators and scrapers ask: `/livez`, `/readyz`, `/startupz`, `/metrics`."""

from __future__ import annotations

import msgspec

from xlmr.serving.dataplane import Dataplane
from xlmr.serving.http.endpoint import Call, Page
from xlmr.serving.http.problems import Reply, UnhealthyError, native_problem
from xlmr.telemetry.metrics import CONTENT_TYPE


class Live(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Whether the compute threads live and move; if not, restart the process. `reasons` say why."""

    live: bool
    reasons: list[str] = []


class Ready(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Whether requests should be sent here, the models that would answer, and if not, why not."""

    ready: bool
    models: list[str]
    reasons: list[str] = []


class Started(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Whether the models the server was started with are loaded; if not, how far they are."""

    started: bool
    reasons: list[str] = []


_encoder = msgspec.json.Encoder()


def show_live(plane: Dataplane, call: Call) -> Reply:
    """200 while the compute threads move, else 503."""
    reasons = plane.pool.vitals.dying()
    body = _encoder.encode(Live(live=not reasons, reasons=reasons))
    return Reply(body, 503 if reasons else 200)


def show_ready(plane: Dataplane, call: Call) -> Reply:
    """200 while a model answers and the server is not going down, else 503."""
    reasons = plane.unready()
    models = list(plane.pool.models)
    body = _encoder.encode(Ready(ready=not reasons, models=models, reasons=reasons))
    return Reply(body, 503 if reasons else 200)


def show_started(plane: Dataplane, call: Call) -> Reply:
    """200 once the first models are loaded, and from then on; 503 before."""
    reasons = plane.pool.vitals.starting()
    body = _encoder.encode(Started(started=not reasons, reasons=reasons))
    return Reply(body, 503 if reasons else 200)


def require_ready(plane: Dataplane) -> None:
    """For pages of other contracts, which answer in an error's shape.

    Raises:
        UnhealthyError: requests should not be sent here.
    """
    reasons = plane.unready()
    if reasons:
        raise UnhealthyError("; ".join(reasons))


def show_healthy(plane: Dataplane, call: Call) -> Reply:
    """200 and nothing more while requests should be sent here.

    Raises:
        UnhealthyError: they should not.
    """
    require_ready(plane)
    return Reply(b"", media_type="text/plain")


def show_metrics(plane: Dataplane, call: Call) -> Reply:
    """Prometheus' text format."""
    return Reply(plane.metrics.export(), media_type=CONTENT_TYPE)


LIVEZ = Page(
    path="/livez",
    method="GET",
    summary="Is the process alive?",
    role=None,
    problem=native_problem,
    response=Live,
    replies={503: Live},
    show=show_live,
)
READYZ = Page(
    path="/readyz",
    method="GET",
    summary="Should requests be sent here?",
    role=None,
    problem=native_problem,
    response=Ready,
    replies={503: Ready},
    show=show_ready,
)
STARTUPZ = Page(
    path="/startupz",
    method="GET",
    summary="Are the first models loaded?",
    role=None,
    problem=native_problem,
    response=Started,
    replies={503: Started},
    show=show_started,
)
METRICS = Page(
    path="/metrics",
    method="GET",
    summary="Prometheus metrics",
    role=None,
    problem=native_problem,
    media_type="text/plain",
    show=show_metrics,
)
