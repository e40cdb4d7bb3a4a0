"""`xlmr bench`: how fast the engine is, here, beside its peers; and how a server bears load."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from xlmr.cli.bench_serve import serve_command
from xlmr.cli.knobs import knobs
from xlmr.cli.progress import TokenBar
from xlmr.settings import Settings

if TYPE_CHECKING:
    from xlmr.evaluation.speed.contest import Turn
    from xlmr.evaluation.speed.run import Plan, Result


@click.group("bench")
def bench_command() -> None:
    """Measure this installation."""


bench_command.add_command(serve_command)


@bench_command.command("engine")
@click.option(
    "--shape",
    default="base",
    show_default=True,
    metavar="base|small|large|DIR",
    help="XLM-R's shape with random weights and 50,000 vocabulary rows, or a model directory.",
)
@knobs("precision", "threads", "isa")
@click.option("--peers", is_flag=True, help="Beside the peers that are installed (xlmr[peers]).")
@click.option(
    "--seconds",
    type=click.FloatRange(min=0),
    help="For each workload, all runtimes together.  [20 with peers, else 3]",
)
@click.option(
    "--workload",
    "names",
    multiple=True,
    metavar="NAME",
    help="Only this: 8x32 is 8 texts of 32 tokens, mixed is online traffic; may be repeated.",
)
@click.option(
    "--workloads",
    "source",
    type=click.File("rb"),
    metavar="FILE",
    help='Time {"name": [token lengths]}, ours alone; prints {"name": seconds}. - reads stdin.',
)
@click.option("--json", "json_path", metavar="FILE", help="Write the result as JSON; - for stdout.")
@click.option(
    "--chart", type=click.Path(path_type=Path, dir_okay=False), help="Draw a PNG (xlmr[bench])."
)
def engine_command(
    shape: str,
    peers: bool,
    seconds: float | None,
    names: tuple[str, ...],
    source: Any,
    json_path: str | None,
    chart: Path | None,
    **given: Any,
) -> None:
    """Time the native engine, and hold it against the machine's ceiling and its peers.

    \b
      xlmr bench engine --peers --chart engine.png
      echo '{"short": [12, 7], "long": [512]}' | xlmr bench engine --workloads -

    Only real tokens are counted. All runtimes have the same weights and the same number of threads,
    and take turns; a ratio is the median of the ratios within each round.
    """
    if source is not None and (peers or names or json_path or chart):
        raise click.UsageError("--workloads times ours alone: no peers, workload, json or chart")
    if chart is not None:
        from xlmr.evaluation.speed.chart import require_charts

        require_charts()
    plan = _plan(shape, names, source, Settings.from_environment(**given), seconds, peers=peers)
    if source is not None:
        click.echo(json.dumps(_time(plan)))
        return
    result = _contest(plan)
    if json_path == "-":
        click.echo(json.dumps(result.to_json(), indent=2))
    else:
        _print(result)
        if json_path is not None:
            text = json.dumps(result.to_json(), indent=2) + "\n"
            Path(json_path).write_text(text, encoding="utf-8")
    if chart is not None:
        from xlmr.evaluation.speed.chart import draw

        draw(result, chart)


def _plan(
    shape: str,
    names: tuple[str, ...],
    source: Any,
    settings: Settings,
    seconds: float | None,
    *,
    peers: bool,
) -> Plan:
    from xlmr.evaluation.speed.peers import PEERS
    from xlmr.evaluation.speed.run import Plan
    from xlmr.evaluation.speed.subject import open_subject
    from xlmr.evaluation.speed.workloads import choose_workloads, parse_workloads
    from xlmr.model.runtimes.processors import usable_processors

    subject = open_subject(shape)
    longest = subject.config.max_tokens
    if source is None:
        workloads = choose_workloads(names, max_tokens=longest)
    else:
        workloads = parse_workloads(source.read(), max_tokens=longest)
    return Plan(
        subject=subject,
        precision=settings.precision,
        threads=settings.threads or usable_processors(),
        workloads=workloads,
        seconds=(20.0 if peers else 3.0) if seconds is None else seconds,
        isa=settings.isa,
        peers=PEERS if peers else (),
    )


def _time(plan: Plan) -> Mapping[str, float]:
    from xlmr.evaluation.speed.run import time_ours

    with TokenBar("timing") as bar:
        return time_ours(plan, on_turn=_watched(bar, plan))


def _contest(plan: Plan) -> Result:
    from xlmr.evaluation.speed.run import run

    with TokenBar("timing") as bar:
        return run(
            plan,
            on_turn=_watched(bar, plan),
            on_note=lambda note: click.echo(note, err=True),
        )


def _watched(bar: TokenBar, plan: Plan) -> Callable[[Turn], None]:
    def on_turn(turn: Turn) -> None:
        tokens = sum(plan.workloads[turn.workload]) if turn.seconds else 0
        bar.advance(done=turn.done, tokens=tokens, note=f"{turn.workload} {turn.contestant}")

    return on_turn


def _print(result: Result) -> None:
    from xlmr.evaluation.speed.table import WIDTH, as_rich, origin

    console = Console(highlight=False, width=max(WIDTH, Console().width))
    console.print(f"{result.plan.subject.name}: real tokens a second")
    console.print(as_rich(result))
    console.print(origin(result))
    for peer, reason in result.skipped.items():
        console.print(f"skipped {peer}: {reason}")
