"""What a rollout must show and how it proceeds, as a file; what is not said stays as it is. Pure.

`DEFAULT_PLAN` is such a file, with every key, what it is unless it is given, and what it means.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta, Struct

from xlmr.errors import SettingsError
from xlmr.registry.rollout.evidence import HARMS, Harm

Signal = Literal[
    "disagreement", "label_mix", "abstention", "confidence", "negative_feedback", "label_errors"
]
# Of the other signals nothing counted may as well mean that nothing happened.
Required = Literal["disagreement", "label_mix", "label_errors"]
Unit = Literal["request", "caller"]
SIGNALS: tuple[Signal, ...] = get_args(Signal)

DEFAULT_PLAN = """\
unit = "request"             # what is assigned and counted; or "caller"
abort_budget = 0.01          # chance that a candidate as good as the live version goes back
advance_budget = 0.05        # chance that a step is taken although it may harm more than margin
margin = 0.01                # of all requests: what the next step may harm in addition
harm_ratio = 1.0             # times the live version's harm that is no reason to go back
languages = []               # as ["de", "sw"]: must have been seen, and are tested by themselves
units_per_language = 30      # of the candidate, in each of these languages, at every step
# objective_ms = 250.0       # what counts as over_objective; `--objective-ms` if it is not here
required = ["disagreement"]  # signals without which no step is taken
ignore = []                  # harms and signals that are not looked at, as ["timeout"]

[shadow]                     # both versions answer, callers see the live one; share = 0: none
share = 0.1                  # of requests
capacity = 0.2               # of the server, at most
units = 500                  # of the candidate, at least; so in the steps
minutes = 10                 # at least
patience_minutes = 1440      # then it is undecided, and a person is asked

[[steps]]                    # the candidate answers; 100 % comes after the last one
share = 0.01
units = 200
minutes = 10
patience_minutes = 1440

[[steps]]
share = 0.05
units = 500
minutes = 15

[[steps]]
share = 0.25
units = 1000
minutes = 30

[[steps]]
share = 0.5
units = 2000
minutes = 60

[harms.non_finite]           # also 5xx, timeout, over_objective and golden_mismatch
most = 0                     # one more and it is over, whatever the live version does

[harms.golden_mismatch]
most = 0

[disagreement]
most = 0.2                   # of texts both versions answered, in any language

[label_mix]
margin = 0.1                 # of answers that have another label, as a net sum

[abstention]
margin = 0.05                # more of them than the live version has; so the next two

[confidence]
margin = 0.05
below = 0.5                  # what counts as low

[negative_feedback]
margin = 0.02

[label_errors]
margin = 0.01                # more of the texts whose right answer is known, once it is

[watch]                      # after promotion; the live version of before stays warm
minutes = 1440
allowed = 0.01               # of requests may be harmed: burn rates are multiples of it
units = 100                  # at least, before the old version is let go
least_events = 10            # harms in both windows of a burn rate, before it counts

# Shares and margins are 0 to 1: a point is 0.01.
"""

# Shares are assigned in hundredths of a percent.
BASIS_POINTS = 10_000

Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Budget = Annotated[float, Meta(gt=0.0, le=0.5)]
Minutes = Annotated[float, Meta(ge=0.0, le=1e6)]
Some = Annotated[int, Meta(ge=1, le=10**12)]
Count = Annotated[int, Meta(ge=0, le=10**12)]

_KEY = re.compile(r"`\$\.?([^`]*)`")


class Shadow(Struct, frozen=True, forbid_unknown_fields=True):
    """Both versions answer the same requests; callers only see the live version's answer."""

    share: Share = 0.1
    capacity: Share = 0.2
    units: Some = 500
    minutes: Minutes = 10.0
    patience_minutes: Minutes = 1440.0


class Step(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The candidate answers a share of the requests, for so long and so many of them at least."""

    share: Share
    units: Some = 200
    minutes: Minutes = 10.0
    patience_minutes: Minutes = 1440.0


class Limit(Struct, frozen=True, forbid_unknown_fields=True):
    """How many units of the candidate may suffer a harm; None leaves it to the comparison."""

    most: Count | None = None


class Disagreement(Struct, frozen=True, forbid_unknown_fields=True):
    """Of texts both versions answered, the share that may be answered differently."""

    most: Share = 0.2


class Margin(Struct, frozen=True, forbid_unknown_fields=True):
    """A proven difference from the live version is let pass up to here."""

    margin: Share


class Confidence(Struct, frozen=True, forbid_unknown_fields=True):
    """Answers less sure than `below` are counted, and compared like any other event."""

    margin: Share = 0.05
    below: Share = 0.5


class Watch(Struct, frozen=True, forbid_unknown_fields=True):
    """The window after promotion."""

    minutes: Minutes = 1440.0
    allowed: Annotated[float, Meta(gt=0.0, lt=1.0)] = 0.01
    units: Count = 100
    least_events: Some = 10


_STEPS = (
    Step(share=0.01, units=200, minutes=10.0),
    Step(share=0.05, units=500, minutes=15.0),
    Step(share=0.25, units=1000, minutes=30.0),
    Step(share=0.50, units=2000, minutes=60.0),
)
# A number that is none, or another answer to a golden input, is the version's own doing.
_LIMITS: dict[Harm, Limit] = {"non_finite": Limit(0), "golden_mismatch": Limit(0)}


class Stage(Struct, frozen=True, kw_only=True):
    """A part of the way that ends with a verdict.

    Attributes:
        name: `shadow`, or the share in percent.
        shadow: both versions answer the same texts.
        share: of the requests, to the candidate: as an answer, or as a copy in the shadow.
        units: of the candidate, at least.
        minutes: at least.
        patience_minutes: until it counts as undecided.
        next_share: of the requests that the candidate answers in the stage after this.
    """

    name: str
    shadow: bool
    share: float
    units: int
    minutes: float
    patience_minutes: float
    next_share: float

    @property
    def null_share(self) -> float:
        """With what probability an event falls on the candidate if nothing differs."""
        return 0.5 if self.shadow else self.share


class Plan(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A complete plan; see `DEFAULT_PLAN`. Made by `make_plan`, which checks it."""

    unit: Unit = "request"
    abort_budget: Budget = 0.01
    advance_budget: Budget = 0.05
    margin: Annotated[float, Meta(gt=0.0, le=1.0)] = 0.01
    harm_ratio: Annotated[float, Meta(ge=1.0, le=100.0)] = 1.0
    languages: tuple[str, ...] = ()
    units_per_language: Some = 30
    objective_ms: Annotated[float, Meta(gt=0.0, le=1e9)] | None = None
    required: tuple[Required, ...] = ("disagreement",)
    ignore: tuple[Harm | Signal, ...] = ()
    shadow: Shadow = Shadow()
    steps: tuple[Step, ...] = _STEPS
    harms: dict[Harm, Limit] = msgspec.field(default_factory=dict)
    disagreement: Disagreement = Disagreement()
    label_mix: Margin = Margin(0.1)
    abstention: Margin = Margin(0.05)
    confidence: Confidence = Confidence()
    negative_feedback: Margin = Margin(0.02)
    label_errors: Margin = Margin(0.01)
    watch: Watch = Watch()

    @property
    def watched_harms(self) -> tuple[Harm, ...]:
        """Harms that are looked at."""
        return tuple(harm for harm in HARMS if harm not in self.ignore)

    @property
    def watched_signals(self) -> tuple[Signal, ...]:
        """Signals that are looked at where there is something to see."""
        return tuple(signal for signal in SIGNALS if signal not in self.ignore)

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The way to 100 %, the shadow first."""
        shares = [step.share for step in self.steps] + [1.0]
        shadow = self.shadow
        stages = [
            Stage(
                name=f"{step.share * 100.0:g} %",
                shadow=False,
                share=step.share,
                units=step.units,
                minutes=step.minutes,
                patience_minutes=step.patience_minutes,
                next_share=shares[number + 1],
            )
            for number, step in enumerate(self.steps)
        ]
        if shadow.share > 0.0:
            first = Stage(
                name="shadow",
                shadow=True,
                share=shadow.share,
                units=shadow.units,
                minutes=shadow.minutes,
                patience_minutes=shadow.patience_minutes,
                next_share=shares[0],
            )
            stages.insert(0, first)
        return tuple(stages)

    def most(self, harm: Harm) -> int | None:
        """How many units of the candidate may suffer a harm; None: as the comparison says."""
        return self.harms.get(harm, _LIMITS.get(harm, Limit())).most

    def completed(
        self, *, languages: Iterable[str] = (), objective_ms: float | None = None
    ) -> Plan:
        """The plan with what its file left open: languages to be seen, and the objective."""
        named = self.languages or tuple(dict.fromkeys(languages))
        chosen = self.objective_ms if self.objective_ms is not None else objective_ms
        return make_plan(
            self.to_json() | {"languages": list(named), "objective_ms": chosen},
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values with every default, ready for `json.dumps`; `make_plan` reads them."""
        values: dict[str, Any] = msgspec.to_builtins(self)
        limits = {harm: {"most": self.most(harm)} for harm in HARMS}
        return values | {"harms": limits}


def make_plan(values: Mapping[str, Any], *, origin: str = "plan") -> Plan:
    """Checks the values of a plan.

    Args:
        values: of the file, or of `Plan.to_json`; empty for the default plan.
        origin: where they are from, for errors.

    Raises:
        SettingsError: an unknown key, or a value that cannot be; names the key.
    """
    try:
        plan = msgspec.convert(values, Plan)
    except msgspec.ValidationError as fault:
        said = _KEY.sub(lambda found: f"`{found[1] or 'plan'}`", str(fault))
        raise SettingsError(
            f"{origin}: {said}", hint=f"keys are {', '.join(Plan.__struct_fields__)}"
        ) from None
    for key, fault_found, hint in _faults(plan):
        raise SettingsError(f"{origin}: {fault_found} - at `{key}`", hint=hint)
    return msgspec.structs.replace(plan, harms={h: Limit(plan.most(h)) for h in HARMS})


def parse_plan(text: str, *, origin: str = "plan") -> Plan:
    """Reads a plan from the text of a TOML file.

    Raises:
        SettingsError: it is no TOML, names a key that is not there, or a value that cannot be.
    """
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as fault:
        raise SettingsError(f"{origin}: {fault}", hint="the file must be TOML") from None
    return make_plan(values, origin=origin)


def _faults(plan: Plan) -> Iterator[tuple[str, str, str]]:
    """Key, fault and hint of whatever the types alone cannot say."""
    yield from _share_faults(plan)
    stages: dict[str, Shadow | Step] = {"shadow": plan.shadow}
    stages |= {f"steps[{number}]": step for number, step in enumerate(plan.steps)}
    for name, stage in stages.items():
        if stage.patience_minutes < stage.minutes:
            key = f"{name}.patience_minutes"
            yield key, "patience ends before the least time", f"at least {stage.minutes:g}"
    if len(set(plan.languages)) < len(plan.languages) or not all(plan.languages):
        yield "languages", "a language is empty or named twice", "name each once"
    if not plan.watched_harms:
        yield "ignore", "no harm is left to look at", f"there are {', '.join(HARMS)}"
    pairs = sorted({"disagreement", "label_errors"} & set(plan.required))
    if pairs and not plan.shadow.share:
        hint = "give the shadow a share, or say required = []"
        yield "required", f"{pairs[0]} is seen in the shadow only, and there is none", hint
    both = sorted(set(plan.required) & set(plan.ignore))
    if both:
        yield "required", f"{both[0]} is both required and ignored", "take it out of one"


def _share_faults(plan: Plan) -> Iterator[tuple[str, str, str]]:
    if not plan.steps:
        yield "steps", "there are no steps", "name at least one share below 1"
    before = 0.0
    for number, step in enumerate(plan.steps):
        points = step.share * BASIS_POINTS
        key = f"steps[{number}].share"
        if not 0.0 < step.share < 1.0:
            hint = "100 % comes by itself after the last step, the shadow before the first"
            yield key, f"a share must lie between 0 and 1, got {step.share:g}", hint
        elif abs(points - round(points)) > 1e-6:
            yield key, f"{step.share:g} is finer than 0.0001", "shares are hundredths of a percent"
        elif step.share <= before:
            yield key, f"shares must rise, got {step.share:g} after {before:g}", "sort the steps"
        before = step.share
