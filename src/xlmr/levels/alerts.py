"""What people are told besides broken promises: causes, and what breaks one tomorrow. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from xlmr.levels.objectives import Objectives
from xlmr.levels.rule import Alert, Category, Group, Severity
from xlmr.levels.series import Fleet

# Metrics on which alerts stand and that a server exports from its first moment on.
ALWAYS_THERE = (
    "xlmr_engine_faults_total",
    "xlmr_memory_limit_bytes",
    "xlmr_queue_oldest_seconds",
    "xlmr_registry_age_seconds",
    "xlmr_worker_restarts_total",
)
SERVER = "{{ $labels.instance }}"
VERSION = "{{ $labels.model }}@{{ $labels.version }}"
SHARE = "{{ $value | humanizePercentage }}"


def alert_groups(objectives: Objectives, *, interval: str = "30s") -> Iterator[Group]:
    """The groups by what they look at."""
    of = Fleet(objectives.job)
    for name, alerts in (
        ("servers", [*_servers(of), *_memory(of, objectives)]),
        ("engine", _engine(of, objectives)),
        ("registry", _registry(of, objectives)),
        ("rollout", _rollout(of, objectives)),
        ("quality", _quality(of, objectives)),
        ("drift", _drift(of, objectives)),
    ):
        yield Group(f"xlmr-{name}", interval, list(alerts))


def _alert(
    name: str,
    severity: Severity,
    category: Category,
    expression: str,
    *,
    hold: str = "0s",
    summary: str,
    action: str,
) -> Alert:
    return Alert(
        name=f"Xlmr{name}",
        severity=severity,
        category=category,
        expression=expression,
        hold=hold,
        summary=summary,
        action=action,
        labels={},
    )


def _servers(of: Fleet) -> Iterator[Alert]:
    """Whether there is anybody to look at."""
    up = of("up")
    missing = "\n  or ".join(f"({up} == 1 unless on (job, instance) {of(n)})" for n in ALWAYS_THERE)
    yield _alert(
        "NoServers",
        "page",
        "servers",
        f"absent({up})",
        hold="2m",
        summary="Prometheus knows no server of this job: nothing here would be noticed.",
        action="See whether the scrape configuration still finds the servers, then the servers.",
    )
    yield _alert(
        "RegionDown",
        "page",
        "servers",
        f"max by (job, region) ({up}) == 0",
        hold="1m",
        summary="No server answers{{ with $labels.region }} in {{ . }}{{ end }}.",
        action="See what the servers' logs end with; send requests elsewhere meanwhile.",
    )
    yield _alert(
        "ServerDown",
        "ticket",
        "servers",
        f"{up} == 0",
        hold="5m",
        summary=f"{SERVER} does not answer.",
        action="See what its log ends with, and whether it is being restarted.",
    )
    yield _alert(
        "MetricsMissing",
        "ticket",
        "servers",
        missing,
        hold="5m",
        summary=f"{SERVER} answers, but not with the metrics that these alerts need.",
        action="See what /metrics of that server is: another program, or another release?",
    )
    asked = of("xlmr_requests_total")
    yield _alert(
        "TrafficStopped",
        "ticket",
        "servers",
        f"sum by (job, region) (increase({asked}[15m])) == 0\n"
        f"  and sum by (job, region) (increase({asked}[1h] offset 15m)) >= 100",
        hold="5m",
        summary="Nobody asks any more{{ with $labels.region }} in {{ . }}{{ end }}.",
        action="Ask the server yourself; then see what stands before it.",
    )


def _memory(of: Fleet, objectives: Objectives) -> Iterator[Alert]:
    most = objectives.server.memory
    used = f"{of('xlmr_memory_held_bytes')} / ({of('xlmr_memory_limit_bytes')} > 0)"
    began = of("process_start_time_seconds")
    yield _alert(
        "MemoryHigh",
        "ticket",
        "servers",
        f"{used} > {most:g}",
        hold="10m",
        summary=f"{SERVER} holds {SHARE} of the memory it may have.",
        action="Unload versions that nobody needs, or raise the limit before it is killed.",
    )
    yield _alert(
        "OutOfMemory",
        "page",
        "servers",
        f"increase({of('xlmr_memory_kills_total')}[15m]) > 0\n"
        f"  or (changes({began}[15m]) > 0 and on (job, instance)\n"
        f"    max_over_time(({used})[15m:30s]) > {most:g})",
        summary=f"{SERVER} was killed for want of memory, or one of its workers was.",
        action="Raise the limit, or serve fewer versions; the log says what was loaded last.",
    )
    yield _alert(
        "RestartLoop",
        "page",
        "servers",
        f"changes({began}[30m]) >= 3",
        summary=f"{SERVER} was restarted {{{{ $value }}}} times within half an hour.",
        action="See what its log ends with before each start.",
    )
    yield _alert(
        "WorkerDied",
        "ticket",
        "servers",
        f"increase({of('xlmr_worker_restarts_total')}[1h]) >= 2",
        summary=f"Worker processes of {SERVER} die again and again.",
        action="The log names the signal they died of; 9 is want of memory as a rule.",
    )


def _engine(of: Fleet, objectives: Objectives) -> Iterator[Alert]:
    server = objectives.server
    yield _alert(
        "EngineFaults",
        "ticket",
        "engine",
        f"increase({of('xlmr_engine_faults_total')}[15m]) >= 3",
        summary=f"The engine of {SERVER} fails to compute.",
        action="See the log for the fault; a version that is new is the first suspect.",
    )
    yield _alert(
        "QueueStuck",
        "page",
        "engine",
        f"{of('xlmr_queue_oldest_seconds')} > {server.queue_seconds:g}",
        hold="1m",
        summary=f"A request has waited {{{{ $value | humanizeDuration }}}} on {SERVER}.",
        action="See /livez of that server; where the engine hangs, restart it.",
    )
    yield _alert(
        "Saturated",
        "ticket",
        "engine",
        f"rate({of('xlmr_engine_busy_seconds_total')}[30m]) > {server.busy:g}",
        hold="10m",
        summary=f"{SERVER} computes {SHARE} of the time: there is no room for a busy hour.",
        action="Add servers, or a smaller model (`xlmr compress`).",
    )
    yield _alert(
        "ModelFailed",
        "ticket",
        "engine",
        f"{of('xlmr_model_state', state='failed')} == 1",
        hold="2m",
        summary=f"{VERSION} could not be loaded on {SERVER}.",
        action="The log and GET /v1/models say why; what was served before still is.",
    )
    yield _alert(
        "RedisFaults",
        "ticket",
        "engine",
        f"sum by (job, instance, use) (increase({of('xlmr_redis_faults_total')}[15m])) >= 20",
        summary=f"{SERVER} cannot ask Redis: it goes on by itself.",
        action="Bring Redis back; until then quotas are each server's own.",
    )
    lines = of("xlmr_log_dropped_lines_total")
    others = ("xlmr_trace_dropped_spans_total", "xlmr_feedback_dropped_records_total")
    lost = [f"sum by (job, instance) (increase({of(name)}[1h])) > 0" for name in others]
    yield _alert(
        "TelemetryLost",
        "ticket",
        "engine",
        "\n  or ".join((f"increase({lines}[1h]) > 0", *lost)),
        summary=f"{SERVER} loses log lines, spans or records.",
        action="See whether the disk is full, and whether collector and feedback store take what "
        "they are sent.",
    )


def _registry(of: Fleet, objectives: Objectives) -> Iterator[Alert]:
    age_s = objectives.server.registry_minutes * 60
    yield _alert(
        "RegistryAway",
        "ticket",
        "registry",
        f"{of('xlmr_registry_age_seconds')} > {age_s:g}",
        summary=f"{SERVER} has not read the registry for {{{{ $value | humanizeDuration }}}}.",
        action="Bring its database and store back; no promotion arrives meanwhile.",
    )
    for state, hold, said in (
        ("failed", "2m", "refuses what the registry names"),
        ("missing", "30m", "still lacks what the registry names"),
    ):
        yield _alert(
            f"RegistryVersion{state.title()}",
            "ticket",
            "registry",
            f"{of('xlmr_registry_versions', state=state)} > 0",
            hold=hold,
            summary=f"{SERVER} {said}.",
            action="GET /v1/models names the version and why: signature, digest, proof or store.",
        )


def _rollout(of: Fleet, objectives: Objectives) -> Iterator[Alert]:
    """Servers judge a rollout by themselves; these tell what they cannot mend."""
    allowed = objectives.rollout

    def read(*outcomes: str) -> str:
        said = of("xlmr_shadow_requests_total", f'outcome=~"{"|".join(outcomes)}"')
        return f"sum by (job, region) (increase({said}[1h]))"

    yield _alert(
        "RouteFallbacks",
        "ticket",
        "rollout",
        "sum by (job, region, reason)"
        f" (increase({of('xlmr_route_fallbacks_total')}[15m])) >= {objectives.events.ticket}",
        summary="Routes do without the version they chose: {{ $labels.reason }}.",
        action="not_loaded: see why that version is missing. fault: `xlmr rollout abort`.",
    )
    yield _alert(
        "ShadowFails",
        "ticket",
        "rollout",
        f"{read('failed')} / ({read('agreed', 'disagreed', 'not_comparable', 'failed')} >= 100)"
        f" > {allowed.failed:g}",
        summary=f"The version in the shadow gives no answer to {SHARE} of what it reads.",
        action="`xlmr rollout watch` names it; abort unless the log has another reason.",
    )
    yield _alert(
        "ShadowDisagrees",
        "ticket",
        "rollout",
        f"{read('disagreed')} / ({read('agreed', 'disagreed')} >= 100) > {allowed.disagreed:g}",
        summary=f"The version in the shadow answers {SHARE} of texts otherwise than the live one.",
        action="`xlmr rollout watch` shows in which language; is that what it was made for?",
    )


def _quality(of: Fleet, objectives: Objectives) -> Iterator[Alert]:
    """What answers lack, version by version, over a day; by language where that is counted."""
    quality = objectives.quality

    def grown(name: str, by: str, *matchers: str, **values: str) -> str:
        return f"sum by ({by}) (increase({of(name, *matchers, **values)}[1d]))"

    by_version = "job, region, model, version"
    by_language = f"{by_version}, language"
    own = quality.languages
    others = [f'language!~"{"|".join(own)}"'] if own else []
    limits = [(others, quality.abstained)]
    limits += [([f'language="{code}"'], share) for code, share in own.items()]
    shares = [
        f"{grown('xlmr_abstained_items_total', by_language, *which)}"
        f" / ({grown('xlmr_items_total', by_language, *which, code='ok')}"
        f" >= {quality.least_texts}) > {limit:g}"
        for which, limit in limits
    ]
    yield _alert(
        "Abstains",
        "ticket",
        "quality",
        "\n  or ".join(shares),
        hold="30m",
        summary=f"{VERSION} is too unsure of {SHARE} of its answers in {{{{ $labels.language }}}}.",
        action="See what changed in that language: new topics, another client? Label some of it.",
    )
    texts = grown("xlmr_items_total", by_version, code="ok")
    believed = f"({texts} >= {quality.least_texts})"
    yield _alert(
        "Truncated",
        "ticket",
        "quality",
        f"{grown('xlmr_truncated_items_total', by_version)} / {believed} > {quality.truncated:g}",
        hold="30m",
        summary=f"{VERSION} does not read {SHARE} of its texts to the end.",
        action="Have callers ask for windows, or send less.",
    )
    yield _alert(
        "UnknownPieces",
        "ticket",
        "quality",
        f"{grown('xlmr_unknown_tokens_total', by_version)}"
        f" / ({grown('xlmr_tokens_total', by_version)} > 0) > {quality.unknown:g}"
        f" and {texts} >= {quality.least_texts}",
        hold="30m",
        summary=f"{SHARE} of what {VERSION} reads is outside its vocabulary.",
        action="See what is sent: a broken encoding, another script, or a vocabulary cut too far?",
    )


def _drift(of: Fleet, objectives: Objectives) -> Iterator[Alert]:
    """All servers say the same. Whoever sleeps is woken for wrong answers, not for other texts."""
    by_language = "job, region, model, version, language"
    accuracy = objectives.accuracy
    ratio = "xlmr_drift_accuracy_ratio"

    def at_best(*matchers: str, **values: str) -> str:
        now = of(ratio, 'source=~"estimated|labelled"', *matchers, end="high", **values)
        return f"max by ({by_language}, source) ({now})"

    own = accuracy.languages
    others = [f'language!~"{"|".join(own)}"'] if own else []
    released = of(ratio, source="release", end="share")
    fallen = [
        f"{at_best(*others)} < on ({by_language}) group_left ()"
        f" (max by ({by_language}) ({released}) - {accuracy.fall:g})"
    ]
    fallen += [f"{at_best(language=code)} < {least:g}" for code, least in own.items()]
    yield _alert(
        "AccuracyFell",
        "page",
        "quality",
        "\n  or ".join(fallen),
        hold="15m",
        summary=f"{VERSION} is right in at most {SHARE} of {{{{ $labels.language }}}}.",
        action="Go back to the last version if it was better: `xlmr registry rollback`.",
    )
    yield _alert(
        "Drift",
        "ticket",
        "quality",
        f"max by ({by_language}, kind) ({of('xlmr_drift_alarms')}) > 0",
        summary=f"{VERSION}: {{{{ $labels.language }}}} is not what it was at release.",
        action="`xlmr drift report` says what moved, and since when; label some of it.",
    )
    lost = of("xlmr_drift_lost_sights_total")
    yield _alert(
        "DriftBlind",
        "ticket",
        "engine",
        f"{of('xlmr_drift_hours_behind')} > 3\n  or increase({lost}[1h]) > 0",
        hold="15m",
        summary=f"{SERVER} cannot tell whether its models drift.",
        action="Bring the drift store back; counts wait in memory for some days.",
    )
