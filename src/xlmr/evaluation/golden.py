"""Golden inputs: synthetic texts with the answers a model promised, and whether it keeps them.

Written when a model is, in full precision; checked wherever it is about to be trusted: by the gate,
by a server. Each precision has its own tolerance for each input, measured when it was written. The
inputs are ours: no user's text and no row of any data set is among them.

An answer is held as numbers with names: a label's probability, a span's score, a vector's first
dimensions. How far two answers lie apart is the greatest difference of a number, one that is
missing counting as 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from xlmr.errors import ModelRefusedError
from xlmr.model.jsonfiles import read_optional_object

if TYPE_CHECKING:
    from xlmr.model.predictor import Predictor

GOLDEN_FILE = "golden.json"
_FORMAT = 1
_DIMENSIONS = 16
# Where sums of float32 are made in another order, on another processor; and what is added to twice
# the measured difference of a coarser format. Of values beyond 1, a share of them.
_FLOORS = {"fp32": 2e-3, "bf16": 2e-2, "int8": 2e-2}
_DECIMALS = 6

# Many scripts, lengths and oddities; a name for each, so that what moved can be told.
_QUESTION = "Where is it?"  # short: beside it, the smallest model still reads some context
_PARCEL = "I ordered a lamp two weeks ago. Where is it now, and can I still cancel?"
INPUTS: Mapping[str, str] = {
    "english": _PARCEL,
    "german": "Die Ärztin aus Köln wohnt seit März in der Nähe von Zürich.",
    "spanish": "¿Me pueden devolver el dinero? El paquete llegó roto.",
    "russian": "Анна Иванова переехала в Москву и работает в банке.",
    "arabic": "وصلت الرسالة متأخرة جدا، ولا أستطيع فتح الحساب.",
    "hebrew": "המשלוח עדיין לא הגיע לירושלים.",
    "hindi": "मुझे अपना पासवर्ड बदलना है, कृपया मदद करें।",
    "chinese": "昨天在北京买的手机今天就坏了，怎么退货？",
    "japanese": "東京駅まで何分かかりますか。とても楽しみです。",
    "thai": "ร้านนี้บริการดีมาก แต่อาหารมาช้า",
    "swahili": "Ninapenda sana muziki wa zamani kutoka Dar es Salaam.",
    "mixed scripts": "Привет from 東京, das ist ein тест ١٢٣.",
    "emoji": "😀👍🏽❤️‍🔥 !!!",
    "numbers": "+49 30 123456, 12:45, 3.14 €",
    "blank": " \t\n\u00a0",
    "empty": "",
    "long": " ".join([_PARCEL] * 35),
}

Numbers = Mapping[str, float]
# Each task's inputs as its verb takes them, and an answer as numbers.
_Ask = Callable[["Predictor", Sequence[str]], list[Numbers]]


@dataclass(frozen=True, slots=True)
class Promise:
    """What a model answered to one input.

    Attributes:
        name: of the input; unique.
        text: the input.
        answer: numbers by name.
        tolerance: by precision, how far an answer may lie from this one.
    """

    name: str
    text: str
    answer: Mapping[str, float]
    tolerance: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Golden:
    """Promises about one task.

    Attributes:
        tokenizer: fingerprint of the tokenizer they were made with; empty where none was noted.
    """

    task: str
    promises: tuple[Promise, ...]
    tokenizer: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for `json.dumps`."""
        return {"format": _FORMAT} | asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Golden:
        """The reverse.

        Raises:
            ModelRefusedError: something else; says where.
        """
        if value.get("format") != _FORMAT:
            raise ModelRefusedError(
                f"expected {_FORMAT}, got {value.get('format')!r}",
                field=f"{GOLDEN_FILE} format",
                hint="a newer xlmr wrote this model; upgrade",
            )
        try:
            read = msgspec.convert(value, cls)
        except msgspec.ValidationError as fault:
            raise ModelRefusedError(str(fault), field=GOLDEN_FILE) from None
        if read.task not in _ASK or not read.promises:
            raise ModelRefusedError("no promises, or of no known task", field=GOLDEN_FILE)
        return read


@dataclass(frozen=True, slots=True)
class Moved:
    """An input whose answer is not the promised one: how far it lies off, and how far it may."""

    name: str
    distance: float
    tolerance: float


@dataclass(frozen=True, slots=True)
class GoldenResult:
    """What a check found.

    Attributes:
        precision: whose tolerances held.
        inputs: how many were tried.
        moved: the farthest first; empty where every promise was kept.
    """

    precision: str
    inputs: int
    moved: tuple[Moved, ...]

    @property
    def unchanged(self) -> bool:
        """Whether every promise was kept."""
        return not self.moved


def read_golden(directory: Path) -> Golden | None:
    """The promises of a model directory; None where it makes none.

    Raises:
        ModelRefusedError: the file is not what it should be.
    """
    value = read_optional_object(directory / GOLDEN_FILE)
    return None if value is None else Golden.from_json(value)


def golden_task(tasks: frozenset[str]) -> str:
    """What a model is mainly for: a head says more than the encoder under it."""
    return next(task for task in _ASK if task in tasks)


def make_golden(full: Predictor, others: Mapping[str, Predictor]) -> Golden:
    """What a model promises.

    Args:
        full: the model in fp32.
        others: the same in other formats, by precision; each gets twice the difference measured
            here, and a little.
    """
    task = golden_task(full.tasks)
    texts = list(INPUTS.values())
    promised = [_rounded(numbers) for numbers in _ASK[task](full, texts)]
    found = {precision: _ASK[task](other, texts) for precision, other in others.items()}
    promises = []
    for i, (name, text) in enumerate(INPUTS.items()):
        size = max([1.0, *map(abs, promised[i].values())])
        tolerance = {"fp32": _FLOORS["fp32"] * size}
        for precision, answers in found.items():
            off = distance(answers[i], promised[i])
            tolerance[precision] = 2.0 * off + _FLOORS[precision] * size
        promises.append(Promise(name, text, promised[i], _rounded(tolerance)))
    return Golden(task, tuple(promises), full.bundle.tokenizer.fingerprint)


def check_golden(predictor: Predictor, golden: Golden, *, precision: str) -> GoldenResult:
    """Asks a model again.

    Args:
        predictor: the model.
        golden: what it promised.
        precision: that it computes in; one without a tolerance of its own is held to that of int8.

    Raises:
        TaskError: the model has no head for the promised task any more.
    """
    answers = _ASK[golden.task](predictor, [promise.text for promise in golden.promises])
    moved = []
    for promise, answer in zip(golden.promises, answers, strict=True):
        allowed = promise.tolerance.get(precision, promise.tolerance.get("int8", 0.0))
        off = distance(answer, promise.answer)
        if not off <= allowed:
            moved.append(Moved(promise.name, off, allowed))
    moved.sort(key=lambda one: one.distance, reverse=True)
    return GoldenResult(precision, len(answers), tuple(moved))


def distance(answer: Numbers, promised: Numbers) -> float:
    """The greatest difference of a number, 0 standing for one that is missing; inf for NaN."""
    names = answer.keys() | promised.keys()
    found = [abs(answer.get(name, 0.0) - promised.get(name, 0.0)) for name in names]
    return max((math.inf if math.isnan(value) else value for value in found), default=0.0)


def _rounded(numbers: Numbers) -> dict[str, float]:
    return {name: round(value, _DECIMALS) for name, value in numbers.items()}


def _classify(predictor: Predictor, texts: Sequence[str]) -> list[Numbers]:
    answers = predictor.classify(texts)
    return [{label.label: label.score for label in answer.labels} for answer in answers]


def _tag(predictor: Predictor, texts: Sequence[str]) -> list[Numbers]:
    return [
        {f"{e.label} {e.start}-{e.end}": e.score for e in answer.entities}
        for answer in predictor.tag(texts)
    ]


def _answer(predictor: Predictor, texts: Sequence[str]) -> list[Numbers]:
    answers = predictor.answer([(_QUESTION, text) for text in texts])
    return [{f"{a.start}-{a.end}": a.score, "none": a.no_answer_score} for a in answers]


def _rerank(predictor: Predictor, texts: Sequence[str]) -> list[Numbers]:
    ranked = predictor.rerank(texts[0], texts)
    scores = {one.index: one.score for one in ranked}
    return [{"relevance": scores[i]} for i in range(len(texts))]


def _fill(predictor: Predictor, texts: Sequence[str]) -> list[Numbers]:
    answers = predictor.fill([f"<mask> {text}" for text in texts])
    return [{found.label: found.score for found in answer.masks[0]} for answer in answers]


def _embed(predictor: Predictor, texts: Sequence[str]) -> list[Numbers]:
    answers = predictor.embed(texts)
    return [
        {str(i): float(value) for i, value in enumerate(answer.vector[:_DIMENSIONS])}
        for answer in answers
    ]


_ASK: Mapping[str, _Ask] = {
    "classify": _classify,
    "tag": _tag,
    "answer": _answer,
    "rerank": _rerank,
    "fill": _fill,
    "embed": _embed,
}
