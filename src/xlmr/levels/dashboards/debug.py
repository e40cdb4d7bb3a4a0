"""For whoever looks for the cause: stages, versions, languages. Pure."""

from __future__ import annotations

from xlmr.levels.dashboards.panels import Dashboard, Panel, Row
from xlmr.levels.dashboards.queries import Queries
from xlmr.levels.objectives import Objectives


def debug(objectives: Objectives, queries: Queries) -> Dashboard:
    """The page."""
    return Dashboard(
        uid="xlmr-debug",
        title="xlmr: debug",
        rows=[
            _stages(queries),
            _answers(objectives, queries),
            _drift(queries),
            _inside(queries),
        ],
        variables=queries.variables(),
        since="3h",
    )


def _stages(queries: Queries) -> Row:
    server = queries.server
    seconds, tokens = server("xlmr_batch_seconds_sum"), server("xlmr_batch_tokens_sum")
    return Row(
        "Where the time goes",
        [
            Panel(
                title="p95 of each stage",
                unit="s",
                queries={"{{stage}}": queries.quantile(0.95, "xlmr_stage_seconds_bucket", "stage")},
            ),
            Panel(
                title="Waiting",
                queries={
                    "tokens {{instance}}": server("xlmr_queue_tokens"),
                    "requests {{instance}}": server("xlmr_queue_requests"),
                },
            ),
            Panel(
                title="Tokens a second of computing",
                queries={
                    "{{instance}}": f"{queries.rate(tokens, 'instance')}"
                    f" / {queries.rate(seconds, 'instance')}"
                },
            ),
            Panel(
                title="Tokens of a batch",
                queries={
                    f"p{share * 100:g}": queries.quantile(share, "xlmr_batch_tokens_bucket", "job")
                    for share in (0.5, 0.95)
                },
            ),
            Panel(
                title="Texts of a batch",
                queries={
                    f"p{share * 100:g}": queries.quantile(share, "xlmr_batch_texts_bucket", "job")
                    for share in (0.5, 0.95)
                },
            ),
            Panel(
                title="Seconds of a batch",
                unit="s",
                queries={
                    f"p{share * 100:g}": queries.quantile(share, "xlmr_batch_seconds_bucket", "job")
                    for share in (0.5, 0.95)
                },
            ),
        ],
    )


def _answers(objectives: Objectives, queries: Queries) -> Row:
    version, by = queries.version, "model, version, language"
    called = "{{model}}@{{version}} {{language}}"
    quality = objectives.quality

    def share(part: str, whole: str, by: str = by) -> dict[str, str]:
        return {called: queries.ratio(version(part), version(whole), by)}

    return Row(
        "Answers, by version and language",
        [
            Panel(
                title="Texts that failed",
                unit="cps",
                queries={
                    "{{language}} {{code}}": queries.rate(
                        version("xlmr_items_total", 'code!="ok"'), "language, code"
                    )
                },
            ),
            Panel(
                title="Mean confidence",
                unit="percentunit",
                queries=share("xlmr_confidence_ratio_sum", "xlmr_confidence_ratio_count"),
            ),
            Panel(
                title="Answers below a confidence of 0.6",
                unit="percentunit",
                queries={
                    called: queries.ratio(
                        version("xlmr_confidence_ratio_bucket", le="0.6"),
                        version("xlmr_confidence_ratio_count"),
                        by,
                    )
                },
            ),
            Panel(
                title="Mean entropy, in nats",
                queries=share("xlmr_entropy_nats_sum", "xlmr_entropy_nats_count"),
            ),
            Panel(
                title="Too unsure to be given",
                unit="percentunit",
                limit=quality.abstained,
                queries=share("xlmr_abstained_items_total", "xlmr_items_total"),
            ),
            Panel(
                title="Outside the vocabulary",
                unit="percentunit",
                limit=quality.unknown,
                queries=share("xlmr_unknown_tokens_total", "xlmr_tokens_total", "model, version"),
            ),
            Panel(
                title="Not read to the end",
                unit="percentunit",
                limit=quality.truncated,
                queries=share("xlmr_truncated_items_total", "xlmr_items_total", "model, version"),
            ),
        ],
    )


def _drift(queries: Queries) -> Row:
    """All servers say the same."""
    called, by = "{{model}}@{{version}} {{language}}", "model, version, language"

    def largest(selector: str, by: str) -> str:
        return f"max by ({by}) ({selector})"

    level = largest(queries.version("xlmr_drift_level_ratio"), f"{by}, signal")
    ratio = queries.version("xlmr_drift_accuracy_ratio", 'end=~"low|share|high"')
    return Row(
        "Drift, by version and language",
        [
            Panel(
                title="Nearest to an alarm",
                unit="percentunit",
                limit=1.0,
                queries={f"{called} {{{{signal}}}}": f"topk(12, {level})"},
                about="Evidence on a scale of logarithms; after an alarm it starts from nothing.",
            ),
            Panel(
                title="Alarms that are open",
                queries={
                    f"{called} {{{{kind}}}}": largest(
                        queries.version("xlmr_drift_alarms"), f"{by}, kind"
                    )
                },
            ),
            Panel(
                title="Right answers, with intervals",
                unit="percentunit",
                queries={
                    f"{called} {{{{source}}}} {{{{end}}}}": largest(ratio, f"{by}, source, end")
                },
            ),
            Panel(
                title="Hours behind",
                queries={"{{instance}}": queries.server("xlmr_drift_hours_behind")},
            ),
        ],
    )


def _inside(queries: Queries) -> Row:
    server, rate = queries.server, queries.rate
    return Row(
        "Cache, Redis, telemetry",
        [
            Panel(
                title="Cache",
                unit="cps",
                queries={
                    "hits {{where}}": rate(server("xlmr_cache_hits_total"), "where"),
                    "misses": rate(server("xlmr_cache_misses_total")),
                    "joins": rate(server("xlmr_cache_joins_total")),
                    "evictions": rate(server("xlmr_cache_evictions_total")),
                },
            ),
            Panel(
                title="Cache held",
                unit="bytes",
                queries={"{{instance}}": server("xlmr_cache_bytes")},
            ),
            Panel(
                title="Faults of Redis",
                unit="cps",
                queries={"{{use}}": rate(server("xlmr_redis_faults_total"), "use")},
            ),
            Panel(title="Engine threads", queries={"{{instance}}": server("xlmr_engine_threads")}),
            Panel(
                title="Lost log lines, spans and records",
                unit="cps",
                queries={
                    "lines": rate(server("xlmr_log_dropped_lines_total")),
                    "spans: {{reason}}": rate(server("xlmr_trace_dropped_spans_total"), "reason"),
                    "records: {{reason}}": rate(
                        server("xlmr_feedback_dropped_records_total"), "reason"
                    ),
                },
            ),
        ],
    )
