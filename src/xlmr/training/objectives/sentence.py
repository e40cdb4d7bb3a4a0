"""What all ways of learning sentence vectors have in common: a few texts a row, a vector for each.

Shapes: B rows of a batch, U distinct texts of a batch, N texts, D vector width.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xlmr.evaluation.metrics.ranking import bitext_hits
from xlmr.evaluation.suites import AnyRow
from xlmr.model.bundle import Bundle
from xlmr.training.networks import load_network, save_network
from xlmr.training.objective import Feature
from xlmr.training.recipe import Recipe
from xlmr.training.sentence_vectors import (
    Vectors,
    learned_vectors,
    prompt_names,
    write_sentence_files,
)

_CHUNK_TEXTS = 2048


class SentenceObjective:
    """What the three have in common: a few texts a row, and one vector for each."""

    metric: str
    chance: float | None = None

    def __init__(self, bundle: Bundle, recipe: Recipe) -> None:
        self.bundle = bundle
        self._temperature = recipe.embed.temperature
        self._limit = min(recipe.run.max_tokens, bundle.tokenizer.max_tokens)
        self._query, self._document = prompt_names(bundle)

    def network(self) -> Any:
        """The encoder without a head."""
        return load_network(self.bundle, "Model")

    def weight(self, feature: Feature) -> float:
        """Every row counts the same."""
        return 1.0

    def predict(self, network: Any, batch: Sequence[Feature]) -> Sequence[Any]:
        """The vectors of each row's texts, [N, D] at length 1."""
        vectors_UD, places = self.vectors(network, batch)
        found_UD = vectors_UD.cpu().numpy()
        return [found_UD[own] for own in places]

    def save(self, network: Any, directory: Path) -> None:
        """An encoder with sentence-transformers' files."""
        save_network(network, directory)
        write_sentence_files(self.bundle, directory)

    def vectors(self, network: Any, batch: Sequence[Feature]) -> tuple[Any, list[list[int]]]:
        """Vectors [U, D] of a batch's distinct texts, and which of them are each row's."""
        place: dict[tuple[int, ...], int] = {}
        places = [[place.setdefault(text, len(place)) for text in f.texts] for f in batch]
        return learned_vectors(network, list(place), self.bundle.pooling), places

    def features(
        self,
        rows: Sequence[AnyRow],
        texts: Sequence[Sequence[tuple[str, str]]],
        targets: Sequence[Any],
    ) -> list[Feature]:
        """One feature a row, of its texts and the names of their prompts."""
        distinct = list(dict.fromkeys(text for own in texts for text in own))
        encoded: dict[tuple[str, str], tuple[tuple[int, ...], bool]] = {}
        for start in range(0, len(distinct), _CHUNK_TEXTS):
            some = distinct[start : start + _CHUNK_TEXTS]
            encodings = self.bundle.tokenizer.encode_many(
                [self.bundle.prompt(prompt) + text for prompt, text in some],
                max_tokens=self._limit,
            )
            for item, encoding in zip(some, encodings, strict=True):
                encoded[item] = encoding.ids, encoding.truncated
        return [
            Feature(
                texts=tuple(encoded[text][0] for text in own),
                target=targets[i],
                row=i,
                language=rows[i].language,
                truncated=any(encoded[text][1] for text in own),
            )
            for i, own in enumerate(texts)
        ]


def bitext_accuracy(features: Sequence[Feature], outputs: Sequence[Vectors]) -> float:
    """How often a sentence's nearest is its translation; the mean of both directions."""
    first_ND, second_ND = (np.stack([vectors[side] for vectors in outputs]) for side in (0, 1))
    return float(np.mean([hits.mean() for hits in bitext_hits(first_ND, second_ND)]))


def by_language(features: Sequence[Feature]) -> dict[str, list[int]]:
    """Places of the features of each language, languages in alphabetical order."""
    places: dict[str, list[int]] = {}
    for i, feature in enumerate(features):
        places.setdefault(feature.language, []).append(i)
    return {language: places[language] for language in sorted(places)}
