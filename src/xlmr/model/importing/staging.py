"""A model directory appears whole or not at all.

Everything is written into a hidden directory beside the target, which is renamed at the end.
"""

from __future__ import annotations

import errno
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from xlmr.errors import ModelError

_UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR)
_ESSENTIAL = ("config.json", "tokenizer.json")


def is_model(directory: Path) -> bool:
    """Whether a directory holds a complete model, as far as its file names tell."""
    weights = ("model.safetensors", "model.safetensors.index.json")
    return all((directory / name).is_file() for name in _ESSENTIAL) and any(
        (directory / name).is_file() for name in weights
    )


def check_target(out: Path, *, force: bool) -> None:
    """Refuses a target that could not be written in the end, before any work is done for it.

    Raises:
        ModelError: the target is a file, or a directory with content that `force` does not cover:
            only a model is ever replaced.
    """
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise ModelError(f"{out} exists and is not a directory", hint="choose another --out")
    if not out.is_dir() or not any(out.iterdir()):
        return
    if not is_model(out):
        raise ModelError(f"{out} exists and holds something else", hint="choose another --out")
    if not force:
        raise ModelError(f"{out} exists", hint="choose another --out, or replace it with --force")


def build_directory(out: Path, write: Callable[[Path], None], *, force: bool) -> None:
    """Calls `write` with an empty directory and moves the result to `out`.

    Two builders of the same target do not disturb each other: with `force` the last to finish
    wins, without it the first, and the other's work is dropped.

    Raises:
        ModelError: see `check_target`; or the disk is full or not writable.
    """
    check_target(out, force=force)
    with _translated(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        staged = _beside(out, "partial")
        staged.mkdir()
        try:
            write(staged)
            _move(staged, out, force=force)
        finally:
            shutil.rmtree(staged, ignore_errors=True)


def _move(staged: Path, out: Path, *, force: bool) -> None:
    # POSIX renames a directory onto an empty one, but not onto one with content.
    for _ in range(10):
        try:
            staged.rename(out)
            return
        except OSError as fault:
            if fault.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        if not force:
            return  # another import of the same target finished meanwhile; its result stands
        retired = _beside(out, "old")
        try:
            out.rename(retired)
        except FileNotFoundError:
            continue  # another import is replacing it at this moment
        shutil.rmtree(retired, ignore_errors=True)
    raise ModelError(f"{out} is being replaced by others again and again", hint="try again")


def _beside(out: Path, suffix: str) -> Path:
    return out.with_name(f".{out.name}.{secrets.token_hex(6)}.{suffix}")


@contextmanager
def _translated(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as fault:
        if fault.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ModelError(
                f"no space left while writing {out}",
                hint=f"free some space on the disk of {out.parent}; nothing was kept",
            ) from fault
        if fault.errno in _UNWRITABLE:
            raise ModelError(
                f"{out} cannot be written: {fault.strerror}", hint="choose another --out"
            ) from fault
        raise
