"""What a version must show before it answers anybody.

Its files are what they were (digest; before that, `xlmr.serving.trust` held them against manifest
and signature), its tokenizer is the one its promises were made with, it gives the answers it
promised (golden inputs), and every task it has takes a text one token longer than the model reads.
Where several workers compute, each of them is tried.
A model that promises nothing is served; its proof says so.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from xlmr.drift.reference import REFERENCE_FILE, Reference, read_reference
from xlmr.errors import (
    DataError,
    DigestMismatchError,
    EngineError,
    InputError,
    ModelRefusedError,
    ProofError,
)
from xlmr.evaluation.golden import Golden, check_golden, read_golden
from xlmr.model.predictor import Predictor
from xlmr.model.prepared import (
    AnswerOptions,
    ClassifyOptions,
    EmbedOptions,
    FillOptions,
    Options,
    RerankOptions,
    TagOptions,
    ZeroShotOptions,
)
from xlmr.serving.engines import InTurns
from xlmr.serving.versions import Served
from xlmr.types import ModelRef

if TYPE_CHECKING:
    from xlmr.model.bundle import Bundle
    from xlmr.serving.engines import Engine
    from xlmr.serving.trust import Checked
    from xlmr.serving.versions import Entry

# One token in every vocabulary, known or not.
_WORD = "a"
_NAMED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What was shown.

    Attributes:
        digest: of the files as they lie on the disk now.
        tokenizer: the tokenizer's fingerprint.
        golden_inputs: how many promised answers it gave again; None where it promises none.
        tasks: that took a text longer than the model reads.
        signed: whether a trusted key signed its files.
    """

    digest: str
    tokenizer: str
    golden_inputs: int | None
    tasks: tuple[str, ...]
    signed: bool = False


def proven(
    entry: Entry, bundle: Bundle, engine: Engine, *, precision: str, checked: Checked
) -> Served:
    """An entry's model, once it has shown what it must.

    Raises:
        ModelRefusedError: what its traffic shall be held against cannot be read.
        ModelError: see `prove`.
    """
    # Others may be served by the same engine: they get their turns meanwhile.
    predictor, *others = [Predictor(bundle, InTurns(one.runtime)) for one in engine.runtimes]
    promised = entry.order.digest or checked.answers
    proof = prove(predictor, precision=precision, promised_digest=promised)
    for other in others:
        prove_again(other, precision=precision)
    proof = dataclasses.replace(proof, signed=checked.signed)
    predictor.runtime = engine.runtimes[0]
    ref = ModelRef(entry.order.name, proof.digest, entry.version)
    reference = _reference(bundle)
    return Served(ref, predictor.tasks, predictor, engine.batcher, engine, entry, proof, reference)


def _reference(bundle: Bundle) -> Reference | None:
    try:
        return read_reference(bundle.directory)
    except DataError as fault:
        message = fault.message.removeprefix(f"{REFERENCE_FILE}: ")
        raise ModelRefusedError(message, field=REFERENCE_FILE, hint=fault.hint) from fault


def prove(predictor: Predictor, *, precision: str, promised_digest: str = "") -> Proof:
    """Tries a model.

    Args:
        predictor: the model, with the runtime that will answer.
        precision: in which it computes.
        promised_digest: what its digest must be; empty where nothing was promised.

    Raises:
        DigestMismatchError: its files are not what was promised, or not what they were.
        ModelRefusedError: its promises cannot be read.
        ProofError: it does not keep them; names the check.
    """
    bundle = predictor.bundle
    golden = read_golden(bundle.directory)
    return Proof(
        digest=_check_digest(bundle, promised_digest),
        tokenizer=_check_tokenizer(bundle, golden),
        golden_inputs=_check_golden(predictor, golden, precision),
        tasks=tuple(_check_long_texts(predictor)),
    )


def prove_again(predictor: Predictor, *, precision: str) -> None:
    """Tries a proven model on another of its runtimes: each worker answers for itself.

    Raises:
        ProofError: it does not keep its promises there.
    """
    _check_golden(predictor, read_golden(predictor.bundle.directory), precision)
    list(_check_long_texts(predictor))


def _check_digest(bundle: Bundle, promised: str) -> str:
    """Reads every file again: what is remembered goes by size and time of writing."""
    found = dataclasses.replace(bundle, cache_dir=None).digest
    if promised and found != promised:
        raise DigestMismatchError(f"{bundle.directory}: SHA-256 {found}, promised was {promised}")
    if found != bundle.digest:
        raise DigestMismatchError(
            f"{bundle.directory}: its files changed while their size and time did not",
            hint="copy the model again, or delete digests.json in XLMR_CACHE_DIR if it is right",
        )
    return found


def _check_tokenizer(bundle: Bundle, golden: Golden | None) -> str:
    found = bundle.tokenizer.fingerprint
    if golden is not None and golden.tokenizer and golden.tokenizer != found:
        raise ProofError(
            "tokenizer: it is not the one that the golden inputs were answered with",
            hint="copy tokenizer.json from where the model was trained",
        )
    return found


def _check_golden(predictor: Predictor, golden: Golden | None, precision: str) -> int | None:
    if golden is None:
        return None
    result = check_golden(predictor, golden, precision=precision)
    if not result.unchanged:
        moved = ", ".join(
            f"{one.name} by {one.distance:.3g} (allowed {one.tolerance:.3g})"
            for one in result.moved[:_NAMED]
        )
        raise ProofError(
            f"golden inputs: {len(result.moved)} of {result.inputs} answers moved: {moved}",
            hint="`xlmr gate` shows all of them",
        )
    return result.inputs


def _check_long_texts(predictor: Predictor) -> Iterator[str]:
    """Each task that answered, in finite numbers, for a text one token too long."""
    text = _longer_than(predictor)
    for task in sorted(predictor.tasks):
        check = f"a text of {predictor.max_tokens + 1} tokens: {task}"
        item, options = _ASK[task](text)
        try:
            prepared = predictor.prepare(task, [item], options)
            answers = prepared.finish(predictor.compute(prepared))
        except (EngineError, InputError) as fault:
            raise ProofError(f"{check}: {fault}") from fault
        if len(answers) != 1 or not all(map(math.isfinite, _numbers(answers[0]))):
            raise ProofError(f"{check}: not an answer in finite numbers")
        if not answers[0].accounting.truncated:
            raise ProofError(f"{check}: it was cut, and the answer does not say so")
        yield task


def _longer_than(predictor: Predictor) -> str:
    """The shortest row of words that the model cannot read whole."""
    limit, tokenizer = predictor.max_tokens, predictor.bundle.tokenizer
    words = max(1, limit - 1)
    while tokenizer.count(" ".join([_WORD] * words)) <= limit:
        words += 1
    return " ".join([_WORD] * words)


def _numbers(answer: Any) -> Iterator[float]:
    """Every float of an answer."""
    if isinstance(answer, float):
        yield answer
    elif isinstance(answer, np.ndarray):
        yield from answer.ravel().tolist()
    elif isinstance(answer, tuple | list):
        for one in answer:
            yield from _numbers(one)
    elif dataclasses.is_dataclass(answer):
        for field in dataclasses.fields(answer):
            yield from _numbers(getattr(answer, field.name))


# What each task is asked about the long text.
_ASK: Mapping[str, Callable[[str], tuple[Any, Options]]] = {
    "classify": lambda text: (text, ClassifyOptions()),
    "tag": lambda text: (text, TagOptions()),
    "answer": lambda text: ((_WORD, text), AnswerOptions(long="truncate")),
    "embed": lambda text: (text, EmbedOptions()),
    "rerank": lambda text: (text, RerankOptions(query=_WORD)),
    "zero_shot": lambda text: (text, ZeroShotOptions(labels=(_WORD,))),
    "fill": lambda text: (f"<mask> {text}", FillOptions()),
}
