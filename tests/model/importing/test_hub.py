"""The hub is a server of our own on a local socket; huggingface_hub itself is the real one."""

from __future__ import annotations

import hashlib
import json
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from xlmr.errors import (
    DigestMismatchError,
    MissingExtraError,
    ModelNotFoundError,
    UnavailableError,
)
from xlmr.model.importing.checkpoint import import_checkpoint
from xlmr.model.importing.companions import hub_files

COMMIT = "c0ffee" * 6 + "c0de"
MODEL = "acme/tiny-xlmr"


@dataclass
class Hub:
    """What the server offers, and what it was asked for."""

    files: dict[str, bytes]
    tampered: dict[str, bytes] = field(default_factory=dict)
    status: int = 200
    asked: list[str] = field(default_factory=list)
    endpoint: str = ""

    def entry(self, name: str) -> dict[str, object]:
        content = self.files[name]
        blob = hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
        entry: dict[str, object] = {"size": len(content), "oid": blob, "blobId": blob}
        if name.endswith((".safetensors", ".bin", ".pt")):
            sha256 = hashlib.sha256(content).hexdigest()
            entry["lfs"] = {"sha256": sha256, "oid": sha256, "size": len(content), "pointerSize": 1}
        return entry


class Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        return

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if self.hub.status != 200:
            return self.reply(b"{}", status=self.hub.status)
        if path.startswith(f"/api/models/{MODEL}/tree/"):
            tree = [{"type": "file", "path": n, **self.hub.entry(n)} for n in self.hub.files]
            return self.reply(json.dumps(tree).encode())
        if path in (f"/api/models/{MODEL}", *self.revisions()):
            siblings = [{"rfilename": n, **self.hub.entry(n)} for n in self.hub.files]
            info = {"id": MODEL, "sha": COMMIT, "siblings": siblings, "tags": [], "private": False}
            return self.reply(json.dumps(info).encode())
        prefix = f"/{MODEL}/resolve/{COMMIT}/"
        name = path.removeprefix(prefix)
        if path.startswith(prefix) and name in self.hub.files:
            self.hub.asked.append(name)
            content = self.hub.tampered.get(name, self.hub.files[name])
            return self.reply(content, etag=hashlib.sha256(self.hub.files[name]).hexdigest())
        code = "RevisionNotFound" if f"{MODEL}/revision" in path else "RepoNotFound"
        return self.reply(b"{}", status=404, code=code)

    def revisions(self) -> list[str]:
        return [f"/api/models/{MODEL}/revision/{name}" for name in ("main", "v2", COMMIT)]

    def reply(self, content: bytes, *, status: int = 200, etag: str = "", code: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Type", "application/json")
        if etag:
            self.send_header("ETag", f'"{etag}"')
            self.send_header("X-Repo-Commit", COMMIT)
        if code:
            self.send_header("X-Error-Code", code)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)


@pytest.fixture
def hub(checkpoint) -> Iterator[Hub]:
    source: Path = checkpoint("ForMaskedLM")
    files = {path.name: path.read_bytes() for path in source.iterdir()}
    files |= {"README.md": b"# card", "modeling.py": b"raise SystemExit", "tf_model.h5": b"x"}
    files |= {"pytorch_model.bin": b"never asked for", "onnx/model.onnx": b"x"}
    shelf = Hub(files)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": shelf}))
    shelf.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield shelf
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def bring_in(hub, tmp_path):
    def run(source: str = MODEL, **options):
        given = {"cache_dir": tmp_path / "cache", "endpoint": hub.endpoint} | options
        return import_checkpoint(source, tmp_path / "out", **given)

    return run


def test_downloads_what_is_needed_and_says_what_it_left(hub, bring_in):
    steps = []
    report = bring_in(revision="v2", progress=lambda *step: steps.append(step))
    assert report.revision == COMMIT
    needed = {"config.json", "model.safetensors", "tokenizer.json", "README.md"}
    assert set(hub.asked) == needed
    digests = {file.name: file.sha256 for file in report.downloaded}
    assert digests == {n: hashlib.sha256(hub.files[n]).hexdigest() for n in needed}
    reasons = {skipped.name: skipped.reason for skipped in report.skipped}
    assert reasons["modeling.py"] == "code of others is never run"
    assert reasons["pytorch_model.bin"] == "model.safetensors holds the same"
    assert {"tf_model.h5", "onnx/"} <= set(reasons)
    total = sum(len(hub.files[name]) for name in needed)
    assert ("downloading", total, total) in steps
    assert (report.out / "README.md").read_bytes() == b"# card"


def test_a_second_import_downloads_nothing(hub, bring_in):
    bring_in()
    hub.asked.clear()
    bring_in(force=True)
    assert not hub.asked


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_what_the_hub_did_not_promise_is_refused(hub, bring_in, tmp_path, name):
    content = bytearray(hub.files[name])
    content[-2] ^= 1
    hub.tampered[name] = bytes(content)
    with pytest.raises(DigestMismatchError, match=name):
        bring_in()
    assert not (tmp_path / "out").exists()


def test_no_such_model_revision_or_permission(hub, bring_in):
    with pytest.raises(ModelNotFoundError, match="no such model"):
        bring_in("acme/nothing")
    with pytest.raises(ModelNotFoundError, match="revision"):
        bring_in(revision="nothing")
    with pytest.raises(ModelNotFoundError):
        bring_in("a--b..c")
    hub.status = 403
    with pytest.raises(ModelNotFoundError, match="refuses"):
        bring_in()


def test_a_hub_that_cannot_be_reached(hub, bring_in):
    with pytest.raises(UnavailableError, match="cannot be reached"):
        bring_in(endpoint="http://127.0.0.1:9")
    hub.status = 400
    with pytest.raises(UnavailableError, match="cannot be reached") as refused:
        bring_in()
    assert "import its directory" in refused.value.hint


def test_without_the_package_it_says_what_to_install(bring_in, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r"xlmr\[hub\]"):
        bring_in()


def test_choice_of_files():
    shards = ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"]
    index = "pytorch_model.bin.index.json"
    others = [
        "sparse_linear.pt",
        "training_args.bin",
        "a.py",
        "onnx/config.json",
        "flax_model.msgpack",
    ]
    small = ["config.json", "1_Pooling/config.json", "modules.json", "LICENSE"]
    only_old = [*shards, index, *others, *small, "sentencepiece.bpe.model"]
    assert hub_files(only_old) == sorted([*shards, index, *small, "sentencepiece.bpe.model"])
    both = [*only_old, "model.safetensors", "tokenizer.json"]
    assert hub_files(both) == sorted(["model.safetensors", "tokenizer.json", *small])
