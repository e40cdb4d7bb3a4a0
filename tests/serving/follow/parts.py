"""A registry whose versions are signed, and small models that share an encoder and differ."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.tiny import tiny_model, write_linear_head

from xlmr.registry.catalogue import Catalogue
from xlmr.registry.registry import Registry
from xlmr.registry.roles import Actor
from xlmr.registry.signature import Signer, new_key_pair, read_trusted
from xlmr.registry.store import Store
from xlmr.settings import Settings

LABELS = ("refund", "delivery", "other")


def routers(place: Path, count: int) -> list[Path]:
    """Routers that say which they are: all but one label is out of reach."""
    tiny_model(place, "embed", positions=34)
    models = []
    for number in range(1, count + 1):
        model = place / f"model-{number}"
        shutil.copytree(place / "embed", model)
        write_linear_head(model, tuple(f"{label}-{number}" for label in LABELS), seed=number)
        models.append(model)
    return models


@dataclass
class Place:
    """A registry below a directory, and two key pairs, of which one is trusted."""

    root: Path
    database: str = ""

    def __post_init__(self) -> None:
        (self.root / "keys").mkdir(parents=True)
        for name in ("ours", "theirs"):
            private, public = new_key_pair()
            (self.root / f"{name}.key").write_bytes(private)
            (self.root / f"{name}.pem").write_bytes(public)
        shutil.copy(self.root / "ours.pem", self.root / "keys")

    def registry(self, *, key: str = "ours") -> Registry:
        """Open until its catalogue is closed; an empty key signs nothing."""
        keys = str(self.root / "keys")
        return Registry(
            Catalogue(self.database or str(self.root / "registry" / "catalogue.db")),
            Store(str(self.root / "registry" / "store")),
            Actor("ada"),
            signer=Signer(self.root / f"{key}.key") if key else None,
            trusted=read_trusted(keys) if key == "ours" else (),
        )

    def push(self, model: Path, *, live: bool = False, key: str = "ours") -> int:
        """A version more; its number."""
        registry = self.registry(key=key)
        version = registry.push("router", model).version
        if live:
            registry.set_alias(f"router@{version}", "live", override="a test")
        registry.catalogue.close()
        return version

    def promote(self, version: int, alias: str = "live") -> None:
        registry = self.registry()
        registry.set_alias(f"router@{version}", alias, override="a test")
        registry.catalogue.close()

    def rollback(self) -> None:
        registry = self.registry()
        registry.rollback("router", reason="a test")
        registry.catalogue.close()

    def settings(self, cache: str = "cache", **more: Any) -> Settings:
        """Of a server that follows it."""
        settings = {
            "runtime": "reference",
            "cache_dir": self.root / cache,
            "registry": self.database or str(self.root / "registry"),
            "registry_store": str(self.root / "registry" / "store"),
            "trusted_keys": str(self.root / "keys"),
            "follow_seconds": 0.05,
        }
        return Settings(**settings | more)
