"""What a real server keeps of its answers: no text without a policy, nothing lost that it took."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.collector import collecting
from tests.tiny import tiny_model

from xlmr.feedback.record import Hasher
from xlmr.feedback.store import Store
from xlmr.serving.grpc.messages import native

SECONDS = 30
KEY = "cd" * 32
WORD, EMAIL, PHONE = "Marzipanschwein", "zebulon.quagga@example.org", "+44 20 7946 0958"
TEXT = f"where is my {WORD}, tell {EMAIL} or call {PHONE}"
MARKS = (WORD, EMAIL, "zebulon", PHONE, "7946 0958", "79460958")
RECORDED = ("xlmr_records", "text")
KINDS = ("classify", "embed", "tag", "answer", "zero_shot", "fill", "rerank")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    root = tmp_path_factory.mktemp("models")
    return [str(tiny_model(root, kind, seed=4)) for kind in KINDS]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Starts `xlmr serve` in a directory of its own, with its log in a file there."""
    with contextlib.ExitStack() as stack:

        def start(*options: str) -> tuple[subprocess.Popen[bytes], dict[str, Any]]:
            (tmp_path / "here").mkdir(exist_ok=True)
            log = stack.enter_context((tmp_path / "here" / "log.jsonl").open("ab"))
            process = subprocess.Popen(
                [sys.executable, "-m", "xlmr", "serve", *options, "--port", "0", "--json"],
                cwd=tmp_path / "here",
                env=os.environ
                | {
                    "XLMR_CACHE_DIR": str(tmp_path / "here" / "cache"),
                    "XLMR_RUNTIME": "reference",
                    "XLMR_FEEDBACK": "feedback.db",
                    "XLMR_FEEDBACK_KEY": KEY,
                },
                stdout=subprocess.PIPE,
                stderr=log,
            )
            stack.callback(process.communicate)
            stack.callback(process.kill)
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, (tmp_path / "here" / "log.jsonl").read_text()
            return process, json.loads(line)

        yield start


def ask_every_door(client: httpx.Client, grpc_address: str) -> set[int]:
    """Marked texts, and questions that go wrong; the statuses that came back."""
    pair = {"question": TEXT, "context": TEXT}
    asked: list[tuple[str, Any]] = [
        ("/v1/classify", {"input": [TEXT, "hello"], "model": "classify", "languages": [WORD] * 2}),
        ("/v1/classify", {"input": [[TEXT, TEXT]], "model": "classify"}),
        ("/v1/zero-shot", {"input": TEXT, "labels": [WORD, EMAIL], "model": "zero_shot"}),
        ("/v1/tag", {"input": [TEXT, TEXT.split()], "model": "tag"}),
        ("/v1/answer", {"input": pair, "model": "answer"}),
        ("/v1/fill", {"input": f"{TEXT} <mask>", "model": "fill"}),
        ("/v1/similarity", {"source": TEXT, "sentences": [TEXT], "model": "embed"}),
        ("/v1/tokenize", {"input": TEXT, "model": "embed"}),
        ("/v1/rerank", {"query": TEXT, "documents": [TEXT], "model": "rerank"}),
        ("/v1/embeddings", {"input": TEXT, "model": "embed"}),
        ("/embed", {"inputs": TEXT}),
        ("/predict", {"inputs": TEXT}),
        ("/rerank", {"query": TEXT, "texts": [TEXT]}),
        ("/invocations", {"instances": [TEXT], "model": "classify"}),
        (
            "/v2/models/classify/infer",
            {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": [TEXT]}]},
        ),
        ("/v1/classify", {"input": TEXT, "model": WORD}),
        ("/v1/classify", {"input": TEXT, "model": "classify", WORD: TEXT}),
        ("/v1/classify", {"input": TEXT + " hello" * 600, "model": "classify", "long": "error"}),
        ("/v1/classify", {"input": TEXT, "model": "embed"}),
        ("/v1/classify", {"input": [TEXT, f"{TEXT} \ud800"], "model": "classify"}),
        ("/v1/feedback", {"feedback": {"prediction": "p-0", "label": "refund", "who": EMAIL}}),
        ("/v1/feedback", {"feedback": {"prediction": TEXT * 5, "label": TEXT}}),
        ("/v1/feedback", {"feedback": {"prediction": "p-0", "label": "a", "text": TEXT}}),
    ]
    headers = {"content-type": "application/json", "x-subject": EMAIL}
    bodies = [(path, json.dumps(body)) for path, body in asked]
    bodies.append(("/v1/classify", '{"input": "' + TEXT))
    statuses = {
        client.post(path, content=body, headers=headers).status_code for path, body in bodies
    }
    message = native.ClassifyRequest(texts=[native.Text(text=TEXT)], model="classify")
    with grpc.insecure_channel(grpc_address) as channel:
        call = channel.unary_unary(
            "/xlmr.v1.Xlmr/Classify",
            request_serializer=native.ClassifyRequest.SerializeToString,
            response_deserializer=native.ClassifyResponse.FromString,
        )
        call(message, timeout=SECONDS, metadata=(("x-subject", EMAIL),))
        with pytest.raises(grpc.RpcError):
            call(native.ClassifyRequest(texts=message.texts, model=WORD), timeout=SECONDS)
    return statuses


def cells(path: Path) -> Iterator[tuple[str, str, str]]:
    """Table, column and value of everything that a database holds."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (table,) in tables:
            found = database.execute(f"SELECT * FROM {table}")
            names = [column[0] for column in found.description]
            for row in found:
                yield from (
                    (table, name, str(value)) for name, value in zip(names, row, strict=True)
                )


@pytest.mark.parametrize("policy", ["", '[text]\nkeep = "redacted"\n'], ids=["none", "redacted"])
def test_marked_texts_are_found_nowhere_else(start, models, tmp_path, policy):
    options = [*models, "--grpc-port", "0", "--log-level", "debug"]
    if policy:
        (tmp_path / "policy.toml").write_text(policy)
        options += ["--feedback-policy", str(tmp_path / "policy.toml")]
    with collecting() as collector:
        process, said = start(*options, "--otlp-endpoint", collector.address)
        with httpx.Client(base_url=said["address"], timeout=SECONDS) as client:
            statuses = ask_every_door(client, said["grpc_address"])
            metrics = client.get("/metrics").content
        assert {200, 400, 404, 422} <= statuses
        held = [(path.name, path.read_bytes()) for path in (tmp_path / "here").glob("feedback.db*")]
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0
    files = [path for path in (tmp_path / "here").rglob("*") if path.is_file()]
    held += [(str(path), path.read_bytes()) for path in files]
    held += [("metrics", metrics), ("stdout", process.stdout.read())]
    held += [("traces", body) for body in collector.bodies]
    assert any(b"xlmr.task" in body for body in collector.bodies)
    # Without a policy no mark is anywhere; with one the word is, and what was hidden is not.
    for name, content in held:
        for mark in MARKS[1:] if policy else MARKS:
            assert mark.encode() not in content, (name, mark)
        assert WORD.encode() not in content or "feedback.db" in name, name
    database = tmp_path / "here" / "feedback.db"
    marked = [cell for cell in cells(database) if any(mark in cell[2] for mark in MARKS)]
    assert {cell[:2] for cell in marked} == ({RECORDED} if policy else set())
    texts = [text for table, name, text in cells(database) if (table, name) == RECORDED]
    assert len(texts) > 15  # the last of them written on the way down
    if policy:
        assert f"where is my {WORD}, tell <EMAIL> or call <PHONE>" in texts
    person = Hasher(bytes.fromhex(KEY)).person(EMAIL)
    assert {text for _, name, text in cells(database) if name == "subject"} == {person}


def test_what_was_acknowledged_survives_kill_9(start, models, tmp_path):
    process, said = start(models[0])
    acknowledged: list[str] = []
    enough = threading.Event()

    def ask() -> None:
        client = httpx.Client(base_url=said["address"], timeout=SECONDS)
        with client, contextlib.suppress(httpx.TransportError):
            while True:
                items = client.post("/v1/classify", json={"input": ["hello"] * 3}).json()
                ids = [item["id"] for item in items["items"]]
                about = [{"prediction": id, "label": "refund", "who": "ann"} for id in ids]
                if client.post("/v1/feedback", json={"feedback": about}).status_code == 200:
                    acknowledged.extend(ids)
                if len(acknowledged) > 150:
                    enough.set()

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert enough.wait(SECONDS)
    taken = 0.0
    while not taken:
        taken = records_taken(said["address"])
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait(SECONDS)
    for thread in threads:
        thread.join(SECONDS)
    _, said = start(models[0])
    store = Store(str(tmp_path / "here" / "feedback.db"))
    kept = {record.id for record in store.records()}
    assert len(kept) >= taken
    answered = store.feedback(acknowledged)
    store.close()
    assert {id for id in acknowledged if not answered.get(id)} == set()
    # The client whose answer was lost says it again: it is known, not kept twice.
    again = {"feedback": {"prediction": acknowledged[0], "label": "refund", "who": "ann"}}
    reply = httpx.post(f"{said['address']}/v1/feedback", json=again, timeout=SECONDS)
    assert reply.json()["new"] == 0


def records_taken(address: str) -> float:
    page = httpx.get(f"{address}/metrics", timeout=SECONDS).text
    (family,) = (
        f for f in text_string_to_metric_families(page) if f.name == "xlmr_feedback_records"
    )
    return family.samples[0].value
