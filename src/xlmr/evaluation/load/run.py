"""Sends a load at its own pace, and looks for the highest rate that a server keeps up with."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from xlmr.evaluation.load.connections import Connections
from xlmr.evaluation.load.figures import Level, Outcome, summarise
from xlmr.evaluation.load.traffic import Ask

# Who has no answer by then counts as failed.
PATIENCE_S = 30.0
# A rate is refined until the step is below this share of it.
_CLOSE = 0.06
_FIRST_RATE, _HIGHEST_RATE = 8.0, 50_000.0


async def send(
    asks: Sequence[Ask], connections: Connections, *, headers: bytes = b""
) -> list[Outcome]:
    """Every request at its moment, whatever became of those before; their outcomes, in order."""
    loop = asyncio.get_running_loop()
    started = loop.time()

    async def one(ask: Ask) -> Outcome:
        arrived = started + ask.at_s
        try:
            async with asyncio.timeout_at(arrived + PATIENCE_S):
                reply = await connections.post(ask.path, ask.body, headers)
        except (OSError, TimeoutError):
            return Outcome(0, loop.time() - arrived)
        return Outcome(reply.status, loop.time() - arrived)

    running = []
    for ask in asks:
        wait = started + ask.at_s - loop.time()
        if wait > 0:
            await asyncio.sleep(wait)
        running.append(loop.create_task(one(ask)))
    return list(await asyncio.gather(*running))


def run_level(
    address: str, asks: Sequence[Ask], *, seconds: float, objective_s: float, headers: bytes = b""
) -> Level:
    """One load against one server, on connections of its own."""

    async def whole() -> list[Outcome]:
        connections = Connections(address)
        try:
            return await send(asks, connections, headers=headers)
        finally:
            connections.close()

    return summarise(asyncio.run(whole()), seconds=seconds, objective_s=objective_s)


def highest_rate(
    level_at: Callable[[float], Level],
    *,
    objective_s: float,
    first: float = _FIRST_RATE,
    close: float = _CLOSE,
) -> tuple[float, Level | None, list[Level]]:
    """The highest rate that is kept (`Level.keeps`), its level, and every level that was tried.

    Doubles until a rate is not kept, then halves the gap. A rate that fails is tried once more
    before it counts: a neighbour on the machine must not decide. 0 where even the first fails.
    """
    tried: list[Level] = []
    best: Level | None = None

    def kept(rate: float) -> bool:
        nonlocal best
        for _ in range(2):
            tried.append(level_at(rate))
            if tried[-1].keeps(objective_s):
                best = tried[-1]
                return True
        return False

    low, high = 0.0, first
    while high <= _HIGHEST_RATE and kept(high):
        low, high = high, high * 2
    while low > 0 and high - low > close * low:
        middle = (low + high) / 2
        low, high = (middle, high) if kept(middle) else (low, middle)
    return low, best, tried
