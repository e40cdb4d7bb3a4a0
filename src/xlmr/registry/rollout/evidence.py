"""What a rollout has seen: counts by version and language, which add up over servers. Pure.

A unit is what is assigned: a request, or a caller where the plan says so. A unit counts once for
each event however often it suffers it; that is what makes units independent of each other, and
the tests on them valid. No text is in here, and nothing that leads back to one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeVar, get_args

import msgspec

from xlmr.errors import DataError

Harm = Literal["5xx", "timeout", "non_finite", "over_objective", "golden_mismatch"]
# What is counted unit by unit besides harms.
Sign = Literal["abstention", "low_confidence", "negative_feedback"]
HARMS: tuple[Harm, ...] = get_args(Harm)
SIGNS: tuple[Sign, ...] = get_args(Sign)
EVENTS: tuple[str, ...] = (*HARMS, *SIGNS)

LIVE = "live"
CANDIDATE = "candidate"

_Count = Annotated[int, msgspec.Meta(ge=0)]
_Key = TypeVar("_Key", bound=str)
_Value = TypeVar("_Value")


def _frozen(values: Mapping[_Key, _Value]) -> Mapping[_Key, _Value]:
    return MappingProxyType(dict(values))


def _added(one: Mapping[_Key, int], other: Mapping[_Key, int]) -> dict[_Key, int]:
    """Sums; a count of 0 is no entry, so that equal counts are equal values."""
    sums = {key: one.get(key, 0) + other.get(key, 0) for key in {**one, **other}}
    return {key: count for key, count in sums.items() if count}


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What one version did in one language.

    Of what was counted since the last time, an event or a label may belong to a unit that was
    counted before; all additions together have no more of them than units.

    Attributes:
        units: assigned to it.
        events: how many of the units suffered each of `EVENTS`.
        labels: how often it answered what; every unit counts for one label at most.
    """

    units: int = 0
    events: Mapping[str, int] = field(default_factory=dict)
    labels: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "events", _frozen(_added(self.events, {})))
        object.__setattr__(self, "labels", _frozen(_added(self.labels, {})))
        for name in self.events:
            if name not in EVENTS:
                raise DataError(f"counts: no event is called {name}", hint=f"there are {EVENTS}")
        if min((self.units, *self.events.values(), *self.labels.values())) < 0:
            raise DataError("counts: less than none", hint="counts only grow")

    def __bool__(self) -> bool:
        return bool(self.units or self.events or self.labels)

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            units=self.units + other.units,
            events=_added(self.events, other.events),
            labels=_added(self.labels, other.labels),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Texts of one language that both versions answered.

    Attributes:
        compared: both gave an answer that can be compared.
        disagreed: the answers differ.
        labelled: the right answer is known.
        live_only: of those with a known right answer: only the live version gave it.
        candidate_only: only the candidate gave it.
    """

    compared: int = 0
    disagreed: int = 0
    labelled: int = 0
    live_only: int = 0
    candidate_only: int = 0

    def __post_init__(self) -> None:
        differ = self.live_only + self.candidate_only
        least = min(self.disagreed, self.labelled, self.live_only, self.candidate_only)
        if (
            least < 0
            or differ > self.labelled
            or max(self.disagreed, self.labelled) > self.compared
        ):
            raise DataError("pairs: counts that cannot be", hint="no more of a kind than compared")

    def __add__(self, other: Pairs) -> Pairs:
        return Pairs(
            compared=self.compared + other.compared,
            disagreed=self.disagreed + other.disagreed,
            labelled=self.labelled + other.labelled,
            live_only=self.live_only + other.live_only,
            candidate_only=self.candidate_only + other.candidate_only,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything counted since a step began. `one + other` is both; the order does not matter.

    Attributes:
        arms: counts by version (`live` and `candidate` in a rollout), then by language.
        pairs: texts that both versions answered, by language.
    """

    arms: Mapping[str, Mapping[str, Counts]] = field(default_factory=dict)
    pairs: Mapping[str, Pairs] = field(default_factory=dict)

    def __post_init__(self) -> None:
        arms = {
            arm: _frozen({name: counts for name, counts in languages.items() if counts})
            for arm, languages in self.arms.items()
        }
        object.__setattr__(
            self, "arms", _frozen({arm: found for arm, found in arms.items() if found})
        )
        pairs = {name: found for name, found in self.pairs.items() if found.compared}
        object.__setattr__(self, "pairs", _frozen(pairs))

    def __add__(self, other: Evidence) -> Evidence:
        names = {**self.arms, **other.arms}
        arms = {
            arm: _merged(
                self.arms.get(arm, {}), other.arms.get(arm, {}), _NO_COUNTS, Counts.__add__
            )
            for arm in names
        }
        pairs = _merged(self.pairs, other.pairs, _NO_PAIRS, Pairs.__add__)
        return Evidence(arms=arms, pairs=pairs)

    @property
    def languages(self) -> tuple[str, ...]:
        """Every language that was seen, in order."""
        seen = {name for languages in self.arms.values() for name in languages}
        return tuple(sorted(seen | set(self.pairs)))

    def counts(self, arm: str, languages: Iterable[str] | None = None) -> Counts:
        """Of one version, over some languages, or over all of them.

        Raises:
            DataError: more events or labels than units: an addition is missing.
        """
        of_arm = self.arms.get(arm, {})
        wanted = of_arm if languages is None else languages
        found = sum((of_arm.get(name, _NO_COUNTS) for name in wanted), _NO_COUNTS)
        _check_complete(found)
        return found

    def paired(self, languages: Iterable[str] | None = None) -> Pairs:
        """Texts both versions answered, over some languages, or over all of them."""
        wanted = self.pairs if languages is None else languages
        return sum((self.pairs.get(name, _NO_PAIRS) for name in wanted), _NO_PAIRS)

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for `json.dumps`; equal evidence gives equal values, in order."""
        return {
            "arms": {
                arm: {
                    name: {
                        "units": counts.units,
                        "events": dict(sorted(counts.events.items())),
                        "labels": dict(sorted(counts.labels.items())),
                    }
                    for name, counts in sorted(languages.items())
                }
                for arm, languages in sorted(self.arms.items())
            },
            "pairs": {
                name: {
                    "compared": found.compared,
                    "disagreed": found.disagreed,
                    "labelled": found.labelled,
                    "live_only": found.live_only,
                    "candidate_only": found.candidate_only,
                }
                for name, found in sorted(self.pairs.items())
            },
        }

    @classmethod
    def from_json(cls, values: object, *, origin: str = "evidence") -> Evidence:
        """The evidence that `to_json` gave.

        Raises:
            DataError: it is something else; names the place.
        """
        try:
            read = msgspec.convert(values, _EvidenceFile)
        except msgspec.ValidationError as fault:
            raise DataError(f"{origin}: {fault}", hint="it was not written by this tool") from None
        arms = {
            arm: {name: Counts(**msgspec.structs.asdict(found)) for name, found in by_name.items()}
            for arm, by_name in read.arms.items()
        }
        pairs = {name: Pairs(**msgspec.structs.asdict(found)) for name, found in read.pairs.items()}
        return cls(arms=arms, pairs=pairs)


class _CountsFile(msgspec.Struct, forbid_unknown_fields=True):
    units: _Count
    events: dict[str, _Count] = {}
    labels: dict[str, _Count] = {}


class _PairsFile(msgspec.Struct, forbid_unknown_fields=True):
    compared: _Count
    disagreed: _Count = 0
    labelled: _Count = 0
    live_only: _Count = 0
    candidate_only: _Count = 0


class _EvidenceFile(msgspec.Struct, forbid_unknown_fields=True):
    arms: dict[str, dict[str, _CountsFile]] = {}
    pairs: dict[str, _PairsFile] = {}


def _merged(
    one: Mapping[str, _Value],
    other: Mapping[str, _Value],
    nothing: _Value,
    add: Callable[[_Value, _Value], _Value],
) -> dict[str, _Value]:
    return {
        name: add(one.get(name, nothing), other.get(name, nothing)) for name in {**one, **other}
    }


def _check_complete(counts: Counts) -> None:
    for name, count in counts.events.items():
        if count > counts.units:
            raise DataError(
                f"counts: {count} units with {name} of {counts.units}",
                hint="a unit counts once for each event",
            )
    if sum(counts.labels.values()) > counts.units:
        raise DataError("counts: more labels than units", hint="a unit counts for one label")


_NO_COUNTS = Counts()
_NO_PAIRS = Pairs()
