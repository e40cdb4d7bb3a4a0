"""What orchestrators and scrapers ask: `/livez`, `/readyz`, `/metrics`."""

from __future__ import annotations

import msgspec

from xlmr.serving.dataplane import Dataplane
from xlmr.serving.http.endpoint import Call, Page
from xlmr.serving.http.problems import Reply, native_problem
from xlmr.telemetry.metrics import CONTENT_TYPE


class Live(msgspec.Struct, kw_only=True):
    """Whether the compute threads live and move; if not, restart the process."""

    live: bool


class Ready(msgspec.Struct, kw_only=True):
    """Whether requests should be sent here, and the models that would answer."""

    ready: bool
    models: list[str]


_encoder = msgspec.json.Encoder()


def show_live(plane: Dataplane, call: Call) -> Reply:
    """200 while the compute threads move, else 503."""
    live = plane.pool.alive
    return Reply(_encoder.encode(Live(live=live)), 200 if live else 503)


def show_ready(plane: Dataplane, call: Call) -> Reply:
    """200 while there is a model to ask and the server is not going down, else 503."""
    ready = plane.ready
    body = _encoder.encode(Ready(ready=ready, models=list(plane.pool.models)))
    return Reply(body, 200 if ready else 503)


def show_metrics(plane: Dataplane, call: Call) -> Reply:
    """Prometheus' text format."""
    return Reply(plane.metrics.export(), media_type=CONTENT_TYPE)


LIVEZ = Page(
    path="/livez",
    method="GET",
    summary="Is the process alive?",
    problem=native_problem,
    response=Live,
    show=show_live,
)
READYZ = Page(
    path="/readyz",
    method="GET",
    summary="Should requests be sent here?",
    problem=native_problem,
    response=Ready,
    show=show_ready,
)
METRICS = Page(
    path="/metrics",
    method="GET",
    summary="Prometheus metrics",
    problem=native_problem,
    media_type="text/plain",
    show=show_metrics,
)
