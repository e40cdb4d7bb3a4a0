"""What the server counts, in words; `table.py` has the names.

A `Metrics` owns its registry, so two servers in one process (or two tests) never share a counter.
Models and versions that are unloaded take their series with them (`forget`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST

from xlmr.telemetry.cost import Busy
from xlmr.telemetry.memory import Group
from xlmr.telemetry.registry import OTHER, Asked, Folded, Key, Registry
from xlmr.telemetry.table import LANGUAGES, TABLE

CONTENT_TYPE = CONTENT_TYPE_LATEST

# Models in several versions may come and go for months; beyond this many at once, one series.
_MOST_VERSIONS = 64
# Codes of errors are a few dozen; whatever else claims to be one shares a series.
_MOST_CODES = 64
_MOST_DOORS = 16
_MOST_TASKS = 16


class Item(msgspec.Struct, frozen=True, gc=False):
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
        self._arms = Folded(_MOST_VERSIONS)
        self._known: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._of_requests: dict[tuple[str, ...], tuple[Key, Key]] = {}
        self._price_per_second = price_per_hour / 3600
        self._computed_tokens = 0
        self._registry.ask("xlmr_engine_busy_seconds", self.busy.seconds)
        self.watch_registry(lambda: 0.0, lambda: dict.fromkeys(("ready", "failed", "missing"), 0.0))
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
        stages: Iterable[tuple[str, float]] = (),
    ) -> None:
        """Counts one request; `code` is "ok" or an error's code.

        `seconds` is None for what was refused before it was a question: it would flatter the clock.
        `stages` are the seconds in each of `STAGES` that it came to.
        """
        keys = self._of_requests.get((task, model, version, door, code))
        if keys is None:
            keys = self._keys_of_request(task, model, version, door, code)
        counted, timed = keys
        observed: list[tuple[Key, float]] = [(("xlmr_stage_seconds", n), s) for n, s in stages]
        if seconds is not None:
            observed.append((timed, seconds))
        self._registry.update(((counted, 1),), observed)

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
        counts: list[tuple[Key, float]] = [
            (("xlmr_tokens", *where), computed),
            (("xlmr_unknown_tokens", *where), unknown),
            (("xlmr_truncated_items", *where), truncated),
        ]
        observed: list[tuple[Key, float]] = []
        for item in items:
            slice = (*where, bounded_language(item.language))
            counts.append((("xlmr_items", *slice, *self._codes(item.code)), 1))
            if item.confidence is not None:
                observed.append((("xlmr_confidence_ratio", *slice), item.confidence))
            if item.entropy is not None:
                observed.append((("xlmr_entropy_nats", *slice), item.entropy))
            if item.abstained is not None:
                counts.append((("xlmr_abstained_items", *slice), item.abstained))
        self._registry.update(counts, observed)

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

    def routed(self, model: str, arm: str) -> None:
        """Counts a request that a route gave to a version."""
        self._count(1, "xlmr_route_requests", *self._arms(model, arm))

    def route_fallback(self, reason: str) -> None:
        """Counts a request answered without the version it was given to; one of `FALLBACKS`."""
        self._count(1, "xlmr_route_fallbacks", reason)

    def shadowed(self, outcome: str) -> None:
        """Counts a request that was read in the shadow as well; `outcome` is one of `SHADOWS`."""
        self._count(1, "xlmr_shadow_requests", outcome)

    def shadow_dropped(self, reason: str) -> None:
        """Counts one that was not; `reason` is one of `SHADOW_DROPS`."""
        self._count(1, "xlmr_shadow_drops", reason)

    def shadow_interrupted(self) -> None:
        """Counts a time that the reading of one ended because callers had come."""
        self._count(1, "xlmr_shadow_interruptions")

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

    def feedback(self, statements: int, source: str) -> None:
        """Counts what was said of predictions; `source` is one of `FEEDBACK_SOURCES`."""
        self._count(statements, "xlmr_feedback_statements", source)

    def feedback_kept(self, records: int) -> None:
        """Counts predictions the feedback store has taken."""
        self._count(records, "xlmr_feedback_records")

    def feedback_dropped(self, records: int, reason: str) -> None:
        """Counts those it has not; `reason` is one of `FEEDBACK_DROPS`."""
        self._count(records, "xlmr_feedback_dropped_records", reason)

    def feedback_text_dropped(self) -> None:
        """Counts a text that was not kept for want of time to redact it."""
        self._count(1, "xlmr_feedback_dropped_texts")

    def watch_feedback(self, waiting: Callable[[], float]) -> None:
        """Has the gauge ask how many records wait to be written."""
        self._registry.ask("xlmr_feedback_queue_records", waiting)

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

    def watch_registry(
        self, age_s: Callable[[], float], versions: Callable[[], Mapping[str, float]]
    ) -> None:
        """Has the gauges ask for the registry's age, and for versions by their state."""
        self._registry.ask("xlmr_registry_age_seconds", age_s)
        self._registry.ask(
            "xlmr_registry_versions",
            lambda: {(state,): count for state, count in versions().items()},
        )

    def watch_memory(self, resident_bytes: Callable[[], Mapping[str, float]]) -> None:
        """Has the gauge ask for the resident bytes of each process, by its name."""
        self._registry.ask(
            "xlmr_resident_memory_bytes",
            lambda: {(name,): size for name, size in resident_bytes().items()},
        )

    def watch_group_memory(self, read: Callable[[], Group]) -> None:
        """Has the gauges ask what the server's control group holds and may hold."""
        self._registry.ask("xlmr_memory_limit_bytes", lambda: read().limit)
        self._registry.ask("xlmr_memory_held_bytes", lambda: read().held)
        self._registry.ask("xlmr_memory_kills", lambda: read().kills)

    def drift_lost(self) -> None:
        """Counts an answer that found no room to be counted by drift."""
        self._count(1, "xlmr_drift_lost_sights")

    def watch_drift(self, readings: Mapping[str, Callable[[], Asked]]) -> None:
        """Has the gauges of drift, by name, ask these."""
        for name, source in readings.items():
            self._registry.ask(name, source)

    def watch_gpus(self, readings: Mapping[str, Callable[[], Asked]]) -> None:
        """Has the GPU gauges, by name, ask these: a number for each (device,)."""
        for name, source in readings.items():
            self._registry.ask(name, source)

    def forget(self, model: str, version: str) -> None:
        """Drops the series of a version that was unloaded."""
        self._versions.forget(model, version)
        for known in (self._known, self._of_requests):
            for key in [key for key in known if key[1:3] == (model, version)]:
                del known[key]
        self._registry.remove(model=model, version=version)
        self._arms.forget(model, version)
        self._registry.remove(model=model, arm=version)

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

    def _keys_of_request(
        self, task: str, model: str, version: str, door: str, code: str
    ) -> tuple[Key, Key]:
        """Which series it is counted in, and which takes its time."""
        where = self._where(task, model, version)
        told = (*self._doors(door), *self._codes(code))
        keys = ("xlmr_requests", *where, *told), ("xlmr_request_seconds", *where)
        # What is folded today may have room tomorrow.
        if (*where, *told) == (task, model, version, door, code):
            self._of_requests[task, model, version, door, code] = keys
        return keys

    def _cost(self) -> float:
        return self.busy.seconds() * self._price_per_second

    def _cost_per_1k_tokens(self) -> float:
        return 1000 * self._cost() / self._computed_tokens if self._computed_tokens else 0.0
