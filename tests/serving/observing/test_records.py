"""What is kept of answers: what they said, and none of their callers' words."""

from __future__ import annotations

import json
import time

import msgspec
import pytest
from tests.serving.grpc.conftest import Client

from xlmr.serving.grpc.messages import native
from xlmr.serving.observing.records import MOST_TEXT_CHARS, seeing


def test_a_record_says_what_the_answer_said(kept, records, hasher):
    texts = ["where is my parcel", "mail ann@example.com about it", "где моя посылка сегодня"]
    began = time.time()
    body = {"model": "classify", "input": texts, "languages": ["en", "en", "ru"]}
    headers = {"x-subject": "customer-17", "x-request-id": "r1"}
    reply = kept.client.post("/v1/classify", json=body, headers=headers).json()
    found = records()
    assert list(found) == [item["id"] for item in reply["items"]] == ["r1-0", "r1-1", "r1-2"]
    served = kept.plane.pool.models["classify"].ref
    for item, text, record in zip(reply["items"], texts, found.values(), strict=True):
        assert (record.model, record.version) == ("classify", served.version)
        assert (record.task, record.tokens) == ("classify", item["tokens"])
        assert record.label == item["labels"][0]["label"]
        said = {one["label"]: pytest.approx(one["score"]) for one in item["labels"]}
        assert record.probabilities == said
        assert record.confidence == pytest.approx(item["labels"][0]["score"])
        assert record.fingerprint == hasher.fingerprint(text)
        assert record.subject == hasher.person("customer-17")
        assert began <= record.at <= time.time()
        assert 0 < record.latency_ms < 60_000
    assert [record.text for record in found.values()] == [
        "where is my parcel",
        "mail <EMAIL> about it",
        "",
    ]


CALLERS = "Marzipan"


@pytest.mark.parametrize(
    ("path", "body", "sure"),
    [
        ("/v1/zero-shot", {"input": "hello", "labels": [CALLERS, "b"], "model": "zero_shot"}, True),
        ("/v1/tag", {"input": "anna lives in paris", "model": "tag"}, None),
        ("/v1/fill", {"input": "hello <mask>", "model": "fill"}, True),
        (
            "/v1/answer",
            {"input": {"question": "where", "context": f"in {CALLERS}"}, "model": "answer"},
            True,
        ),
        ("/v1/rerank", {"query": CALLERS, "documents": ["paris"], "model": "rerank"}, False),
        ("/v1/embeddings", {"input": ["hello"], "model": "embed"}, False),
        ("/v1/classify", {"input": "hello", "model": "regression"}, False),
        ("/v1/classify", {"input": "hello", "model": "classify", "raw_scores": True}, False),
    ],
)
def test_no_word_of_the_callers_is_kept_but_in_the_text(kept, records, path, body, sure):
    reply = kept.client.post(path, json=body)
    assert reply.status_code == 200, reply.text
    (record,) = records().values()
    assert record.id == f"{reply.headers['x-request-id']}-0"
    assert (record.label, record.probabilities) == ("", {})
    if sure is not None:
        assert (record.confidence is not None) is sure
    assert CALLERS not in repr(msgspec.structs.replace(record, text=""))


def test_of_several_labels_that_may_hold_the_probabilities_are_kept(kept, records):
    kept.client.post("/v1/classify", json={"input": "hello", "model": "multi_label"})
    (record,) = records().values()
    assert record.label == ""
    assert set(record.probabilities) == {"angry", "urgent", "polite"}


def test_a_language_that_only_the_caller_knows_is_not_taken_down(kept, records):
    body = {"input": "hello world", "model": "classify", "languages": [CALLERS]}
    kept.client.post("/v1/classify", json=body)
    (record,) = records().values()
    assert record.language not in (CALLERS, "")


def test_texts_that_no_redactor_reads_whole_are_not_kept(kept, records):
    ids = {"model": "embed", "input": [5, 6, 7]}
    assert kept.client.post("/v1/embeddings", json=ids).status_code == 200
    kept.client.post(
        "/v1/classify", json={"model": "classify", "input": "hello " * (MOST_TEXT_CHARS // 6 + 1)}
    )
    assert [record.text for record in records().values()] == ["", ""]


def test_what_is_not_answered_leaves_nothing(kept, records):
    kept.client.post("/v1/tokenize", json={"model": "embed", "input": "hello"})
    kept.client.post("/v1/classify", json={"model": "classify", "input": 3})
    kept.client.post("/v1/classify", json={"model": "nobody", "input": "hello"})
    kept.client.post("/v1/classify", json={"model": "classify", "input": ["hello"] * 9})
    body = json.dumps({"model": "classify", "input": ["hello", "half \ud800"]})
    header = {"content-type": "application/json"}
    reply = kept.client.post("/v1/classify", content=body, headers=header).json()
    assert "error" in reply["items"][1]
    assert list(records()) == [reply["items"][0]["id"]]


def test_grpc_names_its_subject_in_the_metadata(kept, records, hasher):
    message = native.ClassifyRequest(texts=[native.Text(text="hello")], model="classify")
    sent = (("x-subject", "customer-18"), ("x-request-id", "g1"))
    client = Client(kept.grpc_address)
    client("xlmr.v1.Xlmr", "Classify", message, metadata=sent)
    client.channel.close()
    found = records()
    assert found["g1-0"].subject == hasher.person("customer-18")


def test_subjects_may_have_names_of_any_script(kept, records, hasher):
    header = {"x-subject": "Кунде 17".encode()}
    kept.client.post("/v1/classify", json={"input": "hi", "model": "classify"}, headers=header)
    (record,) = records().values()
    assert record.subject == hasher.person("Кунде 17")


def test_the_book_of_drift_sees_the_same_texts(kept):
    """Through the thread, with the labels that the model promises."""
    seen = []

    class Book:
        def see(self, *said):
            seen.append(said)

    observer = kept.observing.observer
    takers, observer._takers = observer._takers, (seeing(Book()),)
    body = {"input": ["where is my parcel", "мой привет"], "model": "classify"}
    reply = kept.client.post("/v1/classify", json=body).json()
    kept.client.post(
        "/v1/zero-shot", json={"input": "hello", "labels": ["a", "b"], "model": "zero_shot"}
    )
    observer.flush(20)
    observer._takers = takers
    version = kept.plane.pool.models["classify"].ref.version
    first, _, third = seen
    assert first[:4] == ("classify", version, "classify", ("refund", "delivery", "cancel"))
    assert first[5].label == reply["items"][0]["labels"][0]["label"]
    assert first[5].characters == len("where is my parcel")
    assert third[2:4] == ("zero_shot", ())
