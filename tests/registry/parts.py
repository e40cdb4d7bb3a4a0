"""Small models that differ, gates' reports on them, and a registry to put them into."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from tests.tiny import tiny_model

from xlmr.model.bundle import open_bundle
from xlmr.registry.catalogue import Catalogue
from xlmr.registry.promotion import evidence_digest
from xlmr.registry.registry import Registry
from xlmr.registry.roles import Actor
from xlmr.registry.store import Store


def small_models(place: Path, count: int) -> list[Path]:
    """Model directories that share their largest file and answer differently."""
    tiny_model(place, "classify")
    models = []
    for number in range(1, count + 1):
        model = place / f"model-{number}"
        shutil.copytree(place / "classify", model)
        head = {"format": 1, "lineage": {"code": f"revision {number}"}, "note": number}
        (model / "xlmr.json").write_text(json.dumps(head))
        models.append(model)
    return models


def gate_report(model: Path, *, live: Path | None = None, released: bool = True) -> dict[str, Any]:
    """What `xlmr gate --json` writes, as far as a registry reads it."""
    reasons = [] if released else [{"check": "macro", "message": "2.0 points worse"}]
    said: dict[str, Any] = {
        "decision": {"released": released, "reasons": reasons},
        "task": "classify",
        "model": {"digest": open_bundle(model).digest, "runtime": "native"},
        "live": {"digest": open_bundle(live).digest, "runtime": "native"} if live else None,
        "data": [{"file": "en.test.jsonl"}],
        "evidence": {"ece": {"en": 0.031}},
        "policy": {"waived": []},
    }
    return {"digest": evidence_digest(said), **said}


def open_at(place: Path, **more: Any) -> Registry:
    """The registry below a directory."""
    return Registry(
        Catalogue(str(place / "catalogue.db")),
        Store(str(place / "store")),
        more.pop("actor", Actor("ada")),
        **more,
    )
