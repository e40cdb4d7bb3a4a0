"""What a version is: its files, the digest of all of them, and where it comes from.

A manifest is written once and never changed; its digest names it. It travels with the model as
`xlmr-manifest.json`, beside the signature.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from xlmr.errors import DigestMismatchError, RegistryError
from xlmr.model.bundle import open_bundle
from xlmr.model.digests import Digests
from xlmr.registry.digest import FileEntry, tree_digest

MANIFEST_FILE = "xlmr-manifest.json"
SIGNATURE_FILE = "model.sig"
# Made by whoever pulls or serves, so they are no part of what was released.
BESIDE = (MANIFEST_FILE, SIGNATURE_FILE)
_PREPARED = re.compile(r"xlmr-native-.*\.weights")
_FORMAT = 1
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
        except (msgspec.DecodeError, UnicodeDecodeError) as fault:
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
    directory: Path, *, cache_dir: Path | None = None, progress: Progress | None = None
) -> Manifest:
    """What a model directory is.

    Raises:
        ModelError: it is no model.
        RegistryError: it holds what is no plain file.
    """
    bundle = open_bundle(directory, cache_dir=cache_dir)
    files = tuple(sorted(hash_files(directory, cache_dir=cache_dir, progress=progress)))
    lineage = bundle.extras.get("lineage")
    return Manifest(
        digest=tree_digest(files),
        answers=bundle.digest,
        tokenizer=bundle.tokenizer.fingerprint,
        tasks=tuple(sorted(bundle.tasks)),
        files=files,
        lineage=lineage if isinstance(lineage, Mapping) else {},
        license=_license(directory),
    )


def hash_files(
    directory: Path, *, cache_dir: Path | None = None, progress: Progress | None = None
) -> Iterator[FileEntry]:
    """Every file that is released with a model: none hidden, prepared or ours of `BESIDE`.

    Raises:
        RegistryError: something is neither file nor directory, or cannot be read.
        WeightsError: a file cannot be read.
    """
    paths = list(_released(directory))
    sizes = [path.stat().st_size for path in paths]
    digests, done = Digests(cache_dir), 0
    for path, size in zip(paths, sizes, strict=True):
        name = path.relative_to(directory).as_posix()
        yield FileEntry(path=name, size=size, sha256=digests.of(path))
        done += size
        if progress is not None:
            progress("hashing", done, sum(sizes))


def check_files(manifest: Manifest, directory: Path, *, cache_dir: Path | None = None) -> None:
    """That a directory holds exactly the files of a manifest.

    Raises:
        DigestMismatchError: it does not; every file that is missing, added or altered is named.
    """
    promised = {entry.path: entry for entry in manifest.files}
    found = {entry.path: entry for entry in hash_files(directory, cache_dir=cache_dir)}
    wrong = different_files(promised, found)
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


def _license(directory: Path) -> str:
    """What the front matter of the model's card says."""
    try:
        with (directory / "README.md").open(encoding="utf-8") as card:
            head = card.read(65_536)
    except (OSError, UnicodeDecodeError):
        return ""
    if not head.startswith("---"):
        return ""
    found = _LICENSE.search(head[3:].partition("\n---")[0])
    return found[1] if found else ""
