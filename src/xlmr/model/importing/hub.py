"""Downloads from a model hub: data files only, at one commit, each checked against its digest."""

from __future__ import annotations

import hashlib
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xlmr.errors import (
    DigestMismatchError,
    MissingExtraError,
    ModelNotFoundError,
    UnavailableError,
)
from xlmr.model.importing.progress import Progress
from xlmr.model.importing.report import WrittenFile


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A model as downloaded.

    Attributes:
        directory: where its files lie.
        commit: the commit they are of.
        files: what was downloaded, with the digests found.
        left: files, and folders as `name/`, that were not.
    """

    directory: Path
    commit: str
    files: tuple[WrittenFile, ...]
    left: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Promise:
    """What the hub says of a file: its size, and its SHA-256 or else its git blob id."""

    size_bytes: int
    sha256: str | None
    blob_id: str | None


def fetch_snapshot(
    model: str,
    *,
    revision: str | None,
    cache_dir: Path,
    choose: Callable[[Collection[str]], list[str]],
    progress: Progress,
    endpoint: str | None = None,
) -> Snapshot:
    """Downloads what `choose` picks from the names of a model's files, and checks it.

    Raises:
        MissingExtraError: huggingface_hub is not installed.
        ModelNotFoundError: no such model or revision, or no permission to see it.
        UnavailableError: the hub cannot be reached.
        DigestMismatchError: a file is not what the hub promises.
    """
    hub = _library()
    with _translated(model):
        info = hub.HfApi(endpoint=endpoint).model_info(
            model, revision=revision, files_metadata=True
        )
        promises = {file.rfilename: _promise(file) for file in info.siblings or ()}
        chosen = choose(list(promises))
        if not chosen:
            raise ModelNotFoundError(f"{model}: no files of a model")
        total = sum(promises[name].size_bytes for name in chosen)
        with _watched(cache_dir, total, progress), _quiet(hub):
            directory = Path(
                hub.snapshot_download(
                    model,
                    revision=info.sha,
                    cache_dir=cache_dir,
                    allow_patterns=chosen,
                    endpoint=endpoint,
                )
            )
    files = tuple(_verified(directory, name, promises[name]) for name in chosen)
    return Snapshot(directory, str(info.sha), files, _left(promises, chosen))


def _library() -> Any:
    try:
        import huggingface_hub
    except ImportError as fault:
        raise MissingExtraError("huggingface_hub", extra="hub") from fault
    return huggingface_hub


@contextmanager
def _translated(model: str) -> Iterator[None]:
    from huggingface_hub import errors

    # What the HTTP library below huggingface_hub raises; which one that is changed over time.
    unreachable: tuple[type[Exception], ...] = (ConnectionError, TimeoutError, *_transport_errors())
    private = "a private or gated model needs HF_TOKEN"
    try:
        yield
    except errors.RevisionNotFoundError as fault:
        raise ModelNotFoundError(f"{model}: no such revision on the hub") from fault
    except (errors.RepositoryNotFoundError, errors.EntryNotFoundError) as fault:
        if isinstance(fault, errors.LocalEntryNotFoundError):
            raise _unreachable(model, fault) from fault
        raise ModelNotFoundError(
            f"{model}: no such directory, and no such model on the hub", hint=private
        ) from fault
    except errors.HFValidationError as fault:
        raise ModelNotFoundError(f"{model}: neither a directory nor a hub id") from fault
    except errors.HfHubHTTPError as fault:
        status = getattr(fault.response, "status_code", None)
        if status in (401, 403):
            raise ModelNotFoundError(f"{model}: the hub refuses access", hint=private) from fault
        raise _unreachable(model, fault) from fault
    except unreachable as fault:
        raise _unreachable(model, fault) from fault


def _transport_errors() -> Iterator[type[Exception]]:
    for library in ("httpx2", "httpx", "requests"):
        for name in ("TransportError", "ConnectionError", "Timeout"):
            found = getattr(sys.modules.get(library), name, None)
            if isinstance(found, type) and issubclass(found, Exception):
                yield found


def _unreachable(model: str, fault: Exception) -> UnavailableError:
    return UnavailableError(
        f"{model}: no such directory, and the hub cannot be reached ({type(fault).__name__})",
        retry_after_s=30.0,
        hint="download the model elsewhere and import its directory",
    )


def _promise(file: Any) -> _Promise:
    lfs = file.lfs
    sha256 = (lfs.get("sha256") if isinstance(lfs, Mapping) else lfs.sha256) if lfs else None
    return _Promise(int(file.size or 0), sha256, file.blob_id)


def _verified(directory: Path, name: str, promise: _Promise) -> WrittenFile:
    path = directory / name
    size = path.stat().st_size
    sha256, blob_id = hashlib.sha256(), hashlib.sha1(f"blob {size}\0".encode())
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            sha256.update(block)
            if promise.sha256 is None:
                blob_id.update(block)
    expected, found = promise.blob_id, blob_id.hexdigest()
    if promise.sha256 is not None:
        expected, found = promise.sha256, sha256.hexdigest()
    if expected is not None and found != expected:
        raise DigestMismatchError(
            f"{name}: digest is {found}, the hub promises {expected}",
            hint=f"delete {path.resolve()} and import again",
        )
    return WrittenFile(name, sha256.hexdigest(), size)


def _left(names: Collection[str], chosen: Collection[str]) -> tuple[str, ...]:
    """What is not downloaded, folders as one; a folder with a chosen file counts as downloaded."""
    tops = {name.partition("/")[0] + ("/" if "/" in name else "") for name in names}
    taken = {name.partition("/")[0] + ("/" if "/" in name else "") for name in chosen}
    return tuple(sorted(top for top in tops - taken if not top.startswith(".")))


@contextmanager
def _watched(cache_dir: Path, total: int, progress: Progress) -> Iterator[None]:
    """Tells how much has arrived, by what the cache has grown; the library's own bars differ from
    version to version."""
    before, done = _size(cache_dir), threading.Event()

    def watch() -> None:
        while not done.wait(0.2):
            progress("downloading", min(max(_size(cache_dir) - before, 0), total - 1), total)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
    progress("downloading", total, total)


def _size(directory: Path) -> int:
    size = 0
    for path in directory.rglob("*"):
        try:
            size += 0 if path.is_symlink() else path.stat().st_size
        except FileNotFoundError:
            continue  # renamed meanwhile
    return size


@contextmanager
def _quiet(hub: Any) -> Iterator[None]:
    bars = hub.utils
    was_quiet = bars.are_progress_bars_disabled()
    bars.disable_progress_bars()
    try:
        yield
    finally:
        if not was_quiet:
            bars.enable_progress_bars()
