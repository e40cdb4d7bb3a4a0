"""`GET /v1/models`: what is loaded, in OpenAI's shape, and what each model can be asked."""

from __future__ import annotations

import contextlib

import msgspec
from msgspec import UNSET, UnsetType

from xlmr.errors import ModelNotFoundError, UnavailableError
from xlmr.serving.dataplane import Dataplane, ModelState, Served, share_of
from xlmr.serving.http.endpoint import Call, Page
from xlmr.serving.http.problems import Reply, openai_problem


class AbstentionFacts(msgspec.Struct, kw_only=True):
    """Which share of the given answers may be wrong, and how sure that bound is."""

    risk: float
    confidence: float


class CalibrationFacts(msgspec.Struct, kw_only=True):
    """What makes the model's scores honest.

    `temperature`: whether scores are honest probabilities. `thresholds`: what those of the labels
    were fitted for, `precision`, `recall` or `f1`. `languages`: those with figures of their own;
    all others share one.
    """

    temperature: bool
    languages: list[str]
    thresholds: str | None
    abstention: AbstentionFacts | None


class RouteFacts(msgspec.Struct, kw_only=True):
    """A version's part in what answers its bare name.

    `answers`: its share of the answers, `shadows`: of the requests it reads besides, both 0 to 1.
    `rollout` and `stage`: what is counted, while a rollout runs or is watched.
    """

    answers: float
    shadows: float
    rollout: str | UnsetType = UNSET
    stage: int | UnsetType = UNSET


class ModelCard(msgspec.Struct, kw_only=True):
    """A model, or a version of one. `id` is what requests call it.

    Beyond OpenAI's fields: `state` is `ready`, or how far it is otherwise, and `reason` why it
    failed. `aliases` lead to it as `name@alias`. `max_tokens`: the longest text it reads at once.
    `dimensions`: of its vectors. `labels`: of its head. `tokenizer`: the fingerprint of what makes
    its tokens. `runtime`: what computes it. `golden_inputs`: how many answers it was seen to give
    as it promised before it was served; null where it promises none. `signed`: whether a trusted
    key signed its files. `calibration`: where it has any. `route`: for callers with the role
    `operate`, where the server follows a registry.
    """

    id: str
    object: str = "model"
    created: int = 0
    owned_by: str = "xlmr"
    name: str
    version: str
    digest: str
    state: str
    stage: str | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    aliases: list[str]
    tasks: list[str]
    max_tokens: int | UnsetType = UNSET
    dimensions: int | UnsetType = UNSET
    labels: list[str] | UnsetType = UNSET
    prompts: list[str] | UnsetType = UNSET
    tokenizer: str | UnsetType = UNSET
    runtime: str | UnsetType = UNSET
    golden_inputs: int | UnsetType | None = UNSET
    signed: bool | UnsetType = UNSET
    calibration: CalibrationFacts | UnsetType = UNSET
    route: RouteFacts | UnsetType = UNSET


class ModelList(msgspec.Struct, kw_only=True):
    """All models that are loaded, being loaded, or that failed lately."""

    object: str = "list"
    data: list[ModelCard]


_encoder = msgspec.json.Encoder()


def show_models(plane: Dataplane, call: Call) -> Reply:
    """All models."""
    operates = "operate" in call.caller.roles
    cards = [card_of(plane, state, operates=operates) for state in plane.pool.states()]
    return Reply(_encoder.encode(ModelList(data=cards)))


def show_model(plane: Dataplane, call: Call) -> Reply:
    """One of them, by name, `name@version` or `name@alias`.

    Raises:
        ModelNotFoundError: none of that name.
    """
    state = plane.pool.state_of(call.path_params["model"])
    operates = "operate" in call.caller.roles
    return Reply(_encoder.encode(card_of(plane, state, operates=operates)))


def card_of(plane: Dataplane, state: ModelState, *, operates: bool = True) -> ModelCard:
    """A version as it is shown to callers who operate, or to others."""
    live = plane.pool.models.get(state.name)
    is_live = live is not None and live.ref.version == state.version
    card = ModelCard(
        id=state.name if is_live else f"{state.name}@{state.version}".removesuffix("@"),
        name=state.name,
        version=state.version,
        digest=state.digest,
        state=state.state,
        stage=state.stage or UNSET,
        reason=state.reason or UNSET,
        aliases=list(state.aliases),
        tasks=sorted(state.tasks),
        runtime=state.runtime or UNSET,
        golden_inputs=state.golden_inputs if state.digest else UNSET,
        signed=state.signed if state.digest else UNSET,
        route=_route(plane, state) if operates else UNSET,
    )
    # Between the two looks it may have been unloaded.
    with contextlib.suppress(ModelNotFoundError, UnavailableError):
        _describe(card, plane.pool.route(f"{state.name}@{state.version}", None))
    return card


def _route(plane: Dataplane, state: ModelState) -> RouteFacts | UnsetType:
    page = plane.routes.get(state.name, "")
    if page is None:
        return UNSET
    share, counting = share_of(page.route, state.version), page.counting
    return RouteFacts(
        answers=share.answers,
        shadows=share.shadows,
        rollout=UNSET if counting is None else counting.salt,
        stage=UNSET if counting is None else counting.epoch,
    )


def _describe(card: ModelCard, served: Served) -> None:
    """What only a loaded model's files tell."""
    bundle = served.predictor.bundle
    card.max_tokens = bundle.max_tokens
    card.dimensions = bundle.config.hidden
    card.labels = list(bundle.labels)
    card.prompts = sorted(bundle.prompts)
    card.tokenizer = bundle.tokenizer.fingerprint
    calibration = bundle.calibration
    if calibration is None:
        return
    languages = set(calibration.abstention) - {"*"}
    if calibration.temperatures is not None:
        languages |= calibration.temperatures.by_language.keys()
    if calibration.thresholds is not None:
        languages |= calibration.thresholds.by_language.keys()
    rule = next(iter(calibration.abstention.values()), None)
    card.calibration = CalibrationFacts(
        temperature=calibration.temperatures is not None,
        languages=sorted(languages),
        thresholds=None if calibration.thresholds is None else calibration.thresholds.target.kind,
        abstention=None
        if rule is None
        else AbstentionFacts(risk=rule.risk, confidence=rule.confidence),
    )


_CARD = {
    "id": "router",
    "object": "model",
    "created": 0,
    "owned_by": "xlmr",
    "name": "router",
    "version": "3",
    "digest": "9f86d081…",
    "state": "ready",
    "aliases": ["live"],
    "tasks": ["classify", "embed"],
    "max_tokens": 512,
    "dimensions": 384,
    "labels": ["refund", "delivery"],
    "prompts": ["passage", "query"],
    "tokenizer": "2c26b46b…",
    "runtime": "native int8 avx512vnni 4 threads",
    "golden_inputs": 17,
    "signed": True,
    "calibration": {
        "temperature": True,
        "languages": ["ar", "ja"],
        "thresholds": None,
        "abstention": {"risk": 0.05, "confidence": 0.95},
    },
    "route": {"answers": 0.95, "shadows": 0.0, "rollout": "5f2c9d1e", "stage": 2},
}
MODELS = Page(
    path="/v1/models",
    method="GET",
    summary="List the models",
    problem=openai_problem,
    response=ModelList,
    reply={"object": "list", "data": [_CARD]},
    show=show_models,
)
MODEL = Page(
    path="/v1/models/{model}",
    method="GET",
    summary="Show one model",
    problem=openai_problem,
    response=ModelCard,
    reply=_CARD,
    show=show_model,
)
