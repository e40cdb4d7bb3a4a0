"""Our engine as a contestant, from any subject, prepared in a scratch directory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np

from xlmr import __version__
from xlmr.errors import EngineError, SettingsError, WeightsError
from xlmr.evaluation.speed.contestant import Array, split
from xlmr.evaluation.speed.subject import Subject
from xlmr.evaluation.speed.workloads import MOST_TOKENS
from xlmr.model.runtimes import _native
from xlmr.model.runtimes.native import NativeRuntime
from xlmr.model.runtimes.smoothing import smoothed
from xlmr.types import Batch, Hidden


class Ours:
    """The native engine."""

    version = __version__

    def __init__(self, runtime: NativeRuntime, precision: str, isa: str) -> None:
        self.name = f"xlmr {precision}"
        self.isa = isa
        self._runtime = runtime

    @classmethod
    def open(
        cls, subject: Subject, scratch: Path, *, precision: str, threads: int, isa: str = "auto"
    ) -> Ours:
        """Prepares the subject's weights in `scratch` and opens them.

        Raises:
            SettingsError: the processor lacks the instructions that `isa` names.
            WeightsError: no room in `scratch`, or weights that are no numbers.
            EngineError: the system gives no more threads.
        """
        shape = _native.Shape(**asdict(subject.config))
        path = str(scratch / f"xlmr-{precision}.weights")

        read = smoothed(subject.read, subject.config) if precision == "int8" else subject.read

        def source(name: str) -> Array:
            return np.ascontiguousarray(read(name), np.float32)

        try:
            _native.prepare(path, shape, precision, "contest", source)
            engine = _native.Engine(path, shape, precision, "contest", isa, threads)
        except _native.WeightsFault as fault:
            raise WeightsError(str(fault), hint="set TMPDIR to a roomier disk") from fault
        except _native.BrokenWeights as fault:
            raise WeightsError(str(fault), hint="the checkpoint is damaged") from fault
        except _native.ThreadsFault as fault:
            raise EngineError(str(fault), hint="ask for fewer threads") from fault
        except ValueError as fault:
            raise SettingsError(str(fault), hint="set XLMR_ISA=auto") from fault
        runtime = NativeRuntime(engine, subject.config, precision, MOST_TOKENS)
        return cls(runtime, precision, engine.isa)

    def prepare(self, batch: Batch) -> Callable[[], Hidden]:
        """See `Contestant.prepare`: a batch is computed as it is."""
        return lambda: self._runtime.run(batch)

    def texts(self, output: Hidden, batch: Batch) -> list[Array]:
        """See `Contestant.texts`."""
        return split(output.hidden_TD, batch)

    def close(self) -> None:
        """See `Contestant.close`."""
        self._runtime.close()
