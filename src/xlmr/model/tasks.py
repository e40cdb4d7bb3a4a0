"""What a bundle can be asked: each task with its options and its way to prepare items."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from xlmr.errors import InputError
from xlmr.model.answers import prepare_classify, prepare_embed, prepare_rerank
from xlmr.model.bundle import Bundle, head_file
from xlmr.model.entailment import prepare_zero_shot
from xlmr.model.heads.answer import AnswerHead
from xlmr.model.heads.classify import ClassifyHead, FirstTokenHead, LinearHead
from xlmr.model.heads.fill import FillHead
from xlmr.model.heads.tag import TagHead
from xlmr.model.prepared import (
    AnswerOptions,
    ClassifyOptions,
    EmbedOptions,
    FillOptions,
    Prepared,
    RerankOptions,
    TagOptions,
    ZeroShotOptions,
)
from xlmr.model.token_answers import prepare_answer, prepare_fill, prepare_tag
from xlmr.model.weights import SafetensorsFile, Weights


@dataclass(frozen=True, slots=True)
class Task:
    """One thing a model can be asked.

    Attributes:
        options: the dataclass its options come in.
        prepare: (items, options) → `Prepared`.
    """

    options: type[Any]
    prepare: Callable[[Any, Any], Prepared[Any]]

    def checked(self, options: Any) -> Any:
        """The options, or the defaults for None.

        Raises:
            InputError: options of another task, or none where there are no defaults.
        """
        if options is None:
            try:
                return self.options()
            except TypeError as fault:
                raise InputError(f"{self.options.__name__} are needed: {fault}") from None
        if not isinstance(options, self.options):
            raise InputError(f"expected {self.options.__name__}, got {type(options).__name__}")
        return options


def open_tasks(bundle: Bundle) -> Mapping[str, Task]:
    """The tasks of a bundle by name, with their heads read.

    Raises:
        WeightsError: a head that `config.json` promises is missing.
        ModelRefusedError: a head that does not fit its labels.
    """
    weights, tokenizer = bundle.weights(), bundle.tokenizer
    tasks: dict[str, Task] = {}
    if "embed" in bundle.tasks:
        tasks["embed"] = Task(EmbedOptions, partial(prepare_embed, bundle))
    if "classify" in bundle.tasks:
        head = _classify_head(bundle, weights)
        if bundle.calibration is not None:
            bundle.calibration.check_labels(head.labels)
        tasks["classify"] = Task(ClassifyOptions, partial(prepare_classify, bundle, head))
    if "rerank" in bundle.tasks:
        first = FirstTokenHead.open(weights, bundle.raw_config)
        tasks["rerank"] = Task(RerankOptions, partial(prepare_rerank, tokenizer, first))
    if "zero_shot" in bundle.tasks:
        first = FirstTokenHead.open(weights, bundle.raw_config)
        tasks["zero_shot"] = Task(ZeroShotOptions, partial(prepare_zero_shot, tokenizer, first))
    if "tag" in bundle.tasks:
        tag_head = TagHead.open(weights, bundle.raw_config)
        tasks["tag"] = Task(TagOptions, partial(prepare_tag, tokenizer, tag_head))
    if "answer" in bundle.tasks:
        answer_head = AnswerHead.open(weights)
        tasks["answer"] = Task(AnswerOptions, partial(prepare_answer, tokenizer, answer_head))
    if "fill" in bundle.tasks:
        fill_head = FillHead.open(weights, bundle.config)
        tasks["fill"] = Task(FillOptions, partial(prepare_fill, tokenizer, fill_head))
    return tasks


def _classify_head(bundle: Bundle, weights: Weights) -> ClassifyHead:
    """The head that `xlmr.json` describes, or the checkpoint's own."""
    if bundle.head is None:
        return FirstTokenHead.open(weights, bundle.raw_config)
    file = SafetensorsFile(head_file(bundle.directory, bundle.head))
    return LinearHead.open(bundle.head, file, width=bundle.config.hidden)
