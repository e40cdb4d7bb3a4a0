"""Promises as burn rates: how many times faster than allowed requests are harmed. Pure.

At a burn rate of 1 exactly what 30 days allow is used up in 30 days; at 14.4 a fiftieth in an hour.
Both windows of a pair must burn: the long one, so that a blip tells nobody; the short one, so that
what is over stops being told. And so many requests must have been harmed that it is no accident.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from xlmr.levels.objectives import Objectives, bound_of
from xlmr.levels.rule import Alert, Group, Record, Severity
from xlmr.levels.series import HARMED, OURS, Fleet


@dataclass(frozen=True, slots=True)
class Pair:
    """Windows as Prometheus writes them, and the burn rate that both must reach."""

    severity: Severity
    long: str
    short: str
    rate: float


PAIRS = (
    Pair("page", "1h", "5m", 14.4),
    Pair("page", "6h", "30m", 6.0),
    Pair("ticket", "1d", "2h", 3.0),
    Pair("ticket", "3d", "6h", 1.0),
)
# What a promise is held for: each version by itself, in each region.
BY = "job, region, model, version"


@dataclass(frozen=True, slots=True)
class Promise:
    """A share of requests that may be harmed.

    Attributes:
        name: in the label `objective`.
        alert: the alert's name.
        allowed: the share, above 0 and below 1.
        said: the promise, for people.
        action: what to do first when it is not kept.
    """

    name: str
    alert: str
    allowed: float
    said: str
    action: str


def promises(objectives: Objectives) -> tuple[Promise, ...]:
    """All that a file promises of requests."""
    target, latency = objectives.availability.target, objectives.latency
    slow = "The debug dashboard shows which stage takes the time; go back if a version began it."
    return (
        Promise(
            "availability",
            "XlmrAvailability",
            1 - target,
            f"{target * 100:g} % of requests succeed",
            "The on-call dashboard shows what fails; go back if a version began it.",
        ),
        Promise("p95", "XlmrLatencyP95", 0.05, f"95 % within {latency.p95_ms:g} ms", slow),
        Promise("p99", "XlmrLatencyP99", 0.01, f"99 % within {latency.p99_ms:g} ms", slow),
    )


def burn_groups(
    objectives: Objectives, *, pairs: Sequence[Pair] = PAIRS, interval: str = "30s"
) -> Iterator[Group]:
    """Rules for every promise.

    Args:
        objectives: the file.
        pairs: windows; others than `PAIRS` are for trying it out.
        interval: how often they are worked out.
    """
    windows = list(dict.fromkeys(window for pair in pairs for window in (pair.long, pair.short)))
    yield Group(
        "xlmr-burn-rates",
        interval,
        [rule for window in windows for rule in _records(objectives, window)],
    )
    yield Group(
        "xlmr-levels",
        interval,
        [
            _alert(promise, pair, getattr(objectives.events, pair.severity))
            for promise in promises(objectives)
            for pair in pairs
        ],
    )


def _records(objectives: Objectives, window: str) -> Iterator[Record]:
    """What was asked, what was harmed, and how fast that burns, within one window."""
    of = Fleet(objectives.job)

    def grown(name: str, *matchers: str, **values: str) -> str:
        return f"sum by ({BY}) (increase({of(name, *matchers, **values)}[{window}]))"

    asked = grown("xlmr_requests_total", OURS)
    timed = grown("xlmr_request_seconds_count")
    # Where nothing has failed yet there is no series of it.
    harmed = {"availability": f"{grown('xlmr_requests_total', HARMED)} or {asked} * 0"}
    for name, limit in (("p95", objectives.latency.p95_ms), ("p99", objectives.latency.p99_ms)):
        within = grown("xlmr_request_seconds_bucket", le=bound_of(limit))
        harmed[name] = f"{timed} - {within}"
    for promise in promises(objectives):
        labels = {"objective": promise.name}
        matched = f'{{job="{objectives.job}", objective="{promise.name}"}}'
        yield Record(
            name=f"xlmr:asked:{window}",
            expression=asked if promise.name == "availability" else timed,
            labels=labels,
        )
        yield Record(name=f"xlmr:harmed:{window}", expression=harmed[promise.name], labels=labels)
        yield Record(
            name=f"xlmr:burn_rate:{window}",
            expression=f"xlmr:harmed:{window}{matched} / (xlmr:asked:{window}{matched} > 0)"
            f" / {promise.allowed:.6g}",
            labels=labels,
        )


def _alert(promise: Promise, pair: Pair, least: int) -> Alert:
    matched = f'{{objective="{promise.name}"}}'
    return Alert(
        name=promise.alert,
        severity=pair.severity,
        category="levels",
        expression=f"xlmr:burn_rate:{pair.long}{matched} >= {pair.rate:g}\n"
        f"  and xlmr:burn_rate:{pair.short}{matched} >= {pair.rate:g}\n"
        f"  and xlmr:harmed:{pair.long}{matched} >= {least}",
        summary=f"{{{{ $labels.model }}}}@{{{{ $labels.version }}}} breaks {promise.said!r}: over"
        f" {pair.long} {{{{ $value | humanize }}}} times faster than 30 days allow.",
        action=promise.action,
        labels={"objective": promise.name, "window": pair.long},
    )
