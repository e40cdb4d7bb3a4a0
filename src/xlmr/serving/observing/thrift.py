"""Redacting in its share of time: where there is more, records go without their texts.

It is done in the process that answers, and some texts take a thousand times as long as others.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from xlmr.feedback.record import Record
from xlmr.serving.routing.shadows import Share

# Of one processor.
_SHARE = 0.2


class Thrifty:
    """What keeps records (`policy.Keeper`), held to its share of time. Belongs to one thread."""

    def __init__(
        self,
        keep: Callable[[Record], Record],
        *,
        on_drop: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
        worked: Callable[[], float] = time.thread_time,
    ) -> None:
        """`on_drop` is told of each text that is not kept; `worked` is this thread's own clock."""
        self._keep = keep
        self._on_drop = on_drop
        self._clock = clock
        self._worked = worked
        self._share = Share(clock())

    def __call__(self, record: Record) -> Record:
        """The record as it is kept."""
        if not record.text:
            return self._keep(record)
        if self._share.left_s(_SHARE, self._clock()) <= 0.0:
            self._on_drop()
            return self._keep(msgspec.structs.replace(record, text=""))
        began = self._worked()
        kept = self._keep(record)
        self._share.use(self._worked() - began)
        return kept
