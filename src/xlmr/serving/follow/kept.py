"""The routing of each name as it was last carried out, on disk: what a server starts from that
cannot reach its registry.
"""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from urllib.parse import urlsplit

from xlmr.errors import XlmrError
from xlmr.registry.rollout.routing import Routing
from xlmr.wholly import write_whole

logger = logging.getLogger("xlmr.serving.follow")


class Kept:
    """Routings of one registry, a file for each name. Two servers may share them.

    Args:
        root: the directory of the files.
        registry: the registry's path or URL; passwords in it may change.
    """

    def __init__(self, root: Path, *, registry: str) -> None:
        self._root = root
        parts = urlsplit(registry)
        self._registry = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()

    def read(self, name: str) -> Routing | None:
        """What was last kept of a name; None where nothing was, or it cannot be read."""
        path = self._path(name)
        try:
            return Routing.from_json(json.loads(path.read_bytes()), origin=path.name)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError, XlmrError) as fault:
            logger.warning("%s: what was kept of %s cannot be read: %s", path, name, fault)
            return None

    def write(self, routing: Routing) -> bool:
        """Keeps a routing, whole or not at all; whether it could be written."""
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            write_whole(self._path(routing.name), json.dumps(routing.to_json(), indent=1))
        except OSError as fault:
            logger.warning("the routing of %s cannot be kept: %s", routing.name, fault.strerror)
            return False
        return True

    def _path(self, name: str) -> Path:
        told = hashlib.sha256(f"{self._registry}\n{name}".encode()).hexdigest()
        return self._root / f"{told[:32]}.json"
