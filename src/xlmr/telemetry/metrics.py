"""Every metric by name, once. Units stand in the names; label values come from bounded sets.

A `Metrics` owns its registry, so two servers in one process (or two tests) never share a counter.
Label children are looked up once and kept: on the hot path a count costs a dictionary access.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

# A second series for each, with the time it was first touched: nobody asks for it.
disable_created_metrics()  # type: ignore[no-untyped-call]

CONTENT_TYPE = CONTENT_TYPE_LATEST

# Languages that get a series of their own: those XLM-R was pre-trained on. The rest share "other".
_LANGUAGES = """
af am ar as az be bg bn br bs ca cs cy da de el en eo es et eu fa fi fr fy ga gd gl gu ha he hi hr
hu hy id is it ja jv ka kk km kn ko ku ky la lo lt lv mg mk ml mn mr ms my ne nl no om or pa pl ps
pt ro ru sa sd si sk sl so sq sr su sv sw ta te th tl tr ug uk ur uz vi xh yi zh und
"""
LANGUAGES = frozenset(_LANGUAGES.split())

_LATENCY_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_STAGE_SECONDS = (0.0001, 0.0002, 0.0005, *_LATENCY_SECONDS)
_TOKENS = (8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
_TEXTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


def bounded_language(code: str) -> str:
    """The language label for a code: itself, or "other" beyond the languages XLM-R knows."""
    return code if code in LANGUAGES else "other"


class Metrics:
    """What the server counts. Safe to use from several threads."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._children: dict[tuple[str, ...], Counter | Histogram] = {}
        self._requests = self._counter(
            "xlmr_requests", "Requests answered or refused.", ("task", "model", "code")
        )
        self._items = self._counter(
            "xlmr_items", "Texts answered or refused.", ("task", "model", "language", "code")
        )
        self._tokens = self._counter("xlmr_tokens", "Tokens computed.", ("task", "model"))
        self._truncations = self._counter(
            "xlmr_truncated_items", "Texts that lost tokens on their way in.", ("task", "model")
        )
        self._unknown = self._counter(
            "xlmr_unknown_tokens", "Tokens outside the vocabulary.", ("task", "model")
        )
        self._seconds = self._histogram(
            "xlmr_request_seconds",
            "From the parsed request to its answer.",
            _LATENCY_SECONDS,
            "task",
        )
        self._stages = self._histogram(
            "xlmr_stage_seconds", "Time in one stage of a request.", _STAGE_SECONDS, "stage"
        )
        self._batch_tokens = self._histogram(
            "xlmr_batch_tokens", "Tokens computed together.", _TOKENS
        )
        self._batch_texts = self._histogram("xlmr_batch_texts", "Texts computed together.", _TEXTS)
        self._faults = self._counter("xlmr_engine_faults", "Batches the runtime failed to compute.")
        self._queue_tokens = Gauge(
            "xlmr_queue_tokens", "Tokens waiting to be computed.", registry=self.registry
        )
        ProcessCollector(registry=self.registry)

    def _counter(self, name: str, help: str, labels: Iterable[str] = ()) -> Counter:
        return Counter(name, help, tuple(labels), registry=self.registry)

    def _histogram(self, name: str, help: str, buckets: Iterable[float], *labels: str) -> Histogram:
        return Histogram(name, help, labels, buckets=tuple(buckets), registry=self.registry)

    def request(self, *, task: str, model: str, code: str, seconds: float | None) -> None:
        """Counts one request; `code` is "ok" or an error's code.

        `seconds` is None for what was refused before it was a question: it would flatter the clock.
        """
        self._count(self._requests, "requests", task, model, code)
        if seconds is not None:
            self._observe(self._seconds, seconds, "seconds", task)

    def item(self, *, task: str, model: str, language: str, code: str) -> None:
        """Counts one text; `language` is folded into the bounded set."""
        self._count(self._items, "items", task, model, bounded_language(language), code)

    def tokens(self, *, task: str, model: str, computed: int, unknown: int, truncated: int) -> None:
        """Counts a request's tokens, and how many of its texts were truncated."""
        self._count(self._tokens, "tokens", task, model, amount=computed)
        if unknown:
            self._count(self._unknown, "unknown", task, model, amount=unknown)
        if truncated:
            self._count(self._truncations, "truncations", task, model, amount=truncated)

    def stage(self, name: str, seconds: float) -> None:
        """Records time in `tokenise`, `queue`, `infer` or `decode`."""
        self._observe(self._stages, seconds, "stage", name)

    def batch(self, *, tokens: int, texts: int, seconds: float) -> None:
        """Records one run of the engine."""
        self._batch_tokens.observe(tokens)
        self._batch_texts.observe(texts)
        self.stage("infer", seconds)

    def engine_fault(self) -> None:
        """Counts a batch the runtime failed to compute."""
        self._faults.inc()

    def watch_queue(self, waiting_tokens: Callable[[], float]) -> None:
        """Has the queue gauge ask `waiting_tokens` whenever it is read."""
        self._queue_tokens.set_function(waiting_tokens)

    def export(self) -> bytes:
        """The registry in Prometheus' text format."""
        return generate_latest(self.registry)

    def value(self, name: str, **labels: str) -> float:
        """One sample's value, 0 where it was never touched. For tests and for `--json` reports."""
        return self.registry.get_sample_value(name, labels) or 0.0

    def _count(self, family: Counter, *key: str, amount: int = 1) -> None:
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = family.labels(*key[1:])
        assert isinstance(child, Counter)
        child.inc(amount)

    def _observe(self, family: Histogram, seconds: float, *key: str) -> None:
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = family.labels(*key[1:])
        assert isinstance(child, Histogram)
        child.observe(seconds)
