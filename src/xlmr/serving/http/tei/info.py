"""`/info`: the model and the limits, in the words of that server."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

import xlmr
from xlmr.errors import XlmrError
from xlmr.serving.dataplane import Dataplane
from xlmr.serving.defaults import main_task, meant_model, meant_task
from xlmr.serving.http.endpoint import Call
from xlmr.serving.http.problems import Reply


class TeiEmbeddingKind(msgspec.Struct, kw_only=True):
    """How token vectors become a text's."""

    pooling: str


class TeiClassifierKind(msgspec.Struct, kw_only=True):
    """The outputs by number and by name."""

    id2label: dict[str, str]
    label2id: dict[str, int]


class TeiModelKind(msgspec.Struct, kw_only=True):
    """What the model is for; exactly one is there."""

    embedding: TeiEmbeddingKind | UnsetType = UNSET
    classifier: TeiClassifierKind | UnsetType = UNSET
    reranker: TeiClassifierKind | UnsetType = UNSET


class TeiInfo(msgspec.Struct, kw_only=True):
    """The model that paths without a model's name ask, and the server's limits.

    `max_concurrent_requests` is null: requests are limited by the tokens that wait, not by number.
    `models`: all that are loaded, of which a body's `model` may name one.
    """

    model_id: str
    model_sha: str
    model_dtype: str
    served_model_name: str
    model_type: TeiModelKind
    max_concurrent_requests: int | None = None
    max_input_length: int
    max_batch_tokens: int
    max_batch_requests: int | None = None
    max_client_batch_size: int
    auto_truncate: bool = True
    tokenization_workers: int | None = None
    version: str
    sha: str | None = None
    docker_label: str | None = None
    models: list[str]


_encoder = msgspec.json.Encoder()


def show_info(plane: Dataplane, call: Call) -> Reply:
    """What is served here.

    Raises:
        TaskError: no model is loaded.
    """
    served = _shown(plane)
    bundle = served.predictor.bundle
    info = TeiInfo(
        model_id=served.ref.name,
        model_sha=served.ref.digest,
        model_dtype=served.predictor.runtime.name,
        served_model_name=served.ref.name,
        model_type=_kind(bundle, main_task(served.tasks)),
        max_input_length=served.predictor.max_tokens,
        max_batch_tokens=served.predictor.runtime.max_batch_tokens,
        max_client_batch_size=plane.limits.max_items,
        version=xlmr.__version__,
        models=list(plane.pool.models),
    )
    return Reply(_encoder.encode(info))


def _shown(plane: Dataplane) -> Any:
    """The model `POST /` would ask; the first one where that would have to be named."""
    try:
        task = meant_task(plane.pool, None)
        return plane.pool.route(meant_model(plane.pool, None, task), task)
    except XlmrError:
        if not plane.pool.models:
            raise
        return next(iter(plane.pool.models.values()))


def _kind(bundle: Any, task: str) -> TeiModelKind:
    if task in ("classify", "rerank", "tag"):
        labels = {str(i): label for i, label in enumerate(bundle.labels)}
        kind = TeiClassifierKind(
            id2label=labels, label2id={label: int(i) for i, label in labels.items()}
        )
        return TeiModelKind(reranker=kind) if task == "rerank" else TeiModelKind(classifier=kind)
    return TeiModelKind(embedding=TeiEmbeddingKind(pooling=bundle.pooling.kind))
