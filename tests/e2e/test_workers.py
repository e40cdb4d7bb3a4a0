"""`xlmr serve --workers`: processes that die while they compute cost time and no answer."""

from __future__ import annotations

import collections
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from tests.tiny import tiny_model, write_linear_head

COMMAND = [sys.executable, "-c", "from xlmr.cli.serve import serve; serve()"]
SECONDS = 60


def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


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


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server with two workers on the native runtime, and its address."""
    path = tiny_model(tmp_path, "embed")
    write_linear_head(path, ("refund", "delivery", "other"))
    environment = os.environ | {"XLMR_CACHE_DIR": str(tmp_path / "cache")}
    options = ["--workers", "2", "--precision", "fp32", "--cache-bytes", "0", "--json"]
    process = subprocess.Popen(
        [*COMMAND, f"router={path}", "--port", "0", *options],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.communicate()[1]
    yield process, json.loads(line)["address"]
    process.kill()
    process.communicate()


def test_every_request_is_answered_while_workers_are_killed(served):
    process, address = served
    stop = threading.Event()
    codes: collections.Counter[int] = collections.Counter()
    said: set[str] = set()

    def ask() -> None:
        with httpx.Client(base_url=address, timeout=SECONDS) as client:
            while not stop.is_set():
                reply = client.post("/v1/classify", json={"input": ["where is my parcel"] * 8})
                codes[reply.status_code] += 1
                said.update(json.dumps(item["labels"]) for item in reply.json()["items"])

    with ThreadPoolExecutor(4) as threads:
        asking = [threads.submit(ask) for _ in range(4)]
        eventually(lambda: codes[200] > 20)
        for _ in range(3):
            workers = children_of(process.pid)
            os.kill(random.choice(workers), signal.SIGKILL)
            before = codes[200]
            eventually(lambda before=before: codes[200] > before + 20)
            eventually(lambda: len(children_of(process.pid)) == 2)
        stop.set()
        for future in asking:
            future.result(SECONDS)
    assert set(codes) == {200}
    assert len(said) == 1
    metrics = httpx.get(f"{address}/metrics").text
    assert "\nxlmr_worker_restarts_total 3" in metrics
    process.send_signal(signal.SIGTERM)
    assert process.wait(SECONDS) == 0


def test_a_server_that_is_killed_leaves_no_worker(served):
    process, _ = served
    workers = children_of(process.pid)
    assert len(workers) == 2
    process.kill()
    process.wait()
    eventually(lambda: not [pid for pid in workers if Path(f"/proc/{pid}").exists()])
