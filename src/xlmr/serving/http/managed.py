"""`GET /ping` and `POST /invocations`: what SageMaker and Vertex AI ask of a container.

`{"instances": […]}` gets `{"predictions": […]}`, one object for each, with everything that is known
of it; one bad instance gets an `error` beside its neighbours' answers. `{"inputs": …}` gets the
bare results that Hugging Face's pipelines would give. Both ask the model for what it is for, unless
`parameters` name a `task`; other parameters are the task's options.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType

from xlmr.errors import InputError
from xlmr.serving.dataplane import Answered, Outcome, Question
from xlmr.serving.defaults import meant_model, meant_task
from xlmr.serving.http.bodies import Decoder
from xlmr.serving.http.endpoint import Call, Inference, Page
from xlmr.serving.http.health import show_healthy
from xlmr.serving.http.problems import Reply, native_problem
from xlmr.serving.http.verbs.items import Item, encoded, items_of
from xlmr.serving.parameters import options_of
from xlmr.types import Entity, LabelScore

# What Hugging Face's pipelines call these options.
_ALIASES = {"top_k": "top", "candidate_labels": "labels", "hypothesis_template": "template"}
_PAIR = {"answer": ("question", "context"), "classify": ("text", "text_pair")}


class InvocationRequest(msgspec.Struct, kw_only=True):
    """`instances`, or `inputs`: a text, several, or `{"question", "context"}`,
    `{"query", "texts"}`, `{"text", "text_pair"}`.

    An instance is a text, or an object with `text` or `inputs`, or one of the pairs above.
    """

    instances: list[Any] | UnsetType = UNSET
    inputs: Any = UNSET
    parameters: dict[str, Any] = {}
    model: str | None = None


class InvocationItem(Item, kw_only=True):
    """What became of one instance: the fields of its task, or its `error` alone."""

    labels: tuple[LabelScore, ...] | UnsetType = UNSET
    chosen: tuple[str, ...] | UnsetType = UNSET
    abstained: bool | UnsetType = UNSET
    entities: tuple[Entity, ...] | UnsetType = UNSET
    answer: str | UnsetType = UNSET
    start: int | UnsetType = UNSET
    end: int | UnsetType = UNSET
    score: float | UnsetType = UNSET
    no_answer_score: float | UnsetType = UNSET
    embedding: list[float] | UnsetType = UNSET
    masks: tuple[tuple[LabelScore, ...], ...] | UnsetType = UNSET


class InvocationResponse(msgspec.Struct, kw_only=True):
    """One prediction for each instance, in order."""

    predictions: list[InvocationItem]


_decode = Decoder(InvocationRequest)


def ask_invocation(call: Call) -> tuple[Question, Callable[[Answered], Reply]]:
    """The body as a question.

    Raises:
        BadJsonError: not JSON.
        InputError: neither instances nor inputs, or what the task does not take.
        ModelNotFoundError: no such model.
    """
    request = _decode(call.body)
    if (request.instances is UNSET) is (request.inputs is UNSET):
        raise InputError("expected either instances or inputs")
    said = {_ALIASES.get(name, name): value for name, value in request.parameters.items()}
    asked, model = said.pop("task", None), said.pop("model", request.model)
    assert call.plane is not None
    pool = call.plane.pool
    task = meant_task(pool, model) if asked is None else _word(asked, "$.parameters.task")
    given, path, listed = _given(request, said)
    question = Question(
        id=call.id,
        task=task,
        items=[_item(task, one, f"{path}[{i}]" if listed else path) for i, one in enumerate(given)],
        options=options_of(task, said),
        model=meant_model(pool, model, task),
        path=path,
        listed=listed,
        partial=request.instances is not UNSET,
    )
    if request.instances is not UNSET:
        return question, _render_predictions
    return question, lambda answered: _render_bare(question, answered)


def _word(given: Any, path: str) -> str:
    if not isinstance(given, str):
        raise InputError(f"expected str, got {type(given).__name__}", path=path)
    return given


def _given(request: InvocationRequest, said: dict[str, Any]) -> tuple[list[Any], str, bool]:
    """What the items are made of, where it stands, and whether that is a list.

    A query among the inputs moves to the parameters.
    """
    if isinstance(request.instances, list):
        return request.instances, "$.instances", True
    inputs = request.inputs
    if isinstance(inputs, dict) and "texts" in inputs:
        if not isinstance(inputs["texts"], list):
            raise InputError("expected array", path="$.inputs.texts")
        said.setdefault("query", inputs.get("query"))
        return inputs["texts"], "$.inputs.texts", True
    return (inputs, "$.inputs", True) if isinstance(inputs, list) else ([inputs], "$.inputs", False)


def _item(task: str, given: Any, path: str) -> Any:
    """An instance as the text or pair that the task reads.

    Raises:
        InputError: neither.
    """
    if isinstance(given, Mapping):
        given, path = _of_object(task, given, path)
    if isinstance(given, str):
        return given
    pair = isinstance(given, Sequence) and task in _PAIR and len(given) == 2
    if pair and all(isinstance(text, str) for text in given):
        return tuple(given)
    names = " and ".join(_PAIR[task]) if task in _PAIR else "text"
    raise InputError(f"expected a text, or an object with {names}", path=path)


def _of_object(task: str, given: Mapping[str, Any], path: str) -> tuple[Any, str]:
    names = _PAIR.get(task, ())
    if names and names[-1] in given:
        return [given.get(name) for name in names], path
    for name in ("text", "inputs"):
        if name in given:
            return given[name], f"{path}.{name}"
    return None, path


def _render_predictions(answered: Answered) -> Reply:
    return encoded(InvocationResponse(predictions=items_of(answered, InvocationItem, _describe)))


def _describe(item: InvocationItem, answer: Any) -> None:
    """Fills in what the answer has; its fields are called as the item's."""
    for name in ("labels", "entities", "start", "end", "score", "no_answer_score", "masks"):
        if hasattr(answer, name):
            setattr(item, name, getattr(answer, name))
    if hasattr(answer, "vector"):
        item.embedding = np.asarray(answer.vector, np.float32).tolist()
    if hasattr(answer, "start"):
        item.answer = answer.text
    if getattr(answer, "abstained", None) is not None:
        item.abstained = answer.abstained
    if getattr(answer, "chosen", None) is not None:
        item.chosen = answer.chosen


def _render_bare(question: Question, answered: Answered) -> Reply:
    """Pipelines' shapes, and in a header which texts were cut: they have no word for it."""
    results = [_result(question, place, outcome) for place, outcome in enumerate(answered.outcomes)]
    if question.task == "rerank":
        results.sort(key=lambda rank: -float(rank["score"]))
    # A vector stays in a list also where there was one text, as every embedding server has it.
    alone = not question.listed and question.task != "embed"
    reply = encoded(results[0] if alone else results)
    cut = [str(p) for p, o in enumerate(answered.outcomes) if o.answer.accounting.truncated]
    return reply.with_header(b"x-truncated", ",".join(cut).encode()) if cut else reply


def _result(question: Question, place: int, outcome: Outcome) -> Any:
    answer, task = outcome.answer, question.task
    if task == "embed":
        return np.asarray(answer.vector, np.float32).tolist()
    if task == "rerank":
        return {"index": place, "score": answer.score}
    if task == "tag":
        return [
            {
                "entity_group": entity.label,
                "score": entity.score,
                "word": entity.text,
                "start": entity.start,
                "end": entity.end,
            }
            for entity in answer.entities
        ]
    if task == "answer":
        return {
            "score": answer.score,
            "start": answer.start,
            "end": answer.end,
            "answer": answer.text,
        }
    if task == "fill":
        masks = [[{"score": c.score, "token_str": c.label} for c in mask] for mask in answer.masks]
        return masks[0] if len(masks) == 1 else masks
    if task == "zero_shot":
        return {
            "sequence": question.items[place],
            "labels": [label.label for label in answer.labels],
            "scores": [label.score for label in answer.labels],
        }
    return answer.labels


PING = Page(
    path="/ping",
    method="GET",
    door="managed",
    summary="Should requests be sent here? (managed endpoints)",
    description="200 with an empty body, or 503.",
    media_type="text/plain",
    statuses=(405, 503),
    problem=native_problem,
    role=None,
    show=show_healthy,
)
INVOCATIONS = Inference(
    path="/invocations",
    method="POST",
    door="managed",
    summary="Ask the model for what it is for (managed endpoints)",
    description=(
        'With `instances` as Vertex AI asks: `{"predictions": […]}`, an object for each. With '
        "`inputs` as SageMaker's Hugging Face containers are asked: the bare results that "
        "pipelines give, and `x-truncated` names texts that were cut. `parameters` hold the task's "
        "options; `task` among them chooses where the model can do several things."
    ),
    problem=native_problem,
    request=InvocationRequest,
    # A prediction for each instance, or whatever shape a pipeline of the task gives.
    response=cast(type, Any),
    example={"instances": ["أين طلبي؟", {"text": "返金をお願いします"}]},
    reply={
        "predictions": [
            {
                "id": "5f0c3a9d1b7e2468-0",
                "tokens": 6,
                "total_tokens": 6,
                "truncated": False,
                "windows": 1,
                "language": {"code": "ar", "confidence": 0.9973},
                "labels": [{"label": "delivery", "score": 0.94}],
            }
        ]
    },
    task="invoke",
    ask=ask_invocation,
)
OPERATIONS = (PING, INVOCATIONS)
