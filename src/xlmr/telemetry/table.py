"""Every metric by name, once. Units stand in the names; label values come from bounded sets."""

from __future__ import annotations

from xlmr.telemetry.metric import Metric, counter, gauge, histogram

# Languages that get a series of their own: those XLM-R was pre-trained on. The rest share "other".
_LANGUAGES = """
af am ar as az be bg bn br bs ca cs cy da de el en eo es et eu fa fi fr fy ga gd gl gu ha he hi hr
hu hy id is it ja jv ka kk km kn ko ku ky la lo lt lv mg mk ml mn mr ms my ne nl no om or pa pl ps
pt ro ru sa sd si sk sl so sq sr su sv sw ta te th tl tr ug uk ur uz vi xh yi zh und
"""
LANGUAGES = frozenset(_LANGUAGES.split())

STAGES = ("read", "tokenise", "queue", "infer", "decode")
# What was short when a request was refused: room in the queue; time, as was predicted, or as it
# turned out; a server that stays; room for texts being read; a model; an engine that works.
SHEDS = ("queue_full", "deadline", "late", "draining", "reading", "loading", "engine", "other")
QUOTAS = ("requests", "tokens")
CACHES = ("memory", "redis")
REDIS_USES = ("cache", "quota")
# Why a route's version did not answer what it was given, and another did: it is not loaded; it
# failed; an ensemble went on without it.
FALLBACKS = ("not_loaded", "fault", "ensemble")
# What became of what a version read in the shadow.
SHADOWS = ("agreed", "disagreed", "not_comparable", "failed")
FEEDBACK_SOURCES = ("user", "annotator", "outcome")
# Why an answered text left no record: too many waited to be taken apart (then drift does not count
# it either), or to be written; the store did not take it.
FEEDBACK_DROPS = ("observer_full", "queue_full", "store")
# Why it read nothing: too much waited; the engines had other work; its share was used up; it is not
# loaded; the server is going down.
SHADOW_DROPS = ("full", "busy", "capacity", "not_loaded", "draining")

_LATENCY_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_STAGE_SECONDS = (0.0001, 0.0002, 0.0005, *_LATENCY_SECONDS)
_TOKENS = (8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
_TEXTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_CONFIDENCES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
_NATS = (0.01, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0)

_MODEL = ("task", "model", "version")
_SLICE = (*_MODEL, "language")
_WATCHED = ("model", "version", "language")


TABLE: tuple[Metric, ...] = (
    counter("xlmr_requests", "requests", "Answered or refused.", *_MODEL, "door", "code"),
    counter("xlmr_items", "items", "Texts answered or refused.", *_SLICE, "code"),
    histogram(
        "xlmr_request_seconds",
        "seconds",
        "From a request's first byte to its answer.",
        _LATENCY_SECONDS,
        *_MODEL,
    ),
    histogram(
        "xlmr_stage_seconds",
        "seconds",
        "Time of a request in one stage.",
        _STAGE_SECONDS,
        "stage",
        known=STAGES,
    ),
    counter("xlmr_tokens", "tokens", "Computed for answers.", *_MODEL),
    counter("xlmr_truncated_items", "items", "Texts of which a part was not read.", *_MODEL),
    counter("xlmr_unknown_tokens", "tokens", "Pieces outside the vocabulary.", *_MODEL),
    counter("xlmr_abstained_items", "items", "Answers marked as too unsure.", *_SLICE),
    histogram(
        "xlmr_confidence_ratio", "ratio", "Probability of the answer.", _CONFIDENCES, *_SLICE
    ),
    histogram("xlmr_entropy_nats", "nats", "Entropy over all labels of an answer.", _NATS, *_SLICE),
    gauge("xlmr_queue_tokens", "tokens", "Waiting to be computed."),
    gauge("xlmr_queue_requests", "requests", "Waiting to be computed."),
    gauge("xlmr_queue_oldest_seconds", "seconds", "How long the oldest request has waited."),
    histogram("xlmr_batch_tokens", "tokens", "Computed together.", _TOKENS),
    histogram("xlmr_batch_texts", "texts", "Computed together.", _TEXTS),
    histogram("xlmr_batch_seconds", "seconds", "Time of one run of the engine.", _STAGE_SECONDS),
    gauge(
        "xlmr_padding_waste_ratio",
        "ratio",
        "Padding among the tokens computed. Always 0: batches lie end to end, nothing is padded.",
    ),
    counter("xlmr_cache_hits", "hits", "Answers that lay in a cache.", "where", known=CACHES),
    counter("xlmr_cache_misses", "misses", "Answers that had to be computed."),
    counter("xlmr_cache_joins", "joins", "Answers shared with a computation that was under way."),
    counter(
        "xlmr_redis_faults", "faults", "Times Redis could not be asked.", "use", known=REDIS_USES
    ),
    gauge("xlmr_cache_bytes", "bytes", "Held by the cache of this process."),
    counter(
        "xlmr_cache_evictions", "evictions", "Answers that left memory for others.", asked=True
    ),
    counter("xlmr_sheds", "sheds", "Refused for now, by reason.", "reason", known=SHEDS),
    counter("xlmr_quota_refusals", "refusals", "By what ran out.", "quota", known=QUOTAS),
    gauge("xlmr_engine_threads", "threads", "Threads that compute."),
    counter(
        "xlmr_route_requests",
        "requests",
        "Given to a version by a route: live, candidate, or by its own name.",
        "model",
        "arm",
    ),
    counter(
        "xlmr_route_fallbacks",
        "fallbacks",
        "Answered without the version they were given to.",
        "reason",
        known=FALLBACKS,
    ),
    counter(
        "xlmr_shadow_requests",
        "requests",
        "Read by a version in the shadow as well, by what became of it.",
        "outcome",
        known=SHADOWS,
    ),
    counter(
        "xlmr_shadow_drops",
        "drops",
        "That a version in the shadow should have read, and did not.",
        "reason",
        known=SHADOW_DROPS,
    ),
    counter(
        "xlmr_shadow_interruptions",
        "interruptions",
        "A version in the shadow stopped reading because a caller came.",
    ),
    counter("xlmr_engine_faults", "faults", "Batches the runtime failed to compute."),
    counter(
        "xlmr_engine_busy_seconds",
        "seconds",
        "Time in which at least one engine computed.",
        asked=True,
    ),
    counter("xlmr_worker_restarts", "restarts", "Worker processes that died."),
    gauge(
        "xlmr_resident_memory_bytes",
        "bytes",
        "Memory that is really held, of the server and of each worker.",
        "process",
    ),
    gauge(
        "xlmr_memory_limit_bytes",
        "bytes",
        "That the server's control group may hold; 0 where there is no limit.",
    ),
    gauge(
        "xlmr_memory_held_bytes",
        "bytes",
        "Of the control group, without what the system can take back: cached and mapped files.",
    ),
    counter(
        "xlmr_memory_kills",
        "kills",
        "Processes of the control group that the system killed for want of memory.",
        asked=True,
    ),
    gauge(
        "xlmr_model_state",
        "state",
        "1 for the state a model's version is in.",
        "model",
        "version",
        "state",
    ),
    gauge(
        "xlmr_registry_age_seconds",
        "seconds",
        "Since the registry was last read; 0 where none is followed.",
    ),
    gauge(
        "xlmr_registry_versions",
        "versions",
        "Named by the registry: ready here, failed, or missing as yet.",
        "state",
    ),
    gauge(
        "xlmr_drift_level_ratio",
        "ratio",
        "How far a signal is to an alarm, by the counts of all servers; 1 is one.",
        *_WATCHED,
        "signal",
    ),
    gauge("xlmr_drift_alarms", "alarms", "Changes that were noticed and go on.", *_WATCHED, "kind"),
    gauge(
        "xlmr_drift_accuracy_ratio",
        "ratio",
        "Right answers: at release; of the last day, estimated; of the last 30 days, labelled.",
        *_WATCHED,
        "source",
        "end",
    ),
    gauge("xlmr_drift_hours_behind", "hours", "That are over and were not weighed as yet."),
    counter("xlmr_drift_lost_sights", "sights", "Answers that found no room to be counted."),
    gauge("xlmr_gpu_memory_used_bytes", "bytes", "Of all processes.", "device", gpu=True),
    gauge("xlmr_gpu_memory_total_bytes", "bytes", "Of the device.", "device", gpu=True),
    gauge("xlmr_gpu_utilisation_ratio", "ratio", "Time with a kernel running.", "device", gpu=True),
    counter(
        "xlmr_cost_money",
        "money",
        "Busy time at `price_per_hour`, in the currency of that setting.",
        asked=True,
    ),
    gauge(
        "xlmr_cost_money_per_1k_tokens",
        "money",
        "Cost of a thousand computed tokens since the start; 0 without a price.",
    ),
    counter("xlmr_feedback_records", "records", "Predictions the feedback store has taken."),
    counter(
        "xlmr_feedback_dropped_records",
        "records",
        "Predictions that were not kept.",
        "reason",
        known=FEEDBACK_DROPS,
    ),
    counter(
        "xlmr_feedback_dropped_texts",
        "texts",
        "That the policy keeps and there was no time to redact; their records are kept.",
    ),
    gauge("xlmr_feedback_queue_records", "records", "Waiting to be written."),
    counter(
        "xlmr_feedback_statements",
        "statements",
        "Of people and outcomes about predictions, kept or known before.",
        "source",
        known=FEEDBACK_SOURCES,
    ),
    counter("xlmr_log_dropped_lines", "lines", "Log lines that could not be written."),
    counter("xlmr_trace_exported_spans", "spans", "Spans the collector took."),
    counter(
        "xlmr_trace_dropped_spans",
        "spans",
        "Spans that were lost: the queue was full, or the collector did not take them.",
        "reason",
        known=("queue_full", "collector"),
    ),
)
