"""`POST /v1/feedback`: what people, or what happened later, say of predictions."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from xlmr.errors import InputError
from xlmr.serving.dataplane import Dataplane, Statement
from xlmr.serving.http.bodies import Decoder
from xlmr.serving.http.endpoint import Action, Call
from xlmr.serving.http.problems import Reply, native_problem
from xlmr.serving.http.verbs.items import ItemError, as_list, encoded, item_error


class PredictionFeedback(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What is said of one prediction.

    `prediction`: the `id` of its item. `label`: the right one: the predicted one confirms, another
    corrects. `who` says so, by whatever name; only a keyed hash of it is kept. `source`: somebody
    who uses the answer, somebody who is asked for labels, or what happened later. `said_at`: now,
    where it is left out.
    """

    prediction: str
    label: str
    who: str = ""
    source: Literal["user", "annotator", "outcome"] = "user"
    said_at: Annotated[datetime, Meta(tz=True)] | None = None


class FeedbackRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One statement, or several."""

    feedback: PredictionFeedback | Annotated[list[PredictionFeedback], Meta(min_length=1)]


class FeedbackItem(msgspec.Struct, kw_only=True):
    """A prediction of which was spoken; with an `error` where what was said is not kept."""

    prediction: str
    error: ItemError | UnsetType = UNSET


class FeedbackResponse(msgspec.Struct, kw_only=True):
    """One item per statement, in order. `new`: how many were not known already."""

    id: str
    new: int
    items: list[FeedbackItem]


_decode = Decoder(FeedbackRequest)


async def take(plane: Dataplane, call: Call) -> Reply:
    """Keeps what can be kept.

    Raises:
        BadJsonError: not JSON.
        InputError: JSON of another shape, or none of it can be used.
        FeedbackOffError: the server keeps none.
        FeedbackUnavailableError: the store cannot be written; nothing was kept.
        UnavailableError: too much is being written, or the server is going down.
    """
    given, listed = as_list(_decode(call.body).feedback)
    said = [_statement(one) for one in given]
    try:
        taken = await plane.take_feedback(said)
    except InputError as fault:
        raise _placed(fault, listed) from None
    items = [
        FeedbackItem(
            prediction=one.prediction,
            error=UNSET if fault is None else item_error(_placed(fault, listed)),
        )
        for one, fault in zip(said, taken.faults, strict=True)
    ]
    return encoded(FeedbackResponse(id=call.id, new=taken.new, items=items))


def _statement(given: PredictionFeedback) -> Statement:
    return Statement(
        prediction=given.prediction,
        label=given.label,
        who=given.who,
        source=given.source,
        said_us=round(given.said_at.timestamp() * 1e6) if given.said_at else 0,
    )


def _placed(fault: InputError, listed: bool) -> InputError:
    """The fault with its path in the body: `$[3].label` becomes `$.feedback[3].label`."""
    path = fault.path.replace("$" if listed else "$[0]", "$.feedback", 1)
    return type(fault)(fault.message, path=path, hint=fault.hint)


FEEDBACK = Action(
    path="/v1/feedback",
    method="POST",
    summary="Say whether predictions were right",
    description=(
        "Needs the role `feedback`. The answer comes when what was said is on disk. A statement "
        "that cannot be used gets an `error` in its place, and the others are kept; only where "
        "none can is the request refused. What is sent twice is kept once, so a request whose "
        "answer was lost can be sent again. A prediction need not be known yet."
    ),
    problem=native_problem,
    request=FeedbackRequest,
    response=FeedbackResponse,
    example={
        "feedback": [
            {"prediction": "5f0c3a9d1b7e2468-0", "label": "refund", "who": "customer-17"},
            {
                "prediction": "5f0c3a9d1b7e2468-1",
                "label": "delivery",
                "source": "outcome",
                "said_at": "2024-03-05T14:30:00+01:00",
            },
        ]
    },
    reply={
        "id": "0c9d2b5e7f1a4683",
        "new": 2,
        "items": [{"prediction": "5f0c3a9d1b7e2468-0"}, {"prediction": "5f0c3a9d1b7e2468-1"}],
    },
    statuses=(400, 401, 403, 404, 413, 415, 422, 500, 503),
    role="feedback",
    act=take,
)
