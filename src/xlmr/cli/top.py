"""`xlmr top`: one server on a terminal, for people without Grafana."""

from __future__ import annotations

import contextlib
import json
import time
import urllib.error
import urllib.request
from collections import deque
from http.client import HTTPException
from typing import TextIO

import click
from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from xlmr.cli.top_view import top_view
from xlmr.errors import DataError, SettingsError
from xlmr.levels.glance import glance
from xlmr.levels.reading import Reading, Span

# Rates and percentiles are of so long a time: shorter ones jump.
_SPAN_S = 30.0
_PATIENCE_S = 10.0
_MOST_BYTES = 64 * 1024 * 1024


@click.command("top")
@click.argument("address", default="http://127.0.0.1:8080")
@click.option("--once", is_flag=True, help="Print it once, of all since the server started.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; with --once.")
@click.option(
    "--every", default=2.0, show_default=True, type=click.FloatRange(min=0.2), metavar="SECONDS"
)
@click.option(
    "--key-file", type=click.File(), help="Holds a key, where /metrics asks for one; - is stdin."
)
def top_command(
    address: str, once: bool, as_json: bool, every: float, key_file: TextIO | None
) -> None:
    """Watch the server at ADDRESS: requests, latency, errors, queue, memory, languages, models.

    \b
      xlmr top                                  http://127.0.0.1:8080, until Ctrl-C
      xlmr top http://10.0.0.7:8080
      xlmr top --once --json | jq .latency_ms   for machines

    Rates and latencies are of the last half a minute, with --once of all since the start.
    """
    if as_json and not once:
        raise click.UsageError("--json goes with --once")
    if not address.startswith(("http://", "https://")):
        raise click.BadParameter(f"{address}: as http://127.0.0.1:8080", param_hint="ADDRESS")
    url = f"{address.rstrip('/')}/metrics"
    key = "" if key_file is None else key_file.read().strip()
    if once:
        shown = glance(since_start(read(url, key=key)))
        if as_json:
            click.echo(json.dumps(shown, indent=2))
        else:
            Console(highlight=False).print(top_view(shown, address))
        return
    with contextlib.suppress(KeyboardInterrupt):
        _watch(url, address, every=every, key=key)


def read(url: str, *, key: str = "") -> Reading:
    """What the server exports now.

    Raises:
        SettingsError: it does not answer, or not to this key.
        DataError: what answers is no server of ours.
    """
    asked = urllib.request.Request(url)
    if key:
        asked.add_header("authorization", f"Bearer {key}")
    try:
        with urllib.request.urlopen(asked, timeout=_PATIENCE_S) as answer:
            page = answer.read(_MOST_BYTES)
    except urllib.error.HTTPError as fault:
        hint = (
            "say --key-file" if fault.code in (401, 403) else "is this the address of xlmr serve?"
        )
        raise SettingsError(f"{url}: {fault.code}", hint=hint) from None
    except (OSError, HTTPException) as fault:
        reason = getattr(fault, "reason", fault)
        raise SettingsError(f"{url}: no answer ({reason})", hint="is it running?") from None
    return Reading(page.decode("utf-8", "replace"), at=time.monotonic())


def since_start(reading: Reading) -> Span:
    """All that a server has done."""
    began = reading.value("process_start_time_seconds")
    return Span(reading, seconds=max(time.time() - began, 0.001) if began else None)


def _watch(url: str, address: str, *, every: float, key: str) -> None:
    """Until Ctrl-C; a server that is away is asked again."""
    readings: deque[Reading] = deque()
    with Live(console=Console(highlight=False), screen=True, auto_refresh=False) as live:
        while True:
            live.update(_look(readings, url, address, key=key), refresh=True)
            time.sleep(every)


def _look(readings: deque[Reading], url: str, address: str, *, key: str) -> RenderableType:
    try:
        now = read(url, key=key)
    except (SettingsError, DataError) as fault:
        readings.clear()
        return Text(str(fault), style="bold red")
    span = Span(now, readings[0]) if readings else since_start(now)
    readings.append(now)
    while now.at - readings[0].at > _SPAN_S:
        readings.popleft()
    return top_view(glance(span), address)
