"""What the rules must say of made-up hours, as `promtool test rules` reads it. Pure.

Each hour is a healthy one but for what it is about; all that fires at its end is told exactly,
so a rule that fires too eagerly fails as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from xlmr.levels.objectives import Objectives, bound_of
from xlmr.levels.rule import Severity

# Minutes that are played, and at which it is looked.
_LENGTH, _LOOK = 60, 55
_SERVER = 'instance="server-1",region="eu"'
_VERSION = f'{_SERVER},task="classify",model="router",version="1"'
_LANGUAGE = f'{_VERSION},language="de"'

Firing = tuple[str, Severity]


@dataclass(frozen=True, slots=True)
class Hour:
    """What is told at the end of an hour.

    Attributes:
        name: what it is about.
        series: values by series, in promtool's notation.
        firing: alerts and their severities, all of them.
    """

    name: str
    series: Mapping[str, str]
    firing: frozenset[Firing]


def rules_test(objectives: Objectives, *, rules: str) -> dict[str, Any]:
    """A test file; `rules` is the rule file's name beside it."""
    return {
        "rule_files": [rules],
        "evaluation_interval": "5m",
        "tests": [_played(objectives.job, hour) for hour in hours(objectives)],
    }


def hours(objectives: Objectives) -> Iterator[Hour]:
    """Every hour that is played."""
    few = min(objectives.events.page, objectives.events.ticket) - 1
    allowed = 1 - objectives.availability.target
    burnt: tuple[Firing, ...] = (("XlmrAvailability", "page"), ("XlmrAvailability", "ticket"))
    late: tuple[Firing, ...] = tuple(
        (alert, severity)
        for alert in ("XlmrLatencyP95", "XlmrLatencyP99")
        for severity in ("page", "ticket")
    )
    yield _hour("quiet", _traffic(objectives, failing=allowed / 2))
    yield _hour("burns fast", _traffic(objectives, failing=allowed * 20), *burnt)
    yield _hour("burns slowly", _traffic(objectives, failing=allowed * 4), burnt[1])
    yield _hour("too few events", _traffic(objectives, a_minute=few * 2 / _LENGTH, failing=0.5))
    yield _hour("slow answers", _traffic(objectives, slow=0.9), *late)
    yield Hour("no server", {}, frozenset({("XlmrNoServers", "page")}))
    yield Hour(
        "absent metrics",
        {f"up{{{_SERVER}}}": _flat(1)},
        frozenset({("XlmrMetricsMissing", "ticket")}),
    )
    down: tuple[Firing, ...] = (("XlmrRegionDown", "page"), ("XlmrServerDown", "ticket"))
    yield Hour("region down", {f"up{{{_SERVER}}}": _flat(0)}, frozenset(down))
    stopped = {f'xlmr_requests_total{{{_VERSION},code="ok"}}': f"0+100x30 3000x{_LENGTH - 31}"}
    yield _hour("traffic stops", stopped, ("XlmrTrafficStopped", "ticket"))
    yield _sick_server(objectives)
    yield _sick_engine(objectives)
    yield _registry(objectives)
    yield _rollout(objectives)
    yield _quality(objectives)
    yield _drift(objectives)
    yield _blind()


def _hour(name: str, series: Mapping[str, str], *firing: Firing) -> Hour:
    return Hour(name, _healthy() | dict(series), frozenset(firing))


def _healthy() -> dict[str, str]:
    """A server that is up and has nothing to do."""
    return {
        f"up{{{_SERVER}}}": _flat(1),
        f"process_start_time_seconds{{{_SERVER}}}": _flat(1),
        f"xlmr_engine_faults_total{{{_SERVER}}}": _flat(0),
        f"xlmr_queue_oldest_seconds{{{_SERVER}}}": _flat(0),
        f"xlmr_worker_restarts_total{{{_SERVER}}}": _flat(0),
        f"xlmr_registry_age_seconds{{{_SERVER}}}": _flat(1),
        f"xlmr_memory_limit_bytes{{{_SERVER}}}": _flat(1000),
        f"xlmr_memory_held_bytes{{{_SERVER}}}": _flat(100),
        f"xlmr_memory_kills_total{{{_SERVER}}}": _flat(0),
    }


def _traffic(
    objectives: Objectives, *, a_minute: float = 10_000, failing: float = 0.0, slow: float = 0.0
) -> dict[str, str]:
    """Requests of which a share fails, and a share is slow."""
    latency = objectives.latency
    bucket = f"xlmr_request_seconds_bucket{{{_VERSION},le="
    return {
        f'xlmr_requests_total{{{_VERSION},code="ok"}}': _grows(a_minute * (1 - failing)),
        f'xlmr_requests_total{{{_VERSION},code="engine_error"}}': _grows(a_minute * failing),
        f'xlmr_requests_total{{{_VERSION},code="invalid_input"}}': _grows(a_minute),
        f"xlmr_request_seconds_count{{{_VERSION}}}": _grows(a_minute),
        f'{bucket}"{bound_of(latency.p95_ms)}"}}': _grows(a_minute * (1 - slow)),
        f'{bucket}"{bound_of(latency.p99_ms)}"}}': _grows(a_minute * (1 - slow)),
    }


def _sick_server(objectives: Objectives) -> Hour:
    series = {
        f"xlmr_memory_held_bytes{{{_SERVER}}}": _flat((1 + objectives.server.memory) * 500),
        f"xlmr_memory_kills_total{{{_SERVER}}}": f"0x45 1x{_LENGTH - 46}",
        f"process_start_time_seconds{{{_SERVER}}}": f"1x30 2x5 3x5 4x{_LENGTH - 43}",
        f"xlmr_worker_restarts_total{{{_SERVER}}}": f"0x20 2x{_LENGTH - 21}",
    }
    return _hour(
        "a server that dies",
        series,
        ("XlmrMemoryHigh", "ticket"),
        ("XlmrOutOfMemory", "page"),
        ("XlmrRestartLoop", "page"),
        ("XlmrWorkerDied", "ticket"),
    )


def _sick_engine(objectives: Objectives) -> Hour:
    server = objectives.server
    model = f'{_SERVER},model="router",version="2",state="failed"'
    series = {
        f"xlmr_engine_faults_total{{{_SERVER}}}": _grows(1),
        f"xlmr_queue_oldest_seconds{{{_SERVER}}}": _flat(server.queue_seconds * 2),
        f"xlmr_engine_busy_seconds_total{{{_SERVER}}}": _grows(30 * (1 + server.busy)),
        f"xlmr_model_state{{{model}}}": _flat(1),
        f'xlmr_redis_faults_total{{{_SERVER},use="cache"}}': _grows(5),
        f'xlmr_feedback_dropped_records_total{{{_SERVER},reason="store"}}': _grows(1),
    }
    return _hour(
        "an engine in trouble",
        series,
        ("XlmrEngineFaults", "ticket"),
        ("XlmrQueueStuck", "page"),
        ("XlmrSaturated", "ticket"),
        ("XlmrModelFailed", "ticket"),
        ("XlmrRedisFaults", "ticket"),
        ("XlmrTelemetryLost", "ticket"),
    )


def _registry(objectives: Objectives) -> Hour:
    age_s = objectives.server.registry_minutes * 60 * 2
    versions = f"xlmr_registry_versions{{{_SERVER},state="
    series = {
        f"xlmr_registry_age_seconds{{{_SERVER}}}": _flat(age_s),
        f'{versions}"failed"}}': _flat(1),
        f'{versions}"missing"}}': _flat(1),
    }
    return _hour(
        "a registry that is away",
        series,
        ("XlmrRegistryAway", "ticket"),
        ("XlmrRegistryVersionFailed", "ticket"),
        ("XlmrRegistryVersionMissing", "ticket"),
    )


def _rollout(objectives: Objectives) -> Hour:
    read = f"xlmr_shadow_requests_total{{{_SERVER},outcome="
    rollout = objectives.rollout
    series = {
        f'{read}"agreed"}}': _grows(100 * (1 - rollout.disagreed) / 2),
        f'{read}"disagreed"}}': _grows(100 * (1 + rollout.disagreed)),
        f'{read}"failed"}}': _grows(200 * (1 + rollout.failed)),
        f'xlmr_route_fallbacks_total{{{_SERVER},reason="fault"}}': _grows(objectives.events.ticket),
    }
    return _hour(
        "a rollout that goes wrong",
        series,
        ("XlmrRouteFallbacks", "ticket"),
        ("XlmrShadowDisagrees", "ticket"),
        ("XlmrShadowFails", "ticket"),
    )


def _quality(objectives: Objectives) -> Hour:
    """Every language has its own limit; German is halfway between its limit and all."""
    quality = objectives.quality
    abstained = (1 + quality.languages.get("de", quality.abstained)) / 2
    texts = float(quality.least_texts)
    series = {
        f'xlmr_items_total{{{_LANGUAGE},code="ok"}}': _grows(texts),
        f"xlmr_abstained_items_total{{{_LANGUAGE}}}": _grows(texts * abstained),
        f"xlmr_truncated_items_total{{{_VERSION}}}": _grows(texts * (1 + quality.truncated) / 2),
        f"xlmr_tokens_total{{{_VERSION}}}": _grows(texts * 10),
        f"xlmr_unknown_tokens_total{{{_VERSION}}}": _grows(texts * 5 * (1 + quality.unknown)),
    }
    return _hour(
        "answers that lack something",
        series,
        ("XlmrAbstains", "ticket"),
        ("XlmrTruncated", "ticket"),
        ("XlmrUnknownPieces", "ticket"),
    )


def _drift(objectives: Objectives) -> Hour:
    """German falls under what is promised of it, Swahili not quite; both drift."""
    accuracy = objectives.accuracy
    ratio = f'xlmr_drift_accuracy_ratio{{{_SERVER},model="router",version="1",'
    alarms = f'xlmr_drift_alarms{{{_SERVER},model="router",version="1",'
    series: dict[str, str] = {}
    for language, aside in (("de", -0.01), ("sw", 0.01)):
        least = accuracy.languages.get(language, 0.9 - accuracy.fall)
        of = f'{ratio}language="{language}",source='
        series |= {
            f'{of}"release",end="share"}}': _flat(0.9),
            f'{of}"estimated",end="high"}}': _flat(least + aside),
            f'{of}"estimated",end="share"}}': _flat(least - 0.1),
            f'{alarms}language="{language}",kind="within"}}': f"0x10 1x{_LENGTH - 11}",
        }
    return _hour("texts that drift", series, ("XlmrAccuracyFell", "page"), ("XlmrDrift", "ticket"))


def _blind() -> Hour:
    series = {f"xlmr_drift_hours_behind{{{_SERVER}}}": _flat(4)}
    return _hour("a drift store that is away", series, ("XlmrDriftBlind", "ticket"))


def _played(job: str, hour: Hour) -> dict[str, Any]:
    firing = 'group by (alertname, severity) (ALERTS{alertstate="firing"})'
    return {
        "name": hour.name,
        "interval": "1m",
        "input_series": [
            {"series": name.replace("{", f'{{job="{job}",', 1), "values": values}
            for name, values in hour.series.items()
        ],
        "promql_expr_test": [
            {
                "expr": firing,
                "eval_time": f"{_LOOK}m",
                "exp_samples": [
                    {"labels": f'{{alertname="{alert}", severity="{severity}"}}', "value": 1}
                    for alert, severity in sorted(hour.firing)
                ],
            }
        ],
    }


def _flat(value: float) -> str:
    return f"{value:g}x{_LENGTH}"


def _grows(a_minute: float) -> str:
    return f"0+{a_minute:g}x{_LENGTH}"
