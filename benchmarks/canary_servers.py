"""Two servers, PostgreSQL and Redis: how soon a change reaches both, and what an outage costs.

PostgreSQL and Redis are started as the tests start them: the repository must be on PYTHONPATH.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from canary_house import NAME, House, Traffic, figures, scraped

from xlmr.registry.opening import open_controller
from xlmr.registry.rollout.controller import Controller
from xlmr.registry.rollout.plan import make_plan

SERVERS = 2
LIVE, GOOD, BROKEN = "1", "2", "3"
PATIENCE_S, LOOK_S = 60.0, 0.05
CALM_S, AWAY_S = 10.0, 60.0
# So long after a change both servers have heard of it, or the run fails.
_HEARD_S = 3.0
_PLAN = make_plan(
    {
        "objective_ms": 60_000.0,
        "required": [],
        "shadow": {"share": 0.0},
        "steps": [{"share": 0.5, "units": 100_000}],
    }
)


def measure_servers(root: Path, models: Path, *, rate: float, repeat: int) -> Mapping[str, Any]:
    """Changes and an outage.

    Args:
        root: a directory of its own.
        models: with `live`, `good` and `nan`.
        rate: requests a second.
        repeat: how often each change is made.
    """
    from tests.postgres import postgres_server
    from tests.services import redis_server

    with postgres_server() as postgres, redis_server(root) as redis:
        house = House(root, database=postgres.url, redis_url=redis.url)
        places = [models / name for name in ("live", "good", "nan")]
        return asyncio.run(_measured(house, places, postgres, rate=rate, repeat=repeat))


async def _measured(
    house: House, models: Sequence[Path], postgres: Any, *, rate: float, repeat: int
) -> Mapping[str, Any]:
    await house.fill(models)
    for version, alias in ((GOOD, "next"), (BROKEN, "last")):
        await house.run("registry", "alias", f"{NAME}@{version}", alias)
    command = (sys.executable, "-m", "xlmr")
    with house.served(*command) as one, house.served(*command) as other:
        traffic = Traffic([one, other], rate=rate)
        async with traffic.going_on():
            await asyncio.sleep(CALM_S)
            began = traffic.sent[0].at
            before = figures(traffic.between(began, time.time() - 1.0))
            with open_controller(house.opened()) as controller:
                taken = await _changes(controller, traffic, repeat)
                away = await _away(controller, traffic, postgres, [one, other])
    return {
        "rate": rate,
        "requests": len(traffic.sent),
        "lost": sum(sent.status != 200 for sent in traffic.sent),
        "late_ms": traffic.late_s * 1e3,
        "before": before,
        "seconds": {
            name: {"median": statistics.median(each), "worst": max(each), "times": len(each)}
            for name, each in taken.items()
        },
        "away": away,
    }


async def _changes(
    controller: Controller, traffic: Traffic, repeat: int
) -> Mapping[str, list[float]]:
    """Seconds from each kind of change to the last server that follows."""
    registry = controller.registry
    taken: dict[str, list[float]] = {"promotion": [], "rollback": [], "verdict": []}
    for _ in range(repeat):
        promoted = _now(
            lambda: registry.set_alias(f"{NAME}@{GOOD}", "live", override="a benchmark")
        )
        taken["promotion"].append(await _followed(traffic, await promoted, GOOD))
        back = _now(lambda: registry.rollback(NAME, reason="a benchmark"))
        taken["rollback"].append(await _followed(traffic, await back, LIVE))
        taken["verdict"].append(await _sent_back(controller, traffic))
        print({name: round(each[-1], 2) for name, each in taken.items()}, flush=True)
    return taken


async def _now(change: Callable[[], object]) -> float:
    """Makes a change; when it was made, in seconds since 1970."""
    await asyncio.to_thread(change)
    return time.time()


async def _followed(traffic: Traffic, since: float, version: str) -> float:
    """Seconds until every server answered by a version, and none by another one any more."""
    await asyncio.sleep(_HEARD_S)
    after = [sent for sent in traffic.sent if sent.ended >= since and sent.status == 200]
    wrong = [sent.ended for sent in after if sent.version != version]
    last_wrong = max(wrong, default=since)
    firsts = [
        min(
            (s.ended for s in after if s.server == server and s.version == version),
            default=since + _HEARD_S,
        )
        for server in range(SERVERS)
    ]
    return max(last_wrong, *firsts) - since


async def _sent_back(controller: Controller, traffic: Traffic) -> float:
    """A rollout of the broken version; seconds from its verdict to its last answer."""
    reference, why = f"{NAME}@{BROKEN}", "a benchmark"
    await asyncio.to_thread(controller.start, reference, _PLAN, override=why)
    async with asyncio.timeout(PATIENCE_S):
        while True:
            state = await asyncio.to_thread(controller.board.state, NAME)
            if state is not None and state.over:
                break
            await asyncio.sleep(LOOK_S)
    if not any(sent.version == BROKEN for sent in traffic.sent[-1000:]):
        raise RuntimeError("the broken version answered nobody: nothing was measured")
    return await _followed(traffic, state.since, LIVE)


async def _away(
    controller: Controller, traffic: Traffic, postgres: Any, addresses: Sequence[str]
) -> Mapping[str, Any]:
    """PostgreSQL stops for a while; then a promotion, which both servers must hear of."""
    # Versions that answer meanwhile are told by the figures; the live one stays.
    await asyncio.to_thread(postgres.stop)
    began = time.time()
    await asyncio.sleep(AWAY_S)
    ended = time.time()
    ages = [(await scraped(address))["xlmr_registry_age_seconds"] for address in addresses]
    await asyncio.to_thread(postgres.start)
    back = time.time()
    change = _now(
        lambda: controller.registry.set_alias(f"{NAME}@{GOOD}", "live", override="a benchmark")
    )
    since = await change
    found = traffic.between(began, ended)
    return {
        "seconds": ended - began,
        "servers_had_not_read_for_s": min(ages),
        "figures": figures(found),
        "other_versions": sum(sent.version not in ("", LIVE) for sent in found),
        "followed_after_s": await _followed(traffic, since, GOOD),
        "starting_took_s": back - ended,
    }
