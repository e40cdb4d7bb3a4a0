"""An incident in one report: what got worse, in which languages, after what; and what to do.

Pure. Predictions of a window are held against those of as long a time before it; beside them stand
what was deployed, what alarmed, and the answers worth reading.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Period = Literal["before", "now"]
# A figure is worse if chance alone would hardly make it so, and if it matters.
_SURE = 4.0
_LEAST_ROWS = 50
_LEAST_CHANGE = 0.03


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A prediction.

    Attributes:
        id: its id.
        at: when, in seconds since 1970 UTC.
        version, language, label: as it was answered.
        confidence: None where the task does not say.
        abstained: whether the answer was withheld.
        said: the label that people say is right; empty where nobody did.
        shadow: the version in the shadow that answered otherwise; empty where none did.
        other: what that one said.
        text: redacted; empty where none was kept.
    """

    id: str
    at: float
    version: str
    language: str
    label: str
    confidence: float | None = None
    abstained: bool = False
    said: str = ""
    shadow: str = ""
    other: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """Another version went live.

    Attributes:
        at: when, in seconds since 1970 UTC.
        action: `alias` or `rollback`, and `drop`.
        version: that is live from then on; 0 for none.
        previous: that was; 0 for none.
        actor: who did it.
        reason: why, as it was said.
    """

    at: float
    action: str
    version: int
    previous: int
    actor: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """Something alarmed.

    Attributes:
        source: `prometheus` or `drift`.
        name: of the alert, or what drifted.
        since, until: in seconds since 1970 UTC; as far as the window goes.
        labels: what else is said of it.
    """

    source: str
    name: str
    since: float
    until: float
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Figure:
    """A share or mean before and now; None where nothing can be said.

    Attributes:
        rows_before, rows: that it rests on.
        before, now: the figure.
        worse: whether it changed for the worse, and not by chance.
    """

    rows_before: int
    rows: int
    before: float | None
    now: float | None
    worse: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Language:
    """A language before and now.

    Attributes:
        language: which.
        confidence: mean.
        abstained: share of answers that were withheld.
        right: share of the answers that people spoke of, and called right.
        labels: label → share before and now, the greatest changes first.
        moved: share of the labels that changed, 0 to 1.
    """

    language: str
    confidence: Figure
    abstained: Figure
    right: Figure
    labels: Mapping[str, tuple[float, float]]
    moved: float

    @property
    def worse(self) -> list[str]:
        """Which figures are."""
        found = (("confidence", self.confidence), ("abstained", self.abstained))
        return [name for name, each in (*found, ("right", self.right)) if each.worse]


@dataclass(frozen=True, slots=True)
class Read:
    """What a version in the shadow was compared with the live one in, a language.

    Attributes:
        language: of the texts.
        compared: that both answered.
        disagreed: of them, with other answers.
    """

    language: str
    compared: int
    disagreed: int


@dataclass(frozen=True, slots=True)
class Suggestion:
    """What to do.

    Attributes:
        command: to type; empty where nothing is suggested.
        why: in sentences.
    """

    command: str
    why: tuple[str, ...]


class Gathered:
    """What predictions of both periods say; of themselves only the few worth reading are held.

    Attributes:
        versions: how many answers each gave.
        otherwise: by language, how many a version in the shadow would not have given.
    """

    def __init__(self, *, most: int = 20) -> None:
        self._most = most
        self._seen: dict[str, dict[Period, _Tally]] = defaultdict(
            lambda: {"before": _Tally(), "now": _Tally()}
        )
        self.versions: dict[Period, Counter[str]] = {"before": Counter(), "now": Counter()}
        self._doubtful: list[tuple[float, str, Sample]] = []
        self._disagreeing: list[tuple[float, str, Sample]] = []
        self._otherwise: list[tuple[float, str, Sample]] = []
        self.otherwise = Counter[str]()

    def see(self, sample: Sample, period: Period) -> None:
        """Counts a prediction."""
        self.versions[period][sample.version] += 1
        self._seen[sample.language][period].see(sample)
        if period == "before":
            return
        if sample.confidence is not None:
            self._hold(self._doubtful, -sample.confidence, sample)
        if sample.said and sample.said != sample.label:
            # Those that were wrong and sure of it are read first.
            self._hold(self._disagreeing, sample.confidence or 0.0, sample)
        if sample.shadow:
            self.otherwise[sample.language] += 1
            self._hold(self._otherwise, sample.confidence or 0.0, sample)

    @property
    def doubtful(self) -> list[Sample]:
        """The least confident answers, the least first."""
        return [sample for _, _, sample in sorted(self._doubtful, reverse=True)]

    @property
    def disagreeing(self) -> list[Sample]:
        """Answers that people called wrong, the most confident first."""
        return [sample for _, _, sample in sorted(self._disagreeing, reverse=True)]

    @property
    def answered_otherwise(self) -> list[Sample]:
        """Answers that a version in the shadow would not have given, the most confident first."""
        return [sample for _, _, sample in sorted(self._otherwise, reverse=True)]

    def languages(self) -> list[Language]:
        """All of them, those that got worse first, then by traffic."""
        found = [_language(name, seen) for name, seen in self._seen.items()]
        rows = {name: seen["now"].rows for name, seen in self._seen.items()}
        return sorted(found, key=lambda e: (not e.worse, -rows[e.language], e.language))

    def _hold(self, held: list[tuple[float, str, Sample]], rank: float, sample: Sample) -> None:
        heapq.heappush(held, (rank, sample.id, sample))
        if len(held) > self._most:
            heapq.heappop(held)


def suggest(
    name: str,
    *,
    since: float,
    live: int,
    rolling: str,
    moves: Sequence[Move],
    languages: Sequence[Language],
    alerts: Sequence[Alert],
) -> Suggestion:
    """Whether to go back, and the command that does.

    Args:
        name: of the model.
        since: when the trouble began.
        live: the version that is live now; 0 for none.
        rolling: the version that is being rolled out now; empty for none.
        moves: what went live in the window and in as long a time before it, in order.
        languages: what got worse.
        alerts: of the window; those that name the model count.
    """
    harm = [f"{each.language}: {', '.join(each.worse)} worse" for each in languages if each.worse]
    # What is asked may drift without the model's doing; a server may fail without it as well.
    harm += [f"alert {alert.name}" for alert in alerts if alert.labels.get("model") == name]
    if not harm:
        return Suggestion("", ("no figure of the model got worse: no reason to go back",))
    if rolling:
        reason = _quoted(f"incident: {harm[0]}")
        return Suggestion(
            f"xlmr rollout abort {name} --reason {reason}",
            (f"version {rolling} is being rolled out; its rollout can be ended now", *harm),
        )
    forward = [move for move in moves if move.action == "alias" and move.previous]
    last = forward[-1] if forward else None
    if last is None:
        return Suggestion(
            "",
            (
                "nothing went live in the window nor in as long a time before: going back would "
                "change nothing; look at what is asked (`xlmr drift report`)",
                *harm,
            ),
        )
    if live != last.version:
        what = f"version {live} is live now" if live else "no version is live now"
        return Suggestion("", (f"version {last.version} was taken back already: {what}", *harm))
    when = "before" if last.at <= since else "after"
    reason = _quoted(f"incident: {harm[0]}")
    return Suggestion(
        f"xlmr registry rollback {name} --to {last.previous} --reason {reason}",
        (f"version {last.version} went live shortly {when} the trouble began", *harm),
    )


def incident_json(
    gathered: Gathered,
    suggestion: Suggestion,
    *,
    moves: Sequence[Move],
    alerts: Sequence[Alert],
    unknown: Sequence[str],
    reads: Sequence[Read] = (),
    **about: Any,
) -> dict[str, Any]:
    """All of it as plain values.

    Args:
        gathered: predictions.
        suggestion: what to do.
        moves: what went live.
        alerts: what alarmed.
        unknown: what could not be asked, and why.
        reads: what the rollout has counted in its present stage.
        about: model, version, since, until.
    """
    return {
        "format": 1,
        **about,
        "versions": {period: dict(seen) for period, seen in gathered.versions.items()},
        "languages": [asdict(e) | {"worse": e.worse} for e in gathered.languages()],
        "doubtful": [asdict(sample) for sample in gathered.doubtful],
        "disagreeing": [asdict(sample) for sample in gathered.disagreeing],
        "shadow": {
            "stage": [asdict(read) for read in reads],
            "languages": dict(gathered.otherwise.most_common()),
            "samples": [asdict(sample) for sample in gathered.answered_otherwise],
        },
        "moves": [asdict(move) for move in moves],
        "alerts": [asdict(alert) for alert in alerts],
        "unknown": list(unknown),
        "suggestion": asdict(suggestion),
    }


class _Tally:
    """Counts of a language in a period."""

    def __init__(self) -> None:
        self.rows = self.abstained = self.answered = self.right = 0
        self.confident, self.sum, self.squares = 0, 0.0, 0.0
        self.labels: Counter[str] = Counter()

    def see(self, sample: Sample) -> None:
        self.rows += 1
        self.abstained += sample.abstained
        if sample.label:
            self.labels[sample.label] += 1
        if sample.said:
            self.answered += 1
            self.right += sample.said == sample.label
        if sample.confidence is not None:
            self.confident += 1
            self.sum += sample.confidence
            self.squares += sample.confidence**2

    def mean(self) -> tuple[int, float, float]:
        """Of confidences: rows, mean and variance."""
        rows, mean = self.confident, self.sum / max(self.confident, 1)
        return rows, mean, max(self.squares / max(rows, 1) - mean * mean, 0.0)


def _language(name: str, seen: Mapping[Period, _Tally]) -> Language:
    before, now = seen["before"], seen["now"]
    labels = dict(_mix(before.labels, now.labels))
    moved = sum(abs(after - was) for was, after in labels.values()) / 2.0
    return Language(
        language=name,
        confidence=_figure(before.mean(), now.mean(), falling=True),
        abstained=_figure(
            _share(before.abstained, before.rows), _share(now.abstained, now.rows), falling=False
        ),
        right=_figure(
            _share(before.right, before.answered), _share(now.right, now.answered), falling=True
        ),
        labels=labels,
        moved=moved,
    )


def _mix(before: Counter[str], now: Counter[str]) -> Iterator[tuple[str, tuple[float, float]]]:
    if not before or not now:
        return
    shares = {
        label: (before[label] / before.total(), now[label] / now.total())
        for label in before.keys() | now.keys()
    }
    yield from sorted(shares.items(), key=lambda e: (-abs(e[1][1] - e[1][0]), e[0]))


def _share(part: int, rows: int) -> tuple[int, float, float]:
    share = part / max(rows, 1)
    # With a row of each kind added: where nobody was wrong, chance is still not nought.
    smooth = (part + 1) / (rows + 2)
    return rows, share, smooth * (1.0 - smooth)


def _figure(
    before: tuple[int, float, float], now: tuple[int, float, float], *, falling: bool
) -> Figure:
    """Two means by their rows, values and variances; `falling` is what would be worse."""
    (rows_before, was, spread_before), (rows, value, spread) = before, now
    worse = False
    if min(rows_before, rows) >= _LEAST_ROWS:
        change = (was - value) if falling else (value - was)
        error = math.sqrt(spread_before / rows_before + spread / rows)
        worse = change >= _LEAST_CHANGE and change > _SURE * error
    return Figure(rows_before, rows, was if rows_before else None, value if rows else None, worse)


def _quoted(said: str) -> str:
    """For a shell; what is said here holds no quotes but what a label could bring."""
    return "'" + said.replace("'", "") + "'"
