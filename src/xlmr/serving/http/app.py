"""All doors: which of them a path leads to."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from operator import attrgetter

from xlmr.serving.dataplane import Dataplane, read_terms
from xlmr.serving.http import (
    feedback,
    health,
    managed,
    models,
    oip,
    openai,
    operate,
    rerank,
    tei,
    verbs,
)
from xlmr.serving.http.docs import documentation
from xlmr.serving.http.endpoint import Action, Endpoint, Inference, OnePath, Page, sent
from xlmr.serving.http.problems import NoSuchPathError, Reply, native_problem, oip_problem
from xlmr.serving.http.request import App, Request

_NAMED = re.compile(r"\{(\w+)\}")

OPERATIONS: tuple[Page | Inference | Action, ...] = (
    *verbs.OPERATIONS,
    *rerank.OPERATIONS,
    openai.EMBEDDINGS,
    *tei.OPERATIONS,
    *oip.OPERATIONS,
    *managed.OPERATIONS,
    feedback.FEEDBACK,
    models.MODELS,
    models.MODEL,
    *operate.OPERATIONS,
    health.LIVEZ,
    health.READYZ,
    health.STARTUPZ,
    health.METRICS,
)


def build_app(plane: Dataplane, *, max_body_bytes: int, metrics_role: str | None = None) -> App:
    """Every operation on its path; anything else is a 404 that says where to look.

    `metrics_role` is what callers must hold to see the metrics; None shows them to everybody.
    """
    fixed: dict[str, App] = {}
    named: list[tuple[re.Pattern[str], App]] = []
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
            named.append((_pattern(path), app))
        else:
            fixed[path] = app
    return _Paths(fixed, named)


class _Paths:
    """Finds what serves a path: most are fixed, the others are tried one by one."""

    def __init__(
        self, fixed: Mapping[str, App], named: Sequence[tuple[re.Pattern[str], App]]
    ) -> None:
        self._fixed = fixed
        self._named = named

    async def __call__(self, request: Request) -> Reply | None:
        app = self._fixed.get(request.path)
        if app is not None:
            return await app(request)
        for pattern, app in self._named:
            found = pattern.fullmatch(request.path)
            if found is not None:
                request.params = found.groupdict()
                return await app(request)
        return _nowhere(request)


def _pattern(path: str) -> re.Pattern[str]:
    """`/v1/models/{model}` as a pattern, in which a name is one part of the path."""
    parts = _NAMED.split(path)
    return re.compile(
        "".join(
            f"(?P<{part}>[^/]+)" if index % 2 else re.escape(part)
            for index, part in enumerate(parts)
        )
    )


def _nowhere(request: Request) -> Reply:
    request_id = read_terms(request.headers).request_id
    error = NoSuchPathError("nothing is served here", hint="GET /docs lists what is")
    # Triton's clients ask for extensions that are not here, and read no other shape.
    problem = oip_problem if request.path.startswith("/v2/") else native_problem
    return sent(problem(error, request_id), request_id)
