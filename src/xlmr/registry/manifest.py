"""What a version is: its files, the digest of all of them, and where it comes from.

A manifest is written once and never changed; its digest names it. It travels with the model as
`xlmr-manifest.json`, beside the signature.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from xlmr.errors import DigestMismatchError, ModelNotFoundError, RegistryError
from xlmr.model.bundle import open_bundle
from xlmr.model.digests import Digests
from xlmr.registry.digest import FileEntry, check_entry, tree_digest

MANIFEST_FILE = "xlmr-manifest.json"
SIGNATURE_FILE = "model.sig"
CARD_FILE = "README.md"
# Made by whoever pulls or serves, so they are no part of what was released.
BESIDE = (MANIFEST_FILE, SIGNATURE_FILE)
_PREPARED = re.compile(r"xlmr-native-.*\.weights")
_FORMAT = 1
_TERMS = re.compile(r"(LICEN[CS]E|COPYING)([.-].*)?", re.IGNORECASE)
_MOST_FRONT = 65_536
_LICENSE = re.compile(r"^license:[ \t]*[\"']?([^\s\"']+)", re.MULTILINE)

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A version, as frozen values.

    Attributes:
        digest: of the tree of all files; the version's address.
        answers: digest of what makes it answer as it does (`Bundle.digest`): what a gate and a
            server know it by.
        tokenizer: fingerprint of its tokenizer.
        tasks: what it can be asked.
        files: all of them, ordered by path.
        lineage: what `xlmr.json` tells of its origin: data digests, recipe, code, parent.
        license: as its card names it; empty where it does not.
    """

    digest: str
    answers: str
    tokenizer: str
    tasks: tuple[str, ...]
    files: tuple[FileEntry, ...]
    lineage: Mapping[str, Any] = field(default_factory=dict)
    license: str = ""
    format: int = _FORMAT

    @property
    def size_bytes(self) -> int:
        """Of all files."""
        return sum(entry.size for entry in self.files)

    def file(self, path: str) -> FileEntry | None:
        """The file at a path; None where there is none."""
        return next((entry for entry in self.files if entry.path == path), None)

    @property
    def license_gaps(self) -> list[str]:
        """What a reader who asks for the licence will not find, in words."""
        gaps = [] if self.license else [f"{CARD_FILE} names no licence"]
        if not any(_TERMS.fullmatch(entry.path) for entry in self.files):
            gaps.append("there is no LICENSE file")
        return gaps

    def to_bytes(self) -> bytes:
        """JSON, the same bytes for the same manifest."""
        return json.dumps(asdict(self), sort_keys=True, indent=1).encode() + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes, *, origin: str) -> Manifest:
        """The reverse.

        Raises:
            RegistryError: no manifest, or one that contradicts itself; names `origin`.
        """
        try:
            read = msgspec.json.decode(data, type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
            raise RegistryError(f"{origin}: no manifest: {fault}") from None
        if read.format != _FORMAT:
            raise RegistryError(
                f"{origin}: format {read.format}, expected {_FORMAT}",
                hint="a newer xlmr wrote it; upgrade",
            )
        if tree_digest(read.files) != read.digest:
            raise RegistryError(f"{origin}: its files do not have the digest it names; altered")
        return read


def make_manifest(
    directory: Path,
    *,
    promised: Manifest | None = None,
    cache_dir: Path | None = None,
    progress: Progress | None = None,
) -> Manifest:
    """What a model directory is.

    Args:
        directory: with the model.
        promised: what it has to be, where somebody else released it. A card that was written only
            for those who look at the directory is no part of it.
        cache_dir: where file digests are remembered; None reads every file.
        progress: told of bytes.

    Raises:
        ModelError: it is no model.
        DigestMismatchError: it is not what was promised; every file that differs is named.
        RegistryError: it holds what is no plain file, or a lineage that JSON cannot say.
    """
    found = sorted(hash_files(directory, cache_dir=cache_dir, progress=progress))
    if promised is not None:
        if promised.file(CARD_FILE) is None:
            found = [entry for entry in found if entry.path != CARD_FILE]
        _compare(promised, found, directory)
    bundle = open_bundle(directory, cache_dir=cache_dir)
    lineage = bundle.extras.get("lineage")
    has_card = any(entry.path == CARD_FILE for entry in found)
    made = Manifest(
        digest=tree_digest(found),
        answers=bundle.digest,
        tokenizer=bundle.tokenizer.fingerprint,
        tasks=tuple(sorted(bundle.tasks)),
        files=tuple(found),
        lineage=lineage if isinstance(lineage, Mapping) else {},
        license=license_of((directory / CARD_FILE).read_bytes()) if has_card else "",
    )
    # `json` reads NaN and half a surrogate, and nobody else does: found now, not by who pulls.
    return Manifest.from_bytes(made.to_bytes(), origin=f"{directory}/xlmr.json")


def files_beside(manifest: Manifest, signature: bytes | None) -> dict[str, bytes]:
    """What travels beside the files of a released model, by name."""
    signed = {SIGNATURE_FILE: signature} if signature is not None else {}
    return {MANIFEST_FILE: manifest.to_bytes()} | signed


def read_manifest(directory: Path) -> Manifest:
    """What lies in a directory that was released as `xlmr registry pull` leaves it.

    Raises:
        RegistryError: there is none, or it is no manifest.
    """
    path = directory / MANIFEST_FILE
    try:
        return Manifest.from_bytes(path.read_bytes(), origin=str(path))
    except FileNotFoundError:
        raise RegistryError(
            f"{directory}: no {MANIFEST_FILE}", hint="`xlmr registry pull` writes it"
        ) from None


def hash_files(
    directory: Path, *, cache_dir: Path | None = None, progress: Progress | None = None
) -> Iterator[FileEntry]:
    """Every file that is released with a model: none hidden, prepared or ours of `BESIDE`.

    Raises:
        ModelNotFoundError: there is no such directory.
        RegistryError: something is neither file nor directory, cannot be read, or has a name that
            cannot stand in a tree.
        WeightsError: a file cannot be read.
    """
    if not directory.is_dir():
        raise ModelNotFoundError(f"{directory}: no such directory")
    paths = list(_released(directory))
    sizes = [path.stat().st_size for path in paths]
    digests, done = Digests(cache_dir), 0
    for path, size in zip(paths, sizes, strict=True):
        name = path.relative_to(directory).as_posix()
        entry = FileEntry(path=name, size=size, sha256=digests.of(path))
        check_entry(entry)
        yield entry
        done += size
        if progress is not None:
            progress("hashing", done, sum(sizes))


def check_files(manifest: Manifest, directory: Path, *, cache_dir: Path | None = None) -> None:
    """That a directory holds exactly the files of a manifest.

    Raises:
        DigestMismatchError: it does not; every file that is missing, added or altered is named.
    """
    _compare(manifest, hash_files(directory, cache_dir=cache_dir), directory)


def _compare(promised: Manifest, found: Iterable[FileEntry], directory: Path) -> None:
    wrong = different_files(
        {entry.path: entry for entry in promised.files}, {entry.path: entry for entry in found}
    )
    if wrong:
        raise DigestMismatchError(
            f"{directory}: {', '.join(wrong)}", hint="`xlmr registry pull` brings a whole one"
        )


def different_files(promised: Mapping[str, FileEntry], found: Mapping[str, FileEntry]) -> list[str]:
    """A phrase for each file that is not as promised; empty where all are."""
    said = [f"{path} is missing" for path in sorted(promised.keys() - found.keys())]
    said += [f"{path} was added" for path in sorted(found.keys() - promised.keys())]
    for path in sorted(promised.keys() & found.keys()):
        if promised[path].sha256 != found[path].sha256:
            what = "is another tokenizer" if path == "tokenizer.json" else "was altered"
            said.append(f"{path} {what}")
    return said


def _released(directory: Path) -> Iterator[Path]:
    def refuse(fault: OSError) -> None:
        raise RegistryError(f"{fault.filename}: {fault.strerror}")

    for place, folders, names in os.walk(directory, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for folder in folders:
            if (Path(place) / folder).is_symlink():
                raise RegistryError(
                    f"{Path(place) / folder}: a link to a directory",
                    hint="put a copy in its place",
                )
        for name in sorted(names):
            path = Path(place) / name
            if name.startswith(".") or _PREPARED.fullmatch(name):
                continue
            if path.parent == directory and name in BESIDE:
                continue
            if not path.is_file():
                raise RegistryError(f"{path}: not a file, or a link that leads nowhere")
            yield path


def license_of(card: bytes) -> str:
    """The licence that the front matter of a model's card names; empty for none."""
    if not card.startswith(b"---"):
        return ""
    front = card[3:_MOST_FRONT].partition(b"\n---")[0].decode("utf-8", errors="replace")
    found = _LICENSE.search(front)
    return found[1] if found else ""
