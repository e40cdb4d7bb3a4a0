"""Each thing that is compared between the two versions, as a finding with its evidence. Pure.

Every test looks at all languages together and, where the plan names languages, at each of them;
one half of its budget goes to the former, the other half is shared by the latter. Weights are fixed
by the plan alone, so that what was seen cannot choose them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from xlmr.registry.rollout import eprocess
from xlmr.registry.rollout.evidence import CANDIDATE, LIVE, Counts, Evidence, Pairs
from xlmr.registry.rollout.plan import Plan, Signal, Stage

ROUTER = "sample_ratio"
# Shares of a stage's budget. Harms are what a rollout is for.
_GROUPS = {ROUTER: 0.1, "harms": 0.7, "signals": 0.2}
# What is counted unit by unit for a signal.
_SIGNS: Mapping[Signal, str] = {
    "abstention": "abstention",
    "confidence": "low_confidence",
    "negative_feedback": "negative_feedback",
}
_BILLION = math.log(1e9)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One comparison.

    Attributes:
        test: `sample_ratio`, a harm or a signal.
        language: None for all of them together.
        candidate: events of the candidate, of `candidate_units`.
        live: events of the live version, of `live_units`.
        log_e: the evidence against "no difference", a natural logarithm.
        threshold: where it has used up its budget.
        matters: the difference is larger than the plan's margin for it.
        message: what was found, in words.
    """

    test: str
    language: str | None
    candidate: int
    candidate_units: int
    live: int
    live_units: int
    log_e: float
    threshold: float
    matters: bool = True
    message: str

    @property
    def proven(self) -> bool:
        """The candidate differs, by more than the margin, at the price of the budget."""
        return self.matters and self.log_e >= self.threshold

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for `json.dumps`."""
        return asdict(self) | {"proven": self.proven}


def budgets(plan: Plan) -> dict[tuple[str, str | None], float]:
    """α of each test and language in one stage; None stands for all languages together."""
    alpha = plan.abort_budget / len(plan.stages)
    members: dict[str, tuple[str, ...]] = {
        ROUTER: (ROUTER,),
        "harms": _compared_harms(plan),
        "signals": plan.watched_signals,
    }
    weights: dict[tuple[str, str | None], float] = {}
    for group, tests in members.items():
        for test in tests:
            weight = _GROUPS[group] / len(tests)
            named = () if test == ROUTER else plan.languages
            weights[test, None] = weight / 2.0 if named else weight
            weights |= {(test, name): weight / 2.0 / len(named) for name in named}
    return eprocess.split_alpha(alpha, weights)


def sample_ratio(evidence: Evidence, plan: Plan, stage: Stage) -> Finding:
    """Whether the router does what it should; nothing else can be believed if it does not."""
    mine, theirs = evidence.counts(CANDIDATE), evidence.counts(LIVE)
    units = mine.units + theirs.units
    found = eprocess.sample_ratio_log_e(mine.units, units, stage.null_share)
    due = f"{_percent(stage.null_share)} were due"
    said = f"{_percent(_rate(mine.units, units))} of {counted(units, plan)} fell on the"
    return Finding(
        test=ROUTER,
        language=None,
        candidate=mine.units,
        candidate_units=units,
        live=theirs.units,
        live_units=units,
        log_e=found,
        threshold=eprocess.log_threshold(budgets(plan)[ROUTER, None]),
        message=f"{said} candidate where {due}",
    )


def compare(evidence: Evidence, plan: Plan, stage: Stage) -> Iterator[Finding]:
    """Every harm and signal, in all languages and in each the plan names, where any was counted."""
    alphas = budgets(plan)
    scopes = (None, *plan.languages)
    for language in scopes:
        wanted = None if language is None else (language,)
        scope = _Scope(
            language=language,
            mine=evidence.counts(CANDIDATE, wanted),
            theirs=evidence.counts(LIVE, wanted),
            pairs=evidence.paired(wanted),
            stage=stage,
            plan=plan,
            alphas=alphas,
        )
        yield from _harms(scope)
        yield from _signals(scope)


def odds(log_e: float) -> str:
    """How rarely equals would look like this, in words: e-values are odds of a fair bet."""
    if log_e >= _BILLION:
        return "less than once in a billion times"
    times = math.exp(log_e)
    digits = max(0, math.floor(math.log10(times)) - 1)
    return f"at most once in {math.floor(times / 10**digits) * 10**digits:,} times"


def counted(number: int, plan: Plan) -> str:
    """A number of units, in words."""
    return f"{number:,} {plan.unit}{'' if number == 1 else 's'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scope:
    """What is compared: all languages, or one."""

    language: str | None
    mine: Counts
    theirs: Counts
    pairs: Pairs
    stage: Stage
    plan: Plan
    alphas: Mapping[tuple[str, str | None], float]

    @property
    def where(self) -> str:
        return "" if self.language is None else f" in {self.language}"

    def finding(
        self, test: str, *, log_e: float, matters: bool, message: str, **counts: int
    ) -> Finding:
        return Finding(
            test=test,
            language=self.language,
            candidate=counts["candidate"],
            candidate_units=counts.get("candidate_units", self.mine.units),
            live=counts["live"],
            live_units=counts.get("live_units", self.theirs.units),
            log_e=log_e,
            threshold=eprocess.log_threshold(self.alphas[test, self.language]),
            matters=matters,
            message=message + self.where,
        )

    def rates(self, event: str) -> str:
        mine, theirs = self.mine.events.get(event, 0), self.theirs.events.get(event, 0)
        return (
            f"{event} on {mine:,} of {counted(self.mine.units, self.plan)} of the candidate and "
            f"{theirs:,} of {self.theirs.units:,} of the live version"
        )


def _compared_harms(plan: Plan) -> tuple[str, ...]:
    """Harms of which one is already too many need no comparison."""
    return tuple(harm for harm in plan.watched_harms if plan.most(harm) != 0)


def _harms(scope: _Scope) -> Iterator[Finding]:
    share = eprocess.tolerant_share(scope.stage.null_share, scope.plan.harm_ratio)
    for harm in _compared_harms(scope.plan):
        mine, theirs = scope.mine.events.get(harm, 0), scope.theirs.events.get(harm, 0)
        if mine or theirs:
            yield scope.finding(
                harm,
                candidate=mine,
                live=theirs,
                log_e=eprocess.harm_log_e(mine, mine + theirs, share),
                matters=True,
                message=scope.rates(harm),
            )


def _signals(scope: _Scope) -> Iterator[Finding]:
    watched = scope.plan.watched_signals
    if "disagreement" in watched and scope.pairs.compared:
        yield _disagreement(scope)
    if "label_errors" in watched and scope.pairs.labelled:
        yield _label_errors(scope)
    if "label_mix" in watched and scope.mine.labels and scope.theirs.labels:
        yield _label_mix(scope)
    margins: Mapping[Signal, float] = {
        "abstention": scope.plan.abstention.margin,
        "confidence": scope.plan.confidence.margin,
        "negative_feedback": scope.plan.negative_feedback.margin,
    }
    for signal, event in _SIGNS.items():
        mine, theirs = scope.mine.events.get(event, 0), scope.theirs.events.get(event, 0)
        if signal in watched and (mine or theirs):
            more = _rate(mine, scope.mine.units) - _rate(theirs, scope.theirs.units)
            yield scope.finding(
                signal,
                candidate=mine,
                live=theirs,
                log_e=eprocess.harm_log_e(mine, mine + theirs, scope.stage.null_share),
                matters=more > margins[signal],
                message=scope.rates(event),
            )


def _disagreement(scope: _Scope) -> Finding:
    pairs, most = scope.pairs, scope.plan.disagreement.most
    return scope.finding(
        "disagreement",
        candidate=pairs.disagreed,
        candidate_units=pairs.compared,
        live=0,
        live_units=pairs.compared,
        log_e=eprocess.rate_log_e(pairs.disagreed, pairs.compared, most),
        matters=True,
        message=f"{pairs.disagreed} of {pairs.compared} texts answered otherwise than by the live "
        f"version, at most {_percent(most)} may be",
    )


def _label_errors(scope: _Scope) -> Finding:
    pairs = scope.pairs
    more = (pairs.live_only - pairs.candidate_only) / pairs.labelled
    return scope.finding(
        "label_errors",
        candidate=pairs.live_only,
        candidate_units=pairs.labelled,
        live=pairs.candidate_only,
        live_units=pairs.labelled,
        log_e=eprocess.paired_log_e(pairs.live_only, pairs.candidate_only),
        matters=more > scope.plan.label_errors.margin,
        message=f"of {pairs.labelled} texts with a known answer {pairs.live_only} were right only "
        f"by the live version, {pairs.candidate_only} only by the candidate",
    )


def _label_mix(scope: _Scope) -> Finding:
    mine, theirs = scope.mine.labels, scope.theirs.labels
    mine_all, theirs_all = sum(mine.values()), sum(theirs.values())
    moved = 0.5 * sum(
        abs(mine.get(label, 0) / mine_all - theirs.get(label, 0) / theirs_all)
        for label in {**mine, **theirs}
    )
    return scope.finding(
        "label_mix",
        candidate=mine_all,
        candidate_units=mine_all,
        live=theirs_all,
        live_units=theirs_all,
        log_e=eprocess.label_mix_log_e(
            mine, theirs, scope.stage.null_share, paired=scope.stage.shadow
        ),
        matters=moved > scope.plan.label_mix.margin,
        message=f"the mix of labels differs by {_percent(moved)} over {mine_all} answers of the "
        f"candidate and {theirs_all} of the live version",
    )


def _rate(events: int, units: int) -> float:
    return events / units if units else 0.0


def _percent(share: float) -> str:
    return f"{share * 100.0:.3g} %"
