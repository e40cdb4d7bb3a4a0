"""What every door reads of a request beside its body: who asks, until when, how urgently, which id.

HTTP headers and gRPC metadata say it in the same words. Nothing here raises until a value is asked
for, so that a request with a bad header still has its id.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable

import msgspec

from xlmr.errors import HeaderError

_SANE_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_MILLISECONDS = re.compile(rb"[0-9]{1,9}")
_PRIORITIES = {b"high": 0, b"normal": 1, b"low": 2}
_READ = frozenset(
    (
        b"authorization",
        b"x-api-key",
        b"x-request-deadline-ms",
        b"x-request-priority",
        b"x-request-id",
        b"traceparent",
        b"x-subject",
    )
)


class Terms(msgspec.Struct, frozen=True):
    """Header values as they came, lower case names.

    Attributes:
        request_id: the caller's, where it is sane; else a new one.
        credential: the API key or token; empty where none was given.
        traceparent: W3C's place in a trace, not looked at yet; empty where none was given.
        subject: whom the texts are from, as the caller calls them; empty where nobody said.
    """

    request_id: str
    credential: str = ""
    deadline_ms: bytes | None = None
    priority_word: bytes | None = None
    traceparent: str = ""
    subject: str = ""

    def deadline(self, now: float) -> float | None:
        """Until when an answer is of use, on the clock that says `now`; None for no limit.

        Raises:
            HeaderError: not a number of milliseconds.
        """
        if self.deadline_ms is None:
            return None
        if not _MILLISECONDS.fullmatch(self.deadline_ms):
            raise HeaderError(
                "expected milliseconds from now, a whole number of at most nine digits",
                path="x-request-deadline-ms",
            )
        return now + int(self.deadline_ms) / 1000

    def priority(self) -> int:
        """0 for high, 1 for normal, 2 for low.

        Raises:
            HeaderError: another word.
        """
        if self.priority_word is None:
            return 1
        priority = _PRIORITIES.get(self.priority_word.lower())
        if priority is None:
            raise HeaderError("expected high, normal or low", path="x-request-priority")
        return priority


def read_terms(headers: Iterable[tuple[bytes, bytes]]) -> Terms:
    """One pass over the headers; of a name given twice the last one counts."""
    given = {name: value for name, value in headers if name in _READ}
    own_id = given.get(b"x-request-id")
    if own_id is not None and _SANE_ID.fullmatch(own_id):
        request_id = own_id.decode()
    else:
        request_id = new_request_id()
    if not given:
        return Terms(request_id)
    return Terms(
        request_id,
        _credential(given),
        given.get(b"x-request-deadline-ms"),
        given.get(b"x-request-priority"),
        given.get(b"traceparent", b"").decode("latin-1"),
        given.get(b"x-subject", b"").strip().decode("utf-8", "surrogateescape"),
    )


def new_request_id() -> str:
    """16 hexadecimal digits: to find a request by, not to guard it with."""
    return f"{random.getrandbits(64):016x}"


def _credential(given: dict[bytes, bytes]) -> str:
    scheme, _, token = given.get(b"authorization", b"").partition(b" ")
    if scheme.lower() != b"bearer":
        token = given.get(b"x-api-key", b"")
    return token.strip().decode("latin-1")
