"""`make bench`: every shape beside every peer, start-up, memory, agreement; then the page.

python benchmarks/engine.py                  everything, docs/performance.md and its pictures
python benchmarks/engine.py --only page      the page again, from what was measured last
python benchmarks/engine.py --only memory --requests 500
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from agreement import measure_agreement
from neighbour import measure_neighbour
from page import neighbour_table, render
from serving_cost import measure_memory, measure_start, write_model

from xlmr.model.importing.starter import import_starter
from xlmr.model.runtimes.processors import usable_processors
from xlmr.settings import Settings

REPOSITORY = Path(__file__).resolve().parent.parent
PARTS = ("shapes", "start", "memory", "agreement", "neighbour", "page")


def main() -> None:
    """Runs what is asked for; what was measured before is kept for the page."""
    options = _options()
    options.work.mkdir(parents=True, exist_ok=True)
    parts = options.only or PARTS
    if "shapes" in parts:
        for shape in options.shapes:
            _contest(shape, options)
    starter = cache(lambda: _starter(options.work))
    if "agreement" in parts:
        data = REPOSITORY / "examples" / "support" / "data"
        found = measure_agreement(starter(), data, threads=options.threads, tell=_tell)
        _write(options.work / "agreement.json", found)
    if "start" in parts or "memory" in parts:
        _serving(parts, options, starter)
    if "neighbour" in parts:
        shape = options.shapes[0]
        found = measure_neighbour(shape, threads=options.threads, seconds=1.0, tell=_tell)
        _write(options.work / "neighbour.json", found)
        print(neighbour_table(found))
    _page(options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="measure, and write docs/performance.md")
    parser.add_argument("--only", nargs="+", choices=PARTS, help="these parts alone")
    parser.add_argument("--shapes", nargs="+", default=["base", "small", "large"])
    parser.add_argument("--precision", default="int8", choices=["int8", "bf16", "fp32"])
    parser.add_argument("--threads", type=int, default=usable_processors())
    parser.add_argument("--seconds", type=float, default=30.0, help="for each workload")
    parser.add_argument("--requests", type=int, default=20_000, help="to watch the memory over")
    parser.add_argument("--work", type=Path, default=REPOSITORY / "build" / "bench")
    parser.add_argument("--docs", type=Path, default=REPOSITORY / "docs")
    return parser.parse_args()


def _contest(shape: str, options: argparse.Namespace) -> None:
    """In a process of its own, so that one shape's runtimes are gone before the next."""
    _tell(f"{shape}: contest")
    command = [
        *(sys.executable, "-c", "from xlmr.cli.bench import bench_command; bench_command()"),
        *("engine", "--peers", "--shape", shape, "--precision", options.precision),
        *("--threads", str(options.threads), "--seconds", str(options.seconds)),
        *("--json", str(options.work / f"shape-{shape}.json")),
        *("--chart", str(options.docs / _chart(shape))),
    ]
    subprocess.run(command, check=True)


def _serving(
    parts: Sequence[str], options: argparse.Namespace, starter: Callable[[], Path]
) -> None:
    with tempfile.TemporaryDirectory(prefix="xlmr-bench-") as scratch:
        model, cache_dir = Path(scratch) / "base", Path(scratch) / "cache"
        _tell("writing a model of XLM-R base's shape")
        write_model(model, starter())
        if "start" in parts:
            _write(options.work / "start.json", measure_start(model, cache_dir, tell=_tell))
        if "memory" in parts:
            found = measure_memory(model, cache_dir, requests=options.requests, tell=_tell)
            _write(options.work / "memory.json", found)


def _page(options: argparse.Namespace) -> None:
    measured: dict[str, Any] = {"shapes": {}}
    known = {path.stem.removeprefix("shape-"): path for path in options.work.glob("shape-*.json")}
    # As asked for, then what earlier runs left.
    for shape in dict.fromkeys([*options.shapes, *sorted(known)]):
        if shape in known:
            chart = {"chart": _chart(shape)} if (options.docs / _chart(shape)).exists() else {}
            measured["shapes"][shape] = json.loads(known[shape].read_text("utf-8")) | chart
    for part in ("start", "memory", "neighbour", "agreement"):
        path = options.work / f"{part}.json"
        if path.exists():
            measured[part] = json.loads(path.read_text("utf-8"))
    page = options.docs / "performance.md"
    page.write_text(render(measured), encoding="utf-8")
    _tell(f"wrote {page}")


def _starter(work: Path) -> Path:
    settings = Settings.from_environment()
    return import_starter(work.parent / "starter", cache_dir=settings.cache_dir)


def _chart(shape: str) -> str:
    return f"performance-{shape}.png"


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _tell(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
