"""Servers for other people's clients: each client is pointed at a real one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.serving.conftest import House, running
from tests.tiny import tiny_model


@pytest.fixture(scope="session")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """An embedder, a classifier and a ranker behind HTTP and gRPC."""
    root = tmp_path_factory.mktemp("clients")
    places = [str(tiny_model(root, kind, seed=5)) for kind in ("embed", "classify", "rerank")]
    cache = tmp_path_factory.mktemp("clients-cache")
    with running(places, cache_dir=cache, grpc_port=0) as house:
        yield house
