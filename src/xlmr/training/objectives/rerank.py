"""A cross-encoder: query and document are read together, and one number says how they fit.

Each query is learned with a list of documents, one of them right: the loss is the cross-entropy of
that one among them (ListNet's, Cao et al. 2007, with one relevant document). It fixes how documents
of one query stand to each other, not what a score means by itself.

Shapes: B queries of a batch, P pairs of all of them, K documents of the longest list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xlmr.errors import DataError
from xlmr.evaluation.suites import RankRow
from xlmr.model.bundle import Bundle
from xlmr.training.data import Examples
from xlmr.training.negatives import drawn, mine
from xlmr.training.networks import load_network, padded, save_network
from xlmr.training.objective import Feature
from xlmr.training.recipe import Recipe
from xlmr.training.sentence_vectors import Told, length_groups, prompt_names

_CHUNK_ROWS = 512


def make(bundle: Bundle, recipe: Recipe, examples: Examples, *, told: Told | None = None) -> Rerank:
    """The objective of `rerank`."""
    return Rerank(bundle, recipe, told=told)


class Rerank:
    """See the module. A feature's first text is the query with the document that answers it."""

    metric = "mrr"
    chance: float | None = None

    def __init__(self, bundle: Bundle, recipe: Recipe, *, told: Told | None = None) -> None:
        self.bundle = bundle
        self._told = told
        self._negatives = recipe.rerank.negatives
        self._limit = min(recipe.run.max_tokens, bundle.tokenizer.max_tokens)

    def encode(self, rows: Sequence[RankRow], *, learn: bool) -> list[Feature]:
        """A row with its negatives: the given ones, then mined ones, then any of its language.

        Rows to be scored on get theirs in the same way, from one another.

        Raises:
            DataError: a language has no document but the right ones.
        """
        documents = self._documents(rows)
        features: list[Feature] = []
        for start in range(0, len(rows), _CHUNK_ROWS):
            some = range(start, min(start + _CHUNK_ROWS, len(rows)))
            pairs = [(rows[i].query, document) for i in some for document in documents[i]]
            encodings = iter(self.bundle.tokenizer.encode_many(pairs, max_tokens=self._limit))
            for i in some:
                own = [next(encodings) for _ in documents[i]]
                features.append(
                    Feature(
                        texts=tuple(encoding.ids for encoding in own),
                        target=0,
                        row=i,
                        language=rows[i].language,
                        truncated=any(encoding.truncated for encoding in own),
                    )
                )
        return features

    def network(self) -> Any:
        """Hugging Face's sequence classifier with one output."""
        return load_network(
            self.bundle,
            "SequenceClassification",
            ignore_mismatched_sizes=True,
            id2label={0: "relevance"},
            label2id={"relevance": 0},
            problem_type=None,
        )

    def weight(self, feature: Feature) -> float:
        """Every query counts the same."""
        return 1.0

    def loss(self, network: Any, batch: Sequence[Feature], random: np.random.Generator) -> Any:
        """Cross-entropy of the right document among those of its query."""
        import torch

        scores_P = self._scores(network, batch)
        counts = [len(feature.texts) for feature in batch]
        lists = torch.nn.utils.rnn.pad_sequence(
            scores_P.split(counts), batch_first=True, padding_value=-torch.inf
        )
        targets_B = torch.zeros(len(batch), dtype=torch.long, device=lists.device)
        return torch.nn.functional.cross_entropy(lists, targets_B, reduction="sum")

    def predict(self, network: Any, batch: Sequence[Feature]) -> Sequence[Any]:
        """The score of each document, [K]."""
        scores_P = self._scores(network, batch).cpu().numpy()
        return np.split(scores_P, np.cumsum([len(f.texts) for f in batch])[:-1])

    def score(
        self, rows: Sequence[Any], features: Sequence[Feature], outputs: Sequence[Any]
    ) -> Mapping[str, float]:
        """Mean reciprocal rank of the right document; below all that score as high."""
        found: dict[str, list[float]] = {}
        for feature, scores_K in zip(features, outputs, strict=True):
            rank = len(scores_K) - int((scores_K < scores_K[0]).sum())
            found.setdefault(feature.language, []).append(1.0 / rank)
        return {language: float(np.mean(found[language])) for language in sorted(found)}

    def save(self, network: Any, directory: Path) -> None:
        """A Hugging Face sequence classifier."""
        save_network(network, directory)

    def _documents(self, rows: Sequence[RankRow]) -> list[tuple[str, ...]]:
        """The right document of each row, then wrong ones."""
        given = [row.negatives[: self._negatives] for row in rows]
        if all(len(some) == self._negatives for some in given):
            return [(row.positive, *some) for row, some in zip(rows, given, strict=True)]
        prompts = prompt_names(self.bundle)
        mined = mine(self.bundle, rows, self._negatives, prompts=prompts, told=self._told)
        rest = drawn(rows, mined, self._negatives)
        documents = []
        for row, *parts in zip(rows, given, mined, rest, strict=True):
            negatives = [text for part in parts for text in part][: self._negatives]
            if not negatives:
                raise DataError(
                    f"{row.language}: no document but the right ones, at line {row.line} of its "
                    "file",
                    hint="give negatives, or more rows of that language",
                )
            documents.append((row.positive, *negatives))
        return documents

    def _scores(self, network: Any, batch: Sequence[Feature]) -> Any:
        """The outputs for all pairs in order, [P], float32."""
        import torch

        texts = [text for feature in batch for text in feature.texts]
        parts, order = [], []
        for group in length_groups([len(text) for text in texts]):
            outputs = network(**padded([texts[i] for i in group], network)).logits
            parts.append(outputs[:, 0].float())
            order += group
        places = torch.from_numpy(np.argsort(order)).to(parts[0].device)
        return torch.cat(parts)[places]
