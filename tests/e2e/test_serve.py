"""`xlmr serve` as its users run it: a process, a port, signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from tests.tiny import tiny_model, write_linear_head

from xlmr.cli.serve import serve
from xlmr.drift.keeping import DriftStore
from xlmr.serving.http.server import bind

COMMAND = [sys.executable, "-c", "from xlmr.cli.serve import serve; serve()"]
SECONDS = 30


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tiny_model(tmp_path_factory.mktemp("serve"), "embed")
    write_linear_head(path, ("refund", "delivery", "other"))
    return path.rename(path.parent / "router")


@pytest.fixture
def start(router: Path, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts `xlmr serve` in an empty directory; stops what is left of it."""
    processes: list[subprocess.Popen[str]] = []

    def start(*options: str) -> subprocess.Popen[str]:
        (tmp_path / "here").mkdir(exist_ok=True)
        environment = os.environ | {
            "XLMR_CACHE_DIR": str(tmp_path / "cache"),
            "XLMR_RUNTIME": "reference",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        processes.append(
            subprocess.Popen(
                [*COMMAND, str(router), "--port", "0", *options],
                cwd=tmp_path / "here",
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def announced(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.communicate()[1]
    return json.loads(line)


def test_it_serves_and_on_sigterm_answers_what_is_in_flight(start, router, tmp_path):
    process = start("--json")
    ready = announced(process)
    assert [model["name"] for model in ready["models"]] == ["router"]
    [model] = ready["models"]
    assert model["tasks"] == ["classify", "embed"]
    assert model["version"] == model["digest"][:12]
    assert (model["aliases"], model["golden_inputs"]) == (["live"], None)
    with httpx.Client(base_url=ready["address"], timeout=SECONDS) as client:
        assert client.get("/readyz").json() == {"ready": True, "models": ["router"]}
        embedding = client.post("/v1/embeddings", json={"input": "你好 世界"}).json()
        assert len(embedding["data"][0]["embedding"]) == 32
        replies: list[httpx.Response] = []

        def batches() -> str:
            lines = client.get("/metrics").text.splitlines()
            [line] = [line for line in lines if line.startswith("xlmr_batch_texts_count")]
            return line

        before = batches()
        # A dozen batches: after the first of them, the signal finds the others waiting.
        body = {"input": [f"hello {'parcel ' * 400}{n}" for n in range(120)]}
        asking = threading.Thread(
            target=lambda: replies.append(client.post("/v1/classify", json=body))
        )
        asking.start()
        while batches() == before and asking.is_alive():
            time.sleep(0.01)
        assert asking.is_alive()
        process.send_signal(signal.SIGTERM)
        asking.join(SECONDS)
    assert [reply.status_code for reply in replies] == [200]
    assert len(replies[0].json()["items"]) == 120
    out, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, err
    assert out == ""
    records = [json.loads(line) for line in err.splitlines()]
    requests = [record for record in records if record["event"] == "request"]
    assert [(record["task"], record["code"]) for record in requests] == [
        ("embed", "ok"),
        ("classify", "ok"),
    ]
    assert list((tmp_path / "here").iterdir()) == []


def test_it_says_what_is_loaded_and_what_to_try(start):
    process = start("--log-level", "error")
    assert process.stdout is not None
    said = ""
    while said.count("curl") < 3:
        line = process.stdout.readline()
        assert line, process.communicate()[1]
        said += line
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 0
    assert err == ""
    for expected in (
        "router",
        "classify, embed",
        "none promised",
        "reference",
        "http://127.0.0.1:",
        "/v1/embed",
    ):
        assert expected in said


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(serve, list(arguments))
    return result.exit_code, result.output


def test_a_taken_port_is_one_clear_error(router):
    with bind("127.0.0.1", 0) as taken:
        taken.listen()
        port = str(taken.getsockname()[1])
        code, output = run(str(router), "--port", port, "--runtime", "reference")
    assert code == 1
    assert output.startswith(f"Error: cannot listen on 127.0.0.1:{port}")
    assert "Traceback" not in output


def test_versions_of_a_name_are_served_side_by_side(start, router):
    process = start(f"router@2={router}", "--json")
    versions = [(m["name"], m["version"], m["aliases"]) for m in announced(process)["models"]]
    assert [name for name, _, _ in versions] == ["router", "router"]
    assert versions[1] == ("router", "2", ["live"])
    process.send_signal(signal.SIGTERM)
    assert process.wait(SECONDS) == 0


def test_nothing_to_serve_is_one_clear_error():
    code, output = run()
    assert code == 1
    assert "no model to serve" in output
    assert "--models-dir" in output


def test_a_bad_model_is_one_clear_error(tmp_path):
    code, output = run(str(tmp_path), "--port", "0", "--runtime", "reference")
    assert code == 1
    assert output.startswith("Error: ")
    assert "config.json" in output


def test_a_bad_setting_is_one_clear_error(router):
    code, output = run(str(router), "--batch-tokens", "many")
    assert code == 1
    assert "XLMR_BATCH_TOKENS='many': expected a whole number" in output


def test_help_names_each_setting_with_its_variable_and_default():
    code, output = run("--help")
    assert code == 0
    assert "--queue-tokens" in output
    assert "XLMR_QUEUE_TOKENS; 65536" in " ".join(output.split())


def test_what_two_servers_saw_adds_up(start, tmp_path):
    store = tmp_path / "drift.db"
    servers = [start("--json", "--drift", str(store)) for _ in range(2)]
    for process in servers:
        ready = announced(process)
        with httpx.Client(base_url=ready["address"], timeout=SECONDS) as client:
            for _ in range(5):
                said = client.post("/v1/classify", json={"input": "where is my parcel"})
                assert said.status_code == 200
    for process in servers:
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0
    (held,) = DriftStore(str(store)).held()
    assert (held.watched.model, held.watched.task, held.rows) == ("router", "classify", 10)
