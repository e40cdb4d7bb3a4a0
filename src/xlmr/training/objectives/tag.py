"""Tags over words, learned by exactly those tokens that answer for a word once the model serves.

The words of a text and the token that speaks for each are asked of the serving head, in learning
as in scoring: whatever a data set calls a word, nothing is taught that is not read later. All
other tokens learn nothing. A word of the head takes the tag of the entity that has a character of
it, and so one that an entity ends inside of belongs to it as a whole.

A long row is learned from in overlapping windows, each word in the one where it stands farthest
inside; dev rows are cut as the finished model cuts them.

Shapes: B windows of a batch, L tokens of its longest, C labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xlmr.errors import DataError
from xlmr.evaluation.metrics.spans import f1_of_counts, span_counts, spans_of
from xlmr.evaluation.suites import TagRow
from xlmr.evaluation.suites.spans import tags_of_entities
from xlmr.model.bundle import Bundle
from xlmr.model.encoder import softmax
from xlmr.model.heads.tag import entities, merge_windows
from xlmr.model.heads.words import words
from xlmr.model.reading import shorten_reading
from xlmr.training.data import Examples
from xlmr.training.networks import holds_head, load_network, padded, save_network
from xlmr.training.objective import Feature
from xlmr.training.objectives.windows import outputs_by_row, whole_encodings
from xlmr.training.recipe import Recipe
from xlmr.types import Encoding

# How often a tag is thought to occur that does not occur.
_RAREST = 1e-4


@dataclass(frozen=True, slots=True)
class Speakers:
    """The tokens of a window that speak for a word, and the class each should say."""

    places: tuple[int, ...]
    classes: tuple[int, ...]


def make(bundle: Bundle, recipe: Recipe, examples: Examples) -> Tags:
    """The objective of `tag`.

    Raises:
        DataError: no entity to learn from, or a dev row has one of a kind that no training row has.
    """
    return Tags(bundle, recipe, examples)


class Tags:
    """IOB2 tags: outputs are `O`, then `B-` and `I-` of each kind of entity in alphabetical order.

    Features to learn from carry `Speakers`, those to be scored on their `Encoding`.
    """

    metric = "span_f1"

    def __init__(self, bundle: Bundle, recipe: Recipe, examples: Examples) -> None:
        self.bundle = bundle
        self._limit = min(recipe.run.max_tokens, bundle.tokenizer.max_tokens)
        kinds = sorted({entity.label for row in examples.train for entity in row.entities})
        self.labels = ("O", *(f"{prefix}-{kind}" for kind in kinds for prefix in "BI"))
        # Encoded here because the classes are counted over the tokens that learn, which are more
        # than the row's words where a script has no spaces.
        self._train, self._features = examples.train, self._learned(examples.train)
        classes = [c for feature in self._features for c in feature.target.classes]
        counts_C = np.bincount(np.array(classes, np.int64), minlength=len(self.labels))
        if not counts_C[1:].any():
            raise DataError(
                f"{examples.train_files[0].path}: every word is tagged O",
                hint="a tagger needs entities to learn from: tags such as B-PER, or spans",
            )
        examples.check_dev(kinds, lambda row: {entity.label for entity in row.entities})
        self._weights_C = np.ones(len(self.labels))
        if recipe.data.class_weights == "balanced":
            self._weights_C = counts_C.sum() / (np.count_nonzero(counts_C) * counts_C.clip(1))
        weighed_C = self._weights_C * counts_C
        self._shares_C = weighed_C / weighed_C.sum()
        known_C = self._shares_C[counts_C > 0]
        self.chance: float | None = float(-(known_C * np.log(known_C)).sum())

    def encode(self, rows: Sequence[TagRow], *, learn: bool) -> list[Feature]:
        """One feature a window; windows without a word of their own are not learned from."""
        if learn:
            return list(self._features) if rows is self._train else self._learned(rows)
        return [
            Feature(texts=(window.ids,), target=window, row=i, language=row.language)
            for i, (row, windows) in enumerate(self._read(rows, self.bundle.max_tokens))
            for window in windows
        ]

    def network(self) -> Any:
        """Hugging Face's token classifier; a new head knows from the start how rare each tag is."""
        import torch

        network = load_network(
            self.bundle,
            "TokenClassification",
            ignore_mismatched_sizes=True,
            id2label=dict(enumerate(self.labels)),
            label2id={label: i for i, label in enumerate(self.labels)},
        )
        if self._starts_anew:
            # Nine of ten words are O. A head that has to find that out first spends on it most of
            # the steps that a small data set has.
            known_C = np.log(self._shares_C.clip(_RAREST))
            with torch.no_grad():
                network.classifier.bias.copy_(torch.from_numpy(known_C))
        return network

    def weight(self, feature: Feature) -> float:
        """Its words, each weighing what its class does."""
        return float(self._weights_C[list(feature.target.classes)].sum())

    def loss(self, network: Any, batch: Sequence[Feature], random: np.random.Generator) -> Any:
        """Cross-entropy, summed over the words."""
        return self.cost(self.read(self._logits(network, batch), batch), batch)

    def cost(self, outputs_PC: Any, batch: Sequence[Feature]) -> Any:
        """Cross-entropy, summed over the tokens that speak for a word."""
        import torch

        classes = [c for feature in batch for c in feature.target.classes]
        return torch.nn.functional.cross_entropy(
            outputs_PC,
            torch.tensor(classes, device=outputs_PC.device),
            weight=outputs_PC.new_tensor(self._weights_C),
            reduction="sum",
        )

    def read(self, inputs_BLX: Any, batch: Sequence[Feature]) -> Any:
        """Those of the tokens that speak for a word."""
        import torch

        rows = [i for i, feature in enumerate(batch) for _ in feature.target.places]
        places = [place for feature in batch for place in feature.target.places]
        device = inputs_BLX.device
        return inputs_BLX[torch.tensor(rows, device=device), torch.tensor(places, device=device)]

    def last_layer(self, network: Any) -> Any | None:
        """The one that gives the outputs, where the encoder has none for these labels."""
        return network.classifier if self._starts_anew else None

    def predict(self, network: Any, batch: Sequence[Feature]) -> Sequence[Any]:
        """The outputs for each token, [L, C]."""
        logits_BLC = self._logits(network, batch).cpu().numpy()
        return [logits_BLC[i, : feature.length].copy() for i, feature in enumerate(batch)]

    def score(
        self, rows: Sequence[TagRow], features: Sequence[Feature], outputs: Sequence[Any]
    ) -> Mapping[str, float]:
        """Strict span F1 over the rows' own words, by language; 0 without a span on either side."""
        gold: dict[str, list[Any]] = {}
        predicted: dict[str, list[Any]] = {}
        for i, read in outputs_by_row(features, outputs).items():
            row = rows[i]
            tags = self._tags(row, [f.target for f, _ in read], [logits for _, logits in read])
            gold.setdefault(row.language, []).append(spans_of(row.tags))
            predicted.setdefault(row.language, []).append(spans_of(tags))
        return {
            language: f1_of_counts(span_counts(gold[language], predicted[language]))
            for language in sorted(gold)
        }

    def save(self, network: Any, directory: Path) -> None:
        """A Hugging Face token classifier."""
        save_network(network, directory)

    @property
    def _starts_anew(self) -> bool:
        return not holds_head(self.bundle, "TokenClassification", self.labels)

    def _tags(
        self, row: TagRow, windows: Sequence[Encoding], logits_WLC: Sequence[Any]
    ) -> tuple[str, ...]:
        """What the serving head finds in a row, as tags of the row's words."""
        tokens = merge_windows(
            [window.offsets for window in windows],
            [window.segments for window in windows],
            [softmax(logits_LC) for logits_LC in logits_WLC],
        )
        return tags_of_entities(row.words, entities(row.text, tokens, self.labels))

    def _logits(self, network: Any, batch: Sequence[Feature]) -> Any:
        """[B, L, C], float32."""
        return network(**padded([f.texts[0] for f in batch], network)).logits.float()

    def _read(self, rows: Sequence[TagRow], limit: int) -> list[tuple[TagRow, Sequence[Encoding]]]:
        """Each row with its windows, cut as the serving side cuts a text."""
        encodings = whole_encodings(self.bundle.tokenizer, [row.text for row in rows])
        return [
            (row, shorten_reading(whole, limit, long="window", path="$").encodings)
            for row, whole in zip(rows, encodings, strict=True)
        ]

    def _learned(self, rows: Sequence[TagRow]) -> list[Feature]:
        return [
            Feature(texts=(window.ids,), target=speakers, row=i, language=row.language)
            for i, (row, windows) in enumerate(self._read(rows, self._limit))
            for window, speakers in zip(windows, self._speakers(row, windows), strict=True)
            if speakers.places
        ]

    def _speakers(self, row: TagRow, windows: Sequence[Encoding]) -> list[Speakers]:
        """Who speaks in each window: every word of the row once."""
        # The head chooses windows and tokens by where they stand; handed their numbers in place
        # of probabilities, it says which it would have asked.
        tokens = merge_windows(
            [window.offsets for window in windows],
            [window.segments for window in windows],
            [
                np.array([(w, i) for i in range(len(window.ids))], np.float32)
                for w, window in enumerate(windows)
            ],
        )
        found = words(row.text, [(token.start, token.end) for token in tokens])
        tags = tags_of_entities([(word.start, word.end) for word in found], row.entities)
        spoken: list[list[tuple[int, int]]] = [[] for _ in windows]
        for word, tag in zip(found, tags, strict=True):
            w, place = tokens[word.first_token].probabilities_C
            spoken[int(w)].append((int(place), self.labels.index(tag)))
        return [
            Speakers(tuple(p for p, _ in pairs), tuple(c for _, c in pairs)) for pairs in spoken
        ]
