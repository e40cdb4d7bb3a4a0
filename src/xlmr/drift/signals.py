"""What is kept of requests: counts on fixed bins, by language, that add up over servers. Pure.

No text is in here, and nothing of one that a caller chose: a label that the model does not promise
(zero-shot labels are the caller's words) counts as `OTHER`. Adding one request takes constant time,
and memory is bounded: as many languages as `MOST_LANGUAGES`, about 150 counts each. Everything is
a whole number, so sums are the same in any order, on however many servers.

Callers hold a lock where several threads add.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import add
from typing import Annotated, Any, NamedTuple

import msgspec

from xlmr.errors import DataError

OTHER = "*"
# Buckets of several languages: all that are not told apart, and texts of which nobody can tell.
POOLED = (OTHER, "und")
# More than identification knows; a caller who names languages of his own cannot fill the memory.
MOST_LANGUAGES = 256
# Of the most frequent ones; the rest counts as OTHER.
MOST_LABELS = 63
# Confidences add up as whole millionths: floating sums would depend on the order.
_MILLION = 1_000_000

# Where bins begin. Each value lies in the last bin that begins at or below it, the first is open.
EDGES: Mapping[str, tuple[float, ...]] = {
    "confidence": (
        *(step / 20 for step in range(2, 18)),
        *(0.875, 0.9, 0.925, 0.95, 0.965, 0.98, 0.99, 0.995, 0.999),
    ),
    # In nats.
    "entropy": (
        *(0.005, 0.01, 0.02, 0.04, 0.07, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.85),
        *(1.0, 1.2, 1.4, 1.6, 1.8, 2.1, 2.5, 3.0, 4.0),
    ),
    "tokens": tuple(round(4 * 2 ** (step / 2)) for step in range(23)),
    "tokens_per_character": tuple(round(0.1 * 1.1**step, 4) for step in range(31)),
    # Of UTF-8. The first bin is ASCII alone: what is left of a text without its marks and letters.
    "bytes_per_character": (
        *(1.001, 1.01, 1.02, 1.035, 1.05, 1.075, 1.1, 1.13, 1.16, 1.2, 1.25, 1.3, 1.35, 1.4, 1.5),
        *(1.6, 1.7, 1.75, 1.8, 1.85, 1.9, 2.0, 2.2, 2.4, 2.5, 2.6, 2.7, 2.8, 2.9),
    ),
    # Share of pieces that the vocabulary does not know; the first bin is none at all.
    "unknown_pieces": (1e-9, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5),
    "truncated": (1.0,),
    "abstained": (1.0,),
}
LABEL = "label"
SIGNALS = (*EDGES, LABEL)
# Counts and references from before these were counted have none of them: nothing was seen.
_LATER = ("bytes_per_character",)
_CONFIDENCE_EDGES = EDGES["confidence"]

_Count = Annotated[int, msgspec.Meta(ge=0)]


class Sight(NamedTuple):
    """One answered text, as numbers. None where the model or the task says nothing of the kind.

    Attributes:
        tokens: vocabulary pieces, special ones counted.
        characters: of the text.
        unknown: pieces that the vocabulary does not know.
        truncated: some of the text was not read.
        label: the answer, where it is one of several.
        confidence: calibrated, 0 to 1.
        entropy: over all labels, in nats.
        abstained: the answer was withheld.
        bytes_per_character: of its UTF-8.
    """

    tokens: int
    characters: int
    unknown: int
    truncated: bool
    label: str | None
    confidence: float | None
    entropy: float | None
    abstained: bool | None
    bytes_per_character: float | None = None


@dataclass(slots=True)
class Sketch:
    """Counts of one language.

    Attributes:
        rows: texts that were answered.
        bins: signal → rows by bin; a signal's sum is below `rows` where some said nothing.
        millionths: by bin of confidence, the sum of the confidences in it.
    """

    rows: _Count
    bins: dict[str, list[_Count]]
    millionths: list[_Count]

    def __add__(self, other: Sketch) -> Sketch:
        return Sketch(
            self.rows + other.rows,
            {signal: _sums(self.bins[signal], other.bins[signal]) for signal in SIGNALS},
            _sums(self.millionths, other.millionths),
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values; signals that came later are left out where nothing was seen of them.

        So what was written before there were any is written again as it was.
        """
        unseen = [signal for signal in _LATER if not any(self.bins[signal])]
        bins = {signal: bins for signal, bins in self.bins.items() if signal not in unseen}
        return {"rows": self.rows, "bins": bins, "millionths": self.millionths}


def empty_sketch(labels: int) -> Sketch:
    """Of nothing yet.

    Args:
        labels: how many the model promises.
    """
    bins = {signal: [0] * (len(edges) + 1) for signal, edges in EDGES.items()}
    return Sketch(0, bins | {LABEL: [0] * (labels + 1)}, [0] * (len(_CONFIDENCE_EDGES) + 1))


@dataclass(slots=True)
class Signals:
    """What was seen of one version and task since it began to count. `one + other` is both.

    Past `MOST_LANGUAGES`, and only then, which languages are told apart depends on the order in
    which they came; the counts of all languages together never do.

    Attributes:
        version: of the model.
        task: what was asked.
        labels: those told apart, in the order of their bins; one more bin is for all others.
        languages: language → counts.
    """

    version: str
    task: str
    labels: tuple[str, ...] = ()
    languages: dict[str, Sketch] = field(default_factory=dict)
    _bin_of_label: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.labels) > MOST_LABELS or len(set(self.labels)) != len(self.labels):
            raise ValueError(f"labels must differ and be at most {MOST_LABELS}")
        self._bin_of_label = {label: place for place, label in enumerate(self.labels)}

    def see(self, language: str, sight: Sight) -> None:
        """Counts one answered text."""
        sketch = self._sketch(language)
        sketch.rows += 1
        bins = sketch.bins
        tokens, characters, unknown, truncated, label, confidence, entropy, abstained, width = sight
        bins["tokens"][bisect_right(EDGES["tokens"], tokens)] += 1
        bins["truncated"][truncated] += 1
        if characters:
            fertility = bisect_right(EDGES["tokens_per_character"], tokens / characters)
            bins["tokens_per_character"][fertility] += 1
        if width is not None:
            bins["bytes_per_character"][bisect_right(EDGES["bytes_per_character"], width)] += 1
        if tokens:
            bins["unknown_pieces"][bisect_right(EDGES["unknown_pieces"], unknown / tokens)] += 1
        if label is not None:
            bins[LABEL][self._bin_of_label.get(label, len(self.labels))] += 1
        if confidence is not None:
            place = bisect_right(_CONFIDENCE_EDGES, confidence)
            bins["confidence"][place] += 1
            sketch.millionths[place] += round(confidence * _MILLION)
        if entropy is not None:
            bins["entropy"][bisect_right(EDGES["entropy"], entropy)] += 1
        if abstained is not None:
            bins["abstained"][abstained] += 1

    def __add__(self, other: Signals) -> Signals:
        if (self.version, self.task, self.labels) != (other.version, other.task, other.labels):
            raise DataError(
                f"signals of {self.version}/{self.task} and {other.version}/{other.task} do not add"
                " up, or their labels differ",
                hint="add signals of one version and task, counted against one reference",
            )
        both = Signals(self.version, self.task, self.labels)
        for one in (self, other):
            for language, sketch in one.languages.items():
                key = both._key(language)
                held = both.languages.get(key)
                # Added to nothing it is a copy: nobody else's counts change when these grow.
                both.languages[key] = sketch + (held or empty_sketch(len(self.labels)))
        return both

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for `json.dumps`; equal signals give equal values, in order."""
        return {
            "version": self.version,
            "task": self.task,
            "labels": list(self.labels),
            "languages": {name: self.languages[name].to_json() for name in sorted(self.languages)},
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Signals:
        """The reverse.

        Raises:
            DataError: something else, or bins of another release; says where.
        """
        try:
            plain = msgspec.convert(value, _Plain)
            found = cls(plain.version, plain.task, plain.labels, plain.languages)
        except (msgspec.ValidationError, ValueError) as fault:
            raise DataError(f"signals: {fault}") from None
        for name, sketch in found.languages.items():
            found.languages[name] = whole_sketch(name, sketch, len(found.labels))
        return found

    def _sketch(self, language: str) -> Sketch:
        found = self.languages.get(language)
        if found is not None:
            return found
        return self.languages.setdefault(self._key(language), empty_sketch(len(self.labels)))

    def _key(self, language: str) -> str:
        full = len(self.languages) >= MOST_LANGUAGES - 1
        return OTHER if full and language not in self.languages else language


def whole_sketch(name: str, sketch: Sketch, labels: int) -> Sketch:
    """Counts that were read, with zeros for signals that came later.

    Raises:
        DataError: they are on other bins than these; names the language.
    """
    expected = empty_sketch(labels)
    sketch = replace(sketch, bins={s: expected.bins[s] for s in _LATER} | sketch.bins)
    same = sketch.bins.keys() == expected.bins.keys() and all(
        len(sketch.bins[signal]) == len(bins) for signal, bins in expected.bins.items()
    )
    if not same or len(sketch.millionths) != len(expected.millionths):
        raise DataError(
            f"signals: {name} was counted on other bins",
            hint="count and read with one release of xlmr",
        )
    return sketch


def name_of_bin(signal: str, place: int, labels: Sequence[str]) -> str:
    """What a bin holds, in words: `confidence from 0.9`, `label spam`."""
    if signal == LABEL:
        return f"label {labels[place] if place < len(labels) else OTHER}"
    if EDGES[signal] == (1.0,):
        return signal if place else f"not {signal}"
    if signal == "unknown_pieces" and place <= 1:
        return "some unknown pieces" if place else "no unknown pieces"
    lower = EDGES[signal][place - 1] if place else 0
    return f"{signal.replace('_', ' ')} from {lower:g}"


class _Plain(msgspec.Struct):
    version: str
    task: str
    labels: tuple[str, ...]
    languages: dict[str, Sketch]


def _sums(one: list[int], other: list[int]) -> list[int]:
    return list(map(add, one, other))
