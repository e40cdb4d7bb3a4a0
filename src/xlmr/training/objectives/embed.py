"""Sentence vectors: texts that belong together come near each other, others do not.

Three kinds of rows, and what is learned from each:

- rank, bitext, loss `contrast`: the right text among all of the batch, in both directions (van den
  Oord et al. 2018, InfoNCE; Feng et al. 2020, LaBSE, for bitexts), hard negatives included. More
  texts in a batch, `run.batch_tokens`, make it a harder and a better lesson;
- bitext, loss `imitate`: the vectors of a sentence and of its translation both go where the
  teacher's vector of the sentence lies (Reimers & Gurevych 2020, "Making Monolingual Sentence
  Embeddings Multilingual using Knowledge Distillation");
- similarity: of two pairs the one with the higher score shall have the higher cosine (CoSENT,
  J. Su 2022). Only their order counts: the cosines of some models all lie between 0.7 and 1, and a
  squared error against scores on a scale of its own would first move all of them.

Pooling and prompts are the encoder's own, so the trained model is asked as the encoder was.

Shapes: B rows of a batch, U distinct texts of a batch, N texts, D vector width.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xlmr.errors import DataError, SettingsError
from xlmr.evaluation.metrics.regression import spearman
from xlmr.evaluation.suites import BitextRow, PairScoreRow
from xlmr.model.bundle import Bundle, open_bundle
from xlmr.settings import Settings
from xlmr.training.data import Examples
from xlmr.training.objective import Feature
from xlmr.training.objectives.contrast import Contrast
from xlmr.training.objectives.sentence import SentenceObjective, bitext_accuracy, by_language
from xlmr.training.recipe import Recipe
from xlmr.training.sentence_vectors import Told, Vectors, prompt_names, served_vectors


def make(
    bundle: Bundle, recipe: Recipe, examples: Examples, *, told: Told | None = None
) -> SentenceObjective:
    """The objective of `embed`, by the kind of rows and the loss.

    Raises:
        SettingsError: rows that this loss, or hard negatives, cannot be learned with.
        DataError: a language with a single dev row, where a correlation needs two.
    """
    row = examples.train[0]
    if recipe.embed.loss == "imitate":
        if not isinstance(row, BitextRow):
            raise SettingsError(
                "embed.loss: imitate learns from a bitext",
                hint="--set data.rows=bitext, with columns en and text; or embed.loss=contrast",
            )
        return Imitate(bundle, recipe, told=told)
    if isinstance(row, PairScoreRow):
        return Order(bundle, recipe, examples)
    return Contrast(bundle, recipe, bitext=isinstance(row, BitextRow), told=told)


class Imitate(SentenceObjective):
    """Both sides of a bitext go where the teacher's vector of the English side lies."""

    metric = "bitext_accuracy"

    def __init__(self, bundle: Bundle, recipe: Recipe, *, told: Told | None = None) -> None:
        super().__init__(bundle, recipe)
        self._told = told
        if recipe.embed.hard_negatives:
            raise SettingsError(
                "embed.hard_negatives: imitate has no negatives", hint="embed.hard_negatives=0"
            )
        self._teacher = bundle
        if recipe.embed.teacher:
            cache_dir = Settings.from_environment().cache_dir
            self._teacher = open_bundle(Path(recipe.embed.teacher), cache_dir=cache_dir)
        if self._teacher.config.hidden != bundle.config.hidden:
            raise SettingsError(
                f"embed.teacher: its vectors have {self._teacher.config.hidden} numbers, the "
                f"encoder's {bundle.config.hidden}",
                hint="a student imitates a teacher of its own width",
            )
        self._taught_ND: Vectors | None = None

    def encode(self, rows: Sequence[BitextRow], *, learn: bool) -> list[Feature]:
        """Both sides; to learn from, the teacher's vectors of the English sides are computed here.

        Raises:
            ModelError: the runtime cannot compute the teacher.
        """
        targets: list[int | None] = [None] * len(rows)
        if learn:
            sides = {text: i for i, text in enumerate(dict.fromkeys(row.english for row in rows))}
            prompt = prompt_names(self._teacher)[0]
            self._taught_ND = served_vectors(
                self._teacher, list(sides), prompt=prompt, told=self._told
            )
            targets = [sides[row.english] for row in rows]
        texts = [[(self._query, row.english), (self._query, row.text)] for row in rows]
        return self.features(rows, texts, targets)

    def loss(self, network: Any, batch: Sequence[Feature], random: np.random.Generator) -> Any:
        """The squared distance to the teacher's vector, all at length 1, mean over both sides."""
        assert self._taught_ND is not None, "only features that were encoded to learn from have one"
        vectors_UD, places = self.vectors(network, batch)
        taught_BD = vectors_UD.new_tensor(self._taught_ND[[f.target for f in batch]])
        english_BD = vectors_UD[[own[0] for own in places]]
        other_BD = vectors_UD[[own[1] for own in places]]
        return ((english_BD - taught_BD) ** 2 + (other_BD - taught_BD) ** 2).sum() / 2.0

    def score(
        self, rows: Sequence[Any], features: Sequence[Feature], outputs: Sequence[Any]
    ) -> Mapping[str, float]:
        """By language, the mean of both directions."""
        return {
            language: bitext_accuracy([features[i] for i in here], [outputs[i] for i in here])
            for language, here in by_language(features).items()
        }


class Order(SentenceObjective):
    """Pairs of texts in the order of their scores."""

    metric = "spearman"

    def __init__(self, bundle: Bundle, recipe: Recipe, examples: Examples) -> None:
        super().__init__(bundle, recipe)
        if recipe.embed.hard_negatives:
            raise SettingsError(
                "embed.hard_negatives: rows with scores have no negatives",
                hint="embed.hard_negatives=0",
            )
        if len({row.score for row in examples.train}) < 2:
            raise DataError(f"{examples.train_files[0].path}: every row has the same score")
        counts = Counter(row.language for row in examples.dev)
        for file in examples.dev_files:
            for row in file.rows:
                if counts[row.language] < 2:
                    raise DataError(
                        f"{file.path}:{row.line}: the only dev row in {row.language}",
                        hint="an order needs two rows: add some, or leave this one out",
                    )

    def encode(self, rows: Sequence[PairScoreRow], *, learn: bool) -> list[Feature]:
        """Both texts."""
        texts = [[(self._query, row.first), (self._query, row.second)] for row in rows]
        return self.features(rows, texts, [row.score for row in rows])

    def loss(self, network: Any, batch: Sequence[Feature], random: np.random.Generator) -> Any:
        """log(1 + Σ exp((cosine of the pair with less - cosine of the one with more) / τ)).

        The sum is over all two rows of a batch with scores that differ; times the rows of the
        batch, so that a row weighs the same in a small one.
        """
        import torch

        vectors_UD, places = self.vectors(network, batch)
        first_BD = vectors_UD[[own[0] for own in places]]
        second_BD = vectors_UD[[own[1] for own in places]]
        cosines_B = (first_BD * second_BD).sum(dim=1) / self._temperature
        scores_B = torch.tensor(
            [f.target for f in batch], dtype=torch.float64, device=cosines_B.device
        )
        wrong_BB = cosines_B[:, None] - cosines_B[None, :]
        wrong_BB = wrong_BB.masked_fill(scores_B[:, None] >= scores_B[None, :], -torch.inf)
        terms = torch.cat([wrong_BB.new_zeros(1), wrong_BB.flatten()])
        return len(batch) * torch.logsumexp(terms, dim=0)

    def score(
        self, rows: Sequence[Any], features: Sequence[Feature], outputs: Sequence[Any]
    ) -> Mapping[str, float]:
        """Rank correlation of cosines and scores by language; 0 where either never varies."""
        found = {}
        for language, here in by_language(features).items():
            cosines = [float(outputs[i][0] @ outputs[i][1]) for i in here]
            gold = [float(features[i].target) for i in here]
            found[language] = spearman(np.array(gold), np.array(cosines))
        return found
