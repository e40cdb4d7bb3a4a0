"""What is known of one prediction: what was answered, how sure, how fast; not what was asked."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import msgspec

from xlmr.errors import SettingsError

# Of a model with more labels, the likeliest are kept.
MOST_PROBABILITIES = 20
STANDARD = "standard"
_LEAST_KEY_BYTES = 16
_HASHED_CHARS = 10_000


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One prediction.

    Attributes:
        id: of the prediction, as its answer gave it; what feedback refers to.
        at: when, in seconds since 1970 UTC.
        model, version, task: what answered.
        language: of the text (ISO 639), `und` where unsure.
        tokens: computed for it.
        label: the answer's; empty where the task has none.
        probabilities: calibrated, by label; at most the 20 likeliest.
        confidence: how sure the answer was, 0 to 1; None where the task does not say.
        abstained: whether the model would rather not have answered.
        latency_ms: from the request's first byte to its answer.
        fingerprint: keyed hash of the text: equal texts can be told, none can be guessed.
        subject: keyed hash of whom the text is from, for erasure; empty where nobody said.
        text: redacted, and only where the policy keeps it; else empty. On the way to the store,
            the text as it was.
        retention: the class that says how long it is kept.
    """

    id: str
    at: float
    model: str
    version: str
    task: str
    language: str = "und"
    tokens: int = 0
    label: str = ""
    probabilities: Mapping[str, float] = {}
    confidence: float | None = None
    abstained: bool | None = None
    latency_ms: float = 0.0
    fingerprint: str = ""
    subject: str = ""
    text: str = ""
    retention: str = STANDARD


class Hasher:
    """Keyed hashes of texts and of people; one key for all servers that write to one store.

    Who has the key can test a guess, so it is a secret like a password's salt and pepper in one.
    """

    def __init__(self, key: bytes) -> None:
        if not _LEAST_KEY_BYTES <= len(key) <= 64:
            raise SettingsError(
                f"the feedback key has {len(key)} bytes; expected {_LEAST_KEY_BYTES} to 64",
                hint="`openssl rand -hex 32` makes one",
            )
        self._key = key

    def fingerprint(self, text: str) -> str:
        """Of a text: 16 hexadecimal digits. Of long ones, the length and the beginning."""
        return self._hash(b"text", f"{len(text)} {text[:_HASHED_CHARS]}")[:16]

    def person(self, name: str) -> str:
        """Of whatever identifies somebody, as a subject or as who gave feedback: 32 digits."""
        return self._hash(b"person", name)

    def _hash(self, what: bytes, said: str) -> str:
        data = said.encode("utf-8", "surrogatepass")
        return hashlib.blake2b(data, key=self._key, person=what, digest_size=16).hexdigest()


def likeliest(probabilities: Mapping[str, float]) -> dict[str, float]:
    """As many as a record holds."""
    falling = sorted(probabilities.items(), key=lambda item: (-item[1], item[0]))
    return dict(falling[:MOST_PROBABILITIES])
