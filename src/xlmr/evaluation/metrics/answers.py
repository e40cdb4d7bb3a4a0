"""Exact match and F1 of answers, after forgiving what does not matter: case, marks, articles.

Two ways to forgive. SQuAD's (`language=None`): ASCII punctuation and English articles go, words
are what blanks separate. MLQA's: all of Unicode's punctuation goes, articles are those of the
language, and scripts written without blanks are compared by character. MLQA names seven languages
(ar, de, en, es, hi, vi, zh); for the rest this module goes on in its spirit: no articles are
taken away, and Japanese, Thai, Lao, Khmer and Burmese are split like Chinese.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence

_ARTICLES = {
    "en": r"\b(a|an|the)\b",
    "es": r"\b(un|una|unos|unas|el|la|los|las)\b",
    "de": r"\b(ein|eine|einen|einem|eines|einer|der|die|das|den|dem|des)\b",
    "vi": r"\b(của|là|cái|chiếc|những)\b",
    # MLQA takes the letters away wherever they stand, inside words too; figures are only
    # comparable with its own when we do the same.
    "ar": "ال",
}
_BY_CHARACTER = frozenset({"zh", "ja", "th", "lo", "km", "my"})
# Han with its extensions, kana, Thai, Lao, Burmese, Khmer: all written without blanks.
_UNSPACED = re.compile(
    "[\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]"
)


def answer_words(text: str, language: str | None = None) -> tuple[str, ...]:
    """What is compared: the words of an answer, or its characters where the script has no blanks.

    Args:
        text: an answer.
        language: whose rules of MLQA to follow; None for SQuAD's.
    """
    lowered = text.lower()
    if language is None:
        bare = "".join(c for c in lowered if c not in string.punctuation)
        return tuple(re.sub(_ARTICLES["en"], " ", bare).split())
    language = re.split("[-_]", language)[0].lower()
    bare = "".join(c for c in lowered if not _is_punctuation(c))
    articles = _ARTICLES.get(language)
    bare = re.sub(articles, " ", bare) if articles else bare
    return tuple(_split(bare) if language in _BY_CHARACTER else bare.split())


def exact_match(answer: str, golds: Sequence[str], language: str | None = None) -> float:
    """1 where the answer is one of the gold ones, 0 elsewhere. No golds: "no answer" is right.

    A gold answer that is empty means "no answer" too.
    """
    words = answer_words(answer, language)
    return float(any(words == answer_words(gold, language) for gold in golds or ("",)))


def answer_f1(answer: str, golds: Sequence[str], language: str | None = None) -> float:
    """Words in common with the gold answer that has most, as F1; "no answer" is all or nothing."""
    words = answer_words(answer, language)
    return max(_f1(words, answer_words(gold, language)) for gold in golds or ("",))


def _f1(words: Sequence[str], gold: Sequence[str]) -> float:
    if not words or not gold:
        return float(words == gold)
    return 2.0 * (Counter(words) & Counter(gold)).total() / (len(words) + len(gold))


def _split(text: str) -> list[str]:
    """Characters of unspaced scripts one by one, each with its marks; other words whole."""
    pieces: list[str] = []
    joined = False  # whether the next letter continues the last piece
    for character in text:
        if character.isspace():
            joined = False
        elif unicodedata.category(character)[0] == "M" and pieces:
            pieces[-1] += character
        elif _UNSPACED.match(character):
            pieces.append(character)
            joined = False
        elif joined:
            pieces[-1] += character
        else:
            pieces.append(character)
            joined = True
    return pieces


def _is_punctuation(character: str) -> bool:
    return character in string.punctuation or unicodedata.category(character)[0] == "P"
