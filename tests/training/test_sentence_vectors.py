"""Texts read in groups have the vectors they have alone, and little is padded."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.tiny import tiny_model, tiny_network

from xlmr.model.bundle import open_bundle
from xlmr.model.pooling import Pooling
from xlmr.training.sentence_vectors import (
    learned_vectors,
    length_groups,
    prompt_names,
    served_vectors,
)


@given(lengths=st.lists(st.integers(1, 500), min_size=1, max_size=60))
def test_groups_hold_every_text_once_and_never_cost_more(lengths: list[int]) -> None:
    groups = length_groups(lengths)
    assert sorted(i for group in groups for i in group) == list(range(len(lengths)))
    cost = sum(len(group) * max(lengths[i] for i in group) for group in groups)
    assert cost <= len(lengths) * max(lengths)


def test_short_and_long_texts_part() -> None:
    groups = length_groups([200, 10, 200, 11, 12, 199])
    assert [sorted(group) for group in groups] == [[1, 3, 4], [0, 2, 5]]
    assert len(length_groups([20, 21, 22, 20])) == 1


@pytest.mark.parametrize("kind", ["mean", "cls"])
def test_a_vector_does_not_depend_on_its_company(kind: str) -> None:
    network, pooling = tiny_network("embed"), Pooling(kind=kind)  # type: ignore[arg-type]
    texts = [tuple([0, *range(5, 5 + n), 2]) for n in (3, 90, 1, 40, 91, 2)]
    with torch.no_grad():
        together = learned_vectors(network, texts, pooling)
        alone = torch.cat([learned_vectors(network, [text], pooling) for text in texts])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(together.norm(dim=1), torch.ones(6))


def test_served_vectors_are_those_of_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XLMR_CACHE_DIR", str(tmp_path / "cache"))
    bundle = open_bundle(tiny_model(tmp_path, "embed"))
    texts = ["hello world", "где посылка", "anna lives in paris"]
    network = tiny_network("embed")
    ids = [encoding.ids for encoding in bundle.tokenizer.encode_many(texts)]
    with torch.no_grad():
        learned = learned_vectors(network, ids, bundle.pooling).numpy()
    np.testing.assert_allclose(served_vectors(bundle, texts, prompt=""), learned, atol=1e-4)


@pytest.mark.parametrize(
    ("prompts", "default", "expected"),
    [
        ({"query": "q: ", "passage": "p: "}, None, ("query", "passage")),
        ({"query": "q: ", "document": "d: "}, None, ("query", "document")),
        ({"query": "q: "}, None, ("query", "")),
        ({"all": "a: "}, "all", ("all", "all")),
        ({}, None, ("", "")),
    ],
)
def test_prompts_are_the_models_own(
    tmp_path: Path, prompts: dict[str, str], default: str | None, expected: tuple[str, str]
) -> None:
    path = tiny_model(tmp_path, "embed")
    said = {"prompts": prompts, "default_prompt_name": default}
    (path / "config_sentence_transformers.json").write_text(json.dumps(said))
    assert prompt_names(open_bundle(path)) == expected
