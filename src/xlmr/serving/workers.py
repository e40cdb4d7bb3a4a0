"""Runtimes that compute in processes of their own: one encoder, several workers.

A worker that dies, or hangs past its time, is replaced; the batch it had is computed once more, and
only if it takes the second worker down too is it an error. Replacements come at once after a rare
death and ever more slowly after many, so that a model that kills its workers does not also take the
machine. The weights are mapped, so all workers share one copy of them.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from xlmr.errors import CancelledError, EngineError, UnavailableError, XlmrError
from xlmr.model.runtime import check_batch
from xlmr.serving import wire
from xlmr.serving.shares import Share, share_out

if TYPE_CHECKING:
    from xlmr.model.bundle import Bundle
    from xlmr.model.config import EncoderConfig
    from xlmr.settings import Settings
    from xlmr.types import Batch, Hidden, Rows

logger = logging.getLogger("xlmr.serving.workers")

# The first worker may have to prepare the weights of a large model; those after it find them.
_FIRST_START_SECONDS = 900.0
_START_SECONDS = 120.0
# A worker that lived so long died of something rare, and is replaced at once.
_STEADY_SECONDS = 30.0
_LONGEST_PAUSE_S = 30.0
_FIRST_PAUSE_S = 0.5
# How long a batch waits for its worker to be replaced before it is refused.
_PATIENCE_S = 30.0
_CLOSE_SECONDS = 5.0
_ATTEMPTS = 2
# So many deaths in a row, each soon after its start, are no accident.
_QUICK_DEATHS = 2
_UNKNOWN = "worker"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a worker is told to open, and how.

    Attributes:
        order: for the worker, as JSON.
        timeout_s: for one batch.
        patience_s: how long a batch waits for a replacement.
        on_restart: called when a worker has died.
    """

    config: EncoderConfig
    order: dict[str, object]
    share: Share
    max_batch_tokens: int
    timeout_s: float
    patience_s: float = _PATIENCE_S
    first_pause_s: float = _FIRST_PAUSE_S
    on_restart: Callable[[], None] = lambda: None


class _Child:
    """One worker process, until it dies."""

    def __init__(self, plan: Plan, memory: int) -> None:
        self.line, theirs = socket.socketpair()
        # Held while a batch is asked over the line. Closing it meanwhile would free its number, the
        # next worker's line would take it, and the one who waits would read there.
        self.asking = threading.Lock()
        self.gone = False
        processors = ",".join(map(str, plan.share.processors))
        with theirs:
            arguments = [str(theirs.fileno()), str(memory), processors]
            self.process = subprocess.Popen(
                [sys.executable, "-m", "xlmr.serving.worker", *arguments],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), memory),
            )

    def open(self, plan: Plan, *, within_s: float) -> str:
        """Has it open the encoder; gives the name of the runtime.

        Raises:
            XlmrError: it cannot; the reason is the worker's own.
            GoneError: it died on the way.
        """
        self.line.settimeout(within_s)
        wire.send(self.line, wire.Frame("order", content=json.dumps(plan.order).encode()))
        frame = wire.receive(self.line)
        if frame.kind == "fault":
            raise wire.fault_of(frame)
        self.line.settimeout(plan.timeout_s)
        return frame.content.decode()

    def hang_up(self) -> None:
        """Wakes whoever waits for its answer, and tells it to go."""
        with contextlib.suppress(OSError):
            self.line.shutdown(socket.SHUT_RDWR)

    def bury(self) -> None:
        """Kills it, if it still lives, and waits for that."""
        self.gone = True
        self.process.kill()
        self.process.wait()
        self.hang_up()
        with self.asking:
            self.line.close()


class WorkerRuntime:
    """One worker and its successors behind the runtime's port. Safe to call from several threads.

    A thread of its own starts workers, waits for their deaths and starts the next.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._memory = wire.shared_memory(plan.config, plan.max_batch_tokens)
        self._slate = wire.Slate(self._memory, plan.config, plan.max_batch_tokens)
        self._turn = threading.Lock()
        self._changed = threading.Condition()
        self._child: _Child | None = None
        self._ready = False
        self._name = _UNKNOWN
        self._fault: Exception | None = None
        self._closing = False
        self._keeper = threading.Thread(target=self._keep, name="xlmr-worker", daemon=True)
        self._keeper.start()

    @property
    def name(self) -> str:
        """What the worker computes with: `native int8 avx512vnni 2 threads, own process`."""
        return f"{self._name}, own process"

    @property
    def config(self) -> EncoderConfig:
        """The architecture it computes."""
        return self._plan.config

    @property
    def max_batch_tokens(self) -> int:
        """Largest batch it accepts."""
        return self._plan.max_batch_tokens

    @property
    def threads(self) -> int:
        """Threads that compute."""
        return self._plan.share.threads

    @property
    def available(self) -> bool:
        """Whether a worker stands ready, or computes; not while one is being replaced."""
        child = self._child
        return self._ready and child is not None and not child.gone

    @property
    def pid(self) -> int | None:
        """The worker's process; None while there is none."""
        child = self._child
        return None if child is None else child.process.pid

    def warm(self) -> None:
        """Waits until the first worker is ready.

        Raises:
            XlmrError: it cannot be; it is not tried again.
        """
        with self._changed:
            self._changed.wait_for(lambda: self.available or self._fault or self._closing)
            fault = self._fault
        if isinstance(fault, XlmrError):
            raise fault
        if fault is not None:
            raise EngineError(
                "a worker died while it started",
                hint="its last words stand above; was it out of memory?",
            ) from fault

    def run(self, batch: Batch, *, rows: Rows = "all") -> Hidden:
        """See `xlmr.model.runtime.Runtime.run`.

        Raises:
            UnavailableError: the worker has died and its replacement takes too long.
            EngineError: also when two workers died of this batch.
        """
        check_batch(batch, self._plan.config, self._plan.max_batch_tokens)
        with self._turn:
            for _ in range(_ATTEMPTS):
                child = self._await_child()
                try:
                    return self._ask(child, batch, rows)
                except wire.GoneError as fault:
                    if self._closing:
                        raise CancelledError("the runtime was closed while it computed") from fault
                    logger.error("worker %d is %s", child.process.pid, fault)
                    child.gone = True
                    child.process.kill()
        raise EngineError(f"{_ATTEMPTS} workers died of one batch")

    def close(self) -> None:
        """Stops what is computed and ends the worker. Calling it twice is harmless."""
        with self._changed:
            if self._closing:
                return
            self._closing = True
            child = self._child
            self._changed.notify_all()
        if child is not None:
            child.hang_up()
        self._keeper.join(_CLOSE_SECONDS)
        if self._keeper.is_alive() and child is not None:
            child.process.kill()
            self._keeper.join()
        os.close(self._memory)

    def _ask(self, child: _Child, batch: Batch, rows: Rows) -> Hidden:
        with child.asking:
            wire.send(child.line, self._slate.write_batch(batch, rows))
            answer = wire.receive(child.line)
        if answer.kind == "fault":
            raise wire.fault_of(answer)
        return self._slate.read_hidden(answer, batch, rows)

    def _await_child(self) -> _Child:
        with self._changed:
            self._changed.wait_for(lambda: self.available or self._closing, self._plan.patience_s)
            if self._closing:
                raise CancelledError("the runtime is closed")
            if self._child is None or not self.available:
                raise UnavailableError(
                    "the worker is being replaced", retry_after_s=5.0, reason="engine"
                )
            return self._child

    def _keep(self) -> None:
        """Keeps one worker alive."""
        deaths = 0
        while True:
            started = time.monotonic()
            self._live_once()
            if self._closing or self._fault is not None:
                return
            self._plan.on_restart()
            deaths = 1 if time.monotonic() - started > _STEADY_SECONDS else deaths + 1
            self._pause(deaths)

    def _live_once(self) -> None:
        """The life of one worker; notes the fault if the very first one never got ready."""
        try:
            child = _Child(self._plan, self._memory)
        except OSError as fault:
            self._failed(fault)
            return
        with self._changed:
            self._child = child
            if self._closing:
                child.hang_up()
        first = self._name == _UNKNOWN
        try:
            seconds = _FIRST_START_SECONDS if first else _START_SECONDS
            name = child.open(self._plan, within_s=seconds)
            with self._changed:
                self._name, self._ready = name, True
                self._changed.notify_all()
            child.process.wait()
        except (XlmrError, wire.GoneError) as fault:
            self._failed(fault)
        finally:
            with self._changed:
                self._child, self._ready = None, False
            child.bury()

    def _failed(self, fault: Exception) -> None:
        with self._changed:
            if self._name == _UNKNOWN and not self._closing:
                self._fault = fault
            self._changed.notify_all()
        if self._fault is None and not self._closing:
            logger.error("a worker could not be started: %s", fault)

    def _pause(self, deaths: int) -> None:
        """Before the next worker: nothing after one death, then ever more."""
        if deaths < _QUICK_DEATHS:
            logger.error("a worker died and is replaced")
            return
        exponent = min(deaths - _QUICK_DEATHS, 16)
        pause = min(_LONGEST_PAUSE_S, self._plan.first_pause_s * 2**exponent)
        logger.error("workers die quickly; the next starts in %.1f seconds", pause)
        with self._changed:
            self._changed.wait_for(lambda: self._closing, pause)


def start_workers(
    bundle: Bundle, settings: Settings, *, on_restart: Callable[[], None] = lambda: None
) -> list[WorkerRuntime]:
    """As many workers as settings say, all ready.

    Raises:
        ModelError: the encoder's files cannot be used.
        EngineError: a worker cannot be started.
    """
    runtimes: list[WorkerRuntime] = []
    try:
        for share in share_out(settings.workers, threads=settings.threads):
            plan = Plan(
                config=bundle.config,
                order=_order(bundle, settings, share),
                share=share,
                max_batch_tokens=settings.batch_tokens,
                timeout_s=settings.worker_timeout_seconds,
                on_restart=on_restart,
            )
            runtimes.append(WorkerRuntime(plan))
            if len(runtimes) == 1:
                # It prepares the weights if they are not; the others find them.
                runtimes[0].warm()
        for runtime in runtimes:
            runtime.warm()
    except BaseException:
        for runtime in runtimes:
            runtime.close()
        raise
    return runtimes


def _order(bundle: Bundle, settings: Settings, share: Share) -> dict[str, object]:
    return {
        "directory": str(bundle.directory.resolve()),
        "digest": bundle.encoder_digest,
        "runtime": settings.runtime,
        "precision": settings.precision,
        "isa": settings.isa,
        "threads": share.threads,
        "batch_tokens": settings.batch_tokens,
        "cache_dir": str(settings.cache_dir),
        "log_level": settings.log_level,
    }
