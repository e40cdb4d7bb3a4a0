"""A server that has a model for every verb."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.serving.conftest import House, running
from tests.tiny import tiny_model

# Which of the tiny models answers for which task; tasks of an operation are its `task`.
MODEL_OF_TASK = {
    "classify": "classify",
    "embed": "embed",
    "tag": "tag",
    "answer": "answer",
    "zero_shot": "zero_shot",
    "fill": "fill",
    "rerank": "rerank",
    "tokenize": "embed",
    "detokenize": "embed",
    "invoke": "classify",
}
KINDS = (*dict.fromkeys(MODEL_OF_TASK.values()), "multi_label", "regression")


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A server with a tiny model of every kind, shared by tests that leave it as they found it."""
    root = tmp_path_factory.mktemp("zoo")
    places = [str(tiny_model(root, kind, seed=2)) for kind in KINDS]
    cache: Path = tmp_path_factory.mktemp("zoo-cache")
    feedback = {"feedback": str(cache / "feedback.db"), "feedback_key": "ef" * 32}
    with running(places, cache_dir=cache, max_body_bytes=300_000, **feedback) as house:
        yield house


@pytest.fixture(scope="session")
def model_of_task() -> Mapping[str, str]:
    """Which model of the zoo a task is asked of."""
    return MODEL_OF_TASK


@pytest.fixture(scope="session")
def ask(zoo: House) -> Any:
    """`ask("tag", model="tag", input="…")` is `POST /v1/tag`; gives the items of its answer."""

    def ask(verb: str, **body: Any) -> list[dict[str, Any]]:
        reply = zoo.client.post(f"/v1/{verb}", json=body)
        assert reply.status_code == 200, reply.text
        items: list[dict[str, Any]] = reply.json()["items"]
        return items

    return ask
