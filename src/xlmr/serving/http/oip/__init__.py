"""The Open Inference Protocol, version 2, over REST: what KServe's, MLServer's and Triton's clients
speak. `xlmr.serving.tensors` says which tensors a task takes and gives.

Triton's binary extension is understood both ways: with `inference-header-content-length` the body
is that much JSON, then the values of each input that has a `binary_data_size`, in their order; the
reply is written like it for outputs that ask for `binary_data`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xlmr.serving.http.endpoint import Action, Inference, Page
from xlmr.serving.http.oip import infer, messages, pages, repository
from xlmr.serving.http.problems import OipProblem, oip_problem

_MODEL, _VERSION = "/v2/models/{model}", "/v2/models/{model}/versions/{version}"
_STATUSES = (400, 401, 403, 404, 413, 415, 429, 500, 503)
_CHANGING = (400, 401, 403, 404, 409, 413, 415, 500, 503)
_EXAMPLE: Mapping[str, Any] = {
    "inputs": [{"name": "text", "shape": [2], "datatype": "BYTES", "data": ["hello", "hallo"]}]
}
_REPLY: Mapping[str, Any] = {
    "model_name": "router",
    "model_version": "3",
    "id": "5f0c3a9d1b7e2468",
    "outputs": [
        {"name": "labels", "shape": [2, 1], "datatype": "BYTES", "data": ["other", "other"]},
        {"name": "scores", "shape": [2, 1], "datatype": "FP32", "data": [0.91, 0.87]},
        {"name": "truncated", "shape": [2], "datatype": "BOOL", "data": [False, False]},
    ],
}


def _page(**said: Any) -> Page:
    return Page(method="GET", door="oip", problem=oip_problem, fault=OipProblem, **said)


def _action(**said: Any) -> Action:
    return Action(
        method="POST",
        door="oip",
        problem=oip_problem,
        fault=OipProblem,
        accept=infer.accept,
        **said,
    )


def _infer(path: str) -> Inference:
    return Inference(
        path=f"{path}/infer",
        method="POST",
        door="oip",
        summary="Ask a model (Open Inference Protocol)",
        description=(
            "Texts come as BYTES tensors: `text` for most tasks; `question` and `context`; `query` "
            "and `text`; `text` and `labels`. Options of the task come as `parameters`, and `task` "
            "chooses where a model can do several things. Triton's binary tensors are understood."
        ),
        problem=oip_problem,
        fault=OipProblem,
        statuses=_STATUSES,
        request=messages.OipRequest,
        response=messages.OipResponse,
        example=_EXAMPLE,
        reply=_REPLY,
        task="infer",
        ask=infer.ask_infer,
        accept=infer.accept,
    )


def _model_pages(path: str) -> tuple[Page, ...]:
    return (
        _page(
            path=f"{path}/config",
            summary="The same in Triton's words (Open Inference Protocol)",
            response=messages.OipConfig,
            statuses=(401, 403, 404, 500, 503),
            show=pages.show_config,
        ),
        _page(
            path=path,
            summary="The tensors a model takes and gives (Open Inference Protocol)",
            response=messages.OipModel,
            statuses=(401, 403, 404, 500, 503),
            show=pages.show_model,
        ),
        _page(
            path=f"{path}/ready",
            summary="Does this model answer? (Open Inference Protocol)",
            response=messages.OipModelReady,
            statuses=(401, 403, 404, 500, 503),
            show=pages.show_model_ready,
        ),
    )


OPERATIONS: tuple[Page | Inference | Action, ...] = (
    _infer(_MODEL),
    _infer(_VERSION),
    *_model_pages(_MODEL),
    *_model_pages(_VERSION),
    _action(
        path="/v2/repository/index",
        summary="Every version, and whether it answers (Open Inference Protocol)",
        request=repository.OipIndexRequest,
        response=list[repository.OipIndexed],
        example={"ready": True},
        reply=[{"name": "router", "version": "3", "state": "READY", "reason": ""}],
        statuses=(400, 401, 403, 413, 415, 500, 503),
        role="predict",
        act=repository.show_index,
    ),
    _action(
        path="/v2/repository/models/{model}/load",
        summary="Load a model (Open Inference Protocol)",
        description=(
            "Needs the role `operate`. Loads the directory of that name below the models "
            "directory, as `POST /v1/models` does."
        ),
        request=repository.OipRepositoryRequest,
        response=repository.OipDone,
        statuses=_CHANGING,
        act=repository.load,
    ),
    _action(
        path="/v2/repository/models/{model}/unload",
        summary="Unload a model (Open Inference Protocol)",
        description=(
            "Needs the role `operate`. Unloads every version of that name; one that an alias "
            "points to stays, and the answer says so."
        ),
        request=repository.OipRepositoryRequest,
        response=repository.OipDone,
        statuses=_CHANGING,
        act=repository.unload,
    ),
    _page(
        path="/v2",
        summary="Who this is (Open Inference Protocol)",
        response=messages.OipServer,
        role=None,
        show=pages.show_server,
    ),
    _page(
        path="/v2/health/live",
        summary="Is the process alive? (Open Inference Protocol)",
        response=messages.OipLive,
        replies={503: messages.OipLive},
        role=None,
        show=pages.show_live,
    ),
    _page(
        path="/v2/health/ready",
        summary="Should requests be sent here? (Open Inference Protocol)",
        response=messages.OipReady,
        replies={503: messages.OipReady},
        role=None,
        show=pages.show_ready,
    ),
)
