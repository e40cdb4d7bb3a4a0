"""`xlmr bench serve`: how a server bears load, beside others if there are."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

from xlmr.errors import SettingsError, XlmrError

if TYPE_CHECKING:
    from xlmr.evaluation.load.figures import Level

_TASKS = ("embed", "classify", "tag")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Load:
    seconds: float
    objective_s: float
    tasks: tuple[str, ...]
    texts: Sequence[str] | None
    overload: float
    rounds: int
    rates: tuple[float, ...]


@click.command("serve")
@click.argument("targets", nargs=-1, metavar="[NAME=http://HOST:PORT ...]")
@click.option(
    "--model",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Start our own server with this model directory and measure it as `xlmr`.",
)
@click.option("--task", "tasks", multiple=True, type=click.Choice(_TASKS), default=("embed",))
@click.option(
    "--texts",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Ask these texts, one a line.  [made up, in eleven languages, log-normal lengths]",
)
@click.option("--objective-ms", default=500.0, show_default=True, help="An answer is of use until.")
@click.option(
    "--seconds", default=10.0, show_default=True, help="Of arrivals, for each rate tried."
)
@click.option(
    "--rate",
    "rates",
    type=click.FloatRange(min=0, min_open=True),
    multiple=True,
    help="Requests a second; only this is tried, nothing is looked for. May be repeated.",
)
@click.option("--overload", default=3.0, show_default=True, help="Times the highest rate kept.")
@click.option("--rounds", default=1, show_default=True, help="Turns of each server; medians count.")
@click.option("--json", "json_path", metavar="FILE", help="Write the result as JSON; - for stdout.")
def serve_command(
    targets: tuple[str, ...],
    model: Path | None,
    tasks: tuple[str, ...],
    texts: Path | None,
    objective_ms: float,
    seconds: float,
    rates: tuple[float, ...],
    overload: float,
    rounds: int,
    json_path: str | None,
) -> None:
    """Find the highest rate a server keeps up with, and what it does beyond.

    \b
      xlmr bench serve --model models/router --task classify
      xlmr bench serve --model models/e5 other=http://127.0.0.1:7997

    Arrivals are a Poisson process that waits for nobody; latency counts from the moment a request
    arrives. A rate is kept where 99 in 100 requests are answered within the objective. Servers
    take turns. Other servers are asked at their OpenAI embeddings door.
    """
    lines = None if texts is None else texts.read_text("utf-8").splitlines()
    load = _Load(
        seconds=seconds,
        objective_s=objective_ms / 1000,
        tasks=tasks,
        texts=lines,
        overload=overload,
        rounds=rounds,
        rates=rates,
    )
    try:
        with _targets(targets, model) as addresses:
            found = _measure(addresses, load)
    except XlmrError as error:
        raise click.ClickException(str(error)) from error
    text = json.dumps(found, indent=2)
    if json_path == "-":
        click.echo(text)
        return
    _print(found)
    if json_path is not None:
        Path(json_path).write_text(text + "\n", encoding="utf-8")


@contextmanager
def _targets(given: Sequence[str], model: Path | None) -> Iterator[Mapping[str, str]]:
    addresses = {}
    for target in given:
        name, separator, address = target.partition("=")
        if not separator:
            raise SettingsError(f"{target}: expected NAME=http://HOST:PORT")
        addresses[name] = address
    if model is None:
        if not addresses:
            raise SettingsError("nothing to measure", hint="give --model DIR, or NAME=ADDRESS")
        yield addresses
        return
    command = [sys.executable, "-m", "xlmr", "serve", f"xlmr={model}", "--port", "0", "--json"]
    process = subprocess.Popen(
        [*command, "--log-level", "error"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise SettingsError("our server did not start; its reason is printed above")
        yield {"xlmr": json.loads(line)["address"]} | addresses
    finally:
        process.terminate()
        process.communicate()


def _measure(addresses: Mapping[str, str], load: _Load) -> dict[str, Any]:
    from xlmr.evaluation.speed.machine import describe_machine

    found: dict[str, list[dict[str, Any]]] = {name: [] for name in addresses}
    console = Console(stderr=True)
    with console.status("") as status:
        for turn in range(load.rounds):
            for name, address in addresses.items():
                said = f"{name}, round {turn + 1} of {load.rounds}"
                found[name].append(_one_turn(address, load, status, said, seed=1000 * turn))
    return {
        "machine": describe_machine(),
        "objective_ms": load.objective_s * 1000,
        "seconds": load.seconds,
        "overload": load.overload,
        "tasks": list(load.tasks),
        "servers": found,
    }


def _one_turn(address: str, load: _Load, status: Any, said: str, *, seed: int) -> dict[str, Any]:
    from xlmr.evaluation.load.run import highest_rate

    # No text twice, not even where a rate is tried again: a server may remember its answers.
    seeds = itertools.count(seed)

    def level_at(rate: float) -> Level:
        status.update(f"{said}: {rate:,.0f} requests a second")
        return _level(address, rate, load, seed=next(seeds))

    if not load.rates:
        rate, level, tried = highest_rate(level_at, objective_s=load.objective_s)
        beyond = level_at(rate * load.overload) if level is not None else None
        return _turn(rate, level, tried, beyond)
    tried = [level_at(rate) for rate in load.rates]
    pairs = zip(load.rates, tried, strict=True)
    kept = [(rate, level) for rate, level in pairs if level.keeps(load.objective_s)]
    rate, best = max(kept, key=itemgetter(0), default=(0.0, None))
    return _turn(rate, best, tried, None)


def _level(address: str, rate: float, load: _Load, *, seed: int) -> Level:
    from xlmr.evaluation.load.run import run_level
    from xlmr.evaluation.load.traffic import draw_traffic

    asks = draw_traffic(
        rate=rate, seconds=load.seconds, seed=seed, tasks=load.tasks, texts=load.texts
    )
    headers = b"x-request-deadline-ms: %d\r\n" % round(load.objective_s * 1000)
    return run_level(
        address, asks, seconds=load.seconds, objective_s=load.objective_s, headers=headers
    )


def _turn(
    rate: float, kept: Level | None, tried: Sequence[Level], beyond: Level | None
) -> dict[str, Any]:
    return {
        "highest_rate": rate,
        "kept": None if kept is None else kept.to_json(),
        "levels": [level.to_json() for level in tried],
        "beyond": None if beyond is None else beyond.to_json(),
    }


def _print(found: Mapping[str, Any]) -> None:
    from statistics import median

    table = Table(box=None)
    for column in ("server", "kept, req/s", "p50", "p95", "p99", "beyond: good", "refused in"):
        table.add_column(column, justify="left" if column == "server" else "right")
    for name, turns in found["servers"].items():
        kept = median(turn["highest_rate"] for turn in turns)
        best = max(turns, key=lambda turn: turn["highest_rate"])
        level, beyond = best["kept"], best["beyond"]
        table.add_row(
            name,
            f"{kept:,.0f}",
            *(_ms(level and level[key]) for key in ("p50", "p95", "p99")),
            "–" if not (beyond and kept) else f"{beyond['good'] / best['highest_rate']:.0%}",
            _ms(beyond and beyond["refusal_p99"]),
        )
    console = Console(highlight=False)
    console.print(table)
    console.print(
        f"kept: 99 % answered within {found['objective_ms']:.0f} ms; beyond: at "
        f"{found['overload']:g} times that rate, answers within the objective as a share of it"
    )


def _ms(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds * 1000:,.0f} ms"
