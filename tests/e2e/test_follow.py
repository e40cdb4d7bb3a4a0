"""Servers that follow one registry: PostgreSQL, a store and Redis, which come and go."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from tests.postgres import PostgresServer, postgres_server
from tests.services import redis_server
from tests.serving.follow.parts import Place, routers

from xlmr.registry.manifest import make_manifest
from xlmr.registry.opening import open_controller
from xlmr.registry.rollout.controller import Controller
from xlmr.registry.rollout.plan import make_plan
from xlmr.registry.rollout.state import State

COMMAND = [sys.executable, "-c", "from xlmr.cli.serve import serve; serve()"]
SECONDS = 60.0
ARMS = ("live", "candidate")
PLAN = make_plan({"required": [], "shadow": {"share": 0.0}, "steps": [{"share": 0.5}]})


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return routers(tmp_path_factory.mktemp("routers"), 3)


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture
def place(tmp_path: Path, postgres: PostgresServer) -> Place:
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    return Place(tmp_path / "place", database=postgres.url)


class Served:
    """`xlmr serve registry:router`, and a connection to it."""

    def __init__(self, place: Place, *options: str, **environment: str) -> None:
        settings = {
            "XLMR_CACHE_DIR": str(place.root / "cache"),
            "XLMR_RUNTIME": "reference",
            "XLMR_CACHE_BYTES": "0",
            "XLMR_LOG_LEVEL": "warning",
            "XLMR_REGISTRY": place.database,
            "XLMR_REGISTRY_STORE": str(place.root / "registry" / "store"),
            "XLMR_TRUSTED_KEYS": str(place.root / "keys"),
        }
        self.process = subprocess.Popen(
            [*COMMAND, "registry:router", "--port", "0", "--json", *options],
            env=os.environ | settings | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def announced(self) -> Served:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.communicate()[1]
        self.client = httpx.Client(base_url=json.loads(line)["address"], timeout=SECONDS)
        return self

    def label(self) -> str:
        """Which version answered, by the labels that only it gives; an error's code otherwise."""
        reply = self.client.post("/v1/classify", json={"input": ["where is my parcel"]})
        if reply.status_code != 200:
            return str(reply.status_code)
        return str(reply.json()["items"][0]["labels"][0]["label"]).rpartition("-")[2]

    def states(self) -> dict[str, dict[str, Any]]:
        return {card["version"]: card for card in self.client.get("/v1/models").json()["data"]}

    def ready(self) -> set[str]:
        return {version for version, card in self.states().items() if card["state"] == "ready"}

    def metric(self, name: str) -> float:
        lines = self.client.get("/metrics").text.splitlines()
        return float(next(line for line in lines if line.startswith(f"{name} ")).split()[1])

    def kill(self) -> None:
        if hasattr(self, "client"):
            self.client.close()
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def serve(place: Place) -> Iterator[Callable[..., Served]]:
    started: list[Served] = []

    def start(*options: str, **environment: str) -> Served:
        started.append(Served(place, *options, **environment))
        return started[-1]

    yield start
    for one in started:
        one.kill()


def counted(controller: Controller, state: State, arm: str) -> int:
    """What all servers counted of an arm, in Redis."""
    return controller.counts.read(state.salt, state.epoch).counts(arm).units


def until(holds: Callable[[], object]) -> float:
    """How long it took until it held, in seconds."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() < began + SECONDS
        time.sleep(0.02)
    return time.monotonic() - began


def test_two_servers_follow_and_need_no_registry_to_answer(
    place, models, serve, postgres, tmp_path, record_property
):
    place.push(models[0], live=True)
    place.push(models[1])
    place.promote(2, alias="next")
    with redis_server(tmp_path) as redis:
        # Where processes of their own compute, the one in front follows.
        servers = [serve(*more, XLMR_REDIS_URL=redis.url) for more in ((), ("--workers", "1"))]
        servers = [server.announced() for server in servers]
        for server in servers:
            until(lambda server=server: server.ready() == {"1", "2"})
            assert server.label() == "1"
        took = {}
        for step, act, wanted in (
            ("promotion", lambda: place.promote(2), "2"),
            ("rollback", place.rollback, "1"),
        ):
            act()
            seconds = until(lambda w=wanted: [s.label() for s in servers] == [w, w])
            took[step] = round(seconds, 2)
        print(f"both servers after {took} s")
        record_property("seconds until both servers followed", took)

        with open_controller(place.settings(redis_url=redis.url)) as controller:
            state = controller.start("router@2", PLAN, override="a test", objective_ms=60_000.0)
            for server in servers:
                until(lambda server=server: server.label() == "2")
            asked = [server.label() for server in servers for _ in range(10)]
            until(lambda: sum(counted(controller, state, arm) for arm in ARMS) > len(asked))
            controller.command("router", "abort", reason="a test")
            until(lambda: {server.label() for server in servers for _ in range(8)} == {"1"})
            until(lambda: [server.ready() for server in servers] == [{"1", "2"}] * 2)

        answers: Counter[str] = Counter()
        stop = threading.Event()

        def ask() -> None:
            while not stop.is_set():
                answers.update(server.label() for server in servers)

        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        postgres.stop()
        # A server that is started meanwhile serves what was served here last.
        third = serve().announced()
        assert (third.label(), third.ready()) == ("1", {"1", "2"})
        until(lambda: all(s.metric("xlmr_registry_age_seconds") > 3 for s in servers))
        stop.set()
        asking.join()
        assert set(answers) == {"1"}
        postgres.start()
        place.promote(2)
        until(lambda: [s.label() for s in (*servers, third)] == ["2"] * 3)
        assert servers[0].metric("xlmr_registry_age_seconds") < SECONDS


def test_a_server_killed_in_the_middle_of_a_pull(place, models, serve):
    place.push(models[0], live=True)
    first = serve().announced()
    assert first.label() == "1"
    first.kill()
    place.push(models[1], live=True)
    [head] = [f for f in make_manifest(models[1]).files if f.path == "xlmr_head.safetensors"]
    blob = place.root / "registry" / "store" / "blobs" / head.sha256[:2] / head.sha256
    whole = blob.read_bytes()
    copies = place.root / "cache" / "registry" / "copies"
    # Whoever reads a pipe waits until somebody writes.
    blob.unlink()
    os.mkfifo(blob)
    server = serve()
    until(lambda: list(copies.glob(".*.partial/*")))
    server.kill()
    blob.unlink()
    blob.write_bytes(whole)
    assert list(copies.glob(".*.partial"))
    server = serve().announced()
    assert server.label() == "2"
    assert not list(copies.glob(".*.partial"))
    server.process.send_signal(signal.SIGTERM)
    _, said = server.process.communicate(timeout=SECONDS)
    assert (server.process.returncode, said) == (0, "")


def test_nobody_trusted_is_one_clear_error(serve):
    server = serve(XLMR_TRUSTED_KEYS="")
    _, said = server.process.communicate(timeout=SECONDS)
    assert server.process.returncode == 1
    assert "Error: versions of a registry are served only if somebody who is trusted" in said
    assert "Traceback" not in said
