"""What a pool is asked at each scrape: queues, models, threads, and the memory of processes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from xlmr.telemetry.memory import group_memory, resident_bytes

if TYPE_CHECKING:
    from xlmr.serving.pool import Pool
    from xlmr.telemetry.metrics import Metrics


def watch_pool(metrics: Metrics, pool: Pool) -> None:
    """Has the gauges ask the pool."""
    metrics.watch_queue(
        lambda: pool.waiting_tokens,
        requests=lambda: sum(engine.batcher.waiting_requests for engine in pool.engines),
        oldest_seconds=lambda: max((engine.batcher.oldest_s for engine in pool.engines), default=0),
    )
    metrics.watch_models(lambda: [(m.name, m.version, m.state) for m in pool.states()])
    metrics.watch_engine_threads(
        lambda: sum(getattr(runtime, "threads", 1) for runtime in _runtimes(pool))
    )
    metrics.watch_memory(lambda: _memory(pool))
    metrics.watch_group_memory(group_memory)


def _runtimes(pool: Pool) -> Iterator[Any]:
    for engine in pool.engines:
        for monitored in engine.runtimes:
            yield monitored.runtime


def _memory(pool: Pool) -> dict[str, float]:
    """Of the server, and of each worker by its number: a process that replaces it keeps its name.

    Mapped weights that several processes share count in each of them.
    """
    held = {"server": resident_bytes()}
    workers = [runtime for runtime in _runtimes(pool) if hasattr(runtime, "pid")]
    for number, worker in enumerate(workers):
        pid = worker.pid
        held[f"worker-{number}"] = None if pid is None else resident_bytes(pid)
    return {name: size for name, size in held.items() if size is not None}
