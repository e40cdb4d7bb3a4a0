"""How well a document answers a query: one output of a head that reads both.

A long document read through several windows is as relevant as its best window.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from xlmr.model.heads.classify import sigmoid

Array = NDArray[np.float32]


def relevance(logits_W1: Sequence[Array], *, raw: bool) -> float:
    """The relevance of a document, 0 to 1, or the output itself where `raw`.

    Args:
        logits_W1: the head's one output for each window.
        raw: leave out the sigmoid.
    """
    best_1 = np.max(np.stack(logits_W1), axis=0)
    return float(best_1[0] if raw else sigmoid(best_1)[0])


def falling(scores: Sequence[float]) -> list[int]:
    """Indices in falling order of score, equal ones in the given order."""
    return sorted(range(len(scores)), key=lambda i: -scores[i])
