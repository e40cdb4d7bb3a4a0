"""Hugging Face's own client against the paths of text-embeddings-inference."""

from __future__ import annotations

import numpy as np
import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError


@pytest.fixture(scope="module")
def predictors(serving):
    return {name: one.predictor for name, one in serving.plane.pool.models.items()}


def test_feature_extraction_at_the_servers_address_and_at_embed(serving, predictors):
    expected = [one.vector for one in predictors["embed"].embed(["hello", "где посылка"])]
    for place in ("", "/", "/embed"):
        client = InferenceClient(serving.address + place)
        vectors = client.feature_extraction(["hello", "где посылка"])
        assert vectors.dtype == np.float32
        assert np.allclose(vectors, expected, atol=1e-5)
        assert np.allclose(client.feature_extraction("hello"), expected[:1], atol=1e-5)


def test_feature_extraction_with_its_options(serving, predictors):
    client = InferenceClient(serving.address)
    raw = client.feature_extraction("hello", normalize=False)
    [expected] = predictors["embed"].embed(["hello"], normalize=False)
    assert np.allclose(raw, [expected.vector], atol=1e-5)
    assert client.feature_extraction("hello", dimensions=5).shape == (1, 5)
    long = "hello " * 600
    left = client.feature_extraction(long, truncate=True, truncation_direction="left")
    assert left.shape == raw.shape
    with pytest.raises(HfHubHTTPError) as refused:
        client.feature_extraction(long, truncate=False)
    assert refused.value.response.status_code == 413
    assert refused.value.response.json()["error_type"] == "Validation"


def test_sentence_similarity(serving, predictors):
    client = InferenceClient(f"{serving.address}/similarity")
    others = ["where is my parcel", "refund the money"]
    source, *rest = (one.vector for one in predictors["embed"].embed(["hello", *others]))
    assert client.sentence_similarity("hello", others) == [
        pytest.approx(float(source @ one), abs=1e-5) for one in rest
    ]


def test_text_classification(serving, predictors):
    client = InferenceClient(f"{serving.address}/predict")
    # The client takes the first of what it gets: a text's likeliest label.
    found = client.text_classification("hello")
    [expected] = predictors["classify"].classify(["hello"])
    assert found.label == expected.label
    assert found.score == pytest.approx(expected.score, abs=1e-5)


def test_a_key_is_sent_as_the_server_reads_it(serving, monkeypatch):
    seen = []
    caller = serving.plane.caller

    async def watched(credential, role):
        seen.append(credential)
        return await caller(credential, role)

    monkeypatch.setattr(serving.plane, "caller", watched)
    InferenceClient(serving.address, token="k-1").feature_extraction("hello")
    assert seen == ["k-1"]
