"""`POST /v1/feedback`: kept before it is acknowledged, statement by statement."""

from __future__ import annotations

import sqlite3
import threading
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from tests.serving.grpc.conftest import Client

from xlmr.errors import FeedbackUnavailableError
from xlmr.serving.grpc.messages import native
from xlmr.serving.observing.desk import _MOST_AT_ONCE


@pytest.fixture
def send(kept):
    return lambda said, **more: kept.client.post("/v1/feedback", json={"feedback": said}, **more)


@pytest.fixture
def known(kept):
    """What the store knows of a prediction."""
    return lambda id: kept.observing.store().feedback([id]).get(id, [])


def statement(prediction, **said):
    return {"prediction": prediction, "label": "refund"} | said


def test_one_statement_is_on_disk_when_it_is_acknowledged(send, known, hasher):
    said = statement("p1-0", who="ann", source="annotator", said_at="2024-03-05T14:30:00+01:00")
    reply = send(said, headers={"x-request-id": "f1"})
    assert reply.json() == {"id": "f1", "new": 1, "items": [{"prediction": "p1-0"}]}
    (feedback,) = known("p1-0")
    assert (feedback.label, feedback.source) == ("refund", "annotator")
    assert feedback.who == hasher.person("ann")
    assert feedback.said_us == datetime(2024, 3, 5, 13, 30, tzinfo=UTC).timestamp() * 1e6
    assert send(said).json()["new"] == 0


def test_nobody_in_particular_and_now_need_not_be_named(send, known):
    assert send([statement("p2-0")]).status_code == 200
    (feedback,) = known("p2-0")
    assert (feedback.who, feedback.source) == ("", "user")
    assert feedback.said_us == feedback.known_us > 0


def test_what_cannot_be_used_stands_beside_what_is_kept(send, known):
    ahead = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    reply = send(
        [
            statement("p3-0"),
            statement("p3-1", label=""),
            statement("p3-2", said_at=ahead),
            statement("p3-3", said_at="1969-12-31T00:00:00Z"),
            statement("x" * 201),
        ]
    )
    assert reply.status_code == 200
    items = reply.json()["items"]
    assert "error" not in items[0]
    assert [item["error"]["path"] for item in items[1:]] == [
        "$.feedback[1].label",
        "$.feedback[2].said_at",
        "$.feedback[3].said_at",
        "$.feedback[4].prediction",
    ]
    assert {item["error"]["code"] for item in items[1:]} == {"invalid_input"}
    assert len(known("p3-0")) == 1
    assert not known("p3-2")


@pytest.mark.parametrize(
    ("said", "path"),
    [
        (statement("p", label=""), "$.feedback.label"),
        ([statement("", label="a")], "$.feedback[0].prediction"),
        ([statement("p", source="robot")], "$.feedback[0].source"),
        ([statement("p", said_at="2024-03-05T14:30:00")], "$.feedback[0].said_at"),
        ([statement("p", text="my words")], "$.feedback[0]"),
        ([], "$.feedback"),
        ([statement(f"p{n}") for n in range(9)], "$.feedback"),
    ],
)
def test_where_nothing_can_be_kept_the_request_is_refused(send, said, path):
    reply = send(said)
    assert (reply.status_code, reply.json()["path"]) == (422, path)


def test_statements_are_counted_by_their_source(kept, send):
    def count(source):
        return kept.metrics.value("xlmr_feedback_statements_total", source=source)

    before = count("outcome")
    send([statement("p4-0", source="outcome"), statement("p4-1", label="", source="outcome")])
    assert count("outcome") == before + 1


def test_a_store_that_is_away_is_a_503_that_says_when_to_come_back(kept, send, monkeypatch):
    def away(*_):
        raise FeedbackUnavailableError("sqlite:////secret/place: disk is full")

    monkeypatch.setattr(kept.observing.store(), "add_feedback", away)
    reply = send(statement("p5-0"))
    assert (reply.status_code, reply.json()["code"]) == (503, "feedback_unavailable")
    assert int(reply.headers["retry-after"]) >= 1
    assert "secret" not in reply.text


def test_writing_waits_beside_the_event_loop(kept, send, known, tmp_path):
    """While somebody holds the database, predictions are answered and feedback waits."""
    path = kept.observing.store().place.removeprefix("sqlite:///")
    with sqlite3.connect(path, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        threads = [threading.Thread(target=send, args=(statement(f"p6-{n}"),)) for n in range(3)]
        for thread in threads:
            thread.start()
        kept.until(lambda: kept.plane._desk._writing == 3)
        reply = kept.client.post("/v1/classify", json={"input": "hi", "model": "classify"})
        assert reply.status_code == 200
        assert not known("p6-0")
        other.execute("ROLLBACK")
    for thread in threads:
        thread.join(20)
    assert [len(known(f"p6-{n}")) for n in range(3)] == [1, 1, 1]
    other.close()


def test_no_more_wait_than_there_are_threads_for(kept, send):
    kept.plane._desk._writing += _MOST_AT_ONCE
    reply = send(statement("p7-0"))
    kept.plane._desk._writing -= _MOST_AT_ONCE
    assert (reply.status_code, reply.json()["code"]) == (503, "unavailable")


@pytest.fixture
def call(kept):
    """`call([statement, …])` over gRPC."""
    client = Client(kept.grpc_address)
    sent = (("x-request-id", "g7"),)
    yield lambda said: client(
        "xlmr.v1.Xlmr", "Feedback", native.FeedbackRequest(feedback=said), metadata=sent
    )
    client.channel.close()


def test_grpc_takes_it_too(call, known, hasher):
    said = native.Statement(
        prediction="p8-0", label="refund", who="ann", source=3, said_at_us=1_709_645_400_000_000
    )
    reply = call([said, native.Statement(prediction="p8-1")])
    assert (reply.id, reply.new) == ("g7", 1)
    good, bad = reply.items
    assert (good.prediction, good.HasField("error")) == ("p8-0", False)
    assert (bad.error.code, bad.error.path) == ("invalid_input", "$.feedback[1].label")
    (feedback,) = known("p8-0")
    assert (feedback.who, feedback.source) == (hasher.person("ann"), "outcome")
    assert feedback.said_us == said.said_at_us


@pytest.mark.parametrize(
    ("said", "path"),
    [
        ([], "$.feedback"),
        ([native.Statement(prediction="p", label="a", source=9)], "$.feedback[0].source"),
        ([native.Statement(label="a")], "$.feedback[0].prediction"),
    ],
)
def test_grpc_refuses_what_cannot_be_kept(call, said, path):
    with pytest.raises(grpc.RpcError) as caught:
        call(said)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert dict(caught.value.trailing_metadata())["xlmr-path"] == path


def test_who_may_not_give_feedback_is_refused(house_of):
    with house_of("router", anonymous_roles="predict", grpc_port=0) as house:
        reply = house.client.post("/v1/feedback", json={"feedback": statement("p-0")})
        assert (reply.status_code, reply.json()["code"]) == (403, "forbidden")
        client = Client(house.grpc_address)
        with pytest.raises(grpc.RpcError) as caught:
            client("xlmr.v1.Xlmr", "Feedback", native.FeedbackRequest())
        client.channel.close()
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


def test_a_server_without_a_store_says_so(house):
    reply = house.client.post("/v1/feedback", json={"feedback": statement("p-0")})
    assert (reply.status_code, reply.json()["code"]) == (404, "feedback_off")
    assert "--feedback" in reply.json()["hint"]
