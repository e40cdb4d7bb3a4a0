"""A registry, servers that follow it, and people who ask them: what the rollouts are run in."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from canary_models import RARE

from xlmr.evaluation.load.connections import Connections
from xlmr.evaluation.load.traffic import Ask, draw_traffic
from xlmr.settings import Settings

NAME = "router"
PATIENCE_S = 30.0
# The same traffic again after so long: no cache knows an answer.
_ROUND_S = 60.0


class House:
    """Where everything of a run lies.

    Args:
        root: a directory of its own.
        database: of the registry; empty for SQLite.
        redis_url: where counts are added up; empty for the database.
    """

    def __init__(self, root: Path, *, database: str = "", redis_url: str = "") -> None:
        self.root = root
        self.settings = {
            "registry": database or str(root / "registry"),
            "registry_store": str(root / "store"),
            "trusted_keys": str(root / "keys" / "trusted"),
            "sign_key": str(root / "keys" / "sign.key"),
            "cache_dir": str(root / "cache"),
            "redis_url": redis_url,
        }

    def opened(self) -> Settings:
        """Settings that name this registry."""
        return Settings.from_environment(**self.settings)

    @property
    def environment(self) -> dict[str, str]:
        """Of commands and servers."""
        return os.environ | {f"XLMR_{k.upper()}": v for k, v in self.settings.items() if v}

    async def run(self, *words: object) -> str:
        """What a command of `xlmr` prints.

        Raises:
            RuntimeError: it failed; says how.
        """
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "xlmr", *map(str, words)),
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        said, complaint = await process.communicate()
        if process.returncode != 0:
            raise RuntimeError(f"xlmr {' '.join(map(str, words))}: {complaint.decode()}")
        return said.decode()

    async def fill(self, models: Sequence[Path]) -> None:
        """Keys, then each model as a version, 1, 2, …; the first is live."""
        keys = self.root / "keys"
        await self.run("registry", "keygen", keys)
        (keys / "trusted").mkdir()
        for public in keys.glob("*.pem"):
            public.rename(keys / "trusted" / public.name)
        for model in models:
            await self.run("registry", "push", NAME, model)
        await self.run("registry", "alias", f"{NAME}@1", "live", "--override", "a benchmark")

    @contextlib.contextmanager
    def served(self, *command: str) -> Iterator[str]:
        """A server that follows the registry, for a block; its address.

        What it logs lies beside the registry.
        """
        options = ("--port", "0", "--json", "--log-level", "error", "--cache-bytes", "0")
        log = self.root / "servers.log"
        with log.open("ab") as lines:
            process = subprocess.Popen(
                [*command, "serve", f"registry:{NAME}", *options],
                env=self.environment,
                stdout=subprocess.PIPE,
                stderr=lines,
                text=True,
            )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise RuntimeError(f"the server did not start: {log.read_text('utf-8')}")
            yield json.loads(line)["address"]
        finally:
            process.terminate()
            process.communicate()


@dataclass(frozen=True, slots=True)
class Sent:
    """A request and what became of it.

    Attributes:
        at: when it arrived, in seconds since 1970.
        seconds: from its arrival to its answer.
        status: 0 where there was no answer.
        version: that answered; empty for none.
        server: which was asked, from 0.
    """

    at: float
    seconds: float
    status: int
    version: str
    server: int

    @property
    def ended(self) -> float:
        """When its answer was there, in seconds since 1970."""
        return self.at + self.seconds


class Traffic:
    """Requests at their own pace, to servers in turns, each with an id of its own.

    Args:
        addresses: of the servers.
        rate: requests a second, to all of them together.
        rare_every: every so many-th text has the piece that the others do not have.

    Attributes:
        sent: requests that have had their end.
        late_s: by how much a request left too late at most, because the sender was held up.
    """

    def __init__(self, addresses: Sequence[str], *, rate: float, rare_every: int = 33) -> None:
        self._connections = [Connections(address) for address in addresses]
        self._asks = asks(rate, _ROUND_S, rare_every)
        self.sent: list[Sent] = []
        self.late_s = 0.0

    @contextlib.asynccontextmanager
    async def going_on(self) -> AsyncIterator[None]:
        """For a block."""
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            for connections in self._connections:
                connections.close()

    def between(self, began: float, ended: float) -> list[Sent]:
        """What arrived in a stretch of time and has its end by now."""
        return [one for one in self.sent if began <= one.at < ended]

    async def _run(self) -> None:
        started, clock = time.time(), asyncio.get_running_loop().time
        began, servers = clock(), itertools.cycle(range(len(self._connections)))
        async with asyncio.TaskGroup() as running:
            for number in itertools.count():
                for ask in self._asks:
                    at_s = number * _ROUND_S + ask.at_s
                    await asyncio.sleep(max(0.0, began + at_s - clock()))
                    self.late_s = max(self.late_s, clock() - began - at_s)
                    running.create_task(self._one(ask, next(servers), started + at_s))

    async def _one(self, ask: Ask, server: int, at: float) -> None:
        headers = f"x-request-id: {uuid.uuid4()}\r\n".encode()
        status, version = 0, ""
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                reply = await self._connections[server].post(ask.path, ask.body, headers)
            status = reply.status
            if status == 200:
                version = json.loads(reply.body)["model"]["version"]
        self.sent.append(Sent(at, time.time() - at, status, version, server))


def asks(rate: float, seconds: float, rare_every: int) -> list[Ask]:
    """Short texts of eleven languages; some with a piece that the others do not have."""
    found = draw_traffic(rate=rate, seconds=seconds, seed=1, tasks=["classify"])
    for place in range(0, len(found), rare_every):
        text = json.loads(found[place].body)["input"]
        body = json.dumps({"input": f"{text} {RARE}"}, ensure_ascii=False).encode()
        found[place] = replace(found[place], body=body)
    return found


def texts_of(rate: float, seconds: float, rare_every: int = 33) -> list[str]:
    """The texts that a stretch of traffic asks about."""
    return [json.loads(ask.body)["input"] for ask in asks(rate, seconds, rare_every)]


def figures(sent: Sequence[Sent], *, by: str = "") -> Mapping[str, Any]:
    """How many were asked and lost, and latencies in milliseconds: of all, or of one version's."""
    taken = [one.seconds * 1e3 for one in sent if one.status == 200 and by in ("", one.version)]
    p50, p95, p99 = np.percentile(taken, (50, 95, 99)).tolist() if taken else [None] * 3
    return {
        "requests": len(sent),
        "lost": sum(one.status != 200 for one in sent),
        "p50_ms": p50,
        "p95_ms": p95,
        "p99_ms": p99,
    }


async def scraped(address: str) -> Mapping[str, float]:
    """A server's metrics, by name and labels."""
    connections = Connections(address)
    reply = await connections.request("GET", "/metrics")
    connections.close()
    lines = [line for line in reply.body.decode().splitlines() if not line.startswith("#")]
    pairs = (line.rpartition(" ") for line in lines if " " in line)
    return {name: float(value.split()[0]) for name, _, value in pairs}
