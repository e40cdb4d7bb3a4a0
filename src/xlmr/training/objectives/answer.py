"""Answers as spans of a context: two scores for each token, where the answer starts and ends.

A long context is read in windows that share `answer.stride` tokens, each with the question. Of
several right answers a window learns the first that stands in it as a whole; one with none in it,
or with no more than a part, learns "not here": the first token, `<s>`. A row whose every answer is
longer than a window teaches nothing and is left out. Answers that begin or end inside a token take
the whole of it.

What competes is what competes once the model serves: the context's tokens and `<s>`. Dev rows are
cut and answered as the finished model cuts and answers them.

Shapes: B windows of a batch, L tokens of its longest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xlmr.errors import DataError, TooLongError
from xlmr.evaluation.metrics.answers import answer_f1
from xlmr.evaluation.suites import AnswerRow
from xlmr.model.bundle import Bundle
from xlmr.model.heads.answer import best_span
from xlmr.model.reading import shorten_reading
from xlmr.text.codes import short_code
from xlmr.text.window import windows
from xlmr.training.data import Examples
from xlmr.training.networks import load_network, padded, save_network
from xlmr.training.objective import Feature
from xlmr.training.objectives.windows import outputs_by_row, place_of, whole_encodings
from xlmr.training.recipe import Recipe
from xlmr.types import Encoding

_CONTEXT = 1
_NOWHERE = (0, 0)


@dataclass(frozen=True, slots=True)
class Target:
    """What a window should say.

    Attributes:
        context: the context's first token.
        span: first and last token of the answer; twice 0 for none.
    """

    context: int
    span: tuple[int, int]


def make(bundle: Bundle, recipe: Recipe, examples: Examples) -> Answers:
    """The objective of `answer`.

    Raises:
        DataError: no training row has an answer, or no dev row.
    """
    return Answers(bundle, recipe, examples)


class Answers:
    """Question and context in, a start and an end score for each token out.

    Features to learn from carry a `Target`, those to be scored on their `Encoding`.
    """

    metric = "answer_f1"
    # What knowing nothing costs depends on how long each context is.
    chance: float | None = None

    def __init__(self, bundle: Bundle, recipe: Recipe, examples: Examples) -> None:
        if not any(row.answers for row in examples.train):
            raise DataError(
                f"{examples.train_files[0].path}: no row has an answer",
                hint="questions without an answer can only be learned beside others that have one",
            )
        if examples.dev and not any(row.answers for row in examples.dev):
            raise DataError(
                f"{examples.dev_files[0].path}: no dev row has an answer",
                hint="a set whose answers are withheld cannot be scored on: give other dev rows",
            )
        self.bundle, self._examples = bundle, examples
        self._limit = min(recipe.run.max_tokens, bundle.tokenizer.max_tokens)
        self._stride = recipe.answer.stride
        self._longest_answer = recipe.answer.max_answer_tokens

    def encode(self, rows: Sequence[AnswerRow], *, learn: bool) -> list[Feature]:
        """One feature a window.

        Raises:
            DataError: a question that leaves its context no room, or, to learn from, only answers
                longer than a window.
        """
        found = list(self._learned(rows) if learn else self._scored(rows))
        if learn and rows and all(feature.target.span == _NOWHERE for feature in found):
            raise DataError(
                f"{self._examples.train_files[0].path}: no answer fits into a window of "
                f"{self._limit} tokens",
                hint="raise run.max_tokens",
            )
        return found

    def network(self) -> Any:
        """Hugging Face's question answering network."""
        # Its outputs are as many as the configuration's labels, of which an encoder may bring any.
        return load_network(
            self.bundle, "QuestionAnswering", ignore_mismatched_sizes=True, num_labels=2
        )

    def weight(self, feature: Feature) -> float:
        """Every window counts the same."""
        return 1.0

    def loss(self, network: Any, batch: Sequence[Feature], random: np.random.Generator) -> Any:
        """The cost of what the network says."""
        return self.cost(self.read(self._logits(network, batch).mT, batch), batch)

    def cost(self, outputs_P2: Any, batch: Sequence[Feature]) -> Any:
        """The mean of start's and end's cross-entropy, summed over the windows."""
        import torch

        # What competes comes first, so the answer's place counts from there.
        pad = torch.nn.utils.rnn.pad_sequence
        windows = outputs_P2.split([len(_competing(feature)) for feature in batch])
        logits_BL2 = pad(windows, batch_first=True, padding_value=-torch.inf)
        targets_B2 = torch.tensor(
            [[_competing(f).index(place) for place in f.target.span] for f in batch],
            device=outputs_P2.device,
        )
        losses = torch.nn.functional.cross_entropy(
            logits_BL2.mT.flatten(0, 1), targets_B2.flatten(), reduction="sum"
        )
        return losses / 2

    def read(self, inputs_BLX: Any, batch: Sequence[Feature]) -> Any:
        """Those of the tokens that compete, [P, X], window by window."""
        import torch

        rows = [i for i, feature in enumerate(batch) for _ in _competing(feature)]
        places = [place for feature in batch for place in _competing(feature)]
        device = inputs_BLX.device
        return inputs_BLX[torch.tensor(rows, device=device), torch.tensor(places, device=device)]

    def last_layer(self, network: Any) -> Any | None:
        """The one that gives the outputs, where the encoder has none."""
        return None if "answer" in self.bundle.tasks else network.qa_outputs

    def predict(self, network: Any, batch: Sequence[Feature]) -> Sequence[Any]:
        """Start and end scores for each, [2, L]."""
        logits_B2L = self._logits(network, batch).cpu().numpy()
        return [logits_B2L[i, :, : feature.length].copy() for i, feature in enumerate(batch)]

    def score(
        self, rows: Sequence[AnswerRow], features: Sequence[Feature], outputs: Sequence[Any]
    ) -> Mapping[str, float]:
        """Mean F1 against the nearest of a row's answers, by language and by its rules."""
        found: dict[str, list[float]] = {}
        for i, read in outputs_by_row(features, outputs).items():
            row = rows[i]
            span = best_span(
                row.context,
                [feature.target for feature, _ in read],
                [logits_2L for _, logits_2L in read],
                max_answer_tokens=self._longest_answer,
                must_answer=False,
            )
            said = row.context[span.start : span.end]
            golds = [answer.text for answer in row.answers]
            score = answer_f1(said, golds, short_code(row.language))
            found.setdefault(row.language, []).append(score)
        return {language: float(np.mean(found[language])) for language in sorted(found)}

    def save(self, network: Any, directory: Path) -> None:
        """A Hugging Face question answering model."""
        save_network(network, directory)

    def _logits(self, network: Any, batch: Sequence[Feature]) -> Any:
        """[B, 2, L], float32."""
        import torch

        said = network(**padded([f.texts[0] for f in batch], network))
        return torch.stack([said.start_logits, said.end_logits], dim=1).float()

    def _learned(self, rows: Sequence[AnswerRow]) -> Iterator[Feature]:
        for i, (row, whole) in enumerate(self._whole(rows)):
            try:
                parts = windows(whole, max_tokens=self._limit, stride=self._stride)
            except TooLongError:
                raise self._no_room(row, whole, self._limit, "run.max_tokens") from None
            spans = _spans_of(row, whole, parts)
            if row.answers and not any(spans):
                continue
            for part, span in zip(parts, spans, strict=True):
                target = Target(_context_of(whole), span or _NOWHERE)
                yield Feature(texts=(part.ids,), target=target, row=i, language=row.language)

    def _scored(self, rows: Sequence[AnswerRow]) -> Iterator[Feature]:
        limit = self.bundle.max_tokens
        for i, (row, whole) in enumerate(self._whole(rows)):
            try:
                parts = shorten_reading(whole, limit, long="window", path="$").encodings
            except TooLongError:
                raise self._no_room(row, whole, limit, "the model") from None
            for part in parts:
                yield Feature(texts=(part.ids,), target=part, row=i, language=row.language)

    def _whole(self, rows: Sequence[AnswerRow]) -> Iterator[tuple[AnswerRow, Encoding]]:
        pairs = [(row.question, row.context) for row in rows]
        return zip(rows, whole_encodings(self.bundle.tokenizer, pairs), strict=True)

    def _no_room(self, row: AnswerRow, whole: Encoding, limit: int, whose: str) -> DataError:
        return DataError(
            f"{place_of(row, self._examples)}: question: {whole.segments.count(0)} tokens, of the "
            f"{limit} that {whose} allows, leave its context no room",
            hint="shorten the question, lower answer.stride, or raise run.max_tokens",
        )


def _competing(feature: Feature) -> list[int]:
    """The tokens among which an answer starts and ends: `<s>`, and the context's."""
    return [0, *range(feature.target.context, feature.length - 1)]


def _context_of(encoding: Encoding) -> int:
    """The first token of a pair's second text; it stands there in every window."""
    return encoding.segments.count(0) + 3  # <s> question </s></s>


def _spans_of(
    row: AnswerRow, whole: Encoding, parts: Sequence[Encoding]
) -> list[tuple[int, int] | None]:
    """For each window the tokens of the first answer that it holds as a whole."""
    sought = [(answer.start, answer.start + len(answer.text)) for answer in row.answers]
    sizes = [len(_covering(whole, start, end)) for start, end in sought]
    spans: list[tuple[int, int] | None] = []
    for part in parts:
        held = (
            (int(tokens[0]), int(tokens[-1]))
            for (start, end), size in zip(sought, sizes, strict=True)
            if len(tokens := _covering(part, start, end)) == size > 0
        )
        spans.append(next(held, None))
    return spans


def _covering(encoding: Encoding, start: int, end: int) -> NDArray[np.intp]:
    """The tokens of the context that show a character of `context[start:end]`, rising."""
    places_L2 = np.array(encoding.offsets)
    begins_L, ends_L = places_L2[:, 0], places_L2[:, 1]
    inside_L = np.array(encoding.segments) == _CONTEXT
    return np.flatnonzero(inside_L & (begins_L < ends_L) & (begins_L < end) & (ends_L > start))
