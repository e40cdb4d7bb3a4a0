"""Runs a verb in processes that are killed at a step; told which by whoever reads and writes us.

Started once: each run is a fork, so that many deaths cost little. A line in is a JSON object; a
line out is how the process ended.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.registry.parts import gate_report

from xlmr.registry.backup import backup, restore
from xlmr.registry.catalogue import Catalogue
from xlmr.registry.registry import Registry
from xlmr.registry.roles import Actor
from xlmr.registry.rollout.assignment import Weighted
from xlmr.registry.rollout.board import Board
from xlmr.registry.rollout.controller import Controller
from xlmr.registry.rollout.counts import SqlCounts
from xlmr.registry.rollout.plan import make_plan
from xlmr.registry.store import Store


def act(told: dict[str, Any]) -> None:
    left = int(told["dies_at"])

    def step(name: str) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    place, verb = Path(told["place"]), told["verb"]
    catalogue = Catalogue(told.get("database", str(place / "catalogue.db")), step=step)
    store = Store(str(place / "store"), step=step)
    later = datetime.now(UTC) + timedelta(days=100)
    registry = Registry(catalogue, store, Actor("ada"), step=step, now=lambda: later)
    if verb == "push":
        registry.push("router", Path(told["model"]))
    elif verb == "promote":
        report = gate_report(Path(told["model"]), live=Path(told["live"]))
        registry.set_alias("router@2", "live", report=report)
    elif verb == "rollback":
        registry.rollback("router", reason="slow")
    elif verb.startswith("rollout "):
        board = Board(catalogue, step=step)
        controller = Controller(board, SqlCounts(catalogue), registry)
        act_on_rollout(controller, verb.split()[1])
    elif verb == "gc":
        registry.gc(days=1, grace=timedelta(0))
    elif verb == "backup":
        backup(catalogue, store, Store(str(place / "backup"), step=step))
    elif verb == "restore":
        restore(Store(told["backup"]), catalogue, store, actor="ada")


def act_on_rollout(controller: Controller, verb: str) -> None:
    if verb == "start":
        one = {"shadow": {"share": 0.0}, "required": [], "steps": [{"share": 0.5}]}
        plan = make_plan({"objective_ms": 100.0} | one)
        controller.start("router@2", plan, override="no data yet")
    elif verb == "split":
        weights = Weighted({"1": 1.0, "2": 1.0}, "salt")
        controller.set_route("router", weights, override="no data yet")
    elif verb == "promote":
        controller.command("router", "promote", reason="why not")
    else:
        controller.command("router", "abort", reason="slow")


def main() -> None:
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                act(json.loads(line))
                code = 0
            finally:
                os._exit(code)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
