"""What is computed next: an order over waiting jobs, and batches taken from it.

Jobs come in the order of their priority, then of their deadline's class (a tenth of a second), then
the shortest first. A job without a deadline is ordered as if it had one `age_bound_s` after it
came, or later where others of its priority that wait already have later ones: it makes nobody late.
Where a job has waited longer than the bound, every fourth batch is led by the oldest: nothing
starves, and urgent work keeps three quarters of the engine.

Pure: no clock, no thread, no lock; whoever calls says what time it is, on one clock of theirs.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from xlmr.types import Rows

# Jobs with deadlines this close to each other are of one class, in which the shortest goes first.
DEADLINE_CLASS_SECONDS = 0.1
# Deadlines further away than this are not told apart.
_HORIZON_SECONDS = 60.0
# One batch of so many is led by the oldest job, where one has waited too long.
_TURNS = 4
# How many jobs that do not fit are passed over before a batch is called full.
_LOOKS = 64

_NEVER = math.inf


class Job:
    """Texts that were asked for together, known to the scheduler by their lengths.

    Attributes:
        tokens: of those texts that no batch has taken yet.
        squares: the sum of their squared lengths.
        started: whether a batch has taken some.
    """

    __slots__ = (
        "__weakref__",
        "_pending",
        "arrived",
        "deadline",
        "lengths",
        "place",
        "priority",
        "rows",
        "squares",
        "started",
        "tokens",
    )

    def __init__(
        self,
        lengths: Sequence[int],
        *,
        rows: Rows,
        arrived: float,
        deadline: float | None = None,
        priority: int = 1,
    ) -> None:
        self.lengths = lengths
        self.rows = rows
        self.arrived = arrived
        self.deadline = deadline
        self.priority = priority
        self.tokens = sum(lengths)
        self.squares = sum([length * length for length in lengths])
        self.started = False
        self.place: _Place | None = None
        # The longest last, where it is taken from first: what is large fits worst later.
        one = len(lengths) == 1
        self._pending = [0] if one else sorted(range(len(lengths)), key=lengths.__getitem__)

    @property
    def waits(self) -> bool:
        """Whether some of its texts are in no batch yet."""
        return bool(self._pending)

    def take(self, room: _Room) -> list[int]:
        """Which of its texts go into the batch, longest first."""
        taken, left = [], []
        for index in reversed(self._pending):
            if room.fits(self.lengths[index]):
                room.add(self.lengths[index])
                taken.append(index)
            else:
                left.append(index)
        left.reverse()
        self._pending = left
        for index in taken:
            length = self.lengths[index]
            self.tokens -= length
            self.squares -= length * length
        self.started = self.started or bool(taken)
        return taken


JobT = TypeVar("JobT", bound=Job)
# Priority, class of deadline, expected seconds, and a number that no two have in common.
_Place = tuple[int, float, float, int]


@dataclass(frozen=True, slots=True)
class Slice(Generic[JobT]):
    """Those texts of a job that are taken into a batch, by their index."""

    job: JobT
    indexes: list[int]


@dataclass(slots=True)
class _Room:
    """What a batch may still hold. An empty one holds any text: the budget is at least the longest.

    Attributes:
        tokens: of the budget.
        seconds: how long the batch may still take.
        pace: seconds by token, and by the square of a length.
    """

    tokens: int
    seconds: float
    pace: tuple[float, float]
    empty: bool = True

    def fits(self, length: int) -> bool:
        """Whether a text of that length still fits."""
        return length <= self.tokens and (self.empty or self._takes(length) <= self.seconds)

    def add(self, length: int) -> None:
        """Takes a text in."""
        self.tokens -= length
        self.seconds -= self._takes(length)
        self.empty = False

    def _takes(self, length: int) -> float:
        by_token, by_square = self.pace
        return (by_token + by_square * length) * length


@dataclass(slots=True)
class Waiting:
    """Work of one priority and class of deadlines.

    `hard` is the earliest deadline that somebody asked for; nobody has to be late for the others.
    """

    tokens: int = 0
    squares: int = 0
    jobs: int = 0
    hard: float = _NEVER


class Scheduler(Generic[JobT]):
    """The queue. `budget` is the most tokens of a batch."""

    def __init__(self, *, budget: int, age_bound_s: float = 2.0) -> None:
        self.tokens = 0
        self.squares = 0
        self._budget = budget
        self._age_bound_s = age_bound_s
        self._order: dict[Rows, list[tuple[_Place, JobT]]] = {"first": [], "all": []}
        self._by_age: dict[JobT, None] = {}
        self._by_number: dict[int, JobT] = {}
        self._by_deadline: list[tuple[float, int]] = []
        self._classes: dict[tuple[int, float], Waiting] = {}
        self._number = 0
        self._turn = 0

    def __len__(self) -> int:
        return len(self._by_age)

    def __iter__(self) -> Iterator[JobT]:
        """All waiting jobs, the oldest first."""
        return iter(tuple(self._by_age))

    def arrival(self) -> float | None:
        """When the oldest waiting job came; None where none waits."""
        oldest = next(iter(self._by_age), None)
        return None if oldest is None else oldest.arrived

    def class_of(self, priority: int, deadline: float | None, now: float) -> tuple[int, float]:
        """Where work of that kind would stand: priority and class of its deadline."""
        if deadline is not None:
            return priority, min(deadline, now + _HORIZON_SECONDS) // DEADLINE_CLASS_SECONDS
        group = (now + self._age_bound_s) // DEADLINE_CLASS_SECONDS
        for (other, later), waiting in self._classes.items():
            if later >= group and other == priority and waiting.hard < _NEVER:
                group = later + 1
        return priority, group

    def add(self, job: JobT, *, seconds: float) -> None:
        """Puts a job in its place; `seconds` is how long it is expected to take."""
        priority, group = self.class_of(job.priority, job.deadline, job.arrived)
        self._number += 1
        job.place = (priority, group, seconds, self._number)
        insort(self._order[job.rows], (job.place, job))
        self._by_age[job] = None
        waiting = self._classes.get((priority, group))
        if waiting is None:
            waiting = self._classes[priority, group] = Waiting()
        waiting.jobs += 1
        if job.deadline is not None:
            self._by_number[self._number] = job
            heapq.heappush(self._by_deadline, (job.deadline, self._number))
            waiting.hard = min(waiting.hard, job.deadline)
        self._count(job, job.tokens, job.squares)

    def remove(self, job: JobT) -> None:
        """Takes out what is left of a job; one that is not there is none of our business."""
        if job not in self._by_age:
            return
        assert job.place is not None
        self._count(job, -job.tokens, -job.squares)
        order = self._order[job.rows]
        del order[bisect_left(order, (job.place,))]
        del self._by_age[job]
        self._by_number.pop(job.place[3], None)
        if len(self._by_deadline) > 2 * len(self._by_number) + _LOOKS:
            # Of jobs that are gone: their deadlines may be days away.
            self._by_deadline = [one for one in self._by_deadline if one[1] in self._by_number]
            heapq.heapify(self._by_deadline)
        group = job.place[:2]
        self._classes[group].jobs -= 1
        if not self._classes[group].jobs:
            del self._classes[group]

    def expired(self, now: float) -> list[JobT]:
        """Takes out the jobs whose deadline has come before any of their texts was taken."""
        gone = []
        while self._by_deadline and self._by_deadline[0][0] <= now:
            job = self._by_number.get(heapq.heappop(self._by_deadline)[1])
            if job is not None and not job.started:
                self.remove(job)
                gone.append(job)
        return gone

    def take(
        self,
        now: float,
        *,
        seconds: float = _NEVER,
        pace: tuple[float, float] = (0.0, 0.0),
    ) -> list[Slice[JobT]]:
        """The next batch: within the budget, and within `seconds` unless one text takes longer.

        Texts of one kind of rows only, since one run computes one kind. Empty where nothing waits.
        `pace` is what a token, and a squared length, is expected to take.
        """
        if not self._by_age:
            return []
        room = _Room(self._budget, seconds, pace)
        lead = self._lead(now)
        batch = list(self._filled(self._candidates(lead), room))
        for piece in batch:
            if not piece.job.waits:
                self.remove(piece.job)
        return batch

    def ahead(self, group: tuple[int, float]) -> tuple[int, int]:
        """Tokens and squares of what is computed before new work of that class, or beside it."""
        tokens = squares = 0
        for other, waiting in self._classes.items():
            if other <= group:
                tokens += waiting.tokens
                squares += waiting.squares
        return tokens, squares

    def later(self, group: tuple[int, float]) -> list[Waiting]:
        """Of the same priority, what new work of that class would hold up, the next first."""
        return [
            self._classes[other]
            for other in sorted(self._classes)
            if other > group and other[0] == group[0]
        ]

    def overdue(self, now: float) -> bool:
        """Whether a job has waited beyond the age bound."""
        arrived = self.arrival()
        return arrived is not None and now - arrived > self._age_bound_s

    def _lead(self, now: float) -> JobT:
        """Whose texts go first: the first in order, or, when it is its turn, the oldest."""
        self._turn = self._turn + 1 if self.overdue(now) else 0
        if self._turn >= _TURNS:
            self._turn = 0
            return next(iter(self._by_age))
        heads = [order[0] for order in self._order.values() if order]
        return min(heads)[1]

    def _candidates(self, lead: JobT) -> Iterator[JobT]:
        """The leader, then all others of its rows in order."""
        yield lead
        for _, job in self._order[lead.rows]:
            if job is not lead:
                yield job

    def _filled(self, candidates: Iterable[JobT], room: _Room) -> Iterator[Slice[JobT]]:
        missed = 0
        for job in candidates:
            tokens, squares = job.tokens, job.squares
            taken = job.take(room)
            if taken:
                self._count(job, job.tokens - tokens, job.squares - squares)
                yield Slice(job, taken)
            if job.waits:
                missed += 1
            if missed >= _LOOKS or room.tokens <= 0:
                return

    def _count(self, job: JobT, tokens: int, squares: int) -> None:
        assert job.place is not None
        self.tokens += tokens
        self.squares += squares
        waiting = self._classes[job.place[:2]]
        waiting.tokens += tokens
        waiting.squares += squares
