"""Debian's Prometheus and Alertmanager, as a test starts them for itself, and who they tell."""

from __future__ import annotations

import contextlib
import http.server
import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@contextlib.contextmanager
def program(name: str, *options: str, directory: Path) -> Iterator[None]:
    """A program that runs below a directory of its own, and is killed at the end."""
    binary = shutil.which(name)
    if binary is None:
        pytest.skip(f"{name} is not installed: run `make services` as root")
    place = directory / name
    place.mkdir()
    with (place / "log").open("wb") as log:
        process = subprocess.Popen([binary, *options], stdout=log, stderr=log, cwd=place)
    try:
        yield
        assert process.poll() is None, (place / "log").read_text()
    finally:
        process.kill()
        process.wait(20)


class Webhook:
    """Takes what Alertmanager tells.

    Attributes:
        told: (status, labels) of every alert, in the order of their arrival.
    """

    def __init__(self) -> None:
        self.told: list[tuple[str, dict[str, str]]] = []
        webhook = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body: dict[str, Any] = json.loads(
                    self.rfile.read(int(self.headers["content-length"]))
                )
                webhook.told += [(alert["status"], alert["labels"]) for alert in body["alerts"]]
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        self._server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Takes what comes meanwhile."""
        thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()
