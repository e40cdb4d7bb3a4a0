"""Files sealed with AES-256-GCM before they are stored, piece by piece, whatever their size.

For stores that do not encrypt by themselves; where one does (S3 with KMS, an encrypted disk), use
that. A sealed file is a header, then pieces of 1 MiB, each with its tag. The key of a file is
derived from ours and a random salt. A piece's nonce is its number and whether it is the last, so
pieces that are altered, reordered, left out or cut off are found.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from xlmr.errors import MissingExtraError, RegistryError, SettingsError

MAGIC = b"xlmr-sealed-1\n"
_SALT = 32
_KEY_NAME = 8
_HEADER = len(MAGIC) + _KEY_NAME + _SALT
_PIECE = 1024 * 1024
_TAG = 16


class Envelope:
    """Seals and opens with one key of 32 bytes."""

    def __init__(self, key: bytes) -> None:
        if len(key) != 32:
            raise SettingsError(f"a sealing key has 32 bytes, this one has {len(key)}")
        self._key = key
        self._name = _derived(key, b"", b"name of the key")[:_KEY_NAME]

    def seal(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """The sealed content, as it comes."""
        salt = os.urandom(_SALT)
        cipher = _cipher(self._key, salt)
        header = MAGIC + self._name + salt
        yield header
        number, pieces = 0, _regrouped(chunks, _PIECE)
        piece = next(pieces, b"")
        for following in pieces:
            yield cipher.encrypt(_nonce(number, last=False), piece, header)
            number, piece = number + 1, following
        yield cipher.encrypt(_nonce(number, last=True), piece, header)

    def open(self, chunks: Iterable[bytes], *, origin: str) -> Iterator[bytes]:
        """The content of what `seal` gave.

        Raises:
            RegistryError: sealed with another key, or altered; names `origin`.
        """
        from cryptography.exceptions import InvalidTag

        header, rest = _headed(chunks)
        if header[len(MAGIC) : len(MAGIC) + _KEY_NAME] != self._name:
            raise RegistryError(f"{origin}: sealed with another key", hint="give the key it had")
        cipher = _cipher(self._key, header[-_SALT:])
        number, pieces = 0, _regrouped(rest, _PIECE + _TAG)
        piece = next(pieces, b"")
        try:
            for following in pieces:
                yield cipher.decrypt(_nonce(number, last=False), piece, header)
                number, piece = number + 1, following
            yield cipher.decrypt(_nonce(number, last=True), piece, header)
        except InvalidTag:
            raise RegistryError(f"{origin}: altered, or cut off, since it was sealed") from None


def sealed_size(size: int) -> int:
    """How many bytes `size` bytes take when sealed."""
    return _HEADER + size + _TAG * max(1, -(-size // _PIECE))


def is_sealed(start: bytes) -> bool:
    """Whether a file that starts so is sealed."""
    return start.startswith(MAGIC)


def read_key(text: str, path: str) -> bytes | None:
    """The key of 32 bytes that is given as text or as a file, in hex or base64; None for neither.

    Raises:
        SettingsError: both, or none that can be read.
    """
    if text and path:
        raise SettingsError("a sealing key is given twice", hint="as text or as a file, not both")
    if path:
        try:
            text = Path(path).read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError):
            raise SettingsError(f"{path}: cannot be read as a sealing key") from None
    text = text.strip()
    if not text:
        return None
    for decode in (bytes.fromhex, lambda said: base64.b64decode(said, validate=True)):
        try:
            key = decode(text)
        except (ValueError, binascii.Error):
            continue
        if len(key) == 32:
            return key
    raise SettingsError(
        "a sealing key is 32 bytes in hex or base64", hint="`openssl rand -hex 32` makes one"
    )


def _cipher(key: bytes, salt: bytes):  # type: ignore[no-untyped-def]
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError:
        raise MissingExtraError("cryptography", extra="registry") from None
    return AESGCM(_derived(key, salt, b"content of a file"))


def _derived(key: bytes, salt: bytes, purpose: bytes) -> bytes:
    try:
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF
    except ImportError:
        raise MissingExtraError("cryptography", extra="registry") from None
    return HKDF(algorithm=SHA256(), length=32, salt=salt, info=b"xlmr " + purpose).derive(key)


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])


def _headed(chunks: Iterable[bytes]) -> tuple[bytes, Iterator[bytes]]:
    source, held = iter(chunks), b""
    while len(held) < _HEADER:
        more = next(source, b"")
        if not more:
            break
        held += more

    def rest() -> Iterator[bytes]:
        yield held[_HEADER:]
        yield from source

    return held[:_HEADER], rest()


def _regrouped(chunks: Iterable[bytes], size: int) -> Iterator[bytes]:
    """The same bytes in pieces of `size`; the last may be shorter, and none is empty."""
    held = bytearray()
    for chunk in chunks:
        held += chunk
        while len(held) >= size:
            yield bytes(held[:size])
            del held[:size]
    if held:
        yield bytes(held)
