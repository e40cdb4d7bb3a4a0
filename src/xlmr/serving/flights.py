"""One computation for each key at a time: who comes first leads, the others wait for what it finds.

A leader that gives up (its client hung up, it was refused) hands over to the first who still waits;
what it failed with stays its own. Who is more urgent than the leader does not wait for it: it leads
a flight of its own, which those who come later join. Belongs to one event loop.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Collection
from typing import Generic, NamedTuple, TypeVar

from xlmr.errors import EngineError

T = TypeVar("T")

# Work whose deadlines lie closer together is not worth doing twice.
_SAME_DEADLINE_S = 0.1


class Urgency(NamedTuple):
    """A priority, 0 before 1 before 2, and a deadline: infinite where there is none."""

    priority: int
    deadline: float

    def before(self, other: Urgency) -> bool:
        """Whether it would be made to wait too long by the other."""
        if self.priority != other.priority:
            return self.priority < other.priority
        return self.deadline + _SAME_DEADLINE_S < other.deadline


USUAL = Urgency(1, math.inf)


class Flight(Generic[T]):
    """A computation under way, its leader's urgency, and those who wait for it."""

    __slots__ = ("urgency", "waiting")

    def __init__(self, urgency: Urgency) -> None:
        self.urgency = urgency
        self.waiting: deque[Seat[T]] = deque()


class Seat(Generic[T]):
    """A place among those who wait for a flight.

    Attributes:
        told: done once there is something to know: what was found, an error, or that it leads now.
    """

    __slots__ = ("error", "flight", "found", "leads", "told")

    def __init__(self, flight: Flight[T]) -> None:
        self.flight = flight
        self.told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.found: T | None = None
        self.error: EngineError | None = None
        self.leads = False


class Flights(Generic[T]):
    """All computations under way, by key."""

    def __init__(self) -> None:
        self._flights: dict[bytes, Flight[T]] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def enter(self, key: bytes, urgency: Urgency) -> Flight[T] | Seat[T]:
        """A flight to lead, or a seat to wait on."""
        flight = self._flights.get(key)
        if flight is None or urgency.before(flight.urgency):
            flight = self._flights[key] = Flight(urgency)
            return flight
        seat = Seat(flight)
        flight.waiting.append(seat)
        return seat

    def land(self, key: bytes, flight: Flight[T], found: T) -> None:
        """Tells everyone what was found."""
        self._end(key, flight)
        for seat in flight.waiting:
            seat.found = found
            _tell(seat)

    def fail(self, key: bytes, flight: Flight[T], error: EngineError) -> None:
        """Tells everyone that it cannot be computed."""
        self._end(key, flight)
        for seat in flight.waiting:
            seat.error = error
            _tell(seat)

    def hand_over(self, key: bytes, flight: Flight[T]) -> None:
        """Makes the first who still waits the leader; without one the flight ends."""
        while flight.waiting:
            seat = flight.waiting.popleft()
            if not seat.told.done():
                seat.leads = True
                _tell(seat)
                return
        self._end(key, flight)

    def leave(self, key: bytes, seat: Seat[T]) -> None:
        """Gives a seat up; if it was told to lead meanwhile, the next one does."""
        if seat.leads:
            self.hand_over(key, seat.flight)
        else:
            seat.told.cancel()

    def _end(self, key: bytes, flight: Flight[T]) -> None:
        # Somebody more urgent may have taken its place.
        if self._flights.get(key) is flight:
            del self._flights[key]


async def wait_for(seats: Collection[Seat[T]], timeout_s: float | None) -> None:
    """Waits until all have been told, or one that it leads, or the time is over.

    Who follows several flights must not keep those waiting that it is to lead. Being cancelled
    harms no seat.
    """
    loop = asyncio.get_running_loop()
    end = None if timeout_s is None else loop.time() + timeout_s
    while not any(seat.leads for seat in seats):
        waiting = [seat.told for seat in seats if not seat.told.done()]
        left = None if end is None else end - loop.time()
        if not waiting or (left is not None and left <= 0):
            return
        await asyncio.wait(waiting, timeout=left, return_when=asyncio.FIRST_COMPLETED)


def _tell(seat: Seat[T]) -> None:
    if not seat.told.done():
        seat.told.set_result(None)
