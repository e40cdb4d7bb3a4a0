"""Which model directories may be served: whole ones, signed by somebody who is trusted.

A directory with a manifest holds exactly the files of it, or is refused. Where keys are trusted,
one of them has signed these files. Every file is read: what is remembered of one goes by its size
and time of writing, which whoever alters it can set.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from xlmr.errors import DigestMismatchError, SignatureError
from xlmr.registry.manifest import MANIFEST_FILE, SIGNATURE_FILE, check_files, read_manifest
from xlmr.registry.signature import Trusted, read_trusted, verify_directory

if TYPE_CHECKING:
    from xlmr.settings import Settings


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check found.

    Attributes:
        answers: the digest its manifest promises (`Bundle.digest`); empty without a manifest.
        signed: whether a trusted key signed it.
    """

    answers: str = ""
    signed: bool = False


@dataclass(frozen=True, slots=True)
class Trust:
    """Whose signatures count.

    Attributes:
        keys: of signers; without any, no signature is asked for, and none can be checked.
        allow_unsigned: whether what nobody signed is served although there are keys.
    """

    keys: tuple[Trusted, ...] = ()
    allow_unsigned: bool = False

    def check(self, directory: Path, *, tree: str = "") -> Checked:
        """Reads all of a model directory, before anything else is done with it.

        Args:
            directory: of the model.
            tree: digest of the tree that it must be; empty where nothing was promised.

        Raises:
            SignatureError: it should be signed and is not, or what was signed is something else.
            DigestMismatchError: its files are not those of its manifest; they are named.
            RegistryError: its manifest is none, or missing although a tree was promised.
        """
        needs_signature = bool(self.keys) and not self.allow_unsigned
        if not tree and not (directory / MANIFEST_FILE).is_file():
            if needs_signature:
                raise SignatureError(
                    f"{directory}: not signed, and this server trusts only what is",
                    hint="`xlmr registry push NAME DIR --sign-key KEY`, and serve registry:NAME; "
                    "or --allow-unsigned",
                )
            return Checked()
        manifest = read_manifest(directory)
        if tree and manifest.digest != tree:
            raise DigestMismatchError(f"{directory}: holds tree {manifest.digest}, not {tree}")
        signed = needs_signature or (bool(self.keys) and (directory / SIGNATURE_FILE).is_file())
        if signed:
            verify_directory(directory, self.keys)
        else:
            check_files(manifest, directory)
        return Checked(manifest.answers, signed)


def open_trust(settings: Settings) -> Trust:
    """What settings say.

    Raises:
        SettingsError: no public keys where they should be.
        MissingExtraError: they cannot be read without a package.
    """
    return Trust(read_trusted(settings.trusted_keys), settings.allow_unsigned == "yes")
