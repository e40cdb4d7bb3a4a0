"""The forward pass in numpy, written to be read: what every runtime is measured against.

Pure: arrays in, arrays out. Texts are computed one after the other and never padded, so an answer
cannot depend on its batch-mates.

Shapes: T tokens of the batch, L tokens of one text, D hidden width, F feed-forward width,
H width of one attention head.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from xlmr.model.config import EncoderConfig
from xlmr.types import Batch

Array = NDArray[np.float32]
Arrays = Mapping[str, Array]

# W. J. Cody, "Rational Chebyshev approximations for the error function", Math. Comp. 23 (1969):
# erfc(x) = exp(-x²) P(x) / Q(x) for x from 0.46875 to 4, highest power first. Used here from 0
# upwards, where it stays within 1e-11 of erfc: far below what float32 can hold.
_ERFC_P = (
    *(2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594, 6.61191906371416295e1),
    *(2.98635138197400131e2, 8.81952221241769090e2, 1.71204761263407058e3, 2.05107837782607147e3),
    1.23033935479799725e3,
)
_ERFC_Q = (
    *(1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2),
    *(1.62138957456669019e3, 3.29079923573345963e3, 4.36261909014324716e3),
    *(3.43936767414372164e3, 1.23033935480374942e3),
)


def encode(batch: Batch, weights: Arrays, config: EncoderConfig) -> Array:
    """The last layer of every token.

    Args:
        batch: texts laid end to end, none longer than `config.max_tokens`.
        weights: the encoder's arrays under the names of `xlmr.model.weights`.
        config: the architecture.

    Returns:
        float32 [T, D].
    """
    texts = [batch.ids_T[start:end] for start, end in itertools.pairwise(batch.starts)]
    hidden = [encode_text(ids_L, weights, config) for ids_L in texts]
    return np.concatenate(hidden) if hidden else np.zeros((0, config.hidden), np.float32)


def encode_text(ids_L: NDArray[np.int32], weights: Arrays, config: EncoderConfig) -> Array:
    """The last layer of one text's tokens, float32 [L, D]."""
    hidden_LD = embed(ids_L, weights, config)
    for i in range(config.layers):
        layer = f"layers.{i}."
        if config.pre_norm:
            hidden_LD = _pre_norm_layer(hidden_LD, weights, layer, config)
        else:
            hidden_LD = _post_norm_layer(hidden_LD, weights, layer, config)
    if config.pre_norm:
        hidden_LD = layer_norm(hidden_LD, weights, "final_norm", config.norm_epsilon)
    return hidden_LD


def embed(ids_L: NDArray[np.int32], weights: Arrays, config: EncoderConfig) -> Array:
    """Word, position and type vectors added up. Positions start after the padding id's row."""
    first = config.pad_id + 1
    hidden_LD: Array = weights["embeddings.word"][ids_L] + weights["embeddings.type"][0]
    hidden_LD += weights["embeddings.position"][first : first + len(ids_L)]
    if config.pre_norm:
        return hidden_LD
    return layer_norm(hidden_LD, weights, "embeddings.norm", config.norm_epsilon)


def _post_norm_layer(hidden_LD: Array, weights: Arrays, layer: str, config: EncoderConfig) -> Array:
    """XLM-R: a norm after each block, over the block's output plus its input."""
    epsilon = config.norm_epsilon
    attended_LD = hidden_LD + attention(hidden_LD, weights, layer, config)
    attended_LD = layer_norm(attended_LD, weights, layer + "attention_norm", epsilon)
    fed_LD = attended_LD + feed_forward(attended_LD, weights, layer)
    return layer_norm(fed_LD, weights, layer + "output_norm", epsilon)


def _pre_norm_layer(hidden_LD: Array, weights: Arrays, layer: str, config: EncoderConfig) -> Array:
    """XLM-R XL: a norm before each block, and the sum left as it is."""
    epsilon = config.norm_epsilon
    normed_LD = layer_norm(hidden_LD, weights, layer + "attention_norm", epsilon)
    hidden_LD = hidden_LD + attention(normed_LD, weights, layer, config)
    normed_LD = layer_norm(hidden_LD, weights, layer + "output_norm", epsilon)
    return hidden_LD + feed_forward(normed_LD, weights, layer)


def attention(hidden_LD: Array, weights: Arrays, layer: str, config: EncoderConfig) -> Array:
    """Every token looks at every token of its text, [L, D].

    One head at a time: all heads of an 8,192-token text at once would be gigabytes of scores.
    """
    query_LD = linear(hidden_LD, weights, layer + "query")
    key_LD = linear(hidden_LD, weights, layer + "key")
    value_LD = linear(hidden_LD, weights, layer + "value")
    mixed_LD = np.empty_like(query_LD)
    width = config.head_width
    scale = np.float32(1 / np.sqrt(width))
    for start in range(0, config.hidden, width):
        head = slice(start, start + width)
        scores_LL = query_LD[:, head] @ key_LD[:, head].T * scale
        mixed_LD[:, head] = softmax(scores_LL) @ value_LD[:, head]
    return linear(mixed_LD, weights, layer + "output")


def feed_forward(hidden_LD: Array, weights: Arrays, layer: str) -> Array:
    """Up to F, through GELU, down to D again, [L, D]."""
    return linear(gelu(linear(hidden_LD, weights, layer + "up")), weights, layer + "down")


def linear(rows: Array, weights: Arrays, name: str) -> Array:
    """`rows @ weight.T + bias`; matrices are stored [out, in]."""
    product: Array = rows @ weights[name + ".weight"].T
    return product + weights[name + ".bias"]


def layer_norm(rows: Array, weights: Arrays, name: str, epsilon: float) -> Array:
    """Each row to mean 0 and variance 1, then scaled and shifted."""
    centred = rows - rows.mean(axis=-1, keepdims=True)
    variance = np.mean(np.square(centred), axis=-1, keepdims=True)
    normed: Array = centred / np.sqrt(variance + np.float32(epsilon))
    return normed * weights[name + ".weight"] + weights[name + ".bias"]


def softmax(scores: Array) -> Array:
    """Probabilities over the last axis. The true maximum is subtracted, so nothing overflows."""
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    result: Array = powers / powers.sum(axis=-1, keepdims=True)
    return result


def gelu(x: Array) -> Array:
    """The exact GELU, x Φ(x), float32. The tanh formula is another function, 3e-4 away."""
    wide = x.astype(np.float64)
    return (0.5 * wide * (1.0 + erf(wide / np.sqrt(2.0)))).astype(np.float32)


def erf(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The error function, to 1e-11."""
    size = np.abs(x)
    # Beyond 6 the complement is below 1e-16; the clip keeps the polynomials from overflowing.
    clipped = np.minimum(size, 6.0)
    ratio = np.polyval(_ERFC_P, clipped) / np.polyval(_ERFC_Q, clipped)
    result: NDArray[np.float64] = np.copysign(1.0 - np.exp(-clipped * clipped) * ratio, x)
    return result
