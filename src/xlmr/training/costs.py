"""What a step of compression saves and what it costs: size, speed, and answers by language.

Everything is measured on the native engine, which is what will serve the model; all steps take
turns on the same texts, so that a busy machine is busy for each of them.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from xlmr.evaluation.metrics.regression import spearman
from xlmr.model.predictor import Predictor, load
from xlmr.model.prepared import batches
from xlmr.model.runtime import Runtime, pack
from xlmr.model.weights import weight_files
from xlmr.settings import Settings
from xlmr.training.texts import Item
from xlmr.training.trial import Trial
from xlmr.types import Encoding

_TIMED_TOKENS = 4000


@dataclass(frozen=True, slots=True)
class Subject:
    """A model after a step, in one precision of the engine."""

    step: str
    directory: Path
    precision: str


@dataclass(frozen=True, slots=True)
class Cost:
    """A subject, measured.

    Attributes:
        step: of the subject.
        precision: likewise.
        layers: of the encoder.
        pieces: rows of its word embedding.
        stored_bytes: of `model.safetensors`.
        prepared_bytes: of the file that the engine maps.
        tokens_per_second: median of the rounds.
        agreement: by language, how much its answers are those of the first subject, at most 1;
            what `agreement_metric` says.
        agreement_metric: `cosine` of sentence vectors, `rank correlation` of numbers, else
            `same answers`.
        metric: what labelled rows are scored by, as `xlmr evaluate` calls it; empty without such
            rows.
        scores: by language.
    """

    step: str
    precision: str
    layers: int
    pieces: int
    stored_bytes: int
    prepared_bytes: int
    tokens_per_second: float
    agreement: Mapping[str, float]
    agreement_metric: str
    metric: str = ""
    scores: Mapping[str, float] | None = None


def measure(
    subjects: Sequence[Subject],
    items: Sequence[Item],
    trial: Trial | None,
    *,
    scratch: Path,
    settings: Settings,
    rounds: int = 5,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Cost]:
    """Measures subjects side by side; the first is what the others are held against.

    Args:
        subjects: at least one.
        items: texts, or pairs where the models read pairs; not learned from.
        trial: labelled rows to be scored on, if any.
        scratch: an empty directory, for the engine's prepared weights; models stay as they are.
        settings: threads and instruction set of the engine.
        rounds: how often each is timed.
        clock: seconds.
    """
    with ExitStack() as stack:
        opened = [stack.enter_context(_opened(s, scratch, settings)) for s in subjects]
        speeds = _speeds(opened, items, rounds, clock)
        comparable = _comparable(opened[0], items)
        asked = [_answers(predictor, comparable) for predictor in opened]
        found = []
        for subject, predictor, speed, (kind, answers) in zip(
            subjects, opened, speeds, asked, strict=True
        ):
            cost = Cost(
                step=subject.step,
                precision=subject.precision,
                layers=predictor.bundle.config.layers,
                pieces=predictor.bundle.config.vocabulary,
                stored_bytes=sum(p.stat().st_size for p in weight_files(subject.directory)),
                prepared_bytes=sum(
                    p.stat().st_size for p in _place(subject, scratch).glob("*.weights")
                ),
                tokens_per_second=speed,
                agreement=_agreement(kind, asked[0][1], answers, comparable),
                agreement_metric=kind,
            )
            if trial is not None:
                metric, scores = trial.score(predictor)
                cost = replace(cost, metric=metric, scores=scores)
            found.append(cost)
    return found


@contextmanager
def _opened(subject: Subject, scratch: Path, settings: Settings) -> Iterator[Predictor]:
    """The subject's files linked into a directory of its own, where weights are prepared."""
    place = _place(subject, scratch)
    place.mkdir(parents=True)
    for path in subject.directory.iterdir():
        if path.suffix != ".weights" and not path.name.startswith("."):
            (place / path.name).symlink_to(path.resolve())
    with load(place, runtime="native", precision=subject.precision, settings=settings) as predictor:
        yield predictor


def _place(subject: Subject, scratch: Path) -> Path:
    return scratch / f"{subject.step}-{subject.precision}".replace(" ", "-")


def _speeds(
    opened: Sequence[Predictor], items: Sequence[Item], rounds: int, clock: Callable[[], float]
) -> list[float]:
    """Tokens a second of each encoder."""
    work = [_work(predictor, items) for predictor in opened]
    for predictor in opened:
        predictor.runtime.warm()
    taken: list[list[float]] = [[] for _ in opened]
    for _ in range(rounds):
        for seconds, predictor, encodings in zip(taken, opened, work, strict=True):
            started = clock()
            _compute(predictor.runtime, encodings)
            seconds.append(clock() - started)
    tokens = [sum(len(encoding.ids) for encoding in encodings) for encodings in work]
    return [n / statistics.median(seconds) for n, seconds in zip(tokens, taken, strict=True)]


def _work(predictor: Predictor, items: Sequence[Item]) -> list[Encoding]:
    """The first items, up to a number of tokens."""
    taken: list[Encoding] = []
    tokens = 0
    for encoding in predictor.bundle.tokenizer.encode_many([as_read(item) for item in items]):
        if taken and tokens + len(encoding.ids) > _TIMED_TOKENS:
            break
        taken.append(encoding)
        tokens += len(encoding.ids)
    return taken


def _compute(runtime: Runtime, encodings: Sequence[Encoding]) -> None:
    for batch in batches(encodings, runtime.max_batch_tokens):
        runtime.run(pack(batch))


def as_read(item: Item) -> str | tuple[str, str]:
    """An item as tokenizers and predictors take it."""
    return (item.texts[0], item.texts[1]) if len(item.texts) == 2 else item.texts[0]


def _comparable(predictor: Predictor, items: Sequence[Item]) -> list[Item]:
    """What the model can be asked about."""
    if "answer" in predictor.tasks:
        return [item for item in items if len(item.texts) == 2]
    return list(items)


def _answers(predictor: Predictor, items: Sequence[Item]) -> tuple[str, list[Any]]:
    """What a model says of items, and how that is compared."""
    asked: list[Any] = [as_read(item) for item in items]
    tasks = predictor.tasks
    if not asked:
        return "", []
    if "classify" in tasks:
        said = predictor.classify(asked)
        if len(said[0].labels) == 1:
            return "rank correlation", [answer.score for answer in said]
        return "same answers", [answer.label for answer in said]
    if "tag" in tasks:
        taggings = predictor.tag(asked)
        return "same answers", [
            tuple((e.label, e.start, e.end) for e in tagging.entities) for tagging in taggings
        ]
    if "answer" in tasks:
        return "same answers", [(a.start, a.end) for a in predictor.answer(asked)]
    if "fill" in tasks:
        fillings = predictor.fill([_masked(text) for text in asked], top=1)
        return "same answers", [filling.masks[0][0].label for filling in fillings]
    return "cosine", [embedding.vector for embedding in predictor.embed(asked)]


def _masked(text: str) -> str:
    """A text whose middle word is to be guessed; a single word is read before a mask."""
    words = text.split()
    if len(words) == 1:
        return f"{words[0]} <mask>"
    return " ".join([*words[: len(words) // 2], "<mask>", *words[len(words) // 2 + 1 :]])


def _agreement(
    kind: str, first: Sequence[Any], second: Sequence[Any], items: Sequence[Item]
) -> dict[str, float]:
    places: dict[str, list[int]] = {}
    for i, item in enumerate(items):
        places.setdefault(item.language, []).append(i)
    return {
        language: _alike(kind, [first[i] for i in here], [second[i] for i in here])
        for language, here in sorted(places.items())
    }


def _alike(kind: str, first: Sequence[Any], second: Sequence[Any]) -> float:
    if kind == "rank correlation":
        if len(set(first)) < 2 or len(set(second)) < 2:
            return float(np.allclose(first, second, atol=0.05))  # there is nothing to rank
        return spearman(np.array(first, np.float64), np.array(second, np.float64))
    pairs = zip(first, second, strict=True)
    if kind == "cosine":
        cosines = [
            a @ b / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-12) for a, b in pairs
        ]
        return float(np.mean(cosines))
    return float(np.mean([a == b for a, b in pairs]))
