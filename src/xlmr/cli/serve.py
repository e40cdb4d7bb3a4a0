"""`xlmr serve DIR…`: load, warm, listen, drain."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.status import Status
from rich.table import Table

import xlmr
from xlmr.cli.knobs import knobs
from xlmr.errors import SettingsError, XlmrError
from xlmr.serving.admission import Limits
from xlmr.serving.beside import in_thread
from xlmr.serving.dataplane import Dataplane
from xlmr.serving.entry import Tls, open_doorkeeper, read_tls
from xlmr.serving.follow.opening import Following, sorted_places
from xlmr.serving.grpc import grpc_door, require_grpc
from xlmr.serving.http.app import build_app
from xlmr.serving.http.request import App
from xlmr.serving.http.server import Server, address_of, bind
from xlmr.serving.observing.opening import Observing, open_observing
from xlmr.serving.pool import Pool
from xlmr.serving.sharing import Sharing, open_sharing
from xlmr.serving.tidy import collect_seldom, keep_memory_together
from xlmr.settings import Settings
from xlmr.telemetry.logs import configure_logging
from xlmr.telemetry.reporting import Reporting, open_reporting
from xlmr.text.language import identify_many

if TYPE_CHECKING:
    from xlmr.serving.doorkeeper import Doorkeeper
    from xlmr.serving.grpc.door import GrpcDoor

logger = logging.getLogger("xlmr.cli.serve")

# After the drain nothing should be computed any more.
_CLOSE_SECONDS = 10.0


@click.command()
@click.argument("models", nargs=-1, metavar="DIR | NAME=DIR | NAME@VERSION=DIR | registry:NAME ...")
@knobs(
    "host",
    "port",
    "grpc_port",
    "runtime",
    "precision",
    "isa",
    "threads",
    "batch_tokens",
    "queue_tokens",
    "max_items",
    "max_chars",
    "max_tokens",
    "max_body_bytes",
    "batch_ms",
    "age_bound_ms",
    "default_deadline_ms",
    "keys_file",
    "jwks",
    "jwt_issuer",
    "jwt_audience",
    "jwt_roles_claim",
    "anonymous_roles",
    "metrics_role",
    "tls_cert",
    "tls_key",
    "workers",
    "worker_timeout_seconds",
    "models_dir",
    "registry",
    "registry_store",
    "registry_roles",
    "trusted_keys",
    "allow_unsigned",
    "seal_key_file",
    "feedback",
    "feedback_policy",
    "drift",
    "drift_alarms",
    "follow_seconds",
    "ready_seconds",
    "drain_pause_seconds",
    "drain_seconds",
    "client_seconds",
    "cache_dir",
    "cache_bytes",
    "cache_ttl_s",
    "redis_url",
    "redis_timeout_ms",
    "quota_requests_per_s",
    "quota_request_burst",
    "quota_tokens_per_s",
    "quota_token_burst",
    "log_level",
    "otlp_endpoint",
    "trace_sample_ratio",
    "price_per_hour",
)
@click.option("--json", "as_json", is_flag=True, help="say in one line of JSON when it listens")
def serve(models: tuple[str, ...], as_json: bool, **given: Any) -> None:
    """Serve model directories over HTTP.

    A model is named after its directory unless a name is given: router=models/router. Several
    versions of one name are asked for as router@VERSION; the plain name leads to the newest.

    registry:router follows the registry for this name: what is live there, or on its way in a
    rollout, is pulled, verified and served here, promotions and rollbacks within two seconds.
    """
    try:
        settings = Settings.from_environment(**given)
        if not models and not settings.models_dir:
            raise SettingsError(
                "no model to serve", hint="name a model directory, or give --models-dir"
            )
        run(models, settings, as_json=as_json)
    except XlmrError as error:
        raise click.ClickException(str(error)) from error


def run(models: Sequence[str], settings: Settings, *, as_json: bool) -> None:
    """Serves until a signal; what is in flight then is answered first.

    Raises:
        XlmrError: it cannot start.
    """
    keep_memory_together()
    names, orders = sorted_places(models)
    tls, doorkeeper = read_tls(settings), open_doorkeeper(settings)
    bound = _bound(settings)
    reporting = open_reporting(settings, version=xlmr.__version__)
    metrics = reporting.metrics
    said = configure_logging(settings.log_level, on_drop=metrics.log_dropped)
    sharing = open_sharing(settings, metrics)
    pool, followers = Pool(settings, metrics), contextlib.ExitStack()
    observing = open_observing(settings, metrics, pool)
    spinner = _spinner(f"loading {', '.join(models)}")

    def load() -> None:
        # The first call loads its model; that must not happen on the event loop.
        identify_many(["hello"])
        if names:
            following = Following(names, pool, plane.routes, plane.tally, settings, metrics)
            followers.callback(following.close)
            following.begin()
        pool.load_all(orders)
        collect_seldom()
        pool.vitals.start()

    def announce() -> None:
        spinner.stop()
        grpc_address = doors[0].address if doors else ""
        address = address_of(bound, tls=tls is not None)
        with _spoken_or_not():
            _announce(address, pool, grpc_address, as_json=as_json)

    plane = make_plane(pool, settings, reporting, sharing, doorkeeper, observing)
    doors = _grpc_doors(plane, settings, tls)
    server = Server(
        _http_doors(plane, settings),
        plane,
        tls=tls,
        doors=doors,
        drain_seconds=settings.drain_seconds,
        client_seconds=settings.client_seconds,
        pause_seconds=settings.drain_pause_seconds,
        load=lambda: in_thread(load),
        on_listening=spinner.start,
        on_started=announce,
        on_stopped=sharing.close,
    )
    try:
        server.run(sockets=[bound])
        if server.fault is not None:
            raise server.fault
    finally:
        spinner.stop()
        bound.close()
        followers.close()
        plane.close()
        observing.close()
        closed = pool.close(within_s=_CLOSE_SECONDS)
        reporting.close()
        said()
        if pool.loading or not closed:
            _leave_at_once(hung=not closed)


def _spinner(words: str) -> Status:
    """Says that something takes its time, to whoever watches."""
    watched = sys.stderr is not None and sys.stderr.isatty()
    return Console(stderr=True, quiet=not watched).status(words)


def _bound(settings: Settings) -> socket.socket:
    """The address is taken, and what gRPC needs is there, before anything is opened."""
    if settings.grpc_port >= 0:
        require_grpc()
    return bind(settings.host, settings.port)


def _leave_at_once(*, hung: bool) -> None:
    """Leaves a thread behind that cannot be stopped: it opens a model, or an engine hangs."""
    with contextlib.suppress(OSError):
        if hung:
            print("an engine hangs and was left behind", file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(1 if hung else 0)


def _http_doors(plane: Dataplane, settings: Settings) -> App:
    """Every HTTP door."""
    return build_app(
        plane,
        max_body_bytes=settings.max_body_bytes,
        metrics_role=settings.metrics_role or None,
    )


def _grpc_doors(plane: Dataplane, settings: Settings, tls: Tls | None) -> list[GrpcDoor]:
    """The gRPC door, where one was asked for."""
    if settings.grpc_port < 0:
        return []
    return [
        grpc_door(
            plane,
            host=settings.host,
            port=settings.grpc_port,
            max_body_bytes=settings.max_body_bytes,
            credentials=None if tls is None else tls.grpc_credentials(),
        )
    ]


def make_plane(
    pool: Pool,
    settings: Settings,
    reporting: Reporting,
    sharing: Sharing,
    doorkeeper: Doorkeeper | None = None,
    observing: Observing | None = None,
) -> Dataplane:
    """The data plane as the server runs it."""
    return Dataplane(
        pool,
        limits=Limits(
            max_items=settings.max_items,
            max_chars=settings.max_chars,
            max_tokens=settings.max_tokens,
        ),
        metrics=reporting.metrics,
        log=reporting.log,
        tracer=reporting.tracer,
        identify=identify_many,
        cache=sharing.cache,
        quotas=sharing.quotas,
        doorkeeper=doorkeeper,
        observing=observing,
        default_deadline_s=settings.default_deadline_ms / 1000,
    )


@contextlib.contextmanager
def _spoken_or_not() -> Iterator[None]:
    """Serving does not hang on being able to say so: the disk may be full, or nobody listens."""
    try:
        yield
    except OSError:
        logger.warning("standard output cannot be written")
        # What it still holds would fail once more at the end, and make the end look like a fault.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _announce(address: str, pool: Pool, grpc_address: str, *, as_json: bool) -> None:
    ready = [state for state in pool.states() if state.state == "ready"]
    if as_json:
        shown = ("name", "version", "digest", "tasks", "aliases", "runtime", "golden_inputs")
        models = [{field: getattr(m, field) for field in shown} for m in ready]
        said = {"address": address, "models": models}
        if grpc_address:
            said["grpc_address"] = grpc_address
        print(json.dumps(said), flush=True)
        return
    # Piped output has no width; a table must not be folded for that.
    width = None if sys.stdout.isatty() else 160
    console = Console(file=sys.stdout, highlight=False, width=width)
    table = Table("model", "version", "tasks", "runtime", "golden inputs", "digest", box=None)
    for model in ready:
        golden = "none promised" if model.golden_inputs is None else f"{model.golden_inputs} kept"
        tasks = ", ".join(model.tasks)
        digest = model.digest[:12]
        table.add_row(model.name, model.version, tasks, model.runtime, golden, digest)
    if not pool.models:
        console.print("No model is loaded yet; GET /v1/models tells more.")
    else:
        console.print(table)
    console.print(f"\nListening on [bold]{address}[/bold]  (/docs explains, Ctrl-C stops)\n")
    if grpc_address:
        console.print(f"and for gRPC on [bold]{grpc_address}[/bold]\n")
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
