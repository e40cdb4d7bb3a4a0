"""What a student learns to say as its teacher says it, task by task.

Shapes: B texts of a batch, L tokens of its longest, D hidden width, C outputs, V vocabulary,
M masked tokens of the batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from xlmr.model.bundle import Bundle
from xlmr.training.objective import Feature

_HIDDEN_SHARE = 0.15


@dataclass(frozen=True, slots=True)
class Said:
    """What a network says of a batch: its answer, and its hidden states, bottom up, [B, L, D]."""

    answer: Any
    hidden: Sequence[Any]


class Answering(Protocol):
    """A kind of answer.

    Attributes:
        head: the end of the name of transformers' class.
        agreement: what `alike` measures.
    """

    head: str
    agreement: str

    def ids(self, ids: Sequence[int], row: int) -> tuple[tuple[int, ...], Any]:
        """What is read of a text, and what must be known of it later."""

    def read(self, network: Any, inputs: Mapping[str, Any], batch: Sequence[Feature]) -> Said:
        """Lets a network answer."""

    def losses(self, student: Any, teacher: Any, inputs: Mapping[str, Any]) -> Any:
        """How far the student's answers are from the teacher's, [B]."""

    def alike(self, student: Any, teacher: Any, inputs: Mapping[str, Any]) -> Any:
        """How much they agree, at most 1, [B]."""


def answering(bundle: Bundle) -> Answering:
    """The kind of answer that a model gives."""
    kind = str((bundle.raw_config.get("architectures") or ["Model"])[0])
    if bundle.head is not None:
        normalize = bundle.head.get("normalize") is True
        return Vectors(str(bundle.head.get("pooling")), normalize)
    if kind.endswith("ForSequenceClassification"):
        return Outputs(str(bundle.raw_config.get("problem_type")))
    if kind.endswith("ForTokenClassification"):
        return Tags()
    if kind.endswith("ForQuestionAnswering"):
        return Spans()
    if kind.endswith("ForMaskedLM"):
        return Pieces(bundle.tokenizer.mask_id)
    return Vectors(bundle.pooling.kind, bundle.pooling.normalize)


class _Whole:
    """Reads texts as they are."""

    def ids(self, ids: Sequence[int], row: int) -> tuple[tuple[int, ...], Any]:
        """All of them."""
        return tuple(ids), None

    def read(self, network: Any, inputs: Mapping[str, Any], batch: Sequence[Feature]) -> Said:
        """One pass."""
        outputs = network(**inputs, output_hidden_states=True)
        return Said(self.answer_of(outputs, inputs), outputs.hidden_states)

    def answer_of(self, outputs: Any, inputs: Mapping[str, Any]) -> Any:
        """Out of what transformers gives."""
        raise NotImplementedError


class Vectors(_Whole):
    """Sentence vectors, [B, D]: the squared distance over the spread of the teacher's vectors."""

    head, agreement = "Model", "cosine"

    def __init__(self, pooling: str, normalize: bool) -> None:
        self._pooling, self._normalize = pooling, normalize

    def answer_of(self, outputs: Any, inputs: Mapping[str, Any]) -> Any:
        """The pooled vectors."""
        import torch

        hidden_BLD = outputs.last_hidden_state.float()
        if self._pooling == "cls":
            vectors_BD = hidden_BLD[:, 0]
        else:
            mask_BL1 = inputs["attention_mask"][:, :, None].float()
            vectors_BD = (hidden_BLD * mask_BL1).sum(1) / mask_BL1.sum(1)
        if self._normalize:
            vectors_BD = torch.nn.functional.normalize(vectors_BD, dim=-1)
        return vectors_BD

    def losses(self, student: Any, teacher: Any, inputs: Mapping[str, Any]) -> Any:
        """See the class. A batch of like vectors has no spread; their own length stands in."""
        spread = ((teacher - teacher.mean(0)) ** 2).sum(1).mean()
        own = (teacher**2).sum(1).mean()
        return ((student - teacher) ** 2).sum(1) / spread.clamp_min(0.01 * own)

    def alike(self, student: Any, teacher: Any, inputs: Mapping[str, Any]) -> Any:
        """Cosine."""
        import torch

        return torch.nn.functional.cosine_similarity(student, teacher, dim=-1)


class Outputs(_Whole):
    """The outputs of a sequence classifier, [B, C]."""

    head, agreement = "SequenceClassification", "agreement"

    def __init__(self, problem: str) -> None:
        self._problem = problem

    def answer_of(self, outputs: Any, inputs: Mapping[str, Any]) -> Any:
        """The logits."""
        return outputs.logits.float()

    def losses(self, student: Any, teacher: Any, inputs: Mapping[str, Any]) -> Any:
        """Divergence of the probabilities; squared distance where the outputs are numbers."""
        import torch

        if self._problem == "multi_label_classification":
            return torch.nn.functional.binary_cross_entropy_with_logits(
                student, teacher.sigmoid(), reduction="none"
            ).mean(1)
        if teacher.shape[1] == 1:
            return ((student - teacher) ** 2).mean(1)
        return _divergence(student, teacher)

    def alike(self, student: Any, teacher: Any, inputs: Mapping[str, Any]) -> Any:
        """1 where the answers are the same; for numbers less by their distance."""
        if self._problem == "multi_label_classification":
            return ((student > 0) == (teacher > 0)).all(1).float()
        if teacher.shape[1] == 1:
            return 1.0 - (student - teacher).abs().mean(1)
        return (student.argmax(1) == teacher.argmax(1)).float()


class Tags(_Whole):
    """The outputs of a tagger, [B, L, C]; tokens of a text count alike."""

    head, agreement = "TokenClassification", "agreement"

    def answer_of(self, outputs: Any, inputs: Mapping[str, Any]) -> Any:
        """The logits."""
        return outputs.logits.float()

    def losses(self, student: Any, teacher: Any, inputs: Mapping[str, Any]) -> Any:
        """Divergence of the probabilities, mean over tokens."""
        return _token_mean(_divergence(student, teacher), inputs)

    def alike(self, student: Any, teacher: Any, inputs: Mapping[str, Any]) -> Any:
        """Share of tokens with the same tag."""
        return _token_mean((student.argmax(-1) == teacher.argmax(-1)).float(), inputs)


class Spans(_Whole):
    """Where an answer starts and ends, [B, 2, L]."""

    head, agreement = "QuestionAnswering", "agreement"

    def answer_of(self, outputs: Any, inputs: Mapping[str, Any]) -> Any:
        """Both rows of logits; padding is no place to start."""
        import torch

        both_B2L = torch.stack([outputs.start_logits, outputs.end_logits], dim=1).float()
        return both_B2L.masked_fill(inputs["attention_mask"][:, None, :] == 0, -1e4)

    def losses(self, student: Any, teacher: Any, inputs: Mapping[str, Any]) -> Any:
        """Divergence of both."""
        return _divergence(student, teacher).mean(1)

    def alike(self, student: Any, teacher: Any, inputs: Mapping[str, Any]) -> Any:
        """1 where both ends are the same."""
        return (student.argmax(-1) == teacher.argmax(-1)).all(1).float()


class Pieces:
    """The pieces behind masks, [M, V]. Which tokens are masked follows from a text's place."""

    head, agreement = "MaskedLM", "agreement"

    def __init__(self, mask_id: int) -> None:
        self._mask_id = mask_id

    def ids(self, ids: Sequence[int], row: int) -> tuple[tuple[int, ...], Any]:
        """The text with some tokens masked, at least one, and their places."""
        inner = np.arange(1, len(ids) - 1) if len(ids) > 2 else np.arange(len(ids))
        count = max(1, round(_HIDDEN_SHARE * len(inner)))
        places = np.sort(np.random.default_rng(row).permutation(inner)[:count])
        masked = np.array(ids)
        masked[places] = self._mask_id
        return tuple(masked.tolist()), tuple(places.tolist())

    def read(self, network: Any, inputs: Mapping[str, Any], batch: Sequence[Feature]) -> Said:
        """The head reads masked tokens only: all tokens times the vocabulary would be too much."""
        import torch

        outputs = network.base_model(**inputs, output_hidden_states=True)
        texts_M = torch.tensor([b for b, feature in enumerate(batch) for _ in feature.target])
        places_M = torch.tensor([place for feature in batch for place in feature.target])
        logits_MV = network.lm_head(outputs.last_hidden_state[texts_M, places_M]).float()
        return Said((logits_MV, texts_M.to(logits_MV.device), len(batch)), outputs.hidden_states)

    def losses(self, student: Any, teacher: Any, inputs: Mapping[str, Any]) -> Any:
        """Divergence, mean over a text's masks."""
        return _mean_by_text(_divergence(student[0], teacher[0]), *student[1:])

    def alike(self, student: Any, teacher: Any, inputs: Mapping[str, Any]) -> Any:
        """Share of masks with the same first piece."""
        same_M = (student[0].argmax(-1) == teacher[0].argmax(-1)).float()
        return _mean_by_text(same_M, *student[1:])


def _divergence(student: Any, teacher: Any) -> Any:
    """Of the probabilities over the last axis, from the teacher's."""
    import torch

    return torch.nn.functional.kl_div(
        student.log_softmax(-1), teacher.log_softmax(-1), reduction="none", log_target=True
    ).sum(-1)


def _token_mean(values_BL: Any, inputs: Mapping[str, Any]) -> Any:
    mask_BL = inputs["attention_mask"].float()
    return (values_BL * mask_BL).sum(1) / mask_BL.sum(1)


def _mean_by_text(values_M: Any, texts_M: Any, count: int) -> Any:
    import torch

    # As a product with zeros and ones: adding by index has no fixed order on a GPU.
    member_BM = torch.nn.functional.one_hot(texts_M, count).T.to(values_M.dtype)
    return (member_BM @ values_M) / member_BM.sum(1)
