"""A real MLflow server on this machine, for all of this suite."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import mlflow
import pytest

# Its job runners would be seven processes more, for nothing that is asked of it here.
SETTINGS = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    place = tmp_path_factory.mktemp("server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    stores = ["--backend-store-uri", f"sqlite:///{place}/runs.db"]
    stores += ["--host", "127.0.0.1", "--workers", "1"]
    stores += ["--artifacts-destination", str(place / "files")]
    with (place / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *stores, "--port", str(port)],
            env=os.environ | SETTINGS,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        patience = time.monotonic() + 180.0
        while not answers(f"{address}/health"):
            assert process.poll() is None, (place / "log").read_text()
            assert time.monotonic() < patience, (place / "log").read_text()
            time.sleep(0.2)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=2) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@pytest.fixture
def client(server: str, monkeypatch: pytest.MonkeyPatch) -> mlflow.MlflowClient:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    mlflow.set_tracking_uri(server)
    return mlflow.MlflowClient(server)
