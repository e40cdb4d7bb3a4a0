"""What becomes of calls on bad days: a failing engine, a client that goes, deadlines, shutdown."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading

import grpc
import pytest

from xlmr.errors import MissingExtraError, SettingsError, UnauthenticatedError
from xlmr.serving.doorkeeper import Doorkeeper
from xlmr.serving.grpc import door, grpc_door
from xlmr.serving.grpc.messages import health, inference, native
from xlmr.types import Caller

EMBED = native.EmbedRequest(texts=["hello"])
NATIVE = "xlmr.v1.Xlmr"
HEALTH = "grpc.health.v1.Health"
SERVING, NOT_SERVING = 1, 2


def refused(status, call):
    with pytest.raises(grpc.RpcError) as caught:
        call()
    assert caught.value.code() is status, caught.value
    return caught.value.details(), dict(caught.value.trailing_metadata())


def status(client, service=""):
    return client(HEALTH, "Check", health.HealthCheckRequest(service=service)).status


def test_a_failing_engine_is_an_internal_fault_that_quotes_nothing(house_of, client_of):
    with house_of("sentences", grpc_port=0) as house:
        client = client_of(house)
        house.gated.fault = ValueError("the text was: hello")
        details, said = refused(grpc.StatusCode.INTERNAL, lambda: client(NATIVE, "Embed", EMBED))
        assert said["xlmr-code"] == "engine_error"
        assert "hello" not in details
        house.gated.fault = None
        assert client(NATIVE, "Embed", EMBED).items[0].vector


def test_a_fault_of_ours_tells_no_words(house_of, client_of, monkeypatch):
    with house_of("sentences", grpc_port=0) as house:
        client = client_of(house)

        def broken(*_):
            raise RuntimeError("hello")

        monkeypatch.setattr(house.plane, "trace", lambda *_: None)
        monkeypatch.setattr(type(house.plane), "caller", broken)
        details, said = refused(grpc.StatusCode.INTERNAL, lambda: client(NATIVE, "Embed", EMBED))
        assert (details, said["xlmr-code"]) == ("the server failed", "internal")


def test_a_call_that_is_given_up_leaves_the_queue(house_of, client_of):
    with house_of("sentences", grpc_port=0) as house:
        client = client_of(house)
        house.gated.gate.clear()
        running = client.method(NATIVE, "Embed").future(EMBED)
        assert house.gated.entered.acquire(timeout=10)
        waiting = client.method(NATIVE, "Embed").future(EMBED)
        house.until(lambda: house.plane.pool.waiting_tokens > 0)
        waiting.cancel()
        house.until(lambda: house.plane.pool.waiting_tokens == 0)
        house.gated.gate.set()
        assert running.result(timeout=20).items
        house.until(lambda: house.plane.idle)
        assert sorted(record.code for record in house.log.records) == ["client_gone", "ok"]


def test_a_deadline_that_passes_ends_the_call(house_of, client_of):
    with house_of("sentences", grpc_port=0) as house:
        client = client_of(house)
        house.gated.gate.clear()
        refused(
            grpc.StatusCode.DEADLINE_EXCEEDED,
            lambda: client(NATIVE, "Embed", EMBED, timeout=0.3),
        )
        house.until(lambda: house.plane.idle)
        house.gated.gate.set()
        assert client(NATIVE, "Embed", EMBED).items


def test_the_calls_deadline_is_the_questions(house_of, client_of):
    with house_of("sentences", grpc_port=0) as house:
        client = client_of(house)
        client(NATIVE, "Embed", EMBED)
        soon = (("x-request-deadline-ms", "0"),)
        _, said = refused(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            lambda: client(NATIVE, "Embed", EMBED, metadata=soon),
        )
        assert said["xlmr-code"] == "overloaded", "nothing was done for it"


def test_draining_answers_what_is_in_flight_and_refuses_the_rest(house_of, client_of):
    with house_of("sentences", grpc_port=0) as house:
        client = client_of(house)
        statuses = []
        watching = client.method(HEALTH, "Watch", stream=True)(health.HealthCheckRequest())
        watcher = threading.Thread(target=lambda: statuses.extend(one.status for one in watching))
        watcher.start()
        house.until(lambda: statuses == [SERVING])
        house.gated.gate.clear()
        running = client.method(NATIVE, "Embed").future(EMBED)
        assert house.gated.entered.acquire(timeout=10)
        house.server.drain()
        house.until(lambda: statuses == [SERVING, NOT_SERVING])
        assert status(client) == NOT_SERVING
        _, said = refused(grpc.StatusCode.UNAVAILABLE, lambda: client(NATIVE, "Embed", EMBED))
        assert said["xlmr-code"] == "unavailable"
        assert int(said["retry-after"]) >= 1
        house.gated.gate.set()
        assert running.result(timeout=20).items[0].vector
        house.thread.join(20)
        assert not house.thread.is_alive(), "somebody who watches must not hold the server"
        watcher.join(20)
        assert statuses == [SERVING, NOT_SERVING]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_health_falls_with_the_engine(house_of, client_of):
    with house_of("sentences", grpc_port=0) as house:
        client = client_of(house)
        assert status(client) == status(client, NATIVE) == SERVING
        refused(grpc.StatusCode.NOT_FOUND, lambda: status(client, "other"))
        house.gated.fault = KeyboardInterrupt()
        refused(grpc.StatusCode.INTERNAL, lambda: client(NATIVE, "Embed", EMBED))
        assert status(client) == NOT_SERVING
        live = client("inference.GRPCInferenceService", "ServerLive", inference.ServerLiveRequest())
        assert live.live is False


class OneKey:
    """Knows one key, whose caller may predict."""

    async def caller(self, credential):
        if credential != "k-1":
            raise UnauthenticatedError("wrong key")
        return Caller("tenant", frozenset({"predict"}))


def test_keys(house_of, client_of, monkeypatch):
    with house_of("sentences", grpc_port=0) as house:
        client = client_of(house)
        monkeypatch.setattr(house.plane, "_doorkeeper", Doorkeeper(OneKey()))
        for metadata in ((), (("x-api-key", "k-2"),)):
            _, said = refused(
                grpc.StatusCode.UNAUTHENTICATED,
                lambda metadata=metadata: client(NATIVE, "Embed", EMBED, metadata=metadata),
            )
            assert said["xlmr-code"] == "unauthenticated"
        for metadata in ((("x-api-key", "k-1"),), (("authorization", "Bearer k-1"),)):
            assert client(NATIVE, "Embed", EMBED, metadata=metadata).items
        model = inference.ModelMetadataRequest(name="sentences")
        refused(
            grpc.StatusCode.UNAUTHENTICATED,
            lambda: client("inference.GRPCInferenceService", "ModelMetadata", model),
        )
        assert status(client) == SERVING, "health is open to all"


def test_a_port_that_is_taken(house_of):
    with house_of("sentences", grpc_port=0) as house:
        port = int(house.grpc_address.rpartition(":")[2])
        other = grpc_door(house.plane, host="127.0.0.1", port=port, max_body_bytes=1)
        with pytest.raises(SettingsError, match=f"127.0.0.1:{port} for gRPC"):
            asyncio.run(other.open())


def test_who_does_not_answer_when_asked_is_let_go(house_of, client_of, monkeypatch):
    """A client that is gone without a word: the connection stands, and nothing comes over it."""
    monkeypatch.setattr(door, "_SILENCE_MS", 500)
    with house_of("sentences", grpc_port=0) as house:
        client = client_of(house)
        assert status(client) == SERVING
        states = []
        client.channel.subscribe(states.append)
        host, port = house.grpc_address.split(":")
        with socket.create_connection((host, int(port)), timeout=20) as silent:
            # HTTP/2's first words and empty settings; its pings are never answered.
            silent.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)))
            while silent.recv(1000):
                pass
        assert status(client) == SERVING
        client.channel.unsubscribe(states.append)
    assert set(states) <= {grpc.ChannelConnectivity.READY}, "who answers stays"


def test_without_grpcio_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "grpc", None)
    with pytest.raises(MissingExtraError, match=r"grpcio is not installed[\s\S]*xlmr\[grpc\]"):
        grpc_door(None, host="127.0.0.1", port=0, max_body_bytes=1)


def test_serving_without_grpc_imports_none_of_it():
    code = (
        "import sys, xlmr.cli.serve;"
        "print([m for m in sys.modules if m.partition('.')[0] in ('grpc', 'google')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
