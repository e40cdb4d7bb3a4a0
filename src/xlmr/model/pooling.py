"""Hidden states become one vector. Pure.

Shapes: L tokens of one text, D hidden width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from xlmr.types import Rows

Array = NDArray[np.float32]
PoolingKind = Literal["mean", "cls"]


@dataclass(frozen=True, slots=True)
class Pooling:
    """How a model's token vectors become its sentence vector.

    Attributes:
        kind: the mean over all tokens, or the first token's vector.
        normalize: whether the sentence vector is scaled to length 1.
    """

    kind: PoolingKind = "mean"
    normalize: bool = True

    @property
    def rows(self) -> Rows:
        """Which rows of the last layer this pooling reads."""
        return "first" if self.kind == "cls" else "all"


def pool(hidden_LD: Array, kind: PoolingKind) -> Array:
    """One text's token vectors as one vector, [D], not normalised."""
    return cls(hidden_LD) if kind == "cls" else mean(hidden_LD)


def mean(hidden_LD: Array) -> Array:
    """The mean over all tokens, `<s>` and `</s>` included, [D]."""
    # As `mean` does it, which spends twice the time of the sum on looking at its arguments.
    sum_D = np.add.reduce(hidden_LD, axis=0, dtype=np.float64)
    result: Array = (sum_D / len(hidden_LD)).astype(np.float32)
    return result


def cls(hidden_LD: Array) -> Array:
    """The vector of the first token, `<s>`, [D]."""
    first_D: Array = hidden_LD[0]
    return first_D


def normalise(vector_D: Array) -> Array:
    """The vector at length 1. A zero vector stays zero rather than becoming NaN."""
    exact_D = vector_D.astype(np.float64)
    length = math.sqrt(np.dot(exact_D, exact_D))
    if length == 0:
        return vector_D
    unit_D: Array = (exact_D / length).astype(np.float32)
    return unit_D


def shorten(vector_D: Array, dimensions: int, *, normalize: bool) -> Array:
    """The first `dimensions` numbers, at length 1 again where asked (Matryoshka vectors)."""
    cut = vector_D[:dimensions]
    return normalise(cut) if normalize else cut
