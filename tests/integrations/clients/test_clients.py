"""Frameworks' own client classes, pointed at `xlmr serve` by its address and nothing else."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cohere
import numpy as np
import pytest
from huggingface_hub import AsyncInferenceClient, InferenceClient
from langchain_huggingface import HuggingFaceEndpointEmbeddings
from llama_index.embeddings.text_embeddings_inference import TextEmbeddingsInference
from tests.tiny import tiny_model

from xlmr.model.predictor import load

TEXTS = ["where is my parcel", "где посылка", "refund the money"]


@pytest.fixture(scope="module")
def directories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {kind: tiny_model(root, kind, seed=5) for kind in ("embed", "rerank")}


@pytest.fixture(scope="module")
def address(directories: dict[str, Path]) -> Iterator[str]:
    command = [sys.executable, "-m", "xlmr", "serve", *map(str, directories.values())]
    process = subprocess.Popen(
        [*command, "--port", "0", "--runtime", "reference", "--json"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())["address"]
    finally:
        process.terminate()
        assert process.wait(30) == 0
        process.stdout.close()


@pytest.fixture(scope="module")
def vectors(directories: dict[str, Path]) -> np.ndarray:
    with load(directories["embed"], runtime="reference") as predictor:
        return np.stack([answer.vector for answer in predictor.embed(TEXTS)])


def test_langchain(address: str, vectors: np.ndarray) -> None:
    # The class takes names of a hub alone since 1.2; its clients take addresses.
    embeddings = HuggingFaceEndpointEmbeddings(model="any/name")
    embeddings.client = InferenceClient(address)
    embeddings.async_client = AsyncInferenceClient(address)
    assert np.allclose(embeddings.embed_documents(TEXTS), vectors, atol=1e-5)
    assert np.allclose(embeddings.embed_query(TEXTS[0]), vectors[0], atol=1e-5)
    found = asyncio.run(embeddings.aembed_documents(TEXTS))
    assert np.allclose(found, vectors, atol=1e-5)


def test_llama_index(address: str, vectors: np.ndarray) -> None:
    embeddings = TextEmbeddingsInference(model_name="any", base_url=address, embed_batch_size=2)
    found = embeddings.get_text_embedding_batch(TEXTS)
    assert np.allclose(found, vectors, atol=1e-5)
    assert np.allclose(embeddings.get_text_embedding(TEXTS[1]), vectors[1], atol=1e-5)
    found = asyncio.run(embeddings.aget_text_embedding_batch(TEXTS))
    assert np.allclose(found, vectors, atol=1e-5)


@pytest.mark.parametrize("client_class", [cohere.Client, cohere.ClientV2])
def test_cohere(address: str, directories: dict[str, Path], client_class: Any) -> None:
    client = client_class(api_key="any", base_url=address)
    found = client.rerank(model="rerank", query="where", documents=TEXTS, top_n=2)
    with load(directories["rerank"], runtime="reference") as predictor:
        expected = predictor.rerank("where", TEXTS)[:2]
    assert [one.index for one in found.results] == [one.index for one in expected]
    assert [one.relevance_score for one in found.results] == [
        pytest.approx(one.score, abs=1e-5) for one in expected
    ]
