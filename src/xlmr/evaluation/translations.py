"""Which labelled rows are translations of one another. Pure.

What is hard in one language is hard in its translation: such rows are no independent evidence, and
whoever asks how far a mean over languages could be off must draw them together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from xlmr.evaluation.suites import AnyRow

ToldBy = Literal["id", "english", "place"]
# Parallel files end within this share of each other: rows at the end may have been left out.
_AS_LONG = 0.9
_TOLD_BY_COLUMN: tuple[ToldBy, ...] = ("id", "english")


@dataclass(frozen=True, slots=True, eq=False)
class Translations:
    """The originals that rows of several languages go back to.

    Attributes:
        told_by: what two translations share: their id, the English sentence beside them, or their
            place among the rows of their language.
        originals: how many there are.
        places: by language, the number of each row's original; each at most once in a language.
    """

    told_by: ToldBy
    originals: int
    places: Mapping[str, NDArray[np.intp]]


def find_translations(rows: Sequence[AnyRow]) -> Translations | None:
    """The translations among rows of any languages; None where nothing tells that there are any.

    An id tells where two languages have one in common, and so does the English side of a bitext.
    Rows without either are taken for translations line by line where every language has a file of
    its own and these are about as long, and row by row where all have as many rows in one file.
    Should they be none after all, that costs nothing: drawing rows together that have nothing to do
    with each other leaves the interval, on average, as wide as it was.
    """
    languages: dict[str, list[AnyRow]] = {}
    for row in rows:
        languages.setdefault(row.language, []).append(row)
    if len(languages) < 2:
        return None
    for told_by in _TOLD_BY_COLUMN:
        names = {
            name: [getattr(row, told_by, "") for row in own] for name, own in languages.items()
        }
        if any(any(each) for each in names.values()):
            return _numbered(told_by, names)
    lines = {name: [row.line for row in own] for name, own in languages.items()}
    last = [max(each) for each in lines.values()]
    if min(last) >= _AS_LONG * max(last) and (found := _numbered("place", lines)) is not None:
        return found
    if len({len(each) for each in lines.values()}) == 1:
        return _numbered("place", {name: range(len(each)) for name, each in lines.items()})
    return None


def _numbered(told_by: ToldBy, names: Mapping[str, Sequence[Hashable]]) -> Translations | None:
    """Names as numbers; a name's second row in one language goes with the second in another."""
    numbers: dict[Hashable, int] = {}
    places = {}
    for language, each in names.items():
        met: Counter[Hashable] = Counter()
        own = []
        for i, name in enumerate(each):
            # A row without a name is nobody's translation.
            key = (language, i) if name == "" else ("", name, met[name])
            met[name] += 1
            own.append(numbers.setdefault(key, len(numbers)))
        places[language] = np.array(own, np.intp)
    if len(numbers) == sum(len(each) for each in names.values()):
        return None  # no two languages have one in common
    return Translations(told_by, len(numbers), places)
