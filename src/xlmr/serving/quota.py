"""How much a caller may use: a bucket of requests and one of tokens, both refilled steadily.

A request is charged as one, with all its tokens, before anything is computed; what is refused later
for another reason is given back. Tokens are those to be computed: an answer that is known already
costs its request alone. The buckets are pure: they are told what time it is.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from xlmr.errors import InputError, QuotaError
from xlmr.types import Quota

if TYPE_CHECKING:
    from xlmr.telemetry.metrics import Metrics
    from xlmr.types import Caller

# A burst that is not given is what ten seconds bring, and never less than one request.
_BURST_S = 10.0
# Callers remembered at once; of more, those not seen for longest start with full buckets again.
_MOST_CALLERS = 10_000
# Every text has `<s>` and `</s>`.
_LEAST_TOKENS = 2


@dataclass(frozen=True, slots=True)
class Refusal:
    """What ran out, `requests` or `tokens`, and in how many seconds there is enough again."""

    quota: str
    wait_s: float


@dataclass(frozen=True, slots=True)
class Refill:
    """How a bucket fills: `rate` a second, up to `burst`."""

    rate: float
    burst: float


def refills(quota: Quota) -> dict[str, Refill]:
    """The buckets a quota sets up; none for what it does not limit."""
    found = {}
    if quota.requests_per_s > 0:
        burst = quota.request_burst or max(1.0, quota.requests_per_s * _BURST_S)
        found["requests"] = Refill(quota.requests_per_s, burst)
    if quota.tokens_per_s > 0:
        burst = quota.token_burst or quota.tokens_per_s * _BURST_S
        found["tokens"] = Refill(quota.tokens_per_s, burst)
    return found


class Buckets:
    """One caller's buckets, by what they hold. Full at first.

    In any stretch of time no more is taken from a bucket, what is given back not counted, than its
    burst and what flows in meanwhile. A clock that jumps back costs the caller nothing.
    """

    __slots__ = ("_at", "levels", "refills")

    def __init__(self, refills: dict[str, Refill], now: float) -> None:
        self.refills = refills
        self.levels = {name: refill.burst for name, refill in refills.items()}
        self._at = now

    def take(self, now: float, **wanted: float) -> Refusal | None:
        """Takes all that is wanted, or nothing and says why; negative amounts are given back."""
        self._fill(now)
        refusal = self._short(wanted)
        if refusal is None:
            for name, refill in self.refills.items():
                level = self.levels[name] - wanted.get(name, 0.0)
                self.levels[name] = min(level, refill.burst)
        return refusal

    def would_refuse(self, now: float, **wanted: float) -> Refusal | None:
        """What `take` would say; takes nothing."""
        self._fill(now)
        return self._short(wanted)

    def learn(self, now: float, levels: dict[str, float]) -> None:
        """Takes over levels that were kept elsewhere."""
        self._at = now
        for name in self.levels:
            self.levels[name] = levels.get(name, self.levels[name])

    def _fill(self, now: float) -> None:
        passed = max(0.0, now - self._at)
        self._at = now
        for name, refill in self.refills.items():
            self.levels[name] = min(refill.burst, self.levels[name] + passed * refill.rate)

    def _short(self, wanted: dict[str, float]) -> Refusal | None:
        """The bucket that takes longest to hold what is wanted."""
        worst = None
        for name, refill in self.refills.items():
            missing = wanted.get(name, 0.0) - self.levels[name]
            if missing > 0 and (worst is None or missing / refill.rate > worst.wait_s):
                worst = Refusal(name, missing / refill.rate)
        return worst


class SharedBuckets(Protocol):
    """Where several servers keep callers' buckets together."""

    async def take(
        self, name: str, refills: dict[str, Refill], wanted: dict[str, float]
    ) -> tuple[Refusal | None, dict[str, float]] | None:
        """As `Buckets.take`, with the levels there are then; None where nobody knows just now."""

    def give_back(self, name: str, refills: dict[str, Refill], amounts: dict[str, float]) -> None:
        """Gives back, some time soon."""


class Quotas:
    """Charges callers. Where buckets are shared and cannot be reached, this process's own decide.

    Args:
        default: for callers who have no quota of their own; None limits nobody.
        shared: buckets kept together with other servers.
        clock: seconds, steadily rising.
    """

    def __init__(
        self,
        *,
        metrics: Metrics,
        default: Quota | None = None,
        shared: SharedBuckets | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._default = refills(default) if default is not None else {}
        self._shared = shared
        self._metrics = metrics
        self._clock = clock
        self._buckets: OrderedDict[tuple[str, Quota | None], Buckets] = OrderedDict()

    def open(self, caller: Caller, *, items: int) -> Charge | None:
        """The account of a request of so many texts; None for a caller without limits.

        Raises:
            QuotaError: so little is left that it would be refused whatever the texts.
        """
        if caller.quota is None and not self._default:
            return None
        buckets = self._of(caller)
        if not buckets.refills:
            return None
        least = min(float(items * _LEAST_TOKENS), _whole(buckets))
        refusal = buckets.would_refuse(self._clock(), requests=1.0, tokens=least)
        if refusal is not None:
            raise self._refused(refusal)
        return Charge(self, caller.name, buckets)

    async def take(self, name: str, buckets: Buckets, wanted: dict[str, float]) -> None:
        """Charges a caller.

        Raises:
            QuotaError: there is too little left; says when there will be enough.
            InputError: there never will be.
        """
        for quota, refill in buckets.refills.items():
            if wanted.get(quota, 0.0) > refill.burst:
                raise InputError(
                    f"{wanted[quota]:.0f} {quota} in one request; "
                    f"the quota of this caller allows {refill.burst:.0f} at once",
                    hint="send fewer texts at once",
                )
        refusal = await self._take(name, buckets, wanted)
        if refusal is not None:
            raise self._refused(refusal)

    def give_back(self, name: str, buckets: Buckets, amounts: dict[str, float]) -> None:
        """Takes a charge back."""
        buckets.take(self._clock(), **{quota: -amount for quota, amount in amounts.items()})
        if self._shared is not None:
            self._shared.give_back(name, buckets.refills, amounts)

    async def _take(self, name: str, buckets: Buckets, wanted: dict[str, float]) -> Refusal | None:
        if self._shared is not None:
            said = await self._shared.take(name, buckets.refills, wanted)
            if said is not None:
                refusal, levels = said
                buckets.learn(self._clock(), levels)
                return refusal
        return buckets.take(self._clock(), **wanted)

    def _of(self, caller: Caller) -> Buckets:
        # By quota as well: one who has two keys with different quotas has what both give, not what
        # going to and fro between them would.
        key = caller.name, caller.quota
        buckets = self._buckets.get(key)
        if buckets is not None:
            self._buckets.move_to_end(key)
            return buckets
        own = self._default if caller.quota is None else refills(caller.quota)
        buckets = self._buckets[key] = Buckets(own, self._clock())
        if len(self._buckets) > _MOST_CALLERS:
            self._buckets.popitem(last=False)
        return buckets

    def _refused(self, refusal: Refusal) -> QuotaError:
        self._metrics.quota_refusal(refusal.quota)
        return QuotaError(
            f"the quota of this caller has too few {refusal.quota} left",
            retry_after_s=refusal.wait_s,
            hint="come back later or ask for a larger quota",
        )


class Charge:
    """What one request is charged: once for being one, and for the tokens it has computed."""

    __slots__ = ("_buckets", "_name", "_quotas", "_taken")

    def __init__(self, quotas: Quotas, name: str, buckets: Buckets) -> None:
        self._quotas = quotas
        self._name = name
        self._buckets = buckets
        self._taken: dict[str, float] = {}

    async def take(self, tokens: int) -> None:
        """Charges tokens about to be computed, and the first time the request.

        Raises:
            QuotaError: nothing was charged; come back later.
            InputError: more than is ever allowed at once.
        """
        wanted = {"tokens": float(tokens), "requests": 0.0 if self._taken else 1.0}
        if not tokens and self._taken:
            return
        await self._quotas.take(self._name, self._buckets, wanted)
        for quota, amount in wanted.items():
            self._taken[quota] = self._taken.get(quota, 0.0) + amount

    def give_back(self) -> None:
        """Takes everything back: the request was refused after all."""
        if self._taken:
            self._quotas.give_back(self._name, self._buckets, self._taken)
            self._taken = {}


def _whole(buckets: Buckets) -> float:
    """A full bucket of tokens: a request that is larger is refused in other words."""
    refill = buckets.refills.get("tokens")
    return refill.burst if refill is not None else 0.0
