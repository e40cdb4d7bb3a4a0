"""`xlmr.v1.Xlmr`: the native calls. What their messages mean stands in `proto/xlmr.proto`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from xlmr.errors import InputError
from xlmr.serving.dataplane import (
    Answered,
    AnswerOptions,
    ClassifyOptions,
    Dataplane,
    EmbedOptions,
    FillOptions,
    Question,
    RerankOptions,
    Source,
    Statement,
    TagOptions,
    TokenizeOptions,
    ZeroShotOptions,
)
from xlmr.serving.grpc import answers
from xlmr.serving.grpc.calls import Acting, Asking
from xlmr.types import LongText

Asked = tuple[Question, Callable[[Answered], Any]]

_LONG: Mapping[int, LongText] = {1: "truncate", 2: "window", 3: "error", 4: "truncate_left"}
_SOURCES: Mapping[int, Source] = {0: "user", 1: "user", 2: "annotator", 3: "outcome"}
_DEFAULT_TEMPLATE = ZeroShotOptions(labels=()).template


def ask_classify(plane: Dataplane, message: Any, id: str) -> Asked:
    """The message as a question; what it cannot mean is refused where its values are looked at."""
    options = ClassifyOptions(
        top=message.top or None,
        long=_long(message, "truncate"),
        raw_scores=message.raw_scores,
        languages=list(message.languages) or None,
    )
    return _texts(message, id, "classify", _items(message.texts), options), answers.classified


def ask_zero_shot(plane: Dataplane, message: Any, id: str) -> Asked:
    """As `ask_classify`."""
    options = ZeroShotOptions(
        labels=list(message.labels),
        template=message.template or _DEFAULT_TEMPLATE,
        multi_label=message.multi_label,
        long=_long(message, "truncate"),
    )
    return _texts(message, id, "zero_shot", list(message.texts), options), answers.classified


def ask_tag(plane: Dataplane, message: Any, id: str) -> Asked:
    """As `ask_classify`."""
    options = TagOptions(long=_long(message, "truncate"))
    return _texts(message, id, "tag", list(message.texts), options), answers.tagged


def ask_answer(plane: Dataplane, message: Any, id: str) -> Asked:
    """As `ask_classify`."""
    defaults = AnswerOptions()
    question = Question(
        id=id,
        task="answer",
        items=[(pair.question, pair.context) for pair in message.questions],
        options=AnswerOptions(
            long=_long(message, defaults.long),
            max_answer_tokens=message.max_answer_tokens or defaults.max_answer_tokens,
            must_answer=message.must_answer,
        ),
        model=message.model or None,
        path="$.questions",
        locate=_locate_question,
    )
    return question, answers.answered


def _locate_question(place: int, part: str) -> str:
    field = {"[0]": ".question", "[1]": ".context"}.get(part, part)
    return f"$.questions[{place}]{field}"


def ask_fill(plane: Dataplane, message: Any, id: str) -> Asked:
    """As `ask_classify`."""
    options = FillOptions(top=message.top or FillOptions().top)
    return _texts(message, id, "fill", list(message.texts), options), answers.filled


def ask_embed(plane: Dataplane, message: Any, id: str) -> Asked:
    """As `ask_classify`."""
    options = EmbedOptions(
        prompt=_optional(message, "prompt"),
        dimensions=message.dimensions or None,
        normalize=_optional(message, "normalize"),
        long=_long(message, "truncate"),
    )
    return _texts(message, id, "embed", list(message.texts), options), answers.embedded


def ask_rerank(plane: Dataplane, message: Any, id: str) -> Asked:
    """As `ask_classify`."""
    options = RerankOptions(
        query=message.query,
        raw_scores=message.raw_scores,
        long=_long(message, "truncate"),
    )
    question = _texts(message, id, "rerank", list(message.documents), options, "$.documents")
    return question, lambda answered: answers.ranked(answered, message.top)


def ask_similarity(plane: Dataplane, message: Any, id: str) -> Asked:
    """As `ask_classify`."""
    question = Question(
        id=id,
        task="embed",
        items=[message.source, *message.sentences] if message.sentences else [],
        options=EmbedOptions(
            prompt=_optional(message, "prompt"),
            normalize=True,
            long=_long(message, "truncate"),
        ),
        model=message.model or None,
        path="$.sentences",
        needs_first=True,
        locate=_locate_sentence,
    )
    return question, answers.similar


def _locate_sentence(place: int, part: str) -> str:
    return f"$.sentences[{place - 1}]{part}" if place else f"$.source{part}"


def ask_tokenize(plane: Dataplane, message: Any, id: str) -> Asked:
    """As `ask_classify`.

    Raises:
        InputError: windows, which only models read.
    """
    choices = {0: "whole", 1: "truncate", 3: "error"}
    if message.long not in choices:
        raise InputError("expected LONG_TRUNCATE, LONG_ERROR or nothing", path="$.long")
    long: Any = choices[message.long]
    options = TokenizeOptions(long=long, prompt=message.prompt)
    return _texts(message, id, "tokenize", _items(message.texts), options), answers.tokenized


async def take_feedback(plane: Dataplane, message: Any, id: str) -> Any:
    """A `FeedbackResponse`, once what was said is on disk.

    Raises:
        InputError: none of it can be used, or it is too much at once.
        FeedbackOffError: the server keeps none.
        UnavailableError: not now; nothing was kept.
    """
    for place, one in enumerate(message.feedback):
        if one.source not in _SOURCES:
            raise InputError("not one of the allowed values", path=f"$.feedback[{place}].source")
    said = [
        Statement(
            prediction=one.prediction,
            label=one.label,
            who=one.who,
            source=_SOURCES[one.source],
            said_us=one.said_at_us,
        )
        for one in message.feedback
    ]
    try:
        taken = await plane.take_feedback(said)
    except InputError as fault:
        raise _placed(fault) from None
    faults = [None if fault is None else _placed(fault) for fault in taken.faults]
    return answers.said(id, said, faults, taken.new)


def _placed(fault: InputError) -> InputError:
    path = fault.path.replace("$", "$.feedback", 1)
    return type(fault)(fault.message, path=path, hint=fault.hint)


def _texts(
    message: Any, id: str, task: str, items: Sequence[Any], options: Any, path: str = "$.texts"
) -> Question:
    return Question(
        id=id, task=task, items=items, options=options, model=message.model or None, path=path
    )


def _items(texts: Any) -> list[str | tuple[str, str]]:
    return [(one.text, one.pair) if one.HasField("pair") else one.text for one in texts]


def _optional(message: Any, field: str) -> Any:
    return getattr(message, field) if message.HasField(field) else None


def _long(message: Any, default: LongText) -> LongText:
    """What becomes of long texts.

    Raises:
        InputError: a number that stands for nothing, as a newer client may send.
    """
    if message.long == 0:
        return default
    if message.long not in _LONG:
        raise InputError("not one of the allowed values", path="$.long")
    return _LONG[message.long]


CALLS: Mapping[str, Asking | Acting] = {
    "Classify": Asking(task="classify", ask=ask_classify),
    "ZeroShot": Asking(task="zero_shot", ask=ask_zero_shot),
    "Tag": Asking(task="tag", ask=ask_tag),
    "Answer": Asking(task="answer", ask=ask_answer),
    "Fill": Asking(task="fill", ask=ask_fill),
    "Embed": Asking(task="embed", ask=ask_embed),
    "Rerank": Asking(task="rerank", ask=ask_rerank),
    "Similarity": Asking(task="embed", ask=ask_similarity),
    "Tokenize": Asking(task="tokenize", ask=ask_tokenize, verb=Dataplane.tokenize),
    "Feedback": Acting(act=take_feedback, role="feedback"),
}
