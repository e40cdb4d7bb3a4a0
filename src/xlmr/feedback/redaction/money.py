"""Numbers of payment cards and bank accounts (IBAN)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from xlmr.errors import MissingExtraError
from xlmr.feedback.redaction.finding import CARD, IBAN, Finding

try:
    from stdnum import luhn
except ImportError:
    raise MissingExtraError("python-stdnum", extra="feedback") from None

# Digits with at most one space, dot or dash between two of them.
_DIGITS = re.compile(r"(?<![0-9A-Za-z])\d++(?:[ .-]\d++)*+(?![A-Za-z])")
_GROUP = re.compile(r"\d+")
# First digits of the schemes, and how long their numbers are.
_SCHEMES = (
    (re.compile("4"), (13, 16, 19)),
    (re.compile("5[1-5]|2(?:22[1-9]|2[3-9]|[3-6]|7[01]|720)"), (16,)),
    (re.compile("3[47]"), (15,)),
    (re.compile("3(?:0[0-5]|[689])"), (14, 16)),
    (re.compile("35"), (16, 17, 18, 19)),
    (re.compile("6(?:011|4[4-9]|5)"), (16, 17, 18, 19)),
    (re.compile("62|81"), (16, 17, 18, 19)),
    (re.compile("50|5[6-8]|6[0-9]"), (16, 17, 18, 19)),
    (re.compile("220[0-4]"), (16, 17, 18, 19)),
)
_SHORTEST_CARD, _LONGEST_CARD = 13, 19
_IBAN = re.compile(r"(?<![0-9A-Za-z])(?=([A-Za-z]{2})\d\d((?:[ -]?[A-Za-z0-9]){11,30}))")
# By country, from SWIFT's registry (release 101): letters and digits of a whole number.
_LENGTHS_SAID = """
AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28
EE20 EG29 ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26
IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28
NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25
SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30
"""
_LENGTHS = {said[:2]: int(said[2:]) for said in _LENGTHS_SAID.split()}


def find_cards(text: str) -> Iterator[Finding]:
    """Card numbers, in groups or not: a scheme's first digits and length, Luhn's check digit."""
    for run in _DIGITS.finditer(text):
        groups = [(run.start() + g.start(), run.start() + g.end()) for g in _GROUP.finditer(run[0])]
        first = 0
        while first < len(groups):
            last = _card_from(text, groups, first)
            if last is None:
                first += 1
            else:
                yield Finding(CARD, groups[first][0], groups[last][1])
                first = last + 1


def find_ibans(text: str) -> Iterator[Finding]:
    """Account numbers of their country's length whose check digits are right."""
    for found in _IBAN.finditer(text):
        length = _LENGTHS.get(found[1].upper(), 0)
        places = [p for p in range(found.start(), found.end(2)) if text[p].isalnum()]
        if not length or len(places) < length:
            continue
        end = places[length - 1] + 1
        goes_on = end < len(text) and text[end].isascii() and text[end].isalnum()
        if not goes_on and _remainder("".join(text[p] for p in places[:length])) == 1:
            yield Finding(IBAN, found.start(), end)


def _card_from(text: str, groups: list[tuple[int, int]], first: int) -> int | None:
    """The last of the groups that are a card number together, the longest such; None for none."""
    digits, best = "", None
    for last in range(first, len(groups)):
        start, end = groups[last]
        if len(digits) + end - start > _LONGEST_CARD:
            break
        digits += text[start:end]
        if len(digits) >= _SHORTEST_CARD and _is_card(digits):
            best = last
    return best


def _is_card(digits: str) -> bool:
    return any(
        len(digits) in lengths and scheme.match(digits) for scheme, lengths in _SCHEMES
    ) and bool(luhn.is_valid(digits))


def _remainder(compact: str) -> int:
    return int("".join(str(int(sign, 36)) for sign in compact[4:] + compact[:4])) % 97
