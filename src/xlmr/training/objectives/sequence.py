"""A text, or a pair of texts, as a whole: one label of several, any number of labels, or a number.

Shapes: B texts of a batch, C outputs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xlmr.errors import DataError
from xlmr.evaluation.metrics import accuracy
from xlmr.evaluation.metrics.classification import multi_label_f1
from xlmr.evaluation.metrics.regression import spearman
from xlmr.model.bundle import Bundle
from xlmr.training.data import Examples
from xlmr.training.networks import holds_head, load_network, padded, save_network
from xlmr.training.objective import Feature
from xlmr.training.recipe import Recipe


def make(bundle: Bundle, recipe: Recipe, examples: Examples) -> TextObjective:
    """The objective of `classify`, `infer`, `multi-label` or `score`."""
    if recipe.task == "multi-label":
        return MultiLabel(bundle, recipe, examples)
    if recipe.task == "score":
        return Score(bundle, recipe, examples)
    return SingleLabel(bundle, recipe, examples)


class TextObjective:
    """What the three have in common: texts or pairs in, C outputs of the first token's vector."""

    problem: str
    metric: str

    def __init__(
        self, bundle: Bundle, recipe: Recipe, examples: Examples, names: Sequence[str]
    ) -> None:
        self.bundle = bundle
        self.names = tuple(names)
        self._limit = min(recipe.run.max_tokens, bundle.tokenizer.max_tokens)

    def targets(self, rows: Sequence[Any]) -> Sequence[Any]:
        """What the network should say of each row."""
        raise NotImplementedError

    def encode(self, rows: Sequence[Any], *, learn: bool) -> list[Feature]:
        """One feature a row, cut where it is long."""
        items = [row.input[0] if len(row.input) == 1 else row.input for row in rows]
        encodings = self.bundle.tokenizer.encode_many(items, max_tokens=self._limit)
        targets = self.targets(rows)
        return [
            Feature(
                texts=(encoding.ids,),
                target=targets[i],
                row=i,
                language=rows[i].language,
                truncated=encoding.truncated,
            )
            for i, encoding in enumerate(encodings)
        ]

    def network(self) -> Any:
        """Hugging Face's sequence classifier."""
        return load_network(
            self.bundle,
            "SequenceClassification",
            ignore_mismatched_sizes=True,
            id2label=dict(enumerate(self.names)),
            label2id={name: i for i, name in enumerate(self.names)},
            problem_type=self.problem,
        )

    def weight(self, feature: Feature) -> float:
        """Every row counts the same."""
        return 1.0

    def loss(self, network: Any, batch: Sequence[Feature], random: np.random.Generator) -> Any:
        """The cost of what the network says."""
        return self.cost(self.outputs(network, batch), batch)

    def cost(self, outputs_BC: Any, batch: Sequence[Feature]) -> Any:
        """Of outputs, summed over a batch."""
        raise NotImplementedError

    def last_layer(self, network: Any) -> Any | None:
        """The one that gives the outputs, where the encoder has none for these labels."""
        if holds_head(self.bundle, "SequenceClassification", self.names):
            return None
        return network.classifier.out_proj

    def read(self, inputs_BD: Any, batch: Sequence[Feature]) -> Any:
        """All of it."""
        return inputs_BD

    def outputs(self, network: Any, batch: Sequence[Feature]) -> Any:
        """[B, C], float32."""
        return network(**padded([f.texts[0] for f in batch], network)).logits.float()

    def predict(self, network: Any, batch: Sequence[Feature]) -> Sequence[Any]:
        """The outputs of each, [C]."""
        return list(self.outputs(network, batch).cpu().numpy())

    def save(self, network: Any, directory: Path) -> None:
        """A Hugging Face sequence classifier."""
        save_network(network, directory)

    def score(
        self, rows: Sequence[Any], features: Sequence[Feature], outputs: Sequence[Any]
    ) -> Mapping[str, float]:
        """By language."""
        places: dict[str, list[int]] = {}
        for i, feature in enumerate(features):
            places.setdefault(feature.language, []).append(i)
        return {
            language: self.measure(
                [features[i].target for i in here], np.stack([outputs[i] for i in here])
            )
            for language, here in sorted(places.items())
        }

    def measure(self, targets: Sequence[Any], outputs_NC: np.ndarray) -> float:
        """The metric."""
        raise NotImplementedError


class SingleLabel(TextObjective):
    """One label of several; for pairs as well."""

    problem, metric = "single_label_classification", "accuracy"

    def __init__(self, bundle: Bundle, recipe: Recipe, examples: Examples) -> None:
        super().__init__(bundle, recipe, examples, examples.labels)
        counts_C = np.bincount(examples.classes(examples.train), minlength=len(self.names))
        self._weights_C = np.ones(len(self.names))
        if recipe.data.class_weights == "balanced":
            self._weights_C = counts_C.sum() / (len(counts_C) * counts_C)
        shares_C = self._weights_C * counts_C / (self._weights_C * counts_C).sum()
        self.chance: float | None = float(-(shares_C * np.log(shares_C)).sum())

    def targets(self, rows: Sequence[Any]) -> Sequence[int]:
        """Classes."""
        place = {label: i for i, label in enumerate(self.names)}
        return [place[row.label] for row in rows]

    def weight(self, feature: Feature) -> float:
        """That of its class."""
        return float(self._weights_C[feature.target])

    def cost(self, outputs_BC: Any, batch: Sequence[Feature]) -> Any:
        """Cross-entropy."""
        import torch

        targets_B = torch.tensor([f.target for f in batch], device=outputs_BC.device)
        losses_B = torch.nn.functional.cross_entropy(outputs_BC, targets_B, reduction="none")
        # Not as a product of vectors, which mixed precision would round to bfloat16.
        return (losses_B * losses_B.new_tensor([self.weight(f) for f in batch])).sum()

    def measure(self, targets: Sequence[int], outputs_NC: np.ndarray) -> float:
        """Accuracy."""
        return accuracy(np.array(targets), outputs_NC.argmax(axis=1))


class MultiLabel(TextObjective):
    """Any number of labels, each by itself."""

    problem, metric = "multi_label_classification", "micro_f1"

    def __init__(self, bundle: Bundle, recipe: Recipe, examples: Examples) -> None:
        names = sorted({label for row in examples.train for label in row.labels})
        if not names:
            raise DataError(f"{examples.train_files[0].path}: no row has a label")
        examples.check_dev(names, lambda row: row.labels)
        super().__init__(bundle, recipe, examples, names)
        counts = Counter(label for row in examples.train for label in row.labels)
        shares_C = np.array([counts[name] for name in names]) / len(examples.train)
        rest_C = np.clip(1.0 - shares_C, 1e-12, 1.0)
        self.chance: float | None = float(
            -(shares_C * np.log(shares_C) + rest_C * np.log(rest_C)).mean()
        )
        # A rare label's presence weighs as much as its absence: n / (C · n of it) would double
        # count rows, so only the positive side of each is raised.
        balanced = recipe.data.class_weights == "balanced"
        self._positive_C = np.clip(rest_C / shares_C, 1.0, 100.0) if balanced else None
        if balanced:
            self.chance = None

    def targets(self, rows: Sequence[Any]) -> Sequence[np.ndarray]:
        """1 where a row has the label, [C]."""
        return [np.array([float(name in row.labels) for name in self.names]) for row in rows]

    def cost(self, outputs_BC: Any, batch: Sequence[Feature]) -> Any:
        """Binary cross-entropy, mean over labels."""
        import torch

        targets_BC = outputs_BC.new_tensor(np.stack([f.target for f in batch]))
        raised = None if self._positive_C is None else outputs_BC.new_tensor(self._positive_C)
        losses_BC = torch.nn.functional.binary_cross_entropy_with_logits(
            outputs_BC, targets_BC, reduction="none", pos_weight=raised
        )
        return losses_BC.mean(dim=1).sum()

    def measure(self, targets: Sequence[np.ndarray], outputs_NC: np.ndarray) -> float:
        """F1 over all labels of all rows, a label being given from probability one half on."""
        return multi_label_f1(np.stack(targets) > 0.5, outputs_NC > 0.0)[0]


class Score(TextObjective):
    """A number, learned on a scale where the training rows have mean 0 and deviation 1."""

    problem, metric = "regression", "spearman"
    # The squared error of always saying the mean, on that scale.
    chance: float | None = 1.0

    def __init__(self, bundle: Bundle, recipe: Recipe, examples: Examples) -> None:
        super().__init__(bundle, recipe, examples, ["score"])
        scores = np.array([row.score for row in examples.train])
        if scores.std() == 0.0:
            raise DataError(f"{examples.train_files[0].path}: every row has the same score")
        self._mean, self._deviation = float(scores.mean()), float(scores.std())

    def targets(self, rows: Sequence[Any]) -> Sequence[float]:
        """On the scale that is learned."""
        return [(row.score - self._mean) / self._deviation for row in rows]

    def cost(self, outputs_BC: Any, batch: Sequence[Feature]) -> Any:
        """Squared error."""
        outputs_B = outputs_BC[:, 0]
        targets_B = outputs_B.new_tensor([f.target for f in batch])
        return ((outputs_B - targets_B) ** 2).sum()

    def measure(self, targets: Sequence[float], outputs_NC: np.ndarray) -> float:
        """Rank correlation; 0 where either side says the same of every row."""
        found = spearman(np.array(targets), outputs_NC[:, 0].astype(np.float64))
        return found if np.isfinite(found) else 0.0

    def save(self, network: Any, directory: Path) -> None:
        """The last layer gives numbers on the rows' own scale."""
        import torch

        head = network.classifier.out_proj
        with torch.no_grad():
            head.weight.mul_(self._deviation)
            head.bias.mul_(self._deviation).add_(self._mean)
        super().save(network, directory)
