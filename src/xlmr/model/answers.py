"""Tasks that answer for a text as a whole: classify, embed, rerank.

Each function checks its items, encodes them, and says how their vectors become answers.

Shapes: L tokens of one text or window, D hidden width.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from xlmr.errors import InputError
from xlmr.model.bundle import Bundle
from xlmr.model.heads.classify import (
    ClassifyHead,
    FirstTokenHead,
    LinearHead,
    document_scores,
    ranked_labels,
    scores,
)
from xlmr.model.heads.rerank import falling, relevance
from xlmr.model.pooling import normalise, pool, shorten
from xlmr.model.prepared import (
    ClassifyOptions,
    EmbedOptions,
    Prepared,
    RerankOptions,
)
from xlmr.model.reading import (
    Item,
    all_encodings,
    check_count,
    check_items,
    check_texts,
    each,
    read,
)
from xlmr.model.verdict import Verdict
from xlmr.text.tokenizer import Tokenizer
from xlmr.types import Classification, Embedding, Ranked, Rows

Array = NDArray[np.float32]


def prepare_classify(
    bundle: Bundle, head: ClassifyHead, items: Sequence[Item], options: ClassifyOptions
) -> Prepared[Classification]:
    """Texts, or pairs of them, to labels. The scores of a windowed one are the mean over windows.

    Raises:
        InputError: as the checks of `xlmr.model.reading`; or a pair, and the head was fitted on
            the vectors of single texts.
    """
    check_count(options.top, "top")
    checked = check_items(items)
    if isinstance(head, LinearHead):
        _refuse_pairs(checked)
    readings = read(bundle.tokenizer, checked, long=options.long, prompt=head.prompt)
    activation = "none" if options.raw_scores else head.activation
    verdict = Verdict.of(bundle.calibration, activation, head.labels)
    languages = verdict.languages(checked, options.languages)

    def finish(vectors: Iterable[Array]) -> list[Classification]:
        answers = []
        for language, (reading, hidden) in zip(languages, each(readings, vectors), strict=True):
            divisor = verdict.temperature(language)
            windows = [scores(head.logits(hidden_LD) / divisor, activation) for hidden_LD in hidden]
            scores_C = document_scores(windows, reading.tokens)
            answers.append(
                Classification(
                    labels=ranked_labels(scores_C, head.labels, top=options.top),
                    accounting=reading.accounting,
                    language=language,
                    calibrated=verdict.calibrated,
                    abstained=verdict.abstained(scores_C, language),
                    chosen=verdict.chosen(scores_C, language),
                    entropy=verdict.entropy(scores_C),
                )
            )
        return answers

    return Prepared(encodings=all_encodings(readings), rows=head.pooling.rows, finish=finish)


def prepare_embed(
    bundle: Bundle, texts: Sequence[str], options: EmbedOptions
) -> Prepared[Embedding]:
    """Texts to sentence vectors. That of a windowed text is the mean over its windows."""
    pooling = bundle.pooling
    check_count(options.dimensions, "dimensions", most=bundle.config.hidden)
    if options.each_token:
        _check_each_token(options)
    normalize = pooling.normalize if options.normalize is None else options.normalize
    readings = read(
        bundle.tokenizer,
        check_texts(texts),
        long=options.long,
        prompt=_prompt(bundle, options.prompt),
    )

    def finish(vectors: Iterable[Array]) -> list[Embedding]:
        answers = []
        for reading, hidden in each(readings, vectors):
            if options.each_token:
                # A batch's rows would live as long as this text's do.
                answers.append(Embedding(vector=hidden[0].copy(), accounting=reading.accounting))
                continue
            pooled = [pool(hidden_LD, pooling.kind) for hidden_LD in hidden]
            vector_D = document_scores(pooled, reading.tokens)
            if options.dimensions is not None:
                vector_D = shorten(vector_D, options.dimensions, normalize=normalize)
            elif normalize:
                vector_D = normalise(vector_D)
            answers.append(Embedding(vector=vector_D, accounting=reading.accounting))
        return answers

    rows: Rows = "all" if options.each_token else pooling.rows
    return Prepared(encodings=all_encodings(readings), rows=rows, finish=finish)


def _check_each_token(options: EmbedOptions) -> None:
    """Refuses what would be done to a text's one vector.

    Raises:
        InputError: names the option.
    """
    if options.dimensions is not None:
        raise InputError("the vectors of tokens are never shortened", path="$.dimensions")
    if options.normalize:
        raise InputError("the vectors of tokens are never normalised", path="$.normalize")
    if options.long == "window":
        raise InputError("the tokens of windows overlap", path="$.long")


def prepare_rerank(
    tokenizer: Tokenizer, head: FirstTokenHead, documents: Sequence[str], options: RerankOptions
) -> Prepared[Ranked]:
    """Documents in falling order of relevance to a query."""
    if not isinstance(options.query, str):
        raise InputError(f"expected str, got {type(options.query).__name__}", path="$.query")
    pairs = [(options.query, document) for document in check_texts(documents)]
    try:
        readings = read(tokenizer, pairs, long=options.long)
    except InputError as error:
        raise type(error)(
            error.message, path=_query_or_document(error.path), hint=error.hint
        ) from None

    def finish(vectors: Iterable[Array]) -> list[Ranked]:
        relevances = [
            relevance([head.logits(hidden_LD) for hidden_LD in hidden], raw=options.raw_scores)
            for _, hidden in each(readings, vectors)
        ]
        return [
            Ranked(index=i, score=relevances[i], accounting=readings[i].accounting)
            for i in falling(relevances)
        ]

    return Prepared(encodings=all_encodings(readings), rows="first", finish=finish)


def _query_or_document(path: str) -> str:
    """Where the caller gave a text of a pair: `$[3][0]` is the query, `$[3][1]` document 3."""
    if path.endswith("][0]"):
        return "$.query"
    return path.removesuffix("[1]") if path.endswith("][1]") else path


def _refuse_pairs(items: Sequence[Item]) -> None:
    for i, item in enumerate(items):
        if not isinstance(item, str):
            raise InputError(
                "expected one text, got two",
                path=f"$[{i}]",
                hint="this head reads the vectors of single texts; a fine-tuned one reads pairs",
            )


def _prompt(bundle: Bundle, name: str | None) -> str:
    try:
        return bundle.prompt(name)
    except KeyError:
        known = ", ".join(bundle.prompts) or "none"
        raise InputError(
            f"the model has no prompt of that name; it has: {known}", path="$.prompt"
        ) from None
