"""text-embeddings-inference's paths over a real socket: shapes, orders, errors, statuses."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest
from tests.serving.conftest import House, running
from tests.tiny import tiny_model

LONG = " ".join(["hello"] * 600)


@pytest.fixture(scope="module")
def tei(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One model for each of its three kinds, so that no body needs a model's name."""
    root = tmp_path_factory.mktemp("tei")
    places = [tiny_model(root, kind, seed=3) for kind in ("embed", "classify", "rerank")]
    prompts = {"prompts": {"query": "query: "}, "default_prompt_name": None}
    (places[0] / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    cache = tmp_path_factory.mktemp("tei-cache")
    with running([str(place) for place in places], cache_dir=cache, max_items=4) as house:
        yield house


@pytest.fixture(scope="module")
def predictors(tei):
    return {name: served.predictor for name, served in tei.plane.pool.models.items()}


def post(house, path, **body):
    reply = house.client.post(path, json=body)
    assert reply.status_code == 200, reply.text
    return reply


def refusal(reply, status, kind):
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/json"
    body = reply.json()
    assert set(body) == {"error", "error_type"}
    assert body["error_type"] == kind
    return body["error"]


def test_embed_gives_a_list_of_vectors_even_for_one_text(tei, predictors):
    texts = ["where is my parcel", "где посылка"]
    expected = [answer.vector for answer in predictors["embed"].embed(texts)]
    assert np.allclose(post(tei, "/embed", inputs=texts).json(), expected, atol=1e-5)
    assert np.allclose(post(tei, "/embed", inputs=texts[0]).json(), expected[:1], atol=1e-5)


def test_embed_options(tei, predictors):
    text = "where is my parcel"
    predictor = predictors["embed"]
    [raw] = post(tei, "/embed", inputs=text, normalize=False).json()
    assert np.allclose(raw, predictor.embed([text], normalize=False)[0].vector, atol=1e-5)
    assert not np.isclose(np.linalg.norm(raw), 1)
    [short] = post(tei, "/embed", inputs=text, dimensions=5).json()
    assert len(short) == 5
    assert np.linalg.norm(short) == pytest.approx(1, abs=1e-5)
    [asked] = post(tei, "/embed", inputs=text, prompt_name="query").json()
    assert np.allclose(asked, predictor.embed([f"query: {text}"], prompt="")[0].vector, atol=1e-5)
    reply = tei.client.post("/embed", json={"inputs": text, "prompt_name": "passage"})
    assert "prompt" in refusal(reply, 422, "Validation")


def test_embed_reads_token_ids(tei, predictors):
    tokenizer = predictors["embed"].bundle.tokenizer
    ids = list(tokenizer.encode("where is my parcel").ids)
    expected = post(tei, "/embed", inputs="where is my parcel").json()
    assert np.allclose(post(tei, "/embed", inputs=ids).json(), expected, atol=1e-5)
    assert np.allclose(post(tei, "/embed", inputs=[ids]).json(), expected, atol=1e-5)


def test_what_was_cut_is_named_in_a_header(tei):
    reply = post(tei, "/embed", inputs=["hello", LONG, LONG])
    assert reply.headers["x-truncated"] == "1,2"
    assert "x-truncated" not in post(tei, "/embed", inputs=["hello"]).headers


def test_the_start_is_cut_where_that_is_asked(tei):
    middle = " ".join(["hello"] * 510)
    [end] = post(tei, "/embed", inputs=f"refund {middle} world a my money", truncate=True).json()
    left = {"truncate": True, "truncation_direction": "left"}
    [kept] = post(tei, "/embed", inputs=f"refund {middle} world a my money", **left).json()
    [other] = post(tei, "/embed", inputs=f"paris {middle} world a my money", **left).json()
    assert np.allclose(kept, other, atol=1e-6), "what was cut has a say"
    assert not np.allclose(kept, end, atol=1e-3)


def test_a_long_text_is_refused_where_truncation_is(tei):
    for path, body in (
        ("/embed", {"inputs": ["hello", LONG]}),
        ("/embed_all", {"inputs": ["hello", LONG]}),
        ("/predict", {"inputs": [["hello"], [LONG]]}),
    ):
        message = refusal(tei.client.post(path, json=body | {"truncate": False}), 413, "Validation")
        assert "$.inputs[1]" in message
        assert "602 tokens" in message
    body = {"query": "hello", "texts": ["hello", LONG], "truncate": False}
    assert "$.texts[1]" in refusal(tei.client.post("/rerank", json=body), 413, "Validation")


def test_embed_all_gives_each_tokens_vector(tei, predictors):
    predictor = predictors["embed"]
    text = "where is my parcel"
    [vectors] = post(tei, "/embed_all", inputs=text).json()
    assert len(vectors) == len(predictor.bundle.tokenizer.encode(text).ids)
    mean = np.mean(vectors, axis=0)
    assert np.allclose(mean, predictor.embed([text], normalize=False)[0].vector, atol=1e-5)
    lengths = [len(one) for one in post(tei, "/embed_all", inputs=[text, "hello", text]).json()]
    assert lengths == [6, 3, 6]


def test_predict_tells_texts_pairs_and_batches_apart(tei, predictors):
    predictor = predictors["classify"]
    single, pair = predictor.classify(["hello", ("hello", "world")])

    def shown(answer):
        return [
            {"score": pytest.approx(label.score, abs=1e-5), "label": label.label}
            for label in answer.labels
        ]

    assert post(tei, "/predict", inputs="hello").json() == shown(single)
    assert post(tei, "/predict", inputs=["hello"]).json() == shown(single)
    assert post(tei, "/predict", inputs=["hello", "world"]).json() == shown(pair)
    batch = post(tei, "/predict", inputs=[["hello"], ["hello", "world"]]).json()
    assert batch == [shown(single), shown(pair)]
    scores = [one["score"] for one in batch[0]]
    assert scores == sorted(scores, reverse=True)


def test_predict_gives_raw_scores(tei, predictors):
    raw = post(tei, "/predict", inputs="hello", raw_scores=True).json()
    [expected] = predictors["classify"].classify(["hello"], raw_scores=True)
    assert raw[0]["score"] == pytest.approx(expected.score, abs=1e-5)
    sums = sum(one["score"] for one in raw)
    assert sums != pytest.approx(1, abs=1e-3)
    same = post(tei, "/predict", inputs="hello", parameters={"function_to_apply": "none"})
    assert same.json() == raw
    assert len(post(tei, "/predict", inputs="hello", parameters={"top_k": 2}).json()) == 2


@pytest.mark.parametrize(
    ("inputs", "place"),
    [
        (["a", "b", "c"], "$.inputs"),
        ([["a"], ["a", "b", "c"]], "$.inputs[1]"),
        ([["a"], []], "$.inputs[1]"),
        ([["a"], "b"], "$.inputs[1]"),
        (["a", ["b"]], "$.inputs[1]"),
        ([["a", 3]], "$.inputs[0][1]"),
        (3, "$.inputs"),
        (None, "$.inputs"),
    ],
)
def test_predict_refuses_what_is_neither(tei, inputs, place):
    reply = tei.client.post("/predict", json={"inputs": inputs})
    assert refusal(reply, 422, "Validation").startswith(place)


def test_rerank_sorts_and_remembers_places(tei, predictors):
    texts = ["paris", "berlin", "refund the money"]
    expected = predictors["rerank"].rerank("where is berlin", texts)
    ranks = post(tei, "/rerank", query="where is berlin", texts=texts).json()
    assert [rank["index"] for rank in ranks] == [one.index for one in expected]
    assert [rank["score"] for rank in ranks] == [
        pytest.approx(one.score, abs=1e-5) for one in expected
    ]
    assert set(ranks[0]) == {"index", "score"}
    shown = post(tei, "/rerank", query="x", texts=texts, return_text=True).json()
    assert all(rank["text"] == texts[rank["index"]] for rank in shown)
    raw = post(tei, "/rerank", query="where is berlin", texts=texts, raw_scores=True).json()
    assert [rank["score"] for rank in raw] != [rank["score"] for rank in ranks]


def test_rerank_never_cuts_at_the_start(tei):
    body = {"query": "a", "texts": ["b"], "truncation_direction": "left"}
    assert "truncation_direction" in refusal(
        tei.client.post("/rerank", json=body), 422, "Validation"
    )


def test_similarity_gives_cosines(tei, predictors):
    sentences = ["where is my parcel", "refund the money"]
    source, *others = (a.vector for a in predictors["embed"].embed(["hello", *sentences]))
    inputs = {"source_sentence": "hello", "sentences": sentences}
    cosines = post(tei, "/similarity", inputs=inputs).json()
    assert cosines == [pytest.approx(float(source @ other), abs=1e-5) for other in others]
    inputs["sentences"] = ["hello", LONG]
    body = {"inputs": inputs, "parameters": {"truncate": False}}
    message = refusal(tei.client.post("/similarity", json=body), 413, "Validation")
    assert "$.inputs.sentences[1]" in message


def test_tokenize_and_decode(tei, predictors):
    tokenizer = predictors["embed"].bundle.tokenizer
    [tokens] = post(tei, "/tokenize", inputs="where is my parcel").json()
    ids = [token["id"] for token in tokens]
    assert ids == list(tokenizer.encode("where is my parcel").ids)
    assert tokens[0] == {"id": 0, "text": "<s>", "special": True, "start": None, "stop": None}
    assert tokens[1]["text"] == "where"
    assert (tokens[1]["start"], tokens[1]["stop"]) == (0, 5)
    [bare] = post(tei, "/tokenize", inputs=["hello"], add_special_tokens=False).json()
    assert [token["special"] for token in bare] == [False]
    [asked] = post(tei, "/tokenize", inputs="hello", prompt_name="query").json()
    assert len(asked) > 3
    assert len(post(tei, "/tokenize", inputs=LONG).json()[0]) == 602
    text, start = tokenizer.decode(ids), tokenizer.decode(ids[:2])
    assert post(tei, "/decode", ids=ids).json() == [text]
    assert post(tei, "/decode", ids=[ids, ids[:2]]).json() == [text, start]
    whole = post(tei, "/decode", ids=ids, skip_special_tokens=False).json()
    assert whole[0].startswith("<s>")
    message = refusal(tei.client.post("/decode", json={"ids": [[0], [10**6]]}), 422, "Validation")
    assert message.startswith("$.ids[1][0]")


def test_empty_lists_are_bad_requests(tei):
    for path, body in (
        ("/embed", {"inputs": []}),
        ("/embed_all", {"inputs": []}),
        ("/predict", {"inputs": []}),
        ("/rerank", {"query": "a", "texts": []}),
        ("/similarity", {"inputs": {"source_sentence": "a", "sentences": []}}),
        ("/tokenize", {"inputs": []}),
        ("/decode", {"ids": []}),
    ):
        refusal(tei.client.post(path, json=body), 400, "Empty")


def test_too_many_items(tei):
    for path, body in (
        ("/embed", {"inputs": ["a"] * 5}),
        ("/rerank", {"query": "a", "texts": ["a"] * 5}),
        ("/tokenize", {"inputs": ["a"] * 5}),
    ):
        refusal(tei.client.post(path, json=body), 413, "Validation")


def test_bodies_that_are_none(tei):
    headers = {"content-type": "application/json"}
    refusal(tei.client.post("/embed", content=b"{", headers=headers), 400, "Validation")
    refusal(tei.client.post("/embed", json={}), 422, "Validation")
    refusal(tei.client.post("/embed", content=b"x"), 415, "Validation")
    refusal(tei.client.get("/embed"), 405, "Validation")
    broken = b'{"inputs": ["hello", "\\ud800"]}'
    message = refusal(tei.client.post("/embed", content=broken, headers=headers), 422, "Validation")
    assert message.startswith("$.inputs[1]")


def test_a_model_may_be_named(tei):
    post(tei, "/predict", inputs="hello", model="rerank")
    refusal(tei.client.post("/embed", json={"inputs": "a", "model": "none"}), 404, "Validation")
    refusal(tei.client.post("/embed", json={"inputs": "a", "model": "classify"}), 424, "Backend")


def test_the_root_is_what_the_model_is_for(tei, predictors):
    assert post(tei, "/", inputs="hello").json() == post(tei, "/embed", inputs="hello").json()
    ranks = post(tei, "/", query="berlin", texts=["paris", "berlin"]).json()
    assert {rank["index"] for rank in ranks} == {0, 1}
    named = post(tei, "/", inputs="hello", model="classify").json()
    assert named == post(tei, "/predict", inputs="hello").json()


def test_the_root_of_a_classifier_classifies(house_of):
    with house_of("classify") as house:
        assert "label" in post(house, "/", inputs="hello").json()[0]
        assert set(house.client.get("/info").json()["model_type"]) == {"classifier"}


def test_info(tei):
    info = tei.client.get("/info").json()
    assert info["model_id"] == "embed"
    assert info["model_type"] == {"embedding": {"pooling": "mean"}}
    assert info["max_input_length"] == 512
    assert info["max_client_batch_size"] == 4
    assert info["models"] == ["embed", "classify", "rerank"]


def test_a_failing_engine_is_a_424_and_a_full_queue_a_429(house_of):
    with house_of("sentences", queue_tokens=64) as house:
        house.gated.fault = ValueError("broken")
        refusal(house.client.post("/embed", json={"inputs": "hello"}), 424, "Backend")
        house.gated.fault = None
        assert house.client.get("/health").status_code == 200
        house.plane.drain()
        reply = house.client.post("/embed", json={"inputs": "hello"})
        refusal(reply, 429, "Overloaded")
        assert int(reply.headers["retry-after"]) >= 1
        refusal(house.client.get("/health"), 503, "Unhealthy")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_health_falls_with_the_engine(house_of):
    with house_of("sentences") as house:
        assert house.client.get("/health").content == b""
        house.gated.fault = KeyboardInterrupt()
        refusal(house.client.post("/embed", json={"inputs": "hello"}), 424, "Backend")
        refusal(house.client.get("/health"), 503, "Unhealthy")
