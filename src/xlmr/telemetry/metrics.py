"""Every metric by name, once. Units stand in the names; label values come from bounded sets.

A `Metrics` owns its registry, so two servers in one process (or two tests) never share a counter.
Models and versions that are unloaded take their series with them (`forget`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from prometheus_client import CONTENT_TYPE_LATEST

from xlmr.telemetry.cost import Busy
from xlmr.telemetry.metric import Metric, counter, gauge, histogram
from xlmr.telemetry.registry import OTHER, Asked, Folded, Registry

CONTENT_TYPE = CONTENT_TYPE_LATEST

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

# Models in several versions may come and go for months; beyond this many at once, one series.
_MOST_VERSIONS = 64
# Codes of errors are a few dozen; whatever else claims to be one shares a series.
_MOST_CODES = 64
_MOST_DOORS = 16
_MOST_TASKS = 16

_LATENCY_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_STAGE_SECONDS = (0.0001, 0.0002, 0.0005, *_LATENCY_SECONDS)
_TOKENS = (8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
_TEXTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_CONFIDENCES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
_NATS = (0.01, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0)

_MODEL = ("task", "model", "version")
_SLICE = (*_MODEL, "language")


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
        "xlmr_model_state",
        "state",
        "1 for the state a model's version is in.",
        "model",
        "version",
        "state",
    ),
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


class Item(NamedTuple):
    """What is counted of one text.

    Attributes:
        language: folded into the bounded set.
        code: "ok" or an error's code.
        confidence: of the answer, 0 to 1.
        entropy: of the answer, in nats.
        abstained: whether the answer was marked as too unsure.
    """

    language: str
    code: str
    confidence: float | None = None
    entropy: float | None = None
    abstained: bool | None = None


def bounded_language(code: str) -> str:
    """The language label for a code: itself, or "other" beyond the languages XLM-R knows."""
    return code if code in LANGUAGES else OTHER


class Metrics:
    """What the server counts. Safe to use from several threads.

    Attributes:
        busy: entered by whoever computes, for as long as it computes.
    """

    def __init__(
        self, *, price_per_hour: float = 0.0, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.busy = Busy(clock)
        self._registry = Registry(TABLE)
        self._count, self._observe = self._registry.count, self._registry.observe
        self._versions = Folded(_MOST_VERSIONS)
        self._codes = Folded(_MOST_CODES)
        self._doors, self._tasks = Folded(_MOST_DOORS), Folded(_MOST_TASKS)
        self._known: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._price_per_second = price_per_hour / 3600
        self._computed_tokens = 0
        self._registry.ask("xlmr_engine_busy_seconds", self.busy.seconds)
        self._registry.ask("xlmr_cost_money", self._cost)
        self._registry.ask("xlmr_cost_money_per_1k_tokens", self._cost_per_1k_tokens)

    def request(
        self,
        *,
        task: str,
        model: str,
        code: str,
        seconds: float | None,
        version: str = "",
        door: str = "",
    ) -> None:
        """Counts one request; `code` is "ok" or an error's code.

        `seconds` is None for what was refused before it was a question: it would flatter the clock.
        """
        where = self._where(task, model, version)
        self._count(1, "xlmr_requests", *where, *self._doors(door), *self._codes(code))
        if seconds is not None:
            self._observe(seconds, "xlmr_request_seconds", *where)

    def items(
        self,
        items: Iterable[Item],
        *,
        task: str,
        model: str,
        version: str = "",
        computed: int = 0,
        unknown: int = 0,
        truncated: int = 0,
    ) -> None:
        """Counts the texts of a request, its tokens, and how many texts were truncated."""
        where = self._where(task, model, version)
        counts: dict[tuple[str, ...], float] = {
            ("xlmr_tokens", *where): computed,
            ("xlmr_unknown_tokens", *where): unknown,
            ("xlmr_truncated_items", *where): truncated,
        }
        observed: list[tuple[tuple[str, ...], float]] = []
        for language, code, confidence, entropy, abstained in items:
            slice = (*where, bounded_language(language))
            key = ("xlmr_items", *slice, *self._codes(code))
            counts[key] = counts.get(key, 0) + 1
            if confidence is not None:
                observed.append((("xlmr_confidence_ratio", *slice), confidence))
            if entropy is not None:
                observed.append((("xlmr_entropy_nats", *slice), entropy))
            if abstained is not None:
                key = ("xlmr_abstained_items", *slice)
                counts[key] = counts.get(key, 0) + abstained
        self._registry.update(counts, observed)

    def stages(self, stages: Iterable[tuple[str, float]]) -> None:
        """Records a request's seconds in each of `STAGES` that it came to."""
        self._registry.update({}, [(("xlmr_stage_seconds", name), s) for name, s in stages])

    def batch(self, *, tokens: int, texts: int, seconds: float) -> None:
        """Records one run of the engine."""
        self._computed_tokens += tokens
        self._observe(tokens, "xlmr_batch_tokens")
        self._observe(texts, "xlmr_batch_texts")
        self._observe(seconds, "xlmr_batch_seconds")

    def engine_fault(self) -> None:
        """Counts a batch the runtime failed to compute."""
        self._count(1, "xlmr_engine_faults")

    def worker_restart(self) -> None:
        """Counts a worker process that died."""
        self._count(1, "xlmr_worker_restarts")

    def shed(self, reason: str) -> None:
        """Counts a request refused for now; `reason` is one of `SHEDS`."""
        self._count(1, "xlmr_sheds", reason)

    def quota_refusal(self, quota: str) -> None:
        """Counts a request beyond its caller's quota; `quota` is one of `QUOTAS`."""
        self._count(1, "xlmr_quota_refusals", quota)

    def cache(
        self, *, hits: int = 0, where: str = "memory", misses: int = 0, joins: int = 0
    ) -> None:
        """Counts what a cache was asked; `where` is one of `CACHES`."""
        if hits:
            self._count(hits, "xlmr_cache_hits", where)
        if misses:
            self._count(misses, "xlmr_cache_misses")
        if joins:
            self._count(joins, "xlmr_cache_joins")

    def redis_fault(self, use: str) -> None:
        """Counts a time Redis could not be asked; `use` is one of `REDIS_USES`."""
        self._count(1, "xlmr_redis_faults", use)

    def log_dropped(self, lines: int) -> None:
        """Counts log lines that could not be written."""
        self._count(lines, "xlmr_log_dropped_lines")

    def spans_exported(self, spans: int) -> None:
        """Counts spans a collector took."""
        self._count(spans, "xlmr_trace_exported_spans")

    def spans_dropped(self, spans: int, reason: str) -> None:
        """Counts lost spans; `reason` is `queue_full` or `collector`."""
        self._count(spans, "xlmr_trace_dropped_spans", reason)

    def watch_queue(
        self,
        tokens: Callable[[], float],
        *,
        requests: Callable[[], float] | None = None,
        oldest_seconds: Callable[[], float] | None = None,
    ) -> None:
        """Has the queue gauges ask these whenever they are read."""
        self._registry.ask("xlmr_queue_tokens", tokens)
        if requests is not None:
            self._registry.ask("xlmr_queue_requests", requests)
        if oldest_seconds is not None:
            self._registry.ask("xlmr_queue_oldest_seconds", oldest_seconds)

    def watch_cache(
        self, held_bytes: Callable[[], float], *, evicted: Callable[[], float] | None = None
    ) -> None:
        """Has the cache's metrics ask for the bytes held, and how many answers have left."""
        self._registry.ask("xlmr_cache_bytes", held_bytes)
        if evicted is not None:
            self._registry.ask("xlmr_cache_evictions", evicted)

    def watch_engine_threads(self, threads: Callable[[], float]) -> None:
        """Has the gauge ask for the number of threads that compute."""
        self._registry.ask("xlmr_engine_threads", threads)

    def watch_models(self, states: Callable[[], Iterable[tuple[str, str, str]]]) -> None:
        """Has the gauge ask for (name, version, state) of each model, loading ones included."""
        self._registry.ask("xlmr_model_state", lambda: dict.fromkeys(states(), 1.0))

    def watch_memory(self, resident_bytes: Callable[[], Mapping[str, float]]) -> None:
        """Has the gauge ask for the resident bytes of each process, by its name."""
        self._registry.ask(
            "xlmr_resident_memory_bytes",
            lambda: {(name,): size for name, size in resident_bytes().items()},
        )

    def watch_gpus(self, readings: Mapping[str, Callable[[], Asked]]) -> None:
        """Has the GPU gauges, by name, ask these: a number for each (device,)."""
        for name, source in readings.items():
            self._registry.ask(name, source)

    def forget(self, model: str, version: str) -> None:
        """Drops the series of a version that was unloaded."""
        self._versions.forget(model, version)
        for where in [key for key in self._known if key[1:] == (model, version)]:
            del self._known[where]
        self._registry.remove(model=model, version=version)

    def export(self) -> bytes:
        """The registry in Prometheus' text format."""
        return self._registry.export()

    def value(self, name: str, **labels: str) -> float:
        """A sample summed over the labels that are not given; 0 where it was never touched."""
        return self._registry.value(name, labels)

    def _where(self, task: str, model: str, version: str) -> tuple[str, ...]:
        where = self._known.get((task, model, version))
        if where is None:
            where = (*self._tasks(task), *self._versions(model, version))
            if where == (task, model, version):
                self._known[where] = where
        return where

    def _cost(self) -> float:
        return self.busy.seconds() * self._price_per_second

    def _cost_per_1k_tokens(self) -> float:
        return 1000 * self._cost() / self._computed_tokens if self._computed_tokens else 0.0
