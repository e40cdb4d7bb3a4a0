"""Masked words: the vector of a `<mask>` becomes the pieces that fit there.

Shapes: D hidden width, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xlmr.errors import ModelRefusedError
from xlmr.model.config import EncoderConfig
from xlmr.model.encoder import gelu, layer_norm, linear, softmax
from xlmr.model.weights import Weights

Array = NDArray[np.float32]


@dataclass(frozen=True)
class FillHead:
    """The masked language model's head: dense, GELU, norm, then the word embedding as decoder."""

    arrays: dict[str, Array]
    decoder_VD: Array
    bias_V: Array
    epsilon: float

    @classmethod
    def open(cls, weights: Weights, config: EncoderConfig) -> FillHead:
        """Reads the head. The decoder is the word embedding unless the checkpoint has its own.

        Raises:
            WeightsError: the checkpoint lacks it.
            ModelRefusedError: the decoder has not as many rows as the vocabulary.
        """
        names = [
            f"{part}.{kind}" for part in ("dense", "layer_norm") for kind in ("weight", "bias")
        ]
        own = "lm_head.decoder.weight"
        decoder_VD = weights.head(own) if weights.has(own) else weights.encoder("embeddings.word")
        bias = "lm_head.bias" if weights.has("lm_head.bias") else "lm_head.decoder.bias"
        bias_V = weights.head(bias)
        if decoder_VD.shape != (config.vocabulary, config.hidden) or len(bias_V) != len(decoder_VD):
            raise ModelRefusedError(
                f"shapes {decoder_VD.shape} and {bias_V.shape} for a vocabulary of "
                f"{config.vocabulary}",
                field="lm_head.decoder.weight",
            )
        return cls(
            arrays={name: weights.head(f"lm_head.{name}") for name in names},
            decoder_VD=decoder_VD,
            bias_V=bias_V,
            epsilon=config.norm_epsilon,
        )

    def logits(self, hidden_D: Array) -> Array:
        """The score of every piece for one mask, [V]. One mask at a time bounds the memory."""
        dense_D = gelu(linear(hidden_D, self.arrays, "dense"))
        normed_D = layer_norm(dense_D, self.arrays, "layer_norm", self.epsilon)
        logits_V: Array = self.decoder_VD @ normed_D + self.bias_V
        return logits_V


def top_pieces(logits_V: Array, top: int) -> list[tuple[int, float]]:
    """The likeliest piece ids with their probabilities, falling; equal ones by id."""
    top = min(top, len(logits_V))
    threshold = np.partition(logits_V, -top)[-top]
    candidates = np.flatnonzero(logits_V >= threshold)
    order = candidates[np.argsort(-logits_V[candidates], kind="stable")][:top]
    probabilities_V = softmax(logits_V)
    return [(int(i), float(probabilities_V[i])) for i in order]
