"""All doors as one ASGI application."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import groupby
from operator import attrgetter

from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from xlmr.serving.dataplane import Dataplane, read_terms
from xlmr.serving.http import health, managed, models, oip, openai, operate, rerank, tei, verbs
from xlmr.serving.http.docs import documentation
from xlmr.serving.http.endpoint import Action, Endpoint, Inference, OnePath, Page, send_reply
from xlmr.serving.http.problems import NoSuchPathError, native_problem

OPERATIONS: tuple[Page | Inference | Action, ...] = (
    *verbs.OPERATIONS,
    rerank.RERANK,
    openai.EMBEDDINGS,
    *tei.OPERATIONS,
    *oip.OPERATIONS,
    *managed.OPERATIONS,
    models.MODELS,
    models.MODEL,
    *operate.OPERATIONS,
    health.LIVEZ,
    health.READYZ,
    health.STARTUPZ,
    health.METRICS,
)


def build_app(plane: Dataplane, *, max_body_bytes: int, metrics_role: str | None = None) -> ASGIApp:
    """Every operation on its path; anything else is a 404 that says where to look.

    `metrics_role` is what callers must hold to see the metrics; None shows them to everybody.
    """
    fixed: dict[str, ASGIApp] = {}
    routes = []
    shown = [
        replace(one, role=metrics_role) if one is health.METRICS else one for one in OPERATIONS
    ]
    every = (*shown, *documentation(shown))
    for path, group in groupby(sorted(every, key=attrgetter("path")), attrgetter("path")):
        operations = list(group)
        allowed = [operation.method for operation in operations]
        endpoints = {
            o.method: Endpoint(o, plane, max_body_bytes=max_body_bytes, allowed=allowed)
            for o in operations
        }
        only = next(iter(endpoints.values()))
        app = only if len(endpoints) == 1 else OnePath(endpoints)
        if "{" in path:
            routes.append(Route(path, app))
        else:
            fixed[path] = app
    return _Paths(fixed, Router(routes, redirect_slashes=False, default=_nowhere))


class _Paths:
    """Finds what serves a path: most are fixed, and Starlette would try dozens one by one."""

    def __init__(self, fixed: Mapping[str, ASGIApp], others: ASGIApp) -> None:
        self._fixed = fixed
        self._others = others

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._fixed.get(scope["path"]) if scope["type"] == "http" else None
        if app is None:
            app = self._others
        else:
            scope["path_params"] = {}
        await app(scope, receive, send)


async def _nowhere(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        return
    request_id = read_terms(scope["headers"]).request_id
    error = NoSuchPathError("nothing is served here", hint="GET /docs lists what is")
    await send_reply(send, native_problem(error, request_id), request_id)
