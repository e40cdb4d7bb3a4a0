"""Zero-shot classification: every text is read once with each label's hypothesis.

Only the text is cut or windowed, never a hypothesis: half of one says nothing.

Shapes: W windows of a text, N candidate labels, X pairs (W times N), C outputs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from xlmr.errors import InputError, TaskError
from xlmr.model.heads.classify import FirstTokenHead, document_scores, entropy, ranked_labels
from xlmr.model.heads.zero_shot import fill_template, find_outcomes, label_scores
from xlmr.model.prepared import Prepared, ZeroShotOptions
from xlmr.model.reading import (
    Reading,
    all_encodings,
    check_long,
    check_texts,
    each,
    shorten_reading,
)
from xlmr.text.tokenizer import Tokenizer
from xlmr.types import Classification, Encoding

Array = NDArray[np.float32]

# A text keeps at least a quarter of what the model reads, or the label is refused.
_LEAST_SHARE = 4


def prepare_zero_shot(
    tokenizer: Tokenizer,
    head: FirstTokenHead,
    texts: Sequence[str],
    options: ZeroShotOptions,
) -> Prepared[Classification]:
    """Texts to labels nobody trained, by a head for natural language inference.

    Raises:
        TaskError: the head has other labels.
        InputError: an item or option that cannot be used; names its place.
    """
    outcomes = find_outcomes(head.labels)
    if outcomes is None:
        raise TaskError(
            "the labels are not those of natural language inference",
            hint="zero-shot needs a model with the labels entailment and contradiction",
        )
    try:
        hypotheses = tokenizer.encode_many_whole(_hypotheses(options))
    except InputError as error:
        # Not the text of that number: the label.
        raise InputError(
            error.message, path=error.path.replace("$[", "$.labels[", 1), hint=error.hint
        ) from None
    premises = _premises(tokenizer, hypotheses, check_texts(texts), options)
    readings = [
        replace(
            premise,
            encodings=tuple(
                _pair(window, hypothesis, tokenizer.eos_id)
                for window in premise.encodings
                for hypothesis in hypotheses
            ),
        )
        for premise in premises
    ]

    def finish(vectors: Iterable[Array]) -> list[Classification]:
        answers = []
        for premise, (reading, hidden) in zip(premises, each(readings, vectors), strict=True):
            logits_XC = np.stack([head.logits(hidden_LD) for hidden_LD in hidden])
            logits_WNC = logits_XC.reshape(len(premise.encodings), len(hypotheses), -1)
            windows = [
                label_scores(logits_NC, outcomes, multi_label=options.multi_label)
                for logits_NC in logits_WNC
            ]
            scores_N = document_scores(windows, premise.tokens)
            labels = ranked_labels(scores_N, list(options.labels))
            accounting = replace(premise.accounting, tokens=sum(reading.tokens))
            unsure = entropy(scores_N, exclusive=not options.multi_label)
            answers.append(Classification(labels=labels, accounting=accounting, entropy=unsure))
        return answers

    return Prepared(encodings=all_encodings(readings), rows="first", finish=finish)


def _hypotheses(options: ZeroShotOptions) -> list[str]:
    """One for each candidate label.

    Raises:
        InputError: no labels, one that is no text, or a template without a place for it.
    """
    if isinstance(options.labels, str) or not options.labels:
        raise InputError("expected at least one label in a list", path="$.labels")
    for i, label in enumerate(options.labels):
        if not isinstance(label, str):
            raise InputError(f"expected str, got {type(label).__name__}", path=f"$.labels[{i}]")
    if not isinstance(options.template, str) or "{}" not in options.template:
        raise InputError("expected a text with {} in it", path="$.template")
    return [fill_template(options.template, label) for label in options.labels]


def _premises(
    tokenizer: Tokenizer,
    hypotheses: Sequence[Encoding],
    texts: Sequence[str],
    options: ZeroShotOptions,
) -> list[Reading]:
    """The texts, cut so that each fits together with the longest hypothesis.

    Raises:
        InputError: a hypothesis that leaves the text too little room.
    """
    check_long(options.long)
    longest = max(range(len(hypotheses)), key=lambda i: len(hypotheses[i].ids))
    room = tokenizer.max_tokens - len(hypotheses[longest].ids)
    if room < tokenizer.max_tokens // _LEAST_SHARE:
        raise InputError("too long to leave a text room", path=f"$.labels[{longest}]")
    return [
        shorten_reading(whole, room, long=options.long, path=f"$[{i}]")
        for i, whole in enumerate(tokenizer.encode_many_whole(texts))
    ]


def _pair(premise: Encoding, hypothesis: Encoding, eos_id: int) -> Encoding:
    """`<s> premise </s></s> hypothesis </s>` of two texts that were encoded alone."""
    behind = len(hypothesis.ids) - 2
    return Encoding(
        ids=(*premise.ids, eos_id, *hypothesis.ids[1:]),
        offsets=(*premise.offsets, (0, 0), *hypothesis.offsets[1:]),
        segments=(*premise.segments, -1, *[1] * behind, -1),
        total_tokens=premise.total_tokens + hypothesis.total_tokens,
        unknown=premise.unknown + hypothesis.unknown,
    )
