"""The native calls over a real socket: answers, item errors, refusals."""

from __future__ import annotations

import grpc
import numpy as np
import pytest

from xlmr.serving.grpc.messages import native

LONG_TEXT = "hello " * 600


@pytest.fixture(scope="module")
def ask(client):
    """`ask("Tag", native.TagRequest(…))`."""
    return lambda name, message, **options: client("xlmr.v1.Xlmr", name, message, **options)


@pytest.fixture(scope="module")
def predictors(served):
    return {name: one.predictor for name, one in served.plane.pool.models.items()}


def refused(status, call):
    with pytest.raises(grpc.RpcError) as caught:
        call()
    assert caught.value.code() is status, caught.value
    return caught.value.details(), dict(caught.value.trailing_metadata())


def texts(*given):
    return [native.Text(text=text) for text in given]


def labels(item):
    return [(label.label, pytest.approx(label.score, abs=1e-5)) for label in item.labels]


def test_classify(served, client, ask, predictors):
    pair = native.Text(text="hello", pair="world")
    message = native.ClassifyRequest(
        texts=[*texts("where is my parcel"), pair], model="classify", top=2
    )
    reply = ask("Classify", message, metadata=(("x-request-id", "r-7"),))
    ref = served.plane.pool.models["classify"].ref
    assert (reply.id, client.trailing["x-request-id"]) == ("r-7", "r-7")
    assert (reply.model.name, reply.model.version) == (ref.name, ref.version)
    assert reply.model.digest == ref.digest
    expected = predictors["classify"].classify(["where is my parcel", ("hello", "world")], top=2)
    assert [labels(item) for item in reply.items] == [
        [(label.label, label.score) for label in one.labels] for one in expected
    ]
    facts = reply.items[1].facts
    assert (facts.id, facts.windows, facts.truncated) == ("r-7-1", 1, False)
    assert facts.tokens == facts.total_tokens == expected[1].accounting.tokens
    assert reply.tokens == sum(item.facts.tokens for item in reply.items)
    assert reply.items[0].facts.language.code
    assert client.trailing["x-compute-tokens"] == str(reply.tokens)
    assert not reply.items[0].HasField("abstained")


def test_raw_scores_are_no_probabilities(ask):
    message = native.ClassifyRequest(texts=texts("hello"), model="classify", raw_scores=True)
    [item] = ask("Classify", message).items
    assert sum(label.score for label in item.labels) != pytest.approx(1, abs=1e-3)


def test_zero_shot(ask, predictors):
    message = native.ZeroShotRequest(texts=["hello"], labels=["refund", "delivery"])
    [item] = ask("ZeroShot", message).items
    [expected] = predictors["zero_shot"].zero_shot(["hello"], ["refund", "delivery"])
    assert labels(item) == [(label.label, label.score) for label in expected.labels]


def test_tag(ask, predictors):
    [item] = ask("Tag", native.TagRequest(texts=["anna lives in berlin"])).items
    [expected] = predictors["tag"].tag(["anna lives in berlin"])
    assert expected.entities
    assert [(e.label, e.start, e.end, e.text) for e in item.entities] == [
        (e.label, e.start, e.end, e.text) for e in expected.entities
    ]


def test_answer(ask, predictors):
    pair = native.QuestionContext(question="where", context="anna lives in berlin")
    [item] = ask("Answer", native.AnswerRequest(questions=[pair], must_answer=True)).items
    [expected] = predictors["answer"].answer([("where", "anna lives in berlin")], must_answer=True)
    assert item.answer == expected.text
    assert (item.start, item.end) == (expected.start, expected.end)
    pair.context = "anna " * 600
    [item] = ask("Answer", native.AnswerRequest(questions=[pair])).items
    assert item.facts.windows == 2, "contexts are read in windows"


def test_fill(ask, predictors):
    [item] = ask("Fill", native.FillRequest(texts=["hello <mask>"], top=3)).items
    [expected] = predictors["fill"].fill(["hello <mask>"], top=3)
    assert [[c.label for c in mask.candidates] for mask in item.masks] == [
        [c.label for c in mask] for mask in expected.masks
    ]
    [item] = ask("Fill", native.FillRequest(texts=["hello <mask>"])).items
    assert len(item.masks[0].candidates) == 5


def test_embed(ask, predictors):
    reply = ask("Embed", native.EmbedRequest(texts=["hello", "где посылка"], model="embed"))
    expected = predictors["embed"].embed(["hello", "где посылка"])
    assert np.allclose([i.vector for i in reply.items], [e.vector for e in expected], atol=1e-5)
    message = native.EmbedRequest(
        texts=["hello"], model="embed", dimensions=4, normalize=False, prompt=""
    )
    [item] = ask("Embed", message).items
    assert np.allclose(
        item.vector,
        predictors["embed"].embed(["hello"], dimensions=4, normalize=False)[0].vector,
        atol=1e-5,
    )


def test_rerank(ask, predictors):
    documents = ["paris", "berlin", "refund the money"]
    reply = ask("Rerank", native.RerankRequest(query="where", documents=documents))
    expected = predictors["rerank"].rerank("where", documents)
    assert [item.index for item in reply.items] == [one.index for one in expected]
    assert [item.score for item in reply.items] == [
        pytest.approx(one.score, abs=1e-5) for one in expected
    ]
    reply = ask("Rerank", native.RerankRequest(query="where", documents=documents, top=1))
    assert [item.index for item in reply.items] == [expected[0].index]


def test_errors_of_documents_come_last_and_keep_their_places(ask):
    message = native.RerankRequest(query="a", documents=[LONG_TEXT, "b"], long=native_long("ERROR"))
    first, last = ask("Rerank", message).items
    assert (first.index, last.index) == (1, 0)
    assert (last.error.code, last.error.path) == ("too_long", "$.documents[0]")


def native_long(name):
    return (
        native.RerankRequest.DESCRIPTOR.fields_by_name["long"]
        .enum_type.values_by_name[f"LONG_{name}"]
        .number
    )


def test_similarity(ask, predictors):
    reply = ask(
        "Similarity",
        native.SimilarityRequest(source="hello", sentences=["world", "a"], model="embed"),
    )
    source, *others = (one.vector for one in predictors["embed"].embed(["hello", "world", "a"]))
    assert [item.similarity for item in reply.items] == [
        pytest.approx(float(source @ other), abs=1e-5) for other in others
    ]
    assert reply.source.tokens == 3
    assert reply.items[0].facts.id.endswith("-1")


def test_tokenize(ask, predictors):
    tokenizer = predictors["embed"].bundle.tokenizer
    pair = native.Text(text="hello", pair="world")
    message = native.TokenizeRequest(texts=[*texts("where is my parcel"), pair], model="embed")
    single, both = ask("Tokenize", message).items
    assert [token.id for token in single.tokens] == list(tokenizer.encode("where is my parcel").ids)
    assert (single.tokens[1].piece, single.tokens[1].start, single.tokens[1].end) == (
        "▁where",
        0,
        5,
    )
    assert [token.segment for token in both.tokens] == [-1, 0, -1, -1, 1, -1]
    long = native.TokenizeRequest(texts=texts(LONG_TEXT), model="embed")
    assert len(ask("Tokenize", long).items[0].tokens) == 602
    long.long = native_long("TRUNCATE")
    assert len(ask("Tokenize", long).items[0].tokens) == 512
    long.long = native_long("WINDOW")
    refused(grpc.StatusCode.INVALID_ARGUMENT, lambda: ask("Tokenize", long))


def test_long_texts(ask):
    message = native.EmbedRequest(texts=["hello", LONG_TEXT], model="embed")
    short, long = ask("Embed", message).items
    assert (short.facts.truncated, long.facts.truncated) == (False, True)
    assert (long.facts.tokens, long.facts.total_tokens) == (512, 602)
    message.long = native_long("WINDOW")
    assert ask("Embed", message).items[1].facts.windows == 2
    message.long = native_long("ERROR")
    short, long = ask("Embed", message).items
    assert short.vector
    assert not long.HasField("facts")
    assert (long.error.code, long.error.path) == ("too_long", "$.texts[1]")
    message.long = 9
    refused(grpc.StatusCode.INVALID_ARGUMENT, lambda: ask("Embed", message))


@pytest.mark.parametrize(
    ("name", "message", "status", "code", "path"),
    [
        ("Embed", native.EmbedRequest(), "INVALID_ARGUMENT", "invalid_input", "$.texts"),
        (
            "Embed",
            native.EmbedRequest(texts=["a"] * 257),
            "INVALID_ARGUMENT",
            "too_many_items",
            "$.texts",
        ),
        (
            "Embed",
            native.EmbedRequest(texts=[LONG_TEXT], long=3, model="embed"),
            "INVALID_ARGUMENT",
            "too_long",
            "$.texts[0]",
        ),
        (
            "Answer",
            native.AnswerRequest(questions=[native.QuestionContext(question=LONG_TEXT)], long=3),
            "INVALID_ARGUMENT",
            "too_long",
            None,
        ),
        (
            "Similarity",
            native.SimilarityRequest(source=LONG_TEXT, sentences=["a"], long=3, model="embed"),
            "INVALID_ARGUMENT",
            "too_long",
            "$.source",
        ),
        (
            "Similarity",
            native.SimilarityRequest(source="a"),
            "INVALID_ARGUMENT",
            "invalid_input",
            "$.sentences",
        ),
        (
            "Embed",
            native.EmbedRequest(texts=["a"], model="x"),
            "NOT_FOUND",
            "model_not_found",
            None,
        ),
        (
            "Embed",
            native.EmbedRequest(texts=["a"], model="classify"),
            "FAILED_PRECONDITION",
            "task_not_supported",
            None,
        ),
        (
            "Classify",
            native.ClassifyRequest(texts=texts("a")),
            "INVALID_ARGUMENT",
            "invalid_input",
            "$.model",
        ),
        (
            "ZeroShot",
            native.ZeroShotRequest(texts=["a"]),
            "INVALID_ARGUMENT",
            "invalid_input",
            "$.labels",
        ),
    ],
)
def test_refusals_carry_their_code_and_place(served, ask, name, message, status, code, path):
    before = len(served.log.records)
    _, said = refused(grpc.StatusCode[status], lambda: ask(name, message))
    assert said["xlmr-code"] == code
    assert said["x-request-id"] == served.log.records[-1].request
    if path is not None:
        assert said["xlmr-path"] == path
    [record] = served.log.records[before:]
    assert (record.code, record.door) == (code, "native_grpc")


def test_a_message_that_is_too_large(ask):
    message = native.EmbedRequest(texts=["a" * 400_000])
    refused(grpc.StatusCode.RESOURCE_EXHAUSTED, lambda: ask("Embed", message))


def test_metadata_that_says_nothing(ask):
    message = native.EmbedRequest(texts=["hello"], model="embed")
    for name in ("x-request-deadline-ms", "x-request-priority"):
        _, said = refused(
            grpc.StatusCode.INVALID_ARGUMENT,
            lambda name=name: ask("Embed", message, metadata=((name, "soon"),)),
        )
        assert said["xlmr-code"] == "invalid_header"


def test_http_and_grpc_count_in_the_same_books(served, ask):
    before = served.metrics.export()
    ask("Embed", native.EmbedRequest(texts=["hello"], model="embed"))
    after = served.metrics.export()
    assert before != after
    assert b'door="native_grpc"' in after
