"""A Hugging Face directory: files at their usual places, the card with its metadata, the licence.

`transformers` opens it, and `hf upload` puts it on a hub as it is. Ours are two files more:
manifest and signature. What comes back from a hub has the hub's own (`.gitattributes`), which are
hidden and count for nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xlmr.registry.exchange import Release, Sent, Write


class HuggingFaceDirectory:
    """A directory; with `force` a model that lies there is replaced."""

    def __init__(self, directory: Path, *, force: bool = False) -> None:
        self._directory = directory
        self._force = force
        self.place = f"hf:{directory}"

    def send(self, release: Release, write: Write) -> Sent:
        """See `Exchange`."""
        write(self._directory, self._force)
        return Sent(place=self.place)

    @contextmanager
    def fetch(self) -> Iterator[Path]:
        """See `Exchange`."""
        yield self._directory
