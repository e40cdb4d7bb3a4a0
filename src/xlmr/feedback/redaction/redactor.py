"""A text in, the text without personal data and secrets out."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from xlmr.errors import SettingsError
from xlmr.feedback.redaction.credentials import find_credentials
from xlmr.feedback.redaction.finding import (
    ADDRESS,
    CARD,
    EMAIL,
    IBAN,
    IP,
    KINDS,
    NAME,
    NATIONAL_ID,
    PHONE,
    SECRET,
    URL,
    Finding,
    resolve,
)
from xlmr.feedback.redaction.money import find_cards, find_ibans
from xlmr.feedback.redaction.national import find_national_ids
from xlmr.feedback.redaction.network import find_emails, find_ips, find_urls
from xlmr.feedback.redaction.phones import find_phones
from xlmr.feedback.redaction.plain import plain
from xlmr.feedback.redaction.pseudonyms import Pseudonyms
from xlmr.feedback.redaction.regions import regions_of
from xlmr.text.language import identify
from xlmr.types import Tagging

# What labels of taggers mean here. A place by itself (`LOC`) is nobody's address.
TAGS = MappingProxyType({"PER": NAME, "PERSON": NAME, "NAME": NAME, "ADDRESS": ADDRESS})
_LEAST_SCORE = 0.5


class Tagger(Protocol):
    """What finds names and addresses: a predictor with a tagging head is one."""

    def tag(self, texts: Sequence[str]) -> Sequence[Tagging]:
        """Entities of each text, over whole words."""


@dataclass(frozen=True, slots=True)
class Redacted:
    """A text without what was found in it.

    Attributes:
        text: with placeholders.
        findings: what was found, in places of the original; they do not overlap.
    """

    text: str
    findings: tuple[Finding, ...]


class Redactor:
    """Finds and replaces; the same text always gives the same result."""

    def __init__(
        self,
        *,
        kinds: Collection[str] = KINDS,
        pseudonyms: Pseudonyms | None = None,
        tagger: Tagger | None = None,
        tags: Mapping[str, str] = TAGS,
    ) -> None:
        """Takes what it works with.

        Args:
            kinds: what to look for.
            pseudonyms: makes placeholders that can be read again; plain ones without.
            tagger: finds names and addresses; without one they stay.
            tags: which kind each of the tagger's labels is; others are left alone.

        Raises:
            SettingsError: a kind that is none.
        """
        unknown = sorted({*kinds, *tags.values()} - set(KINDS))
        if unknown:
            raise SettingsError(
                f"{unknown[0]!r} is no kind of personal data", hint=f"known: {', '.join(KINDS)}"
            )
        self._kinds = frozenset(kinds)
        self._pseudonyms = pseudonyms
        self._tagger = tagger
        self._tags = tags

    def __call__(self, text: str, *, language: str | None = None) -> Redacted:
        """Replaces every finding by a placeholder. Takes time linear in the text.

        Args:
            text: any; also one with half a surrogate pair.
            language: of the text (ISO 639): whose national numbers to expect; identified where
                it is not told.
        """
        code = identify(text).code if language is None else language
        findings = tuple(resolve(self._findings(text, regions_of(code))))
        pieces: list[str] = []
        last = 0
        for finding in findings:
            value = text[finding.start : finding.end]
            pieces += (text[last : finding.start], self._placeholder(finding.kind, value))
            last = finding.end
        return Redacted("".join((*pieces, text[last:])), findings)

    def _placeholder(self, kind: str, value: str) -> str:
        return self._pseudonyms.hide(kind, value) if self._pseudonyms else f"<{kind}>"

    def _findings(self, text: str, regions: Sequence[str]) -> Iterator[Finding]:
        read = plain(text)
        for found in self._detected(read.text, regions):
            start, end = read.span(found.start, found.end)
            yield Finding(found.kind, start, end, found.named)
        if self._tagger is not None and self._kinds & {NAME, ADDRESS}:
            (tagged,) = self._tagger.tag([text])
            for entity in tagged.entities:
                kind = self._tags.get(entity.label.upper())
                if kind in self._kinds and kind and entity.score >= _LEAST_SCORE:
                    yield Finding(kind, entity.start, entity.end)

    def _detected(self, text: str, regions: Sequence[str]) -> Iterator[Finding]:
        detectors = {
            EMAIL: find_emails,
            IP: find_ips,
            URL: find_urls,
            CARD: find_cards,
            IBAN: find_ibans,
            SECRET: find_credentials,
        }
        for kind, find in detectors.items():
            if kind in self._kinds:
                yield from find(text)
        if NATIONAL_ID in self._kinds:
            yield from find_national_ids(text, regions)
        if PHONE in self._kinds:
            yield from find_phones(text, regions)
