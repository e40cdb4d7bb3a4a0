"""Mistakes that servers of this kind make about their own life.

Health that stays green while the model is dead or there is none, and an end that closes what
requests in flight still need.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.serving.conftest import House, running
from tests.tiny import tiny_model, write_linear_head

COMMAND = [sys.executable, "-c", "from xlmr.cli.serve import serve; serve()"]
SECONDS = 60


def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("life")
    tiny_model(root, "embed").rename(root / "router")
    write_linear_head(root / "router", ("refund", "delivery", "other"))
    return root


@pytest.fixture
def house(root: Path, tmp_path: Path) -> Iterator[House]:
    with running([str(root / "router")], cache_dir=tmp_path, ready_seconds=1) as house:
        house.plane.pool.vitals.start()
        yield house


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., tuple[subprocess.Popen[str], str]]]:
    """Starts `xlmr serve`; gives the process and its address."""
    processes: list[subprocess.Popen[str]] = []

    def start(*options: str) -> tuple[subprocess.Popen[str], str]:
        environment = os.environ | {
            "XLMR_CACHE_DIR": str(tmp_path / "cache"),
            "XLMR_RUNTIME": "reference",
        }
        process = subprocess.Popen(
            [*COMMAND, "--port", "0", "--json", *options],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.communicate()[1]
        return process, json.loads(line)["address"]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def children_of(pid: int) -> list[int]:
    """The living children of a process."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found.append(int(status.parent.name))
    return found


# --- Trap 4: one exception kills the thread that computes; requests hang and health stays green ---


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_dead_compute_thread_ends_liveness_and_no_request_hangs(house):
    house.gated.fault = KeyboardInterrupt()
    assert house.classify(input="hello").status_code == 500
    live = house.client.get("/livez")
    assert live.status_code == 503
    assert live.json()["reasons"] == ["router: the compute thread has died or hangs"]
    assert house.client.get("/readyz").status_code == 503
    assert house.classify(input="hello").status_code == 503


def test_an_exception_in_the_engine_costs_one_batch(house):
    house.gated.fault = RuntimeError("out of luck")
    assert house.classify(input="hello").status_code == 500
    house.gated.fault = None
    assert house.classify(input="hello").status_code == 200
    assert house.client.get("/livez").status_code == 200


def test_an_engine_that_hangs_is_not_ready_and_is_again_once_it_moves(house):
    house.gated.gate.clear()
    eventually(lambda: house.client.get("/readyz").status_code == 503)
    [reason] = house.client.get("/readyz").json()["reasons"]
    assert reason.startswith("router: no answer for ")
    house.gated.gate.set()
    eventually(lambda: house.client.get("/readyz").status_code == 200)


def test_an_engine_that_only_fails_is_not_ready(house):
    house.gated.fault = RuntimeError("every time")
    eventually(lambda: house.client.get("/readyz").status_code == 503)
    assert house.client.get("/livez").status_code == 200
    house.gated.fault = None
    eventually(lambda: house.client.get("/readyz").status_code == 200)


def test_an_idle_server_stays_ready_by_asking_itself(house):
    house.gated.forget()
    # Each probe is one short text; five of them take longer than readiness lasts without.
    for _ in range(5):
        assert house.gated.entered.acquire(timeout=SECONDS)
        assert house.client.get("/readyz").status_code == 200
    assert set(house.gated.texts) == {1}


# --- Trap 5: ready with no model loaded ---


def test_a_server_without_a_model_is_alive_and_not_ready(start, root):
    process, address = start("--models-dir", str(root))
    with httpx.Client(base_url=address, timeout=SECONDS) as client:
        assert client.get("/livez").json() == {"live": True}
        assert client.get("/startupz").status_code == 200
        ready = client.get("/readyz")
        assert ready.status_code == 503
        assert ready.json() == {"ready": False, "models": [], "reasons": ["no model is loaded"]}
        assert client.post("/v1/classify", json={"input": "hello"}).status_code in (400, 404)
        loaded = client.post("/v1/models", json={"name": "router", "directory": "router"})
        assert loaded.status_code == 200
        assert client.get("/readyz").json() == {"ready": True, "models": ["router"]}
        assert client.post("/v1/classify", json={"input": "hello"}).status_code == 200
        version = loaded.json()["version"]
        assert client.delete(f"/v1/models/router@{version}").status_code == 200
        assert client.get("/readyz").status_code == 503
        assert client.get("/startupz").status_code == 200
    process.send_signal(signal.SIGTERM)
    assert process.wait(SECONDS) == 0


# --- Trap 7: shutdown closes the workers before the doors: requests in flight fail ---


def test_on_sigterm_what_is_in_flight_is_answered_by_workers_that_are_still_there(start, root):
    process, address = start(str(root / "router"), "--workers", "2", "--batch-tokens", "512")
    workers = children_of(process.pid)
    assert len(workers) == 2
    # Held, so that the signal finds all three requests in flight.
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)

    def ask(first: int) -> httpx.Response:
        texts = [f"hello {'parcel ' * 400}{first + n}" for n in range(40)]
        with httpx.Client(base_url=address, timeout=SECONDS) as client:
            return client.post("/v1/classify", json={"input": texts})

    def all_wait() -> bool:
        return "\nxlmr_queue_requests 3" in httpx.get(f"{address}/metrics").text

    def leaving() -> bool:
        try:
            return httpx.get(f"{address}/readyz").status_code == 503
        except httpx.TransportError:
            return True

    with ThreadPoolExecutor(3) as threads:
        asked = [threads.submit(ask, 40 * turn) for turn in range(3)]
        try:
            eventually(all_wait)
            process.send_signal(signal.SIGTERM)
            eventually(leaving)
        finally:
            for pid in workers:
                os.kill(pid, signal.SIGCONT)
        replies = [one.result(SECONDS) for one in asked]
    assert [reply.status_code for reply in replies] == [200, 200, 200]
    assert [len(reply.json()["items"]) for reply in replies] == [40, 40, 40]
    assert process.wait(SECONDS) == 0
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]


def test_while_load_balancers_notice_requests_are_still_answered(house):
    house.server.drain(pause_seconds=1.5)
    ready = house.client.get("/readyz")
    assert ready.status_code == 503
    assert ready.json()["reasons"] == ["the server is going down"]
    assert house.classify(input="hello").status_code == 200
    replies: list[Any] = []

    def refused() -> bool:
        try:
            replies.append(house.classify(input="hello"))
        except httpx.TransportError:
            return True
        return replies[-1].status_code == 503

    eventually(refused)
    assert {reply.status_code for reply in replies[:-1]} <= {200}
    house.thread.join(SECONDS)
    assert not house.thread.is_alive()
