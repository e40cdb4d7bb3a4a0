"""What a server told when it has ended: nothing of its last requests is lost on the way out."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
from tests.collector import collecting
from tests.tiny import tiny_model, write_linear_head

COMMAND = [sys.executable, "-c", "from xlmr.cli.serve import serve; serve()"]
SECONDS = 30


def test_the_last_requests_are_in_the_log_and_in_the_traces(tmp_path: Path) -> None:
    router = tiny_model(tmp_path, "embed")
    write_linear_head(router, ("refund", "delivery", "other"))
    environment = os.environ | {"XLMR_CACHE_DIR": str(tmp_path), "XLMR_RUNTIME": "reference"}
    with collecting() as collector:
        options = ["--port", "0", "--json", "--otlp-endpoint", collector.address]
        process = subprocess.Popen(
            [*COMMAND, str(router), *options],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            address = json.loads(process.stdout.readline())["address"]
            with httpx.Client(base_url=address, timeout=SECONDS) as client:
                for _ in range(5):
                    reply = client.post("/v1/classify", json={"input": "hello world"})
                    assert reply.status_code == 200
            process.send_signal(signal.SIGTERM)
            _, logged = process.communicate(timeout=SECONDS)
        finally:
            process.kill()
            process.communicate()
        requests = [span for span in collector.spans if not span.parent_span_id]
    assert process.returncode == 0, logged
    records = [json.loads(line) for line in logged.splitlines()]
    records = [record for record in records if record["event"] == "request"]
    assert len(records) == len(requests) == 5
    assert [record["trace"] for record in records] == [span.trace_id.hex() for span in requests]
    assert reply.headers["traceresponse"].split("-")[1] == records[-1]["trace"]
    fields = {"caller", "version", "lengths", "fingerprints", "languages", "tokens", "infer_ms"}
    assert fields <= records[-1].keys()
