"""For whoever is woken: what is broken, since when, and what changed. Pure."""

from __future__ import annotations

from xlmr.levels.dashboards.panels import Dashboard, Panel, Row
from xlmr.levels.dashboards.queries import Queries
from xlmr.levels.objectives import Objectives


def on_call(objectives: Objectives, queries: Queries) -> Dashboard:
    """The page."""
    latency = objectives.latency
    called = "{{model}}@{{version}}"
    burn = {
        f"{{{{objective}}}} {called} {window}": queries.burn_rate(window) for window in ("1h", "6h")
    }
    requests = queries.version("xlmr_requests_total")
    promises = Row(
        "Promises",
        [
            Panel(
                title="Firing",
                kind="table",
                width=8,
                queries={"": 'ALERTS{alertstate="firing",alertname=~"Xlmr.*"}'},
            ),
            Panel(title="Burn rate (14.4 over 1h pages)", queries=burn, limit=14.4),
            Panel(
                title="Succeeded",
                unit="percentunit",
                limit=objectives.availability.target,
                more_is_better=True,
                queries={called: queries.succeeded("model, version")},
            ),
            Panel(
                title="p95",
                unit="s",
                limit=latency.p95_ms / 1000,
                queries={called: queries.slowest(0.95)},
            ),
            Panel(
                title="p99",
                unit="s",
                limit=latency.p99_ms / 1000,
                queries={called: queries.slowest(0.99)},
            ),
            Panel(
                title="Requests by outcome",
                unit="reqps",
                queries={"{{code}}": queries.rate(requests, "code")},
            ),
        ],
    )
    return Dashboard(
        uid="xlmr-on-call",
        title="xlmr: on call",
        rows=[promises, _load(objectives, queries), _deploys(objectives, queries)],
        variables=queries.variables(),
    )


def _load(objectives: Objectives, queries: Queries) -> Row:
    server, limits = queries.server, objectives.server
    return Row(
        "Load",
        [
            Panel(
                title="Oldest in the queue",
                unit="s",
                limit=limits.queue_seconds,
                queries={"{{instance}}": server("xlmr_queue_oldest_seconds")},
            ),
            Panel(
                title="Refused for now",
                unit="reqps",
                queries={
                    "{{reason}}": queries.rate(server("xlmr_sheds_total"), "reason"),
                    "quota: {{quota}}": queries.rate(server("xlmr_quota_refusals_total"), "quota"),
                },
            ),
            Panel(
                title="Engine busy",
                unit="percentunit",
                limit=limits.busy,
                queries={
                    "{{instance}}": queries.rate(
                        server("xlmr_engine_busy_seconds_total"), "instance"
                    )
                },
            ),
            Panel(
                title="Memory, of its limit",
                unit="percentunit",
                limit=limits.memory,
                queries={
                    "{{instance}}": f"{server('xlmr_memory_held_bytes')}"
                    f" / ({server('xlmr_memory_limit_bytes')} > 0)"
                },
            ),
            Panel(
                title="Memory held",
                unit="bytes",
                queries={"{{instance}} {{process}}": server("xlmr_resident_memory_bytes")},
            ),
            Panel(
                title="Faults and deaths in an hour",
                queries={
                    f"{said} {{{{instance}}}}": f"increase({server(name)}[1h])"
                    for said, name in (
                        ("engine", "xlmr_engine_faults_total"),
                        ("worker", "xlmr_worker_restarts_total"),
                        ("memory", "xlmr_memory_kills_total"),
                    )
                },
            ),
        ],
    )


def _deploys(objectives: Objectives, queries: Queries) -> Row:
    server = queries.server
    return Row(
        "Deploys",
        [
            Panel(
                title="Versions that are ready",
                queries={
                    "{{model}}@{{version}}": f"sum by (model, version)"
                    f" ({queries.version('xlmr_model_state', state='ready')})"
                },
            ),
            Panel(
                title="Restarts in an hour",
                queries={"{{instance}}": f"changes({server('process_start_time_seconds')}[1h])"},
            ),
            Panel(
                title="Age of the registry",
                unit="s",
                limit=objectives.server.registry_minutes * 60,
                queries={"{{instance}}": server("xlmr_registry_age_seconds")},
            ),
            Panel(
                title="Versions the registry names",
                queries={"{{state}}": f"sum by (state) ({server('xlmr_registry_versions')})"},
            ),
            Panel(
                title="Requests by arm",
                unit="reqps",
                queries={
                    "{{model}} {{arm}}": queries.rate(
                        queries.version("xlmr_route_requests_total"), "model, arm"
                    )
                },
            ),
            Panel(
                title="Read in the shadow",
                unit="reqps",
                queries={
                    "{{outcome}}": queries.rate(server("xlmr_shadow_requests_total"), "outcome"),
                    "dropped: {{reason}}": queries.rate(
                        server("xlmr_shadow_drops_total"), "reason"
                    ),
                    "fallback: {{reason}}": queries.rate(
                        server("xlmr_route_fallbacks_total"), "reason"
                    ),
                },
            ),
        ],
    )
