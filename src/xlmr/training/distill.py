"""A student with fewer layers learns to say, and to think on the way, what its teacher does.

The teacher's layers are parted into as many blocks as the student has layers. Each layer of the
student begins as a copy of its block's first layer (of 12 layers and 6: 0, 2, 4, 6, 8, 10) and
learns to give what the whole block gives; on top of that the student's answers follow the
teacher's. No labels are read.

Shapes: B texts of a batch, L tokens of its longest, D hidden width.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xlmr.errors import DataError, SettingsError
from xlmr.model.bundle import Bundle
from xlmr.training.data import Examples
from xlmr.training.devices import import_extra
from xlmr.training.imitation import Said, Spans, Vectors, answering
from xlmr.training.networks import load_network, padded, save_network
from xlmr.training.objective import Feature
from xlmr.training.recipe import Recipe
from xlmr.training.texts import Item, Texts, draw, split_off

_DEV_SHARE, _DEV_MOST = 0.02, 100


def blocks(teacher_layers: int, student_layers: int) -> list[tuple[int, int]]:
    """The teacher's layers [first, last) that each layer of the student stands for.

    Raises:
        SettingsError: the student is not smaller.
    """
    if not 1 <= student_layers < teacher_layers:
        raise SettingsError(
            f"--layers {student_layers}: the model has {teacher_layers}",
            hint=f"choose 1 to {teacher_layers - 1}",
        )
    edges = [i * teacher_layers // student_layers for i in range(student_layers + 1)]
    return list(itertools.pairwise(edges))


def reads_pairs(bundle: Bundle) -> bool:
    """Whether two texts that stand in a row are read together."""
    return answering(bundle).head in ("SequenceClassification", "QuestionAnswering")


def make_examples(bundle: Bundle, texts: Texts, *, most: int | None, seed: int) -> Examples:
    """Texts to learn from, and some of each language to see how far the student has come.

    Args:
        bundle: the teacher; whether it reads pairs decides what an item is.
        texts: all there are.
        most: how many are learned from, languages evenly; None for all.
        seed: decides which.

    Raises:
        DataError: fewer than two texts; or no pairs, and the teacher answers questions.
    """
    items: Sequence[Item] = texts.items if reads_pairs(bundle) else texts.singles()
    if isinstance(answering(bundle), Spans):
        items = [item for item in items if len(item.texts) == 2]
    if len(items) < 2:
        needed = "questions with contexts" if reads_pairs(bundle) else "texts"
        raise DataError(f"{len(items)} {needed}: too few to learn from")
    train, dev = split_off(items, share=_DEV_SHARE, most=_DEV_MOST, seed=seed)
    if most is not None:
        train = draw(train, most=most, seed=seed)
    return Examples(train=tuple(train), dev=tuple(dev), train_files=texts.files, dev_files=())


class Distillation:
    """The objective: a `xlmr.training.objective.Objective` over items."""

    chance: float | None = None

    def __init__(self, bundle: Bundle, recipe: Recipe, *, layers: int) -> None:
        self._bundle, self._answering = bundle, answering(bundle)
        self.blocks = blocks(bundle.config.layers, layers)
        self.metric = self._answering.agreement
        self._limit = min(recipe.run.max_tokens, bundle.tokenizer.max_tokens)
        self._prompts = _prompts(bundle) if isinstance(self._answering, Vectors) else [""]
        self._teacher: Any = None

    def encode(self, rows: Sequence[Item], *, learn: bool) -> list[Feature]:
        """One feature a row, cut where it is long; the model's prompts take turns."""
        texts = [
            row.texts
            if len(row.texts) == 2
            else self._prompts[i % len(self._prompts)] + row.texts[0]
            for i, row in enumerate(rows)
        ]
        encodings = self._bundle.tokenizer.encode_many(texts, max_tokens=self._limit)
        features = []
        for i, encoding in enumerate(encodings):
            ids, target = self._answering.ids(encoding.ids, i)
            features.append(Feature((ids,), target, i, rows[i].language, encoding.truncated))
        return features

    def network(self) -> Any:
        """The teacher without most of its layers, and without dropout: the teacher has none."""
        torch = import_extra("torch")
        self._teacher = load_network(self._bundle, self._answering.head).eval()
        student = copy.deepcopy(self._teacher)
        encoder = student.base_model.encoder
        encoder.layer = torch.nn.ModuleList([encoder.layer[first] for first, _ in self.blocks])
        student.config.num_hidden_layers = len(self.blocks)
        for module in student.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        self._teacher.requires_grad_(False)
        return student

    def weight(self, feature: Feature) -> float:
        """Every text counts the same."""
        return 1.0

    def loss(self, network: Any, batch: Sequence[Feature], random: np.random.Generator) -> Any:
        """Distance of the answers plus mean distance of the hidden states, summed over texts."""
        inputs = padded([feature.texts[0] for feature in batch], network)
        taught = self._taught(inputs, batch)
        said = self._answering.read(network, inputs, batch)
        losses_B = self._answering.losses(said.answer, taught.answer, inputs)
        for place, (_, last) in enumerate(self.blocks):
            distance_B = _distance(said.hidden[place + 1], taught.hidden[last], inputs)
            losses_B = losses_B + distance_B / len(self.blocks)
        return losses_B.sum()

    def predict(self, network: Any, batch: Sequence[Feature]) -> Sequence[float]:
        """How much the student agrees with the teacher on each, at most 1."""
        inputs = padded([feature.texts[0] for feature in batch], network)
        taught = self._taught(inputs, batch)
        said = self._answering.read(network, inputs, batch)
        alike_B: list[float] = self._answering.alike(said.answer, taught.answer, inputs).tolist()
        return alike_B

    def score(
        self, rows: Sequence[Item], features: Sequence[Feature], outputs: Sequence[float]
    ) -> Mapping[str, float]:
        """The mean by language."""
        found: dict[str, list[float]] = {}
        for feature, output in zip(features, outputs, strict=True):
            found.setdefault(feature.language, []).append(output)
        return {language: float(np.mean(found[language])) for language in sorted(found)}

    def save(self, network: Any, directory: Path) -> None:
        """As transformers writes it, in float32."""
        save_network(network, directory)

    def _taught(self, inputs: Mapping[str, Any], batch: Sequence[Feature]) -> Said:
        import torch

        device = inputs["input_ids"].device
        if self._teacher.device != device:
            self._teacher.to(device)
        with torch.no_grad():
            return self._answering.read(self._teacher, inputs, batch)


def _distance(student_BLD: Any, teacher_BLD: Any, inputs: Mapping[str, Any]) -> Any:
    """Squared distance of tokens over the spread of the teacher's, mean over each text's, [B].

    The spread makes layers count alike: saying the same of every token costs 1.
    """
    mask_BL = inputs["attention_mask"].float()
    teacher_BLD = teacher_BLD.float()
    tokens = mask_BL.sum()
    mean_D = (teacher_BLD * mask_BL[:, :, None]).sum((0, 1)) / tokens
    spread = (((teacher_BLD - mean_D) ** 2).sum(-1) * mask_BL).sum() / tokens
    far_BL = ((student_BLD.float() - teacher_BLD) ** 2).sum(-1) * mask_BL
    return far_BL.sum(1) / mask_BL.sum(1) / spread.clamp_min(1e-6)


def _prompts(bundle: Bundle) -> list[str]:
    """What is put before texts: a head's own prompt, the default one, or any of the model's."""
    if bundle.head is not None:
        return [str(bundle.head.get("prompt", ""))]
    if bundle.default_prompt is not None:
        return [bundle.prompts[bundle.default_prompt]]
    return sorted(set(bundle.prompts.values())) or [""]
