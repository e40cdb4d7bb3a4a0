"""The verdict: counts × plan × stage × time → on, wait, back, or undecided, with reasons. Pure.

Looked at in this order: does the router do what it should (or nothing else can be believed); did
the candidate do what no version may; does it harm more often than the live version; does it answer
differently; is it proven that the next step harms no more than the margin. No data never passes.

The plan's abort budget is shared by all stages and tests, by weights fixed before the first count:
all looks together send back a candidate as good as the live version with that chance at most.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from xlmr.registry.rollout import eprocess
from xlmr.registry.rollout.comparisons import ROUTER, Finding, compare, counted, odds, sample_ratio
from xlmr.registry.rollout.evidence import CANDIDATE, HARMS, LIVE, Evidence, Harm
from xlmr.registry.rollout.plan import Plan, Stage

Outcome = Literal["advance", "hold", "abort", "inconclusive"]


@dataclass(frozen=True, slots=True)
class Reason:
    """Why not further.

    Attributes:
        test: a harm, a signal, `sample_ratio`, `units`, `minutes`, `languages` or `objective_ms`.
        language: where; None where it is about all of them.
        message: a clause that a person understands.
    """

    test: str
    language: str | None
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is to be done, and why.

    Attributes:
        outcome: `advance` to the next stage, `hold` for more, `abort`, or `inconclusive`: patience
            has run out, and a person is asked.
        step: index of the stage it is about; it says nothing about any other.
        sentence: the verdict for people.
        reasons: why not further; empty where the outcome is `advance`.
        findings: every comparison, with its e-value.
        elapsed_s: of the stage.
        units: of the candidate.
    """

    outcome: Outcome
    step: int
    sentence: str
    reasons: tuple[Reason, ...]
    findings: tuple[Finding, ...]
    elapsed_s: float
    units: int

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for `json.dumps`."""
        return {
            "outcome": self.outcome,
            "step": self.step,
            "sentence": self.sentence,
            "reasons": [
                {"test": reason.test, "language": reason.language, "message": reason.message}
                for reason in self.reasons
            ],
            "findings": [finding.to_json() for finding in self.findings],
            "elapsed_s": self.elapsed_s,
            "units": self.units,
        }


def judge(evidence: Evidence, plan: Plan, step: int, elapsed_s: float) -> Verdict:
    """Judges a stage of a rollout.

    Args:
        evidence: counted since the stage began.
        plan: of the rollout.
        step: index into `plan.stages`.
        elapsed_s: since the stage began; a clock that went back counts as 0.

    Raises:
        IndexError: the plan has no such stage.
        ValueError: the time is no number.
    """
    if math.isnan(elapsed_s):
        raise ValueError("elapsed_s is not a number")
    if step < 0:
        raise IndexError(f"a plan has no stage {step}")
    look = _Look(evidence, plan, step, max(0.0, elapsed_s))
    router = sample_ratio(evidence, plan, look.stage)
    if router.proven:
        said = f"{router.message}; the router cannot be trusted, so nothing is known of the version"
        return look.verdict("abort", f"Back: {said}.", [Reason(ROUTER, None, said)], [router])
    findings = [router, *compare(evidence, plan, look.stage)]
    fatal = [*_over_limits(evidence, plan), *_proven(findings)]
    if fatal:
        more = f" (and {len(fatal) - 1} more)" if len(fatal) > 1 else ""
        return look.verdict("abort", f"Back: {fatal[0].message}{more}.", fatal, findings)
    missing = [*_missing(look), *_unproven(look)]
    if not missing:
        following = f"{look.stage.next_share * 100.0:g} %"
        return look.verdict("advance", f"On to {following}: {_assurance(look)}.", [], findings)
    first = missing[0].message
    if look.elapsed_s < look.stage.patience_minutes * 60.0:
        return look.verdict("hold", f"Wait: {first}.", missing, findings)
    after = f"Undecided after {_minutes(look.elapsed_s)}"
    return look.verdict("inconclusive", f"{after}: {first}.", missing, findings)


class _Look:
    """One look at a stage."""

    def __init__(self, evidence: Evidence, plan: Plan, step: int, elapsed_s: float) -> None:
        self.evidence = evidence
        self.plan = plan
        self.step = step
        self.stage: Stage = plan.stages[step]
        self.elapsed_s = elapsed_s
        self.candidate = evidence.counts(CANDIDATE)
        self.live = evidence.counts(LIVE)

    def verdict(
        self, outcome: Outcome, sentence: str, reasons: list[Reason], findings: list[Finding]
    ) -> Verdict:
        return Verdict(
            outcome=outcome,
            step=self.step,
            sentence=sentence,
            reasons=tuple(reasons),
            findings=tuple(findings),
            elapsed_s=self.elapsed_s,
            units=self.candidate.units,
        )

    def most_added(self, harm: Harm) -> float:
        """Of all units, the share that the next stage may harm in addition, with confidence.

        The advance budget is shared by stages and harms.
        """
        alpha = self.plan.advance_budget / len(self.plan.stages) / len(self.plan.watched_harms)
        mine, theirs = self.candidate.events.get(harm, 0), self.live.events.get(harm, 0)
        if self.stage.shadow:
            added = eprocess.separate_difference_interval(
                mine, self.candidate.units, theirs, self.live.units, alpha=alpha
            )
        else:
            units = self.candidate.units + self.live.units
            added = eprocess.difference_interval(
                mine, mine + theirs, units, self.stage.share, alpha=alpha
            )
        return max(0.0, added.high) * self.stage.next_share


def _over_limits(evidence: Evidence, plan: Plan) -> Iterator[Reason]:
    """Harms of which the candidate alone has too many, whatever the live version does."""
    events = evidence.counts(CANDIDATE).events
    for harm in plan.watched_harms:
        most, found = plan.most(harm), events.get(harm, 0)
        if most is not None and found > most:
            said = f"{harm} on {counted(found, plan)} of the candidate, at most {most} may be"
            yield Reason(harm, None, said)


def _proven(findings: list[Finding]) -> Iterator[Reason]:
    """Harms first, each by its strongest evidence first."""
    proven = [finding for finding in findings if finding.proven]
    for found in sorted(proven, key=lambda f: (f.test not in HARMS, f.threshold - f.log_e)):
        if found.test == "disagreement":
            rare = f"were it allowed, this would be seen {odds(found.log_e)}"
        else:
            rare = f"equals would show this {odds(found.log_e)}"
        yield Reason(found.test, found.language, f"{found.message}; {rare}")


def _missing(look: _Look) -> Iterator[Reason]:
    """What was not seen yet."""
    plan, stage, units = look.plan, look.stage, look.candidate.units
    if not look.live.units:
        yield Reason("units", None, f"the live version has no {plan.unit}s to compare with")
    if units < stage.units:
        said = f"{units:,} of {counted(stage.units, plan)} of the candidate seen"
        yield Reason("units", None, said)
    if look.elapsed_s < stage.minutes * 60.0:
        said = f"{_minutes(look.elapsed_s)} of {_minutes(stage.minutes * 60.0)} have passed"
        yield Reason("minutes", None, said)
    for language in plan.languages:
        seen = look.evidence.counts(CANDIDATE, (language,)).units
        if seen < plan.units_per_language:
            least = counted(plan.units_per_language, plan)
            said = f"{language}: {seen} of {least} of the candidate seen"
            yield Reason("languages", language, said)
    if "over_objective" in plan.watched_harms and plan.objective_ms is None:
        yield Reason("objective_ms", None, "the plan states no latency objective")
    yield from _missing_signals(look)


def _missing_signals(look: _Look) -> Iterator[Reason]:
    pairs, required = look.evidence.paired(), look.plan.required
    if "label_mix" in required and not (look.candidate.labels and look.live.labels):
        yield Reason("label_mix", None, "no labels were counted")
    if not look.stage.shadow:
        return
    if "disagreement" in required and not pairs.compared:
        yield Reason("disagreement", None, "no text was answered by both versions")
    if "label_errors" in required and not pairs.labelled:
        yield Reason("label_errors", None, "no right answer is known yet")


def _unproven(look: _Look) -> Iterator[Reason]:
    """What may still be worse than the plan lets pass."""
    plan = look.plan
    for harm in plan.watched_harms:
        added = look.most_added(harm)
        if added > plan.margin:
            said = f"{harm} may still add {_percent(added)} to all {plan.unit}s at the next step"
            yield Reason(harm, None, f"{said}, at most {_percent(plan.margin)} pass")
    pairs, most = look.evidence.paired(), plan.disagreement.most
    if look.stage.shadow and "disagreement" in plan.required and pairs.compared:
        alpha = plan.advance_budget / len(plan.stages)
        high = eprocess.rate_interval(pairs.disagreed, pairs.compared, alpha=alpha).high
        if high > most:
            said = f"up to {_percent(high)} of texts may be answered otherwise"
            yield Reason("disagreement", None, f"{said}, at most {_percent(most)} pass")


def _assurance(look: _Look) -> str:
    plan = look.plan
    worst = max(plan.watched_harms, key=look.most_added)
    return (
        f"{counted(look.candidate.units, plan)} of the candidate show that {worst} then adds at "
        f"most {_percent(look.most_added(worst))} to all {plan.unit}s, {_percent(plan.margin)} pass"
    )


def _minutes(seconds: float) -> str:
    minutes = seconds / 60.0
    return f"{minutes:.0f} min" if minutes < 180.0 else f"{minutes / 60.0:.0f} h"


def _percent(share: float) -> str:
    return f"{share * 100.0:.3g} %"
