"""The registry's artifacts in S3: a real client, against moto's server on this machine."""

from __future__ import annotations

import os
import re
import secrets
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import fsspec
import pytest

from xlmr.errors import DigestMismatchError, RegistryUnavailableError
from xlmr.registry.digest import FileEntry
from xlmr.registry.envelope import Envelope
from xlmr.registry.manifest import hash_files
from xlmr.registry.store import Store, blob_key

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_REGION": "us-east-1"}
# More than one part of an upload.
LARGE = 120 * 1024 * 1024


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    place = tmp_path_factory.mktemp("moto")
    with (place / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"],
            stdout=log,
            stderr=log,
            env=os.environ | CREDENTIALS | {"PYTHONUNBUFFERED": "1"},
        )
    try:
        patience = time.monotonic() + 120
        while "Running on http://" not in (said := (place / "log").read_text()):
            assert process.poll() is None, said
            assert time.monotonic() < patience, said
            time.sleep(0.1)
        yield said.partition("Running on ")[2].split()[0]
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def bucket(address: str, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in (CREDENTIALS | {"AWS_ENDPOINT_URL": address}).items():
        monkeypatch.setenv(name, value)
    fsspec.filesystem("s3").clear_instance_cache()
    name = f"bucket-{secrets.token_hex(6)}"
    fsspec.filesystem("s3", use_listings_cache=False).mkdir(name)
    return f"s3://{name}/models"


def file_of(place: Path, size: int) -> tuple[FileEntry, Path]:
    place.mkdir()
    (place / "model.safetensors").write_bytes(os.urandom(1024) * (size // 1024))
    (entry,) = hash_files(place)
    return entry, place / "model.safetensors"


@pytest.mark.parametrize("envelope", [None, Envelope(bytes(32))], ids=["plain", "sealed"])
@pytest.mark.parametrize("size", [0, 1024, LARGE])
def test_what_goes_in_comes_out(
    bucket: str, tmp_path: Path, size: int, envelope: Envelope | None
) -> None:
    store = Store(bucket, envelope=envelope)
    entry, source = file_of(tmp_path / "in", size)
    assert not store.has_blob(entry)
    assert store.put_blob(entry, source)
    assert not store.put_blob(entry, source)
    store.fetch_blob(entry, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == source.read_bytes()
    (kept,) = store.list("blobs")
    assert kept.key == blob_key(entry.sha256)
    assert abs(kept.modified - datetime.now(UTC)) < timedelta(hours=1)


@pytest.mark.parametrize("size", [2048, LARGE])
def test_an_upload_that_fails_leaves_nothing(bucket: str, tmp_path: Path, size: int) -> None:
    entry, source = file_of(tmp_path / "in", size)
    source.write_bytes(source.read_bytes()[:-1] + b"?")
    with pytest.raises(DigestMismatchError):
        Store(bucket).put_blob(entry, source)
    assert not Store(bucket).has_blob(entry)
    assert not list(Store(bucket).list(""))


def test_killed_while_uploading_leaves_nothing_to_be_seen(bucket: str, tmp_path: Path) -> None:
    entry, source = file_of(tmp_path / "in", LARGE)
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        "from xlmr.registry.digest import FileEntry; from xlmr.registry.store import Store\n"
        "die = lambda name: name == 'uploaded' and os.kill(os.getpid(), signal.SIGKILL)\n"
        "url, source, sha = sys.argv[1:4]\n"
        "entry = FileEntry('model.safetensors', int(sys.argv[4]), sha)\n"
        "Store(url, step=die).put_blob(entry, Path(source))\n"
    )
    given = [bucket, str(source), entry.sha256, str(entry.size)]
    done = subprocess.run([sys.executable, "-c", script, *given], check=False)
    assert done.returncode == -9
    assert not list(Store(bucket).list(""))
    Store(bucket).put_blob(entry, source)
    Store(bucket).check_blob(entry)


def test_small_things_and_their_removal(bucket: str) -> None:
    store = Store(bucket)
    assert store.get("trees/x.json") is None
    store.put("trees/x.json", b"one")
    store.put("trees/x.json", b"two")
    assert Store(bucket).get("trees/x.json") == b"two"
    store.remove(["trees/x.json", "trees/none.json"])
    assert store.get("trees/x.json") is None
    assert store.sweep(datetime.now(UTC)) == 0


def test_a_bucket_that_is_not_there_and_a_server_that_is_away(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RegistryUnavailableError):
        Store("s3://no-such-bucket-here/x").put("trees/x.json", b"x")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    fsspec.filesystem("s3").clear_instance_cache()
    away = Store("s3://bucket/x", options={"config_kwargs": {"retries": {"max_attempts": 0}}})
    with pytest.raises(RegistryUnavailableError):
        away.get("trees/x.json")


def test_what_fsspec_is_told_reaches_every_object(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As docs/registry.md says it: encryption by S3 itself, of small objects and of large ones."""
    page = Path(__file__).resolve().parents[3] / "docs" / "registry.md"
    (line,) = re.findall(r"^export (FSSPEC_S3=.*)$", page.read_text(), flags=re.MULTILINE)
    name, _, value = shlex.split(line)[0].partition("=")
    settings: dict[str, dict[str, object]] = {}
    fsspec.config.set_conf_env(settings, {name: value})
    monkeypatch.setitem(fsspec.config.conf, "s3", settings["s3"])
    fsspec.filesystem("s3").clear_instance_cache()
    store = Store(bucket)
    for size in (1024, LARGE):
        entry, source = file_of(tmp_path / str(size), size)
        store.put_blob(entry, source)
        store.check_blob(entry)
    client = fsspec.filesystem("s3", use_listings_cache=False)
    kept = list(store.list("blobs"))
    assert len(kept) == 2
    for blob in kept:
        path = f"{bucket.removeprefix('s3://')}/{blob.key}"
        told = client.call_s3("head_object", Bucket=path.split("/")[0], Key=path.split("/", 1)[1])
        assert told["ServerSideEncryption"] == "aws:kms"
        assert told["SSEKMSKeyId"].endswith("alias/models")
