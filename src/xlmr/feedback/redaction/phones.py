"""Telephone numbers, as libphonenumber (Google's tables, by way of `phonenumbers`) knows them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from xlmr.errors import MissingExtraError
from xlmr.feedback.redaction.finding import PHONE, Finding
from xlmr.feedback.redaction.words import PHONE_WORDS, REFERENCE_WORDS, last_word

try:
    from phonenumbers import (
        Leniency,
        PhoneNumberMatch,
        PhoneNumberMatcher,
        PhoneNumberType,
        number_type,
    )
except ImportError:
    raise MissingExtraError("phonenumbers", extra="feedback") from None

_RUN = re.compile(r"(?<![0-9A-Za-z_=@#])[+(]{0,2}\d(?:[ ().+/-]{0,3}\d)*+(?![A-Za-z_@])")
_FEWEST_DIGITS, _MOST_DIGITS = 7, 15
# No number is longer; where more digits and signs follow each other, they are looked at in pieces.
_PIECE, _STEP = 48, 24
_TRIES = 8
_DATE = re.compile(
    r"(?:(?:19|20)\d\d([-./])\d{1,2}\1\d{1,2}|\d{1,2}([-./])\d{1,2}\2(?:19|20)?\d\d)(?:[ T]\d.*)?\Z"
)
_AMOUNT = re.compile(r"\d{1,3}(?:([ .,'])\d{3})(?:\1\d{3})*(?:[.,]\d\d)?\Z")
_CURRENCY = (
    r"(?:[$€£¥₹₽₩₺฿₫₴₪₦%]|EUR|USD|GBP|CHF|JPY|CNY|INR|Rp|RM|kr|zł|Kč|Ft|lei|лв|руб|грн|тг|TL"
    r"|元|円|원|บาท|đ)"
)
_CURRENCY_BEFORE = re.compile(rf"{_CURRENCY}\.? ?\Z", re.IGNORECASE)
_CURRENCY_AFTER = re.compile(rf" ?{_CURRENCY}(?![^\W\d_])", re.IGNORECASE)
_MOBILE = (PhoneNumberType.MOBILE, PhoneNumberType.FIXED_LINE_OR_MOBILE)


def find_phones(text: str, regions: Sequence[str]) -> Iterator[Finding]:
    """Numbers with their country's code, and national ones of the regions.

    A national number is believed where a word names it, where it is grouped or begins with the 0
    that is dialled inside the country, or where it is a mobile's; not where the words before it
    call it an order's.
    """
    for run in _RUN.finditer(text):
        for start in range(run.start(), max(run.end() - _STEP, run.start() + 1), _STEP):
            piece = text[start : min(start + _PIECE, run.end())]
            if sum(map(str.isdecimal, piece)) >= _FEWEST_DIGITS:
                yield from _in_piece(text, start, piece, regions)


def _in_piece(text: str, place: int, piece: str, regions: Sequence[str]) -> Iterator[Finding]:
    # Dialled from abroad: 00 for +, one character more.
    abroad = piece.startswith("00")
    said = "+" + piece[2:] if abroad else piece
    for found in PhoneNumberMatcher(said, None, Leniency.VALID, _TRIES):
        yield Finding(PHONE, place + found.start, place + found.end + abroad)
    if "+" not in said:
        yield from _national(text, place, piece, regions)


def _national(text: str, place: int, piece: str, regions: Sequence[str]) -> Iterator[Finding]:
    said = last_word(PHONE_WORDS, text, place)
    reference = last_word(REFERENCE_WORDS, text, place)
    if reference > said:
        return
    named = said >= 0
    if named and not regions:
        yield from _named(text, place, piece)
    for region in regions:
        leniency = Leniency.POSSIBLE if named and region == regions[0] else Leniency.VALID
        for found in PhoneNumberMatcher(piece, region, leniency, _TRIES):
            start, end = place + found.start, place + found.end
            if _is_other(text, start, end, named=named):
                continue
            if named or _looks_like_one(found):
                yield Finding(PHONE, start, end, named)


def _named(text: str, place: int, piece: str) -> Iterator[Finding]:
    """What a word calls a number, of a country nobody knows."""
    end = place + len(piece)
    if sum(map(str.isdecimal, piece)) <= _MOST_DIGITS and not _is_other(
        text, place, end, named=True
    ):
        yield Finding(PHONE, place, end, True)


def _is_other(text: str, start: int, end: int, *, named: bool) -> bool:
    """Whether it is a date or an amount."""
    said = text[start:end].strip("() ")
    if _DATE.match(said):
        return True
    if _CURRENCY_BEFORE.search(text[max(0, start - 5) : start]):
        return True
    if _CURRENCY_AFTER.match(text[end : end + 6]):
        return True
    return not named and bool(_AMOUNT.match(said))


def _looks_like_one(found: PhoneNumberMatch) -> bool:
    said = found.raw_string
    grouped = not said.isdecimal()
    return grouped or said.startswith("0") or number_type(found.number) in _MOBILE
