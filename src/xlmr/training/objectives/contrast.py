"""Sentence vectors by contrast: a text nearer to the one it belongs to than to all of the batch.

Shapes: B rows of a batch, U distinct texts of a batch, N texts, D vector width.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from xlmr.evaluation.suites import BitextRow, RankRow
from xlmr.model.bundle import Bundle
from xlmr.training.negatives import identity, mine, right_answers
from xlmr.training.objective import Feature
from xlmr.training.objectives.sentence import SentenceObjective, bitext_accuracy, by_language
from xlmr.training.recipe import Recipe
from xlmr.training.sentence_vectors import Told, Vectors

_BLOCK_QUERIES = 256


class Contrast(SentenceObjective):
    """The right text among all texts of the batch.

    A text is nobody's wrong answer if some row gives it as right for the same query, or if it is
    the query itself; case and punctuation do not tell texts apart. A feature's target is what its
    texts are, by number.
    """

    def __init__(
        self, bundle: Bundle, recipe: Recipe, *, bitext: bool, told: Told | None = None
    ) -> None:
        super().__init__(bundle, recipe)
        self._told = told
        self.metric = "bitext_accuracy" if bitext else "mrr"
        if bitext:  # neither side asks, and each may come first when the model is used
            self._document = self._query
        self._hard_negatives = recipe.embed.hard_negatives
        self._numbers: dict[str, int] = {}
        self._right: dict[int, set[int]] = {}

    def encode(self, rows: Sequence[RankRow | BitextRow], *, learn: bool) -> list[Feature]:
        """Query, positive, then negatives: those given, and those mined where that is asked for.

        The negatives of a bitext's row are other translations into its language.

        Raises:
            ModelError: the runtime cannot compute the encoder to mine with.
        """
        ranked = [_as_ranked(row) for row in rows]
        mined: Sequence[tuple[str, ...]] = [()] * len(ranked)
        if learn and self._hard_negatives:
            prompts = self._query, self._document
            mined = mine(
                self.bundle, ranked, self._hard_negatives, prompts=prompts, told=self._told
            )
        for query, documents in right_answers(ranked).items():
            known = self._right.setdefault(self._number(query), set())
            known |= {self._number(document) for document in documents}
        texts = [
            [(self._query, row.query)]
            + [(self._document, text) for text in (row.positive, *row.negatives, *more)]
            for row, more in zip(ranked, mined, strict=True)
        ]
        targets = [tuple(self._number(identity(text)) for _, text in own) for own in texts]
        return self.features(rows, texts, targets)

    def loss(self, network: Any, batch: Sequence[Feature], random: np.random.Generator) -> Any:
        """Half the cross-entropy of the document among all, half that of the query among all."""
        import torch

        vectors_UD, places = self.vectors(network, batch)
        numbers: dict[int, int] = {}
        for feature, own in zip(batch, places, strict=True):
            numbers.update(zip(own, feature.target, strict=True))
        queries = [own[0] for own in places]
        positives = [own[1] for own in places]
        documents = sorted({u for own in places for u in own[1:]})
        # In bfloat16, cosines over a temperature would be good for hardly two digits.
        with torch.autocast(vectors_UD.device.type, enabled=False):
            forth = self._one_of(vectors_UD, numbers, queries, positives, documents, turned=False)
            back = self._one_of(
                vectors_UD, numbers, positives, queries, sorted(set(queries)), turned=True
            )
        return (forth + back) / 2.0

    def score(
        self, rows: Sequence[Any], features: Sequence[Feature], outputs: Sequence[Any]
    ) -> Mapping[str, float]:
        """By language: `mrr` of its queries over all its documents, or `bitext_accuracy`.

        A document that is as near as the right one counts as nearer. The bitext accuracy is the
        mean of both directions.
        """
        measure = self._mrr if self.metric == "mrr" else bitext_accuracy
        return {
            language: measure([features[i] for i in here], [outputs[i] for i in here])
            for language, here in by_language(features).items()
        }

    def _one_of(
        self,
        vectors_UD: Any,
        numbers: Mapping[int, int],
        asked: Sequence[int],
        wanted: Sequence[int],
        candidates: Sequence[int],
        *,
        turned: bool,
    ) -> Any:
        """Summed cross-entropy of what is wanted; other right answers are no candidates.

        Args:
            vectors_UD: of all texts; the others are places in it.
            numbers: what the texts are.
            asked: of each row.
            wanted: of each row.
            candidates: distinct.
            turned: whether documents are asked, for their queries.
        """
        import torch

        column = {u: i for i, u in enumerate(candidates)}
        by_number: dict[int, list[int]] = {}
        for u, i in column.items():
            by_number.setdefault(numbers[u], []).append(i)
        asks = self._asks([numbers[u] for u in candidates]) if turned else self._right
        hidden = np.zeros((len(asked), len(candidates)), bool)
        for b, u in enumerate(asked):
            for number in (numbers[u], *asks.get(numbers[u], ())):
                hidden[b, by_number.get(number, [])] = True
            hidden[b, column[wanted[b]]] = False
        scores = vectors_UD[list(asked)] @ vectors_UD[list(candidates)].T / self._temperature
        scores = scores.masked_fill(torch.from_numpy(hidden).to(scores.device), -torch.inf)
        targets = torch.tensor([column[u] for u in wanted], device=scores.device)
        return torch.nn.functional.cross_entropy(scores, targets, reduction="sum")

    def _asks(self, queries: Iterable[int]) -> dict[int, set[int]]:
        """Document → those of some queries that it answers."""
        asks: dict[int, set[int]] = {}
        for query in queries:
            for document in self._right.get(query, ()):
                asks.setdefault(document, set()).add(query)
        return asks

    def _number(self, name: str) -> int:
        return self._numbers.setdefault(name, len(self._numbers))

    def _mrr(self, features: Sequence[Feature], outputs: Sequence[Vectors]) -> float:
        queries: dict[int, np.ndarray] = {}
        documents: dict[int, np.ndarray] = {}
        for feature, vectors_ND in zip(features, outputs, strict=True):
            queries.setdefault(feature.target[0], vectors_ND[0])
            for number, vector_D in zip(feature.target[1:], vectors_ND[1:], strict=True):
                documents.setdefault(number, vector_D)
        column = {number: i for i, number in enumerate(documents)}
        document_ND = np.stack(list(documents.values()))
        names, found = list(queries), []
        for start in range(0, len(names), _BLOCK_QUERIES):
            some = names[start : start + _BLOCK_QUERIES]
            scores = np.stack([queries[number] for number in some]) @ document_ND.T
            for number, scores_N in zip(some, scores, strict=True):
                right = [column[d] for d in self._right[number] if d in column]
                best = scores_N[right].max()
                scores_N[right] = -np.inf
                found.append(1.0 / (1 + int((scores_N >= best).sum())))
        return float(np.mean(found))


def _as_ranked(row: RankRow | BitextRow) -> RankRow:
    if isinstance(row, RankRow):
        return row
    return RankRow(row.english, row.text, (), row.language, row.line)
