"""Rollouts of a good and of faulty versions on real servers under load, and how each ends.

    PYTHONPATH=. python benchmarks/canaries.py build/starter --json canaries.json \\
        --page docs/canaries.md

MODEL lends its tokenizer; weights are random. The second part starts PostgreSQL and Redis, as the
tests do (`make services`). It fails where a rollout ended otherwise than it should, or a request
was lost.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from canary_house import NAME, House, Traffic, figures, scraped, texts_of
from canary_models import CANDIDATES, FAILS_ON, median_ms, write_models
from canary_page import render
from canary_servers import measure_servers

from xlmr.evaluation.golden import GOLDEN_FILE
from xlmr.evaluation.load.connections import Connections
from xlmr.evaluation.speed.machine import describe_machine
from xlmr.model.bundle import Bundle
from xlmr.model.runtime import Runtime
from xlmr.registry.journal import Entry
from xlmr.registry.opening import open_controller
from xlmr.registry.rollout.controller import Controller
from xlmr.types import Batch, Hidden, Rows

# Through the shadow first, or callers meet the candidate at once.
WAYS = ("shadow", "callers")
PATIENCE_S, LOOK_S, READY_LOOK_S = 240.0, 0.25, 0.1
# Until the server has heard of the end, and all that arrived before is answered.
SETTLED_S = 2.0
# The objective where no version is slower.
UNREACHED_MS = 10_000.0
# Lines of the journal with what decided; the last is the one that counts.
ENDS = ("rollout.abort", "rollout.promote", "rollout.burned")

PLAN = """\
objective_ms = {objective}
margin = {margin}
languages = ["en", "th"]
units_per_language = 5
required = {required}
[shadow]
share = {shadow}
capacity = 0.2
units = 150
minutes = 0.05
[watch]
minutes = 0.1
units = 50
"""
STEP = "[[steps]]\nshare = {share}\nunits = {units}\nminutes = 0.05\n"


class Failing:
    """A runtime that fails on some pieces, as one with a faulty kernel would."""

    def __init__(self, runtime: Runtime, ids: Sequence[int]) -> None:
        self._runtime = runtime
        self._ids = frozenset(ids)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runtime, name)

    def run(self, batch: Batch, *, rows: Rows = "all") -> Hidden:
        """As the runtime's own."""
        if not self._ids.isdisjoint(batch.ids_T.tolist()):
            raise RuntimeError("a faulty kernel")
        return self._runtime.run(batch, rows=rows)


async def roll(
    house: House, traffic: Traffic, address: str, name: str, way: str, options: argparse.Namespace
) -> Mapping[str, Any]:
    """One rollout, from a calm stretch before it to its end."""
    version = options.candidates.index(name) + 2
    calm_at = time.time()
    await asyncio.sleep(options.calm)
    before = await scraped(address)
    words = ("--plan", house.root / f"{way}.toml", "--override", "a benchmark", "--json")
    started = json.loads(await house.run("rollout", "start", NAME, version, *words))
    began = started["started_at"]
    loading = asyncio.create_task(loaded(address, version))
    with open_controller(house.opened()) as controller:
        lines = await watched(controller, began)
    ready = await loading
    decided = [one for one in lines if one.action in ENDS][-1]
    ended, verdict = decided.at_us / 1e6, json.loads(decided.detail)
    await asyncio.sleep(SETTLED_S)
    after = await scraped(address)
    during, after_loading = traffic.between(began, ended), traffic.between(ready, ended)

    def grown(metric: str, label: str = "") -> int:
        named = [key for key in after if key.startswith(metric) and label in key]
        return int(sum(after[key] - before.get(key, 0.0) for key in named))

    return {
        "candidate": name,
        "says": CANDIDATES[name].says,
        "way": way,
        "expected": CANDIDATES[name].ends,
        "caught_by": CANDIDATES[name].caught,
        "ended": "live" if lines[-1].action == "rollout.done" else "back",
        "tests": sorted({reason["test"] for reason in verdict.get("reasons", ())}),
        "stage": stages(way, options)[verdict["step"]] if "step" in verdict else "promoted",
        "sentence": verdict["sentence"],
        "seconds": ended - began,
        "requests": len(during),
        "by_candidate": sum(one.version == str(version) for one in during),
        "copies": grown("xlmr_shadow_requests"),
        "rescued": grown("xlmr_route_fallbacks", "fault"),
        "lost": sum(one.status != 200 for one in traffic.between(calm_at, ended + 1.0)),
        "calm_between": (calm_at, calm_at + options.calm),
        "loading_between": (began, ready),
        "between": (ready, ended),
        "before": figures(traffic.between(calm_at, calm_at + options.calm)),
        "loading": figures(traffic.between(began, ready), by="1"),
        "during": figures(after_loading, by="1"),
    }


async def loaded(address: str, version: int) -> float:
    """Waits until a version is ready to answer; when it was, in seconds since 1970."""
    connections = Connections(address)
    try:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                reply = await connections.request("GET", f"/v1/models/{NAME}@{version}")
                if reply.status == 200 and json.loads(reply.body)["state"] == "ready":
                    return time.time()
                await asyncio.sleep(READY_LOOK_S)
    finally:
        connections.close()


async def watched(controller: Controller, began: float) -> list[Entry]:
    """Waits until servers have brought a rollout to its end; its lines in the journal."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            state = await asyncio.to_thread(controller.board.state, NAME)
            if state is not None and state.over:
                break
            await asyncio.sleep(LOOK_S)
    entries = controller.registry.catalogue.entries(name=NAME)
    return [one for one in entries if one.at_us >= began * 1e6 and one.action.startswith("rollout")]


def stages(way: str, options: argparse.Namespace) -> list[str]:
    """Names of a plan's stages."""
    shares = [f"{share * 100:g} %" for share, _ in options.steps]
    return ["shadow", *shares] if way == "shadow" else shares


def write_plans(place: Path, options: argparse.Namespace) -> None:
    """A plan for each way."""
    steps = "".join(STEP.format(share=share, units=units) for share, units in options.steps)
    for way in WAYS:
        shadowed = way == "shadow"
        head = PLAN.format(
            objective=options.objective_ms,
            margin=options.margin,
            required=["disagreement"] if shadowed else [],
            shadow=1.0 if shadowed else 0.0,
        )
        (place / f"{way}.toml").write_text(head + steps, encoding="utf-8")


async def measure_rollouts(
    house: House, models: Path, options: argparse.Namespace
) -> Mapping[str, Any]:
    """Every rollout, one after the other; the one that goes live last."""
    write_plans(house.root, options)
    await house.fill([models / name for name in ("live", *options.candidates)])
    found: list[Mapping[str, Any]] = []
    command = (sys.executable, __file__)
    with house.served(*command) as address:
        traffic = Traffic([address], rate=options.rate, rare_every=options.rare_every)
        async with traffic.going_on():
            await asyncio.sleep(options.calm)
            for name, way in options.rollouts:
                found.append(await roll(house, traffic, address, name, way, options))
                tell(found[-1])
    calm = [sent for one in found for sent in traffic.between(*one["calm_between"])]
    loading = [sent for one in found for sent in traffic.between(*one["loading_between"])]
    during = [sent for one in found for sent in traffic.between(*one["between"])]
    return {
        "rate": options.rate,
        "objective_ms": options.objective_ms,
        "margin": options.margin,
        "steps": ", ".join(stages("callers", options)),
        "requests": len(traffic.sent),
        "lost": sum(one.status != 200 for one in traffic.sent),
        "late_ms": traffic.late_s * 1e3,
        "before": figures(calm),
        "loading": figures(loading, by="1"),
        "during": figures(during, by="1"),
        "rollouts": found,
    }


def tell(one: Mapping[str, Any]) -> None:
    """A rollout in a line, while the others go on."""
    waits = [one[stretch]["p99_ms"] for stretch in ("during", "before")]
    during, before = ("no answer" if ms is None else f"{ms:.0f} ms" for ms in waits)
    print(
        f"{one['candidate']} ({one['way']}): {one['ended']} at {one['stage']} after "
        f"{one['seconds']:.0f} s, {one['requests']} requests, {one['lost']} lost, p99 {during}, "
        f"before {before}: {one['sentence']}",
        flush=True,
    )


def passed(found: Mapping[str, Any]) -> bool:
    """Whether every rollout ended as it should, for a right reason, and nothing was lost."""
    rollouts = found.get("rollouts", {"rollouts": [], "lost": 0})
    right = [
        one["ended"] == one["expected"]
        and (one["ended"] == "live" or set(one["tests"]) & set(one["caught_by"]))
        for one in rollouts["rollouts"]
    ]
    lost = rollouts["lost"] + found.get("servers", {"lost": 0})["lost"]
    return all(right) and not lost


def serve() -> None:
    """`xlmr serve`, whose engine fails on the pieces that a model's configuration names."""
    from xlmr.cli.main import main
    from xlmr.serving import engines

    open_runtime = engines.open_runtime

    def opened(bundle: Bundle, **named: Any) -> Any:
        runtime = open_runtime(bundle, **named)
        ids = bundle.raw_config.get(FAILS_ON)
        return Failing(runtime, ids) if ids else runtime

    engines.open_runtime = opened  # type: ignore[assignment]
    main()


def measure() -> None:
    """Runs what is asked for, and writes JSON and page."""
    options = _options()
    found: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": describe_machine(),
    }
    if options.json is not None and options.json.exists():
        found = json.loads(options.json.read_text("utf-8")) | found
    texts = texts_of(options.rate, 400 / options.rate, options.rare_every)
    for part in options.only:
        with tempfile.TemporaryDirectory(prefix="xlmr-canaries-") as scratch:
            house, models = Path(scratch), options.models or Path(scratch) / "models"
            names = options.candidates if part == "rollouts" else ["good", "nan"]
            if not all((models / name / GOLDEN_FILE).exists() for name in ("live", *names)):
                write_models(models, options.model, texts, hidden=options.hidden, names=names)
            if part == "servers":
                found[part] = measure_servers(
                    house, models, rate=options.rate, repeat=options.repeat
                )
                continue
            if options.objective_ms is None:
                slow = "slower" in names
                slow_ms = median_ms(models / "slower", texts) if slow else UNREACHED_MS
                options.objective_ms = round(slow_ms / 2.0, 1)
            found[part] = asyncio.run(measure_rollouts(House(house), models, options))
    found["passed"] = passed(found)
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    if options.page is not None:
        options.page.write_text(render(found), encoding="utf-8")
    sys.exit(0 if found["passed"] else 1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="rollouts of good and faulty versions under load")
    parser.add_argument("model", type=Path, help="a directory with a tokenizer.json")
    parser.add_argument("--only", nargs="+", choices=("rollouts", "servers"))
    parser.add_argument("--candidates", nargs="+", choices=CANDIDATES, default=list(CANDIDATES))
    parser.add_argument("--rate", type=float, default=60.0, help="requests a second")
    parser.add_argument("--calm", type=float, default=8.0, help="seconds before each rollout")
    parser.add_argument(
        "--objective-ms", type=float, help="[half of what the slower version needs for a text]"
    )
    parser.add_argument("--repeat", type=int, default=10, help="changes that servers must follow")
    parser.add_argument("--quick", action="store_true", help="two rollouts, small and undemanding")
    parser.add_argument("--models", type=Path, help="where versions are kept for the next run")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--page", type=Path)
    options = parser.parse_args()
    options.hidden, options.margin, options.rare_every = 64, 0.04, 33
    options.steps = ((0.1, 100), (0.25, 200), (0.5, 400))
    options.only = options.only or ["rollouts", "servers"]
    options.rollouts = [
        (name, way)
        for name in options.candidates
        for way in WAYS
        if way == "shadow" or CANDIDATES[name].ends == "back"
    ]
    if options.quick:
        options.only, options.candidates = ["rollouts"], ["nan", "good"]
        # So few requests must meet the fault before they let the candidate go live.
        options.hidden, options.margin, options.rare_every = 32, 0.5, 5
        options.steps, options.calm = ((0.5, 50),), 1.0
        options.rollouts = [("nan", "callers"), ("good", "shadow")]
    return options


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve()
    else:
        measure()
