"""What to label next: answers that are doubtful, most of all where something drifted, and chance.

Two kinds of rows. The random slice is drawn by chance alone, with the probability that stands
beside each of its rows: what is labelled of it says how right the model is. The others are picked
for being useful to learn from, so they say nothing of the rest.

Chance is a number that each prediction keeps for ever (a hash of the seed and its id). A prediction
is in a slice of share s if its number is below s; over several slices, if it is below the largest
share that it had. So slices drawn at any time add up, and the larger share is the probability.
"""

from __future__ import annotations

import hashlib
import heapq
import math
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from xlmr.loop.suspicion import Suspicion

Reason = Literal["random", "doubtful"]
# Pairs of texts, by their places, that say nearly the same.
Near = Callable[[Sequence[str]], Iterable[tuple[int, int]]]

# Of what is not left to chance, this much goes to the languages that drifted.
_TO_DRIFTED = 0.5
# A doubt counts so many times where its language has drifted, and where it is typical of that.
_SINCE, _TYPICAL = 2.0, 4.0
_SHORTLIST = 2
_REMEMBERED = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A prediction that may be labelled.

    Attributes:
        id: the prediction's.
        at: when, in seconds since 1970 UTC.
        language: of its text.
        label: what was predicted.
        version: of the model that said so.
        confidence: how sure it was, 0 to 1; None where it does not say.
        doubt: how unsure it was, 0 to 1.
        fingerprint: the same for the same text; empty where that is not known.
        text: empty where it was not kept.
        asked: whether it was selected before.
        labelled: whether anybody has said what is right; `annotated`: somebody who was asked to.
    """

    id: str
    at: float
    language: str
    label: str = ""
    version: str = ""
    confidence: float | None = None
    doubt: float = 0.5
    fingerprint: str = ""
    text: str = ""
    asked: bool = False
    labelled: bool = False
    annotated: bool = False


@dataclass(frozen=True, slots=True)
class Pick:
    """A selected prediction.

    Attributes:
        candidate: which.
        reason: why.
        inclusion: probability with which chance picked it; 0 for what chance did not pick.
    """

    candidate: Candidate
    reason: Reason
    inclusion: float


@dataclass(frozen=True, slots=True)
class Selection:
    """What was selected.

    Attributes:
        asked: to be labelled; in an order that tells nothing of the reasons.
        known: of the slice too, and asked for or annotated before: not asked again, but counted.
        repeated: candidates that were left out because they, or nearly they, are in it already.
    """

    asked: tuple[Pick, ...]
    known: tuple[Pick, ...]
    repeated: int


def doubt_of(probabilities: Mapping[str, float], confidence: float | None) -> float:
    """How unsure an answer was: 1 less what lies between the two likeliest labels, 0 to 1."""
    first, second = (*heapq.nlargest(2, probabilities.values()), 0.0, 0.0)[:2]
    if len(probabilities) > 1:
        return min(max(1.0 - (first - second), 0.0), 1.0)
    return 0.5 if confidence is None else min(max(1.0 - confidence, 0.0), 1.0)


def select(
    candidates: Iterable[Candidate],
    *,
    count: int,
    share: float,
    seed: int,
    suspicions: Iterable[Suspicion] = (),
    near: Near | None = None,
) -> Selection:
    """Selects what to label next; the same candidates and seed give the same.

    Candidates are read once and only some are held, however many there are. Equal and nearly equal
    texts are asked once, but for the slice, whose rows stand for all others like them.

    Args:
        candidates: each prediction once, in any order.
        count: how many are asked at most; a slice that is larger is asked all the same.
        share: of the slice, 0 to 1.
        seed: decides the slice, for ever.
        suspicions: at most one for a language.
        near: finds texts that say nearly the same; None compares fingerprints alone.
    """
    by_language = {suspicion.language: suspicion for suspicion in suspicions}
    pool = _Pool(by_language, seed=seed, most=_SHORTLIST * max(count, 1))
    drawn: list[Candidate] = []
    for candidate in candidates:
        in_slice = _draw(seed, candidate.id) < share
        pool.see(candidate, taken=in_slice)
        if in_slice:
            drawn.append(candidate)
    slice_ = [Pick(candidate, "random", share) for candidate in drawn]
    asked = [pick for pick in slice_ if not (pick.candidate.asked or pick.candidate.annotated)]
    known = [pick for pick in slice_ if pick.candidate.asked or pick.candidate.annotated]
    useful = pool.pick(max(count - len(asked), 0), near)
    asked += [Pick(candidate, "doubtful", 0.0) for candidate in useful]
    asked.sort(key=lambda pick: _hash(f"order {seed}", pick.candidate.id))
    return Selection(tuple(asked), tuple(known), pool.repeated)


def quotas(
    available: Mapping[str, int], weights: Mapping[str, float], count: int
) -> dict[str, int]:
    """How many of each: in proportion to the weights, no more than there are, `count` in all."""
    given = dict.fromkeys(available, 0)
    while (left := count - sum(given.values())) > 0:
        open_ = {key for key, most in available.items() if given[key] < most}
        total = sum(weights.get(key, 0.0) for key in open_)
        if not open_ or total <= 0.0:
            break
        exact = {key: left * weights.get(key, 0.0) / total for key in open_}
        grown = {key: min(int(exact[key]), available[key] - given[key]) for key in open_}
        if not any(grown.values()):
            # Less than one for each: the largest parts are rounded up.
            for key in sorted(open_, key=lambda key: (-exact[key], key))[:left]:
                grown[key] = 1
        for key, more in grown.items():
            given[key] += more
    return given


class _Pool:
    """Candidates that chance did not pick: the best of each language."""

    def __init__(self, suspicions: Mapping[str, Suspicion], *, seed: int, most: int) -> None:
        self.repeated = 0
        self._suspicions, self._seed, self._most = suspicions, seed, most
        self._best: dict[str, list[tuple[float, float, str, Candidate]]] = defaultdict(list)
        self._traffic: Counter[str] = Counter()
        self._seen: set[str] = set()
        self._taken: set[str] = set()
        self._texts: deque[str] = deque(maxlen=_REMEMBERED)

    def see(self, candidate: Candidate, *, taken: bool) -> None:
        """Takes a candidate in, or remembers that it is taken already."""
        self._traffic[candidate.language] += 1
        mark = candidate.fingerprint
        if taken or candidate.asked or candidate.labelled:
            if mark:
                self._taken.add(mark)
            if candidate.text:
                self._texts.append(candidate.text)
            return
        if mark and mark in self._seen:
            self.repeated += 1
            return
        if mark:
            self._seen.add(mark)
        suspicion = self._suspicions.get(candidate.language)
        weight = _weight(candidate, suspicion) if suspicion is not None else 1.0
        score, chance = weight * candidate.doubt, _draw(self._seed, candidate.id)
        best = self._best[candidate.language]
        heapq.heappush(best, (score, chance, candidate.id, candidate))
        if len(best) > self._most:
            heapq.heappop(best)

    def pick(self, count: int, near: Near | None) -> list[Candidate]:
        """The best, each language with its quota, nothing twice."""
        if count == 0:
            return []
        ranked = sorted((entry for best in self._best.values() for entry in best), reverse=True)
        fresh = [
            c for _, _, _, c in ranked if not c.fingerprint or c.fingerprint not in self._taken
        ]
        kept = self._apart(fresh, near) if near is not None else fresh
        self.repeated += len(ranked) - len(kept)
        by_language: dict[str, list[Candidate]] = defaultdict(list)
        for candidate in kept:
            by_language[candidate.language].append(candidate)
        available = {language: len(found) for language, found in by_language.items()}
        given = quotas(available, self._weights(available), count)
        return [c for language, found in by_language.items() for c in found[: given[language]]]

    def _apart(self, ranked: Sequence[Candidate], near: Near) -> list[Candidate]:
        """Those that are near to nothing that is taken and to none that ranks before."""
        taken = list(self._texts)
        readable = [candidate for candidate in ranked if candidate.text]
        pairs = near([*taken, *(candidate.text for candidate in readable)])
        later = {max(pair) - len(taken) for pair in pairs}
        left_out = {candidate.id for place, candidate in enumerate(readable) if place in later}
        return [candidate for candidate in ranked if candidate.id not in left_out]

    def _weights(self, languages: Iterable[str]) -> dict[str, float]:
        """A language's part: by the root of its traffic, and half of all for those that drifted."""
        roots = {language: math.sqrt(self._traffic[language]) for language in languages}
        drifted = [language for language in roots if language in self._suspicions]
        total, to_drifted = sum(roots.values()), _TO_DRIFTED if drifted else 0.0
        return {
            language: (1.0 - to_drifted) * root / total
            + (to_drifted / len(drifted) if language in drifted else 0.0)
            for language, root in roots.items()
        }


def _weight(candidate: Candidate, suspicion: Suspicion) -> float:
    """How many times a candidate's doubt counts."""
    if candidate.id in suspicion.examples:
        return _TYPICAL
    if candidate.at < suspicion.since:
        return 1.0
    return _TYPICAL if candidate.label in suspicion.labels else _SINCE


def _draw(seed: int, prediction: str) -> float:
    """A number from 0 to below 1, as good as random, that a prediction keeps."""
    return _hash(f"slice {seed}", prediction) / 2**64


def _hash(purpose: str, prediction: str) -> int:
    # Keyed by the purpose: what decides whose text is kept hashes ids as well, and must not agree.
    data = prediction.encode("utf-8", "surrogatepass")
    key = purpose.encode()
    return int.from_bytes(hashlib.blake2b(data, digest_size=8, key=key).digest())
