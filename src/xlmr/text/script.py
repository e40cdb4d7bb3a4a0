"""What a language key says, `arb_Arab`, and what else only letters say: which script it is."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from itertools import islice

from xlmr.text.codes import short_code

UNKNOWN = "Zzzz"
_READ_LETTERS = 20_000
# Kana among Han make a text Japanese, however few of them there are beyond a stray sign.
_LEAST_KANA = 0.05

# How Unicode's names of letters begin → ISO 15924.
_CODES = {
    "LATIN": "Latn",
    "FULLWIDTH LATIN": "Latn",
    "CYRILLIC": "Cyrl",
    "GREEK": "Grek",
    "ARABIC": "Arab",
    "HEBREW": "Hebr",
    "ARMENIAN": "Armn",
    "GEORGIAN": "Geor",
    "DEVANAGARI": "Deva",
    "BENGALI": "Beng",
    "GURMUKHI": "Guru",
    "GUJARATI": "Gujr",
    "ORIYA": "Orya",
    "TAMIL": "Taml",
    "TELUGU": "Telu",
    "KANNADA": "Knda",
    "MALAYALAM": "Mlym",
    "SINHALA": "Sinh",
    "THAI": "Thai",
    "LAO": "Laoo",
    "TIBETAN": "Tibt",
    "MYANMAR": "Mymr",
    "KHMER": "Khmr",
    "ETHIOPIC": "Ethi",
    "HANGUL": "Hang",
    "CJK": "Hani",
    "HIRAGANA": "Kana",
    "KATAKANA": "Kana",
    "KATAKANA-HIRAGANA": "Kana",
    "HALFWIDTH KATAKANA": "Kana",
    "MONGOLIAN": "Mong",
    "THAANA": "Thaa",
    "SYRIAC": "Syrc",
    "CHEROKEE": "Cher",
    "TIFINAGH": "Tfng",
    "NKO": "Nkoo",
    "OL": "Olck",
}
_IN_KEY = re.compile(r"[-_]([A-Z][a-z]{3})(?![A-Za-z])")


def script_of_key(language: str) -> str | None:
    """The ISO 15924 code within a language key, `zh-Hant-TW` → `Hant`; None where there is none."""
    found = _IN_KEY.search(language)
    return found[1] if found else None


def script_of_texts(texts: Iterable[str]) -> str:
    """The ISO 15924 code of most letters, `Jpan` where kana stand among them; `Zzzz` without any.

    Reads the first 20,000 letters. Han alone is `Hani`: letters do not tell Hans from Hant.
    """
    letters = (c for text in texts for c in text if c.isalpha())
    counts = Counter(map(_script, islice(letters, _READ_LETTERS)))
    del counts[UNKNOWN]
    kana, han = counts.pop("Kana", 0), counts.pop("Hani", 0)
    counts["Jpan" if kana > _LEAST_KANA * (kana + han) else "Hani"] = kana + han
    script, count = max(counts.items(), key=lambda pair: pair[1])
    return script if count else UNKNOWN


def is_english(language: str) -> bool:
    """Whether a key means English: `en`, `en-GB`, `eng`, `eng_Latn`."""
    return short_code(language) == "en"


def _script(letter: str) -> str:
    words = unicodedata.name(letter, "").split(maxsplit=2)
    first = words[0] if words else ""
    return _CODES.get(first) or _CODES.get(" ".join(words[:2]), UNKNOWN)
