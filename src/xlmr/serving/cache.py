"""Answers that need no work: known from before, known to another server, or under way already.

It works item by item: of a request of 32 texts of which 20 are known, 12 are computed. A key is a
digest over everything an answer depends on: the model's content and its tokenizer's behaviour, how
the runtime computes, the task, every option, and the item. A new version of a model therefore never
meets an answer of the old one, and nothing has to be invalidated. Texts are in no key and no value.

What is found is given with the accounting it was computed with: an answer reads the same from here
and from the engine. What was spared shows in the metrics, and in quotas, which count work.
"""

from __future__ import annotations

import hashlib
import math
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import msgspec

import xlmr
from xlmr.errors import EngineError
from xlmr.model.prepared import ClassifyOptions
from xlmr.serving.cache_codec import FORMAT, pack, unpack
from xlmr.serving.flights import USUAL, Flight, Flights, Seat, Urgency, wait_for

if TYPE_CHECKING:
    from xlmr.serving.cache_store import Store
    from xlmr.serving.pool import Served
    from xlmr.serving.preparation import Item
    from xlmr.serving.question import Question
    from xlmr.telemetry.metrics import Metrics
    from xlmr.types import Language

Found: TypeAlias = "tuple[Any, Language]"
# Computes the items at some places. A place without an answer is missing from what it gives.
Compute: TypeAlias = "Callable[[Sequence[int]], Awaitable[Mapping[int, Found]]]"
# Calls a function with the rest of the arguments, in a thread where the first says it is worth it.
OffLoop: TypeAlias = Callable[..., Awaitable[Any]]

# What bytes cost to become answers, measured in the characters that `OffLoop` counts by.
_BYTES_PER_CHARACTER = 8
_CHARACTERS_PER_ANSWER = 60

_canonical = msgspec.msgpack.Encoder()


class SharedAnswers(Protocol):
    """Where several servers keep their answers together. It never fails: it only knows less."""

    async def get_many(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        """A value or None for each key."""

    def put_many(self, values: Mapping[bytes, bytes]) -> None:
        """Keeps values, some time soon; does not wait for it."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Items to be answered, and where they stand in their request.

    Attributes:
        space: digest of what the answers depend on besides the items.
        places: of `items`, those to be answered.
        urgency: its deadline is on `time.monotonic`'s clock.
    """

    space: bytes
    items: Sequence[Item]
    options: Any
    places: Sequence[int]
    urgency: Urgency = USUAL


class AnswerCache:
    """Finds answers, and has those computed that nobody has. Belongs to one event loop.

    Args:
        store: this process's memory.
        shared: what other servers know; asked for what the memory lacks.
        secret: keys the digests, so that nobody without it can tell whether a given text was asked;
            servers that share answers must share it. None makes one up for this process.
    """

    def __init__(
        self,
        store: Store,
        *,
        metrics: Metrics,
        shared: SharedAnswers | None = None,
        secret: bytes | None = None,
    ) -> None:
        self._store = store
        self._metrics = metrics
        self._shared = shared
        secret = secrets.token_bytes(32) if secret is None else secret
        # Whatever its length: a digest's key has at most 64 bytes.
        self._secret = hashlib.blake2b(secret, digest_size=32).digest()
        self._flights: Flights[bytes | Found] = Flights()
        metrics.watch_cache(lambda: store.size, evicted=lambda: store.evicted)

    @property
    def in_flight(self) -> int:
        """How many answers are being computed."""
        return len(self._flights)

    def asked(self, served: Served, question: Question, places: Sequence[int]) -> Asked | None:
        """What a question asks at some places; None for one that is malformed and has no answer."""
        options = question.options
        if isinstance(options, ClassifyOptions) and options.languages is not None:
            if len(options.languages) != len(question.items):
                return None
            # Each item's own goes into its key.
            options = replace(options, languages=())
        predictor = served.predictor
        facts = (
            FORMAT,
            xlmr.__version__,
            served.ref.digest,
            predictor.bundle.tokenizer.fingerprint,
            # Runtime, precision and instruction set: their last bits differ.
            predictor.runtime.name,
            question.task,
            type(options).__name__,
            options,
        )
        try:
            canonical = _canonical.encode(facts)
        except UnicodeEncodeError:
            return None
        return Asked(
            space=hashlib.blake2b(canonical, key=self._secret, digest_size=32).digest(),
            items=question.items,
            options=question.options,
            places=places,
            urgency=Urgency(
                question.priority, math.inf if question.deadline is None else question.deadline
            ),
        )

    async def answer(self, asked: Asked, compute: Compute, off_loop: OffLoop) -> dict[int, Found]:
        """What became of each place; those that got no answer are missing.

        Raises:
            XlmrError: what `compute` raises; or an `EngineError` of a computation that was waited
                for.
        """
        turn = _Turn(self._flights, asked)
        known = turn.enter(self._store)
        try:
            if known:
                size = sum(map(len, known.values())) // _BYTES_PER_CHARACTER
                turn.found = await off_loop(size, _unpack_all, asked, known)
                self._metrics.cache(hits=len(known))
            while turn.pending:
                await self._lead(turn, compute, off_loop)
                await turn.follow()
            if turn.joins:
                self._metrics.cache(joins=turn.joins)
            return turn.found
        finally:
            turn.give_up()

    async def _lead(self, turn: _Turn, compute: Compute, off_loop: OffLoop) -> None:
        """Finds what this request is the first to ask for."""
        if self._shared is not None and turn.led:
            await self._ask_others(turn, self._shared, off_loop)
        firsts = {turn.places[key][0]: key for key in (*turn.led, *turn.alone)}
        if not firsts:
            return
        try:
            computed = await compute(list(firsts))
        except EngineError as error:
            turn.fail(error)
            raise
        self._metrics.cache(misses=len(computed))
        work = len(computed) * _CHARACTERS_PER_ANSWER
        packed = await off_loop(work, _pack_all, turn.asked, computed)
        kept = {firsts[place]: value for place, value in packed.items() if value is not None}
        for key, value in kept.items():
            self._store.put(key, value)
        if self._shared is not None and kept:
            self._shared.put_many(kept)
        again = []
        for place, key in firsts.items():
            if place in computed:
                turn.land(key, kept.get(key), computed[place])
            else:
                # A text that cannot be answered: the fault is told at each place it stands.
                again += turn.drop(key)[1:]
        if again:
            turn.found.update(await compute(again))

    async def _ask_others(self, turn: _Turn, shared: SharedAnswers, off_loop: OffLoop) -> None:
        keys = list(turn.led)
        values = await shared.get_many(keys)
        known = {
            turn.places[key][0]: value
            for key, value in zip(keys, values, strict=True)
            if value is not None
        }
        if not known:
            return
        size = sum(map(len, known.values())) // _BYTES_PER_CHARACTER
        found = await off_loop(size, _unpack_all, turn.asked, known)
        self._metrics.cache(hits=len(found), where="redis")
        for key in keys:
            place = turn.places[key][0]
            if place in found:
                self._store.put(key, known[place])
                turn.land(key, known[place], found[place])


class _Turn:
    """One request among the flights: what it leads, what it waits for, what it has found.

    Attributes:
        places: where each key that is still sought stands; a key may stand at several places.
        led: flights this request computes.
        alone: keys it computes for itself: whoever computes them now takes too long.
        found: what became of each place.
        joins: how many of them were computed for another request, or another place of this one.
    """

    def __init__(self, flights: Flights[bytes | Found], asked: Asked) -> None:
        self.asked = asked
        self.places: dict[bytes, list[int]] = {}
        self.led: dict[bytes, Flight[bytes | Found]] = {}
        self.alone: list[bytes] = []
        self.found: dict[int, Found] = {}
        self.joins = 0
        self._flights = flights
        self._seats: dict[bytes, Seat[bytes | Found]] = {}

    @property
    def pending(self) -> bool:
        """Whether anything is still sought."""
        return bool(self.led or self.alone or self._seats)

    def enter(self, store: Store) -> dict[int, bytes]:
        """Looks every place up, and takes its part in the flights of what is not known.

        Nothing is awaited meanwhile, so nothing is computed twice. Gives the known values by place.
        """
        known = {}
        for place, key in keys_of(self.asked):
            if key in self.places:
                self.places[key].append(place)
                continue
            value = store.get(key)
            if value is not None:
                known[place] = value
                continue
            self.places[key] = [place]
            entered = self._flights.enter(key, self.asked.urgency)
            if isinstance(entered, Flight):
                self.led[key] = entered
            else:
                self._seats[key] = entered
        return known

    def land(self, key: bytes, value: bytes | None, found: Found) -> None:
        """Gives an answer to everyone who asked for it: here, and in other requests."""
        first, *others = self.places.pop(key)
        self.found[first] = found
        result = found if value is None else value
        self._join(result, others)
        flight = self.led.pop(key, None)
        if flight is None:
            self.alone.remove(key)
        else:
            self._flights.land(key, flight, result)

    def drop(self, key: bytes) -> list[int]:
        """Seeks it no longer; gives its places."""
        flight = self.led.pop(key, None)
        if flight is None:
            self.alone.remove(key)
        else:
            self._flights.hand_over(key, flight)
        return self.places.pop(key)

    async def follow(self) -> None:
        """Waits for what others compute, until there is something to do: leads where they gave up.

        Raises:
            EngineError: it cannot be computed.
        """
        if not self._seats:
            return
        deadline = self.asked.urgency.deadline
        left = None if deadline == math.inf else max(0.0, deadline - time.monotonic())
        await wait_for(self._seats.values(), left)
        late = time.monotonic() >= deadline
        for key, seat in list(self._seats.items()):
            if not seat.told.done() and not late:
                continue
            if seat.error is not None:
                raise type(seat.error)(seat.error.message, hint=seat.error.hint)
            del self._seats[key]
            if seat.leads:
                seat.flight.urgency = self.asked.urgency
                self.led[key] = seat.flight
            elif seat.found is not None:
                self._join(seat.found, self.places.pop(key))
            else:
                # Its time is over: computing refuses it, in the words it refuses everyone.
                self._flights.leave(key, seat)
                self.alone.append(key)

    def fail(self, error: EngineError) -> None:
        """Tells those who wait that it cannot be computed: trying again for each would not help."""
        for key, flight in self.led.items():
            self._flights.fail(key, flight, error)
        self.led.clear()

    def give_up(self) -> None:
        """Leaves what is not settled to others. Nothing is left where all went well."""
        for key, flight in self.led.items():
            self._flights.hand_over(key, flight)
        for key, seat in self._seats.items():
            self._flights.leave(key, seat)

    def _join(self, result: bytes | Found, places: Sequence[int]) -> None:
        self.joins += len(places)
        for place in places:
            if isinstance(result, tuple):
                self.found[place] = result
            else:
                self.found.update(_unpack_all(self.asked, {place: result}))


def keys_of(asked: Asked) -> list[tuple[int, bytes]]:
    """A key for each place."""
    options, space = asked.options, asked.space
    said = options.languages if isinstance(options, ClassifyOptions) else None
    found = []
    for place in asked.places:
        item = asked.items[place]
        data = _bytes_of(item)
        if said is not None:
            data = _bytes_of((said[place],)) + data
        found.append((place, hashlib.blake2b(data, key=space, digest_size=16).digest()))
    return found


def _bytes_of(item: Any) -> bytes:
    """An item without ambiguity: one text, two texts, words, or token ids."""
    if isinstance(item, str):
        return b"t" + item.encode("utf-8", "surrogatepass")
    parts = [b"p" if isinstance(item, tuple) else b"l"]
    for part in item:
        text = isinstance(part, str)
        data = str(part).encode("utf-8", "surrogatepass")
        parts.append(b"%c%d:%b" % (b"s" if text else b"i", len(data), data))
    return b"".join(parts)


def _pack_all(asked: Asked, computed: Mapping[int, Found]) -> dict[int, bytes | None]:
    return {
        place: pack(answer, language, item=asked.items[place], options=asked.options)
        for place, (answer, language) in computed.items()
    }


def _unpack_all(asked: Asked, values: Mapping[int, bytes]) -> dict[int, Found]:
    """What can be read of the values."""
    found = {}
    for place, value in values.items():
        known = unpack(value, item=asked.items[place], options=asked.options, place=place)
        if known is not None:
            found[place] = known
    return found
