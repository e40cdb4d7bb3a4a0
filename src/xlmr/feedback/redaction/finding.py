"""What detectors find, and which finding stands where several overlap."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

SECRET, URL, IBAN, CARD, NATIONAL_ID = "SECRET", "URL", "IBAN", "CARD", "NATIONAL_ID"
EMAIL, PHONE, IP, ADDRESS, NAME = "EMAIL", "PHONE", "IP", "ADDRESS", "NAME"
# The more specific before the less: what decides between findings of the same length.
KINDS = (SECRET, URL, IBAN, CARD, NATIONAL_ID, EMAIL, PHONE, IP, ADDRESS, NAME)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that should not be kept, in characters of the text: `text[start:end]`.

    Attributes:
        kind: one of `KINDS`.
        named: whether a word before it says what it is (`Tel.`, `CPF`).
    """

    kind: str
    start: int
    end: int
    named: bool = False

    @property
    def claim(self) -> tuple[bool, int, int]:
        """How good a claim it has to the place: named, long, specific."""
        return self.named, self.end - self.start, -KINDS.index(self.kind)


def resolve(findings: Iterable[Finding]) -> list[Finding]:
    """Findings that do not overlap, by place.

    Those that overlap become one, from the first's start to the last's end, so that nothing any of
    them covered is kept. Its kind is that of the one a word names; else of the longest; else of the
    most specific.
    """
    resolved: list[Finding] = []
    best: Finding | None = None
    for finding in sorted(findings, key=lambda found: (found.start, -found.end)):
        if best is None or finding.start >= resolved[-1].end:
            best = finding
            resolved.append(finding)
            continue
        best = max(best, finding, key=lambda found: found.claim)
        start, end = resolved[-1].start, max(resolved[-1].end, finding.end)
        resolved[-1] = Finding(best.kind, start, end, best.named)
    return resolved
