"""The readable forward pass behind the port: slow, exact, and what the others are held against."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from threading import Event

import numpy as np
from numpy.typing import NDArray

from xlmr.errors import CancelledError
from xlmr.model.bundle import EncoderFiles
from xlmr.model.config import EncoderConfig
from xlmr.model.encoder import encode_text
from xlmr.model.runtime import check_batch
from xlmr.types import Batch, Hidden, Rows


class ReferenceRuntime:
    """Numpy in float32. Safe to call from several threads: it only reads."""

    name = "reference fp32 numpy"

    def __init__(
        self,
        weights: Mapping[str, NDArray[np.float32]],
        config: EncoderConfig,
        *,
        batch_tokens: int = 4096,
    ) -> None:
        self.config = config
        self.max_batch_tokens = batch_tokens
        self._weights = weights
        self._closed = Event()

    @classmethod
    def open(cls, bundle: EncoderFiles, *, batch_tokens: int = 4096) -> ReferenceRuntime:
        """Reads a bundle's encoder.

        Raises:
            WeightsError: the weights cannot be read.
        """
        weights = bundle.weights()
        arrays = {name: weights.encoder(name) for name in weights.encoder_names()}
        return cls(arrays, bundle.config, batch_tokens=batch_tokens)

    def warm(self) -> None:
        """Computes the shortest text there is, so that the weights are in memory."""
        shortest = np.array([0, 2], np.int32)
        self.run(Batch(ids_T=shortest, starts=np.array([0, 2], np.int32)))

    def run(self, batch: Batch, *, rows: Rows = "all") -> Hidden:
        """See `xlmr.model.runtime.Runtime.run`; cancels between texts."""
        check_batch(batch, self.config, self.max_batch_tokens)
        hidden = []
        for start, end in itertools.pairwise(batch.starts):
            if self._closed.is_set() or (batch.given_up is not None and batch.given_up[0]):
                raise CancelledError("it was given up, or the runtime was closed")
            hidden_LD = encode_text(batch.ids_T[start:end], self._weights, self.config)
            hidden.append(hidden_LD[:1].copy() if rows == "first" else hidden_LD)
        starts_B = batch.starts
        if rows == "first":
            starts_B = np.arange(len(hidden) + 1, dtype=np.int32)
        empty = np.zeros((0, self.config.hidden), np.float32)
        return Hidden(hidden_TD=np.concatenate([empty, *hidden]), starts=starts_B)

    def close(self) -> None:
        """Refuses what comes from now on and stops what is running, between two texts."""
        self._closed.set()
