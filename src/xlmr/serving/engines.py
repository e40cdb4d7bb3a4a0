"""An encoder at work: its runtimes, the batcher before them, and whether it still answers.

Models that share an encoder (a router and the embeddings it was fitted on) share one engine, so its
weights lie in memory once and their texts are computed in the same batches.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from xlmr.errors import EngineError, ProofError, XlmrError
from xlmr.model.runtimes import open_runtime
from xlmr.serving.batcher import Batcher
from xlmr.serving.urgency import work_in_background
from xlmr.serving.warmup import timed_batches
from xlmr.types import Encoding

if TYPE_CHECKING:
    from xlmr.model.bundle import Bundle
    from xlmr.model.config import EncoderConfig
    from xlmr.model.runtime import Runtime
    from xlmr.serving.asked import Computation
    from xlmr.settings import Settings
    from xlmr.telemetry.metrics import Metrics
    from xlmr.types import Batch, Hidden, Rows

RuntimeOf = Callable[["Bundle", "Settings"], "Runtime"]

# The shortest text there is, `<s></s>`: whether the engine answers at all.
_PROBE = Encoding(
    ids=(0, 2), offsets=((0, 0), (0, 0)), segments=(-1, -1), total_tokens=2, unknown=0
)


class Monitored:
    """A runtime that remembers when it last answered, on `time.monotonic`'s clock."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.answered_at = time.monotonic()

    @property
    def name(self) -> str:
        """See `Runtime`, as everything below."""
        return self.runtime.name

    @property
    def config(self) -> EncoderConfig:
        """The architecture it computes."""
        return self.runtime.config

    @property
    def max_batch_tokens(self) -> int:
        """Largest batch it accepts."""
        return self.runtime.max_batch_tokens

    @property
    def available(self) -> bool:
        """Whether it could compute now: a worker that has died is not there for a while."""
        return getattr(self.runtime, "available", True)

    def warm(self) -> None:
        """Has it ready for its first batch."""
        self.runtime.warm()

    def run(self, batch: Batch, *, rows: Rows = "all") -> Hidden:
        """Computes the last layer."""
        hidden = self.runtime.run(batch, rows=rows)
        self.answered_at = time.monotonic()
        return hidden

    def close(self) -> None:
        """Gives the memory back."""
        self.runtime.close()


class InTurns(Monitored):
    """The same runtime with batches of one text, so that those who share it get their turns."""

    @property
    def max_batch_tokens(self) -> int:
        """The longest text."""
        return min(self.runtime.config.max_tokens, self.runtime.max_batch_tokens)


class Engine:
    """One encoder: runtimes, and the batcher before them.

    Attributes:
        digest: of the encoder.
        directory: it was opened from.
        users: models that are computed by it. Changed under the lock of `Engines` alone.
    """

    def __init__(
        self, digest: str, directory: Path, runtimes: Sequence[Monitored], batcher: Batcher
    ) -> None:
        self.digest = digest
        self.directory = directory
        self.runtimes = tuple(runtimes)
        self.batcher = batcher
        self.users = 0
        self._probe: Computation | None = None

    @property
    def name(self) -> str:
        """Which runtime computes, and in how many processes if there are several."""
        name = self.runtimes[0].name
        return name if len(self.runtimes) == 1 else f"{name} x {len(self.runtimes)}"

    @property
    def silent_s(self) -> float:
        """Seconds since it last answered anything."""
        return time.monotonic() - max(runtime.answered_at for runtime in self.runtimes)

    def probe(self, quiet_s: float) -> None:
        """Asks for the shortest text where nothing was answered for `quiet_s` seconds."""
        if self.silent_s < quiet_s or (self._probe is not None and not self._probe.done()):
            return
        try:
            self._probe = self.batcher.submit((_PROBE,), rows="first")
        except XlmrError:
            # A full queue or a dead thread: both are seen elsewhere, and silence goes on.
            self._probe = None

    def close(self) -> None:
        """Finishes what is queued, then gives threads, processes and memory back."""
        self.batcher.close()
        for runtime in self.runtimes:
            runtime.close()


class Engines:
    """The engines of a pool: one for each encoder, kept as long as a model uses it.

    Args:
        opened: opens the engine of a bundle's encoder.
    """

    def __init__(self, opened: Callable[[Bundle], Engine]) -> None:
        self._opened = opened
        self._lock = threading.Lock()
        self._engines: dict[str, Engine] = {}
        self._closers: list[threading.Thread] = []

    def all(self) -> tuple[Engine, ...]:
        """Those at work."""
        return tuple(self._engines.values())

    @contextmanager
    def held(self, bundle: Bundle, on_open: Callable[[], None]) -> Iterator[Engine]:
        """The engine of a bundle's encoder with one user more, unless what follows fails.

        Only one thread at a time may open engines; `on_open` is called where that is needed.

        Raises:
            XlmrError: see `open_engine`.
        """
        with self._lock:
            engine = self._engines.get(bundle.encoder_digest)
            if engine is not None:
                engine.users += 1
        if engine is None:
            on_open()
            engine = self._opened(bundle)
            with self._lock:
                engine.users = 1
                self._engines = {**self._engines, engine.digest: engine}
        try:
            yield engine
        except BaseException:
            self.release(engine)
            raise

    def release(self, engine: Engine) -> None:
        """One user less; the engine of the last one is closed, by a thread of its own."""
        with self._lock:
            engine.users -= 1
            if engine.users or self._engines.get(engine.digest) is not engine:
                return
            self._engines = {d: e for d, e in self._engines.items() if e is not engine}
            self._close(engine)

    def close(self, *, within_s: float | None = None) -> bool:
        """Closes all, used or not; whether that was done in time. None waits however long."""
        with self._lock:
            engines, self._engines = self._engines, {}
            for engine in engines.values():
                self._close(engine)
            closers = self._closers
        last = None if within_s is None else time.monotonic() + within_s
        for closer in closers:
            closer.join(None if last is None else max(0.0, last - time.monotonic()))
        return not any(closer.is_alive() for closer in closers)

    def _close(self, engine: Engine) -> None:
        """By a thread of its own: it waits for others to end, which no event loop should."""
        closer = threading.Thread(target=engine.close, name="xlmr-close", daemon=True)
        self._closers = [*(c for c in self._closers if c.is_alive()), closer]
        closer.start()


def warm_runtime(bundle: Bundle, settings: Settings) -> Runtime:
    """Opens the runtime of a bundle's encoder as the settings say, ready to answer."""
    runtime = open_runtime(
        bundle,
        name=settings.runtime,
        precision=settings.precision,
        threads=settings.threads,
        isa=settings.isa,
        batch_tokens=settings.batch_tokens,
        cache_dir=settings.cache_dir,
    )
    with _closing_where_it_fails([runtime]):
        runtime.warm()
    return runtime


def open_engine(
    bundle: Bundle, settings: Settings, metrics: Metrics, *, runtime_of: RuntimeOf = warm_runtime
) -> Engine:
    """Opens the encoder of a bundle: in this process, or in as many others as settings say.

    Raises:
        ModelError: its files cannot be used, or the first batches fail.
        EngineError: the runtime cannot be started.
    """
    # The engine's own threads are started here.
    work_in_background()
    # Models with other limits may share this encoder: a batch holds the longest text it can read.
    tokens = max(settings.batch_tokens, bundle.config.max_tokens)
    settings = replace(settings, batch_tokens=tokens)
    runtimes: Sequence[Runtime]
    if settings.workers:
        from xlmr.serving.workers import start_workers

        runtimes = start_workers(bundle, settings, on_restart=metrics.worker_restart)
    else:
        runtimes = [runtime_of(bundle, settings)]
    monitored = [Monitored(runtime) for runtime in runtimes]
    with _closing_where_it_fails(monitored):
        measured = timed_batches(monitored[0])
    batcher = Batcher(
        monitored,
        batch_tokens=tokens,
        queue_tokens=settings.queue_tokens,
        metrics=metrics,
        batch_seconds=settings.batch_ms / 1000 or math.inf,
        age_bound_s=settings.age_bound_ms / 1000,
        measured=measured,
    )
    return Engine(bundle.encoder_digest, bundle.directory, monitored, batcher)


@contextmanager
def _closing_where_it_fails(runtimes: Sequence[Runtime]) -> Iterator[None]:
    """Closes runtimes whose first batches fail, which is the model's fault, not a request's.

    Raises:
        ProofError: they failed.
    """
    try:
        yield
    except EngineError as fault:
        for runtime in runtimes:
            runtime.close()
        raise ProofError(f"its first batches: {fault.message}", hint=fault.hint) from fault
