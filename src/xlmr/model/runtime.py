"""The port every runtime implements: a batch of token ids in, the last layer out.

A runtime may be called from several threads at once. It computes exactly the tokens it is given:
no padding, and an answer never depends on which other texts share the batch.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from xlmr.errors import BudgetError, InputError
from xlmr.model.config import EncoderConfig
from xlmr.types import Batch, Encoding, Hidden, Rows


class Runtime(Protocol):
    """What `xlmr.model.runtimes` offers to everything above it."""

    @property
    def name(self) -> str:
        """Which runtime this is and how it computes: `native int8 avx512vnni`."""

    @property
    def config(self) -> EncoderConfig:
        """The architecture it computes."""

    @property
    def max_batch_tokens(self) -> int:
        """Largest batch it accepts; a larger one is refused before anything is allocated."""

    def warm(self) -> None:
        """Touches weights and grows buffers, so that the first answer is not the slowest."""

    def run(self, batch: Batch, *, rows: Rows = "all") -> Hidden:
        """Computes the last layer.

        Raises:
            InputError: ids outside the vocabulary, an empty text, or one longer than the model.
            BudgetError: more than `max_batch_tokens` tokens.
            CancelledError: `close` was called meanwhile, or the batch was given up.
        """

    def close(self) -> None:
        """Gives the memory back. Calling it twice is harmless."""


def pack(encodings: Sequence[Encoding], *, given_up: NDArray[np.uint8] | None = None) -> Batch:
    """Lays encodings end to end; `given_up` as in `Batch`."""
    # An array takes whole tuples, ten times as fast as numpy takes numbers.
    ids, starts = array("i"), array("i", (0,))
    for encoding in encodings:
        ids.extend(encoding.ids)
        starts.append(len(ids))
    ids_T, starts_B = np.frombuffer(ids, np.int32), np.frombuffer(starts, np.int32)
    return Batch(ids_T, starts_B, given_up)


def check_batch(batch: Batch, config: EncoderConfig, max_batch_tokens: int) -> None:
    """Refuses what no runtime can compute, before it allocates anything.

    Raises:
        InputError: see `Runtime.run`.
        BudgetError: see `Runtime.run`.
    """
    starts, ids = batch.starts, batch.ids_T
    if (
        starts.ndim != 1
        or ids.ndim != 1
        or len(starts) < 1
        or starts[0] != 0
        or starts[-1] != len(ids)
    ):
        raise InputError("starts must rise from 0 to the number of ids")
    lengths = np.diff(starts)
    if len(lengths) and lengths.min() < 1:
        raise InputError("a text without tokens", path=f"$[{int(lengths.argmin())}]")
    if len(lengths) and lengths.max() > config.max_tokens:
        raise InputError(
            f"{int(lengths.max())} tokens; the model reads {config.max_tokens}",
            path=f"$[{int(lengths.argmax())}]",
        )
    if len(ids) > max_batch_tokens:
        raise BudgetError(
            f"{len(ids)} tokens in one batch; the budget is {max_batch_tokens}",
            hint="send fewer texts at once or raise XLMR_BATCH_TOKENS",
        )
    if len(ids) and (ids.min() < 0 or ids.max() >= config.vocabulary):
        raise InputError(f"token ids must lie in 0..{config.vocabulary - 1}")
