"""What may be kept of a text, and for how long: a small TOML file.

    [text]
    keep = "redacted"        # or "nothing", which is what holds without a file
    share = 0.1              # of the predictions whose text is kept

    [text.languages.de]      # where another rule holds for a language
    keep = "nothing"

    [redaction]
    kinds = ["EMAIL", "PHONE"]  # all unless they are named
    pseudonyms = true           # placeholders that the key XLMR_PSEUDONYM_KEY reads again

    [retention]
    class = "standard"       # of new records

    [retention.classes.standard]
    days = 365               # of records and what was said of them
    text_days = 30           # of their texts

There is no way to keep a text as it was.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from xlmr.errors import SettingsError
from xlmr.feedback.record import STANDARD, Record
from xlmr.feedback.redaction.finding import KINDS
from xlmr.feedback.redaction.redactor import Redactor

_KEEPS = ("nothing", "redacted")


@dataclass(frozen=True, slots=True)
class TextRule:
    """What is kept of texts.

    Attributes:
        keep: `nothing` or `redacted`.
        share: of the predictions, 0 to 1.
    """

    keep: str = "nothing"
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class Retention:
    """How long a class of records is kept, in days: they themselves, and their texts."""

    days: float = 365.0
    text_days: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the file says; without one no text is kept.

    Attributes:
        text: what holds for languages that have no rule of their own.
        languages: rules by language.
        kinds: what is looked for in texts.
        pseudonyms: whether placeholders can be read again.
        retention: the class of new records.
        classes: how long each class is kept.
    """

    text: TextRule = TextRule()
    languages: Mapping[str, TextRule] = field(default_factory=lambda: MappingProxyType({}))
    kinds: tuple[str, ...] = KINDS
    pseudonyms: bool = False
    retention: str = STANDARD
    classes: Mapping[str, Retention] = field(
        default_factory=lambda: MappingProxyType({STANDARD: Retention()})
    )

    def rule(self, language: str) -> TextRule:
        """The rule for a language."""
        return self.languages.get(language, self.text)

    def keeps_text(self, prediction: str, language: str) -> bool:
        """Whether a prediction's text is kept; every server answers the same, as often as asked."""
        rule = self.rule(language)
        return rule.keep != "nothing" and _draw(prediction) < rule.share


class Keeper:
    """What of a record is kept: called where records are written, off the path of requests."""

    def __init__(self, policy: Policy, redactor: Redactor) -> None:
        self._policy = policy
        self._redactor = redactor

    def __call__(self, record: Record) -> Record:
        """The record as it is kept."""
        text = ""
        if record.text and self._policy.keeps_text(record.id, record.language):
            # Told nothing, the redactor looks again: it must expect some country's numbers.
            language = record.language if record.language != "und" else None
            text = self._redactor(record.text, language=language).text
        return msgspec.structs.replace(record, text=text, retention=self._policy.retention)


def read_policy(path: Path) -> Policy:
    """Reads a policy.

    Raises:
        SettingsError: it cannot be read, or says what it cannot say; names the key.
    """
    try:
        said = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as fault:
        raise SettingsError(f"{path}: {fault.strerror}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as fault:
        raise SettingsError(f"{path}: not TOML: {fault}") from None
    return _Reader(path).policy(said)


class _Reader:
    """Checks each table and names what is wrong with its path in the file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def policy(self, said: Mapping[str, Any]) -> Policy:
        self._only(said, "", ("text", "redaction", "retention"))
        text = self._table(said, "text")
        redaction = self._table(said, "redaction")
        retention = self._table(said, "retention")
        self._only(text, "text", ("keep", "share", "languages"))
        self._only(redaction, "redaction", ("kinds", "pseudonyms"))
        self._only(retention, "retention", ("class", "classes"))
        base = self._rule(text, "text", TextRule())
        languages = self._table(text, "languages", "text.")
        classes = {
            name: self._retention(self._table({name: table}, name, "retention.classes."), name)
            for name, table in self._table(retention, "classes", "retention.").items()
        } or {STANDARD: Retention()}
        new = retention.get("class", STANDARD)
        if new not in classes:
            raise self._fault("retention.class", f"{new!r} has no table [retention.classes.{new}]")
        return Policy(
            text=base,
            languages=MappingProxyType(
                {
                    code: self._language(
                        self._table({code: rule}, code, "text.languages."), code, base
                    )
                    for code, rule in languages.items()
                }
            ),
            kinds=self._kinds(redaction.get("kinds", list(KINDS))),
            pseudonyms=self._flag(redaction.get("pseudonyms", False), "redaction.pseudonyms"),
            retention=new,
            classes=MappingProxyType(classes),
        )

    def _language(self, said: Mapping[str, Any], code: str, base: TextRule) -> TextRule:
        place = f"text.languages.{code}"
        self._only(said, place, ("keep", "share"))
        return self._rule(said, place, base)

    def _rule(self, said: Mapping[str, Any], place: str, base: TextRule) -> TextRule:
        keep, share = said.get("keep", base.keep), said.get("share", base.share)
        if keep not in _KEEPS:
            raise self._fault(f"{place}.keep", f"{keep!r} is none of {', '.join(_KEEPS)}")
        return TextRule(keep, self._number(share, f"{place}.share", most=1.0))

    def _retention(self, said: Mapping[str, Any], name: str) -> Retention:
        place = f"retention.classes.{name}"
        self._only(said, place, ("days", "text_days"))
        days = self._number(said.get("days", Retention().days), f"{place}.days")
        texts = said.get("text_days", min(days, Retention().text_days))
        texts = self._number(texts, f"{place}.text_days")
        if texts > days:
            raise self._fault(f"{place}.text_days", "a text cannot outlive its record")
        return Retention(days, texts)

    def _kinds(self, said: Any) -> tuple[str, ...]:
        unknown = [kind for kind in said if kind not in KINDS] if isinstance(said, list) else [said]
        if unknown:
            raise self._fault("redaction.kinds", f"{unknown[0]!r} is none of {', '.join(KINDS)}")
        return tuple(said)

    def _flag(self, said: Any, place: str) -> bool:
        if not isinstance(said, bool):
            raise self._fault(place, "expected true or false")
        return said

    def _number(self, said: Any, place: str, most: float = float("inf")) -> float:
        number = isinstance(said, int | float) and not isinstance(said, bool)
        if not number or not 0 <= said <= most:
            upto = f" to {most:g}" if most < float("inf") else " or more"
            raise self._fault(place, f"expected a number, 0{upto}")
        return float(said)

    def _table(self, said: Mapping[str, Any], name: str, place: str = "") -> Mapping[str, Any]:
        table = said.get(name, {})
        if not isinstance(table, dict):
            raise self._fault(place + name, "expected a table")
        return table

    def _only(self, said: Mapping[str, Any], place: str, known: tuple[str, ...]) -> None:
        for key in said:
            if key not in known:
                where = f"{place}.{key}".lstrip(".")
                raise self._fault(where, f"unknown; expected one of {', '.join(known)}")

    def _fault(self, place: str, what: str) -> SettingsError:
        return SettingsError(f"{self._path}: {place}: {what}")


def _draw(prediction: str) -> float:
    """A number from 0 to below 1, as good as random and always the same for a prediction."""
    data = prediction.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest()) / 2**64
