"""A log that cannot be written costs lines, never requests: the disk is full, or nobody reads."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.tiny import tiny_model, write_linear_head

COMMAND = [sys.executable, "-c", "from xlmr.cli.serve import serve; serve()"]
SECONDS = 30


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tiny_model(tmp_path_factory.mktemp("full"), "embed")
    write_linear_head(path, ("refund", "delivery", "other"))
    return path.rename(path.parent / "router")


@pytest.fixture
def start(router: Path, tmp_path: Path):
    """Starts `xlmr serve` with these streams; stops what is left of it."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(*options: str, stdout: Any, stderr: Any) -> subprocess.Popen[bytes]:
        environment = os.environ | {
            "XLMR_CACHE_DIR": str(tmp_path / "cache"),
            "XLMR_RUNTIME": "reference",
            "XLMR_LOG_LEVEL": "debug",
        }
        command = [*COMMAND, str(router), *options]
        processes.append(subprocess.Popen(command, env=environment, stdout=stdout, stderr=stderr))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def full() -> IO[bytes]:
    return open("/dev/full", "wb")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ask(client: httpx.Client, times: int = 20) -> None:
    for _ in range(times):
        assert client.post("/v1/classify", json={"input": "hello world"}).status_code == 200
    assert client.post("/v1/classify", content=b"{").status_code == 415


def dropped(client: httpx.Client) -> float:
    families = text_string_to_metric_families(client.get("/metrics").text)
    (family,) = (f for f in families if f.name == "xlmr_log_dropped_lines")
    return family.samples[0].value


def end(process: subprocess.Popen[bytes]) -> int:
    process.send_signal(signal.SIGTERM)
    return process.wait(SECONDS)


def test_a_full_disk_costs_no_request(start):
    with full() as device:
        process = start("--port", "0", "--json", stdout=subprocess.PIPE, stderr=device)
    address = json.loads(process.stdout.readline())["address"]
    with httpx.Client(base_url=address, timeout=SECONDS) as client:
        ask(client)
        for _ in range(200):
            if dropped(client) >= 21:
                break
        assert dropped(client) >= 21
        assert client.get("/readyz").status_code == 200
    assert end(process) == 0


def test_where_nothing_can_be_said_it_serves_all_the_same(start):
    port = free_port()
    with full() as device:
        process = start("--port", str(port), stdout=device, stderr=device)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=SECONDS) as client:
        wait_for(client, process)
        ask(client)
    assert end(process) == 0


def test_a_reader_that_is_gone_or_stands_still_costs_no_request(start):
    process = start("--port", "0", "--json", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    address = json.loads(process.stdout.readline())["address"]
    with httpx.Client(base_url=address, timeout=SECONDS) as client:
        # Nobody reads: 64 KB of lines fill the pipe.
        ask(client, times=400)
        process.stderr.close()
        ask(client)
    assert end(process) == 0


def wait_for(client: httpx.Client, process: subprocess.Popen[bytes]) -> None:
    while True:
        assert process.poll() is None, "it did not start"
        with contextlib.suppress(httpx.ConnectError):
            if client.get("/readyz").status_code == 200:
                return
        time.sleep(0.05)
