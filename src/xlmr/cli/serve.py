"""`xlmr serve DIR…`: load, warm, listen, drain."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Sequence
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from xlmr.cli.knobs import knobs
from xlmr.errors import XlmrError
from xlmr.serving.admission import Limits
from xlmr.serving.dataplane import Dataplane
from xlmr.serving.http.app import build_app
from xlmr.serving.http.server import Server, address_of, bind
from xlmr.serving.pool import Pool, open_pool
from xlmr.settings import Settings
from xlmr.telemetry.logs import JsonRequestLog, configure_logging
from xlmr.telemetry.metrics import Metrics
from xlmr.text.language import identify_many


@click.command()
@click.argument("models", nargs=-1, required=True, metavar="DIR | NAME=DIR ...")
@knobs(
    "host",
    "port",
    "runtime",
    "precision",
    "isa",
    "threads",
    "batch_tokens",
    "queue_tokens",
    "max_items",
    "max_chars",
    "max_body_bytes",
    "drain_seconds",
    "cache_dir",
    "log_level",
)
@click.option("--json", "as_json", is_flag=True, help="say in one line of JSON when it listens")
def serve(models: tuple[str, ...], as_json: bool, **given: Any) -> None:
    """Serve model directories over HTTP.

    A model is named after its directory unless a name is given: router=models/router.
    """
    try:
        settings = Settings.from_environment(**given)
        run(models, settings, as_json=as_json)
    except XlmrError as error:
        raise click.ClickException(str(error)) from error


def run(models: Sequence[str], settings: Settings, *, as_json: bool) -> None:
    """Serves until a signal; what is in flight then is answered first.

    Raises:
        XlmrError: it cannot start.
    """
    configure_logging(settings.log_level)
    bound = bind(settings.host, settings.port)
    try:
        with Console(stderr=True).status(f"loading {', '.join(models)}"):
            metrics = Metrics()
            pool = open_pool(models, settings, metrics)
            # The first call loads its model; that must not happen on the event loop.
            identify_many(["hello"])
    except XlmrError:
        bound.close()
        raise
    plane = make_plane(pool, settings, metrics)
    server = Server(
        build_app(plane, max_body_bytes=settings.max_body_bytes),
        plane,
        drain_seconds=settings.drain_seconds,
        on_listening=lambda: _announce(bound, pool, as_json=as_json),
    )
    try:
        server.run(sockets=[bound])
    finally:
        plane.close()
        pool.close()


def make_plane(pool: Pool, settings: Settings, metrics: Metrics) -> Dataplane:
    """The data plane as the server runs it."""
    return Dataplane(
        pool,
        limits=Limits(max_items=settings.max_items, max_chars=settings.max_chars),
        metrics=metrics,
        log=JsonRequestLog(settings.log_level),
        identify=identify_many,
    )


def _announce(bound: socket.socket, pool: Pool, *, as_json: bool) -> None:
    address = address_of(bound)
    if as_json:
        models = [
            {"name": m.ref.name, "digest": m.ref.digest, "tasks": sorted(m.tasks)}
            for m in pool.models.values()
        ]
        print(json.dumps({"address": address, "models": models}), flush=True)
        return
    console = Console(file=sys.stdout, highlight=False)
    table = Table("model", "tasks", "runtime", "digest", box=None)
    for model in pool.models.values():
        tasks = ", ".join(sorted(model.tasks))
        table.add_row(model.ref.name, tasks, model.predictor.runtime.name, model.ref.digest[:12])
    console.print(table)
    console.print(f"\nListening on [bold]{address}[/bold]  (/docs explains, Ctrl-C stops)\n")
    for line in curl_lines(address, pool):
        console.print(line, markup=False, soft_wrap=True)


def curl_lines(address: str, pool: Pool) -> list[str]:
    """Commands to try, for what the loaded models can do."""
    lines = []
    for task, path, text in (
        ("classify", "/v1/classify", "أين طلبي؟ لم يصل بعد"),
        ("classify", "/v1/classify", "返金をお願いします"),
        ("embed", "/v1/embeddings", "How do I change my address?"),
    ):
        able = [name for name, model in pool.models.items() if task in model.tasks]
        if able:
            body: dict[str, str] = {"input": text} | ({"model": able[0]} if len(able) > 1 else {})
            said = json.dumps(body, ensure_ascii=False)
            lines.append(f"curl -s {address}{path} -H 'content-type: application/json' -d '{said}'")
    return lines
