"""What a runtime must offer to be timed, and the padding that most of them need."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from xlmr.types import Batch

Array = NDArray[np.float32]


class Contestant(Protocol):
    """A runtime with a model loaded and its threads set."""

    @property
    def name(self) -> str:
        """Runtime and number format: `openvino int8`."""

    @property
    def version(self) -> str:
        """Version of the runtime's package."""

    def prepare(self, batch: Batch) -> Callable[[], Any]:
        """Brings a batch into the runtime's own form, outside the clock.

        The function returned computes the last layer of every token; it is what is timed.
        """

    def texts(self, output: Any, batch: Batch) -> list[Array]:
        """What that function returned, text by text: float32 [L, D] each, without padding."""

    def close(self) -> None:
        """Gives the memory back."""


def pad(batch: Batch, pad_id: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ids and attention mask as rectangles, [B, longest] each, padded on the right."""
    lengths_B = np.diff(batch.starts)
    mask_BL = np.arange(lengths_B.max())[None, :] < lengths_B[:, None]
    ids_BL = np.full(mask_BL.shape, pad_id, np.int64)
    ids_BL[mask_BL] = batch.ids_T
    return ids_BL, mask_BL.astype(np.int64)


def unpad(hidden_BLD: Array, batch: Batch) -> list[Array]:
    """The rows of real tokens, text by text."""
    lengths = np.diff(batch.starts)
    return [hidden_BLD[b, :length] for b, length in enumerate(lengths)]


def split(hidden_TD: Array, batch: Batch) -> list[Array]:
    """A flat row of tokens, text by text."""
    return [hidden_TD[start:end] for start, end in itertools.pairwise(batch.starts)]
