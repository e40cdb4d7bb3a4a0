"""A server that keeps records of what a model for every task answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.serving.conftest import House, running
from tests.tiny import KINDS, tiny_model

from xlmr.feedback.record import Hasher, Record

KEY = "ab" * 32
POLICY = '[text]\nkeep = "redacted"\n[text.languages.ru]\nkeep = "nothing"\n'


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """It keeps redacted texts, Russian ones excepted; tests leave it as they found it."""
    root = tmp_path_factory.mktemp("observed")
    (root / "policy.toml").write_text(POLICY)
    knobs: dict[str, Any] = {
        "feedback": str(root / "feedback.db"),
        "feedback_key": KEY,
        "feedback_policy": str(root / "policy.toml"),
        "cache_dir": root / "cache",
        "grpc_port": 0,
        "max_items": 8,
    }
    places = [str(tiny_model(root, kind, seed=3)) for kind in KINDS]
    with running(places, **knobs) as house:
        yield house


@pytest.fixture(scope="session")
def hasher() -> Hasher:
    return Hasher(bytes.fromhex(KEY))


@pytest.fixture
def records(kept: House) -> Any:
    """`records()` are the new ones, by their ids, once everything has been written."""
    observing = kept.observing
    assert observing.observer is not None
    assert observing.writer is not None
    assert observing.store is not None
    seen: set[str] = set()

    def read() -> dict[str, Record]:
        observing.observer.flush(20)
        observing.writer.flush(20)
        found = {record.id: record for record in observing.store().records()}
        new = {id: record for id, record in found.items() if id not in seen}
        seen.update(found)
        return new

    read()
    return read
