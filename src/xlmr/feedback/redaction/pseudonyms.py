"""Placeholders that whoever has the key can read again: `<EMAIL:…>`.

The same value gives the same placeholder (AES-SIV, RFC 5297), so one can count and join by it and
learn nothing else but its length. Whoever loses the key has plain placeholders.
"""

from __future__ import annotations

import base64
import binascii
import re

from xlmr.errors import MissingExtraError, SettingsError
from xlmr.feedback.redaction.finding import KINDS

try:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESSIV
except ImportError:
    raise MissingExtraError("cryptography", extra="feedback") from None

KEY_BYTES = 32
_PLACEHOLDER = re.compile(rf"<({'|'.join(KINDS)}):([A-Za-z0-9_-]{{22,}}+)>")


class Pseudonyms:
    """Values to placeholders and back, under a key of 32 bytes."""

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise SettingsError(
                f"the key of pseudonyms has {len(key)} bytes, not {KEY_BYTES}",
                hint="`openssl rand -hex 32` makes one",
            )
        self._cipher = AESSIV(key)

    def hide(self, kind: str, value: str) -> str:
        """The placeholder of a value."""
        sealed = self._cipher.encrypt(value.encode("utf-8", "surrogatepass"), [kind.encode()])
        return f"<{kind}:{base64.urlsafe_b64encode(sealed).decode().rstrip('=')}>"

    def restore(self, text: str) -> str:
        """The text with every placeholder read that this key made; others stay."""
        return _PLACEHOLDER.sub(self._shown, text)

    def _shown(self, found: re.Match[str]) -> str:
        kind, sealed = found.groups()
        try:
            data = base64.urlsafe_b64decode(sealed + "=" * (-len(sealed) % 4))
            return self._cipher.decrypt(data, [kind.encode()]).decode("utf-8", "surrogatepass")
        except (binascii.Error, InvalidTag, ValueError):
            return found[0]
