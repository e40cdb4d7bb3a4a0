"""The native CPU engine behind the port: prepared weights, mapped, and a flat row of tokens.

The engine reads a file in its own layout. It is written once, beside the model where that can be
written, else into the cache; it names the digest of the weights it came from and is rebuilt when
that differs or when it is damaged.

A mapped file that somebody cuts short ends the process at the next look at a missing page, and no
library may catch that for its process. So: the file is only ever replaced whole (written beside,
then renamed; who has the old one mapped keeps it), it is read-only, and before every batch its size
and time of writing are compared with what they were; if they differ, nothing is read and the batch
is an `EngineError`. What is left is a file that is cut while a batch is computed, by root or by
one who has made it writable first. A private copy would close that too, for as much memory as the
model has.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np

from xlmr.errors import (
    CancelledError,
    EngineError,
    ModelRefusedError,
    NonFiniteError,
    SettingsError,
    WeightsError,
)
from xlmr.model.bundle import EncoderFiles
from xlmr.model.config import EncoderConfig
from xlmr.model.runtime import check_batch
from xlmr.model.runtimes import _native
from xlmr.model.runtimes.processors import usable_processors
from xlmr.model.runtimes.smoothing import Source, smoothed
from xlmr.types import Batch, Hidden, Rows

Progress = Callable[[int, int], None]
# Attention reads a head in whole groups of this many columns; every XLM-R has 32, 64 or 80.
_HEAD_MULTIPLE = 8
# `MANIFEST_FILE` of the registry, which stands above.
_MANIFEST = "xlmr-manifest.json"


class NativeRuntime:
    """One encoder in the native engine. Safe to call from several threads; they take turns."""

    def __init__(
        self, engine: _native.Engine, config: EncoderConfig, precision: str, max_batch_tokens: int
    ) -> None:
        self._engine: _native.Engine | None = engine
        self._config = config
        self._precision = precision
        self._max_batch_tokens = max_batch_tokens
        self._threads = engine.threads
        self._name = f"native {precision} {engine.isa} {engine.threads} threads"

    @classmethod
    def open(
        cls,
        bundle: EncoderFiles,
        *,
        precision: str,
        threads: int,
        isa: str,
        batch_tokens: int,
        cache_dir: Path | None = None,
        progress: Progress | None = None,
    ) -> NativeRuntime:
        """Maps the prepared weights of a bundle, preparing them first where that is needed.

        Args:
            bundle: the model.
            precision: `int8`, `bf16` or `fp32`.
            threads: 0 follows the cgroup quota and the affinity mask.
            isa: a name `_native.instruction_sets()` lists, or `auto`.
            batch_tokens: most tokens in one batch.
            cache_dir: where prepared weights go when the model directory cannot be written.
            progress: called with bytes done and bytes in all while preparing.

        Raises:
            WeightsError: the weights cannot be read, or there is no room for the prepared ones.
            SettingsError: the processor lacks the instructions that `isa` names.
            ModelRefusedError: heads of a width the kernels do not take.
            EngineError: the system gives no more threads.
        """
        if bundle.config.head_width % _HEAD_MULTIPLE:
            raise ModelRefusedError(
                f"heads {bundle.config.head_width} wide; the native runtime takes multiples of "
                f"{_HEAD_MULTIPLE}",
                field="config.json num_attention_heads",
                hint="set XLMR_RUNTIME=reference",
            )
        shape = _native.Shape(**asdict(bundle.config))
        digest = bundle.encoder_digest
        threads = threads or usable_processors()
        file_name = f"xlmr-native-{precision}.weights"
        places = [bundle.directory / file_name]
        if cache_dir is not None:
            places.append(cache_dir / "prepared" / digest / file_name)
            if (bundle.directory / _MANIFEST).exists():
                # What lies beside released files is in no manifest and under no signature.
                del places[0]

        def opened(path: Path) -> _native.Engine:
            return _native.Engine(
                path=str(path),
                shape=shape,
                precision=precision,
                digest=digest,
                isa=isa,
                threads=threads,
            )

        try:
            for path in places:
                try:
                    return cls(opened(path), bundle.config, precision, batch_tokens)
                except _native.WeightsFault:
                    continue  # missing, stale or damaged: prepare it below
            path = _prepare(bundle, places, shape, precision, digest, progress)
            return cls(opened(path), bundle.config, precision, batch_tokens)
        except _native.WeightsFault as fault:
            raise WeightsError(str(fault), hint="delete the file and start again") from fault
        except _native.ThreadsFault as fault:
            raise EngineError(
                str(fault),
                hint="lower XLMR_THREADS, or raise the limit on processes (ulimit -u, or the "
                "container's limit on pids) or on memory",
            ) from fault
        except ValueError as fault:
            raise SettingsError(str(fault), hint="set XLMR_ISA=auto") from fault

    @property
    def name(self) -> str:
        """For example `native int8 avx512bf16 2 threads`."""
        return self._name

    @property
    def threads(self) -> int:
        """Threads that compute."""
        return self._threads

    @property
    def config(self) -> EncoderConfig:
        """The architecture it computes."""
        return self._config

    @property
    def max_batch_tokens(self) -> int:
        """Largest batch it accepts."""
        return self._max_batch_tokens

    def warm(self) -> None:
        """Computes the longest text once: reads every weight and grows every buffer."""
        length = min(self._config.max_tokens, self._max_batch_tokens, 512)
        ids_T = np.full(length, self._config.pad_id + 1, np.int32)
        self.run(Batch(ids_T=ids_T, starts=np.array([0, length], np.int32)))

    def run(self, batch: Batch, *, rows: Rows = "all") -> Hidden:
        """See `xlmr.model.runtime.Runtime.run`.

        Raises:
            NonFiniteError: the activations are no finite numbers; names the layer.
            EngineError: also when somebody has written to the prepared weights since they were
                opened.
        """
        engine = self._engine
        if engine is None:
            raise CancelledError("the runtime is closed")
        check_batch(batch, self._config, self._max_batch_tokens)
        ids_T = np.ascontiguousarray(batch.ids_T, np.int32)
        starts = np.ascontiguousarray(batch.starts, np.int32)
        try:
            hidden_TD = engine.run(ids_T, starts, rows == "first", batch.given_up)
        except _native.Cancelled as fault:
            raise CancelledError("it was given up, or the runtime was closed") from fault
        except _native.NotFinite as fault:
            raise NonFiniteError(
                str(fault),
                hint="the weights are broken or too large for float32: convert the checkpoint "
                "again; XLMR_RUNTIME=reference shows whether they ever gave numbers",
            ) from fault
        except _native.WeightsFault as fault:
            raise EngineError(
                str(fault), hint="start again; the file is prepared anew if it is damaged"
            ) from fault
        except MemoryError as fault:
            raise EngineError("no memory for the batch", hint="lower XLMR_BATCH_TOKENS") from fault
        if rows == "first":
            starts = np.arange(len(starts), dtype=np.int32)
        return Hidden(hidden_TD=hidden_TD, starts=starts)

    def close(self) -> None:
        """Cancels what runs and lets the engine go."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.cancel()


def _prepare(
    bundle: EncoderFiles,
    places: list[Path],
    shape: _native.Shape,
    precision: str,
    digest: str,
    progress: Progress | None,
) -> Path:
    """Writes the prepared file at the first place that can be written; whole or not at all."""
    source: Source = bundle.weights().encoder
    if precision == "int8":
        source = smoothed(source, bundle.config)
    faults: list[str] = []
    for path in places:
        draft = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
            os.close(handle)
            draft = Path(name)
            _native.prepare(
                path=name,
                shape=shape,
                precision=precision,
                digest=digest,
                source=lambda array: np.ascontiguousarray(source(array), np.float32),
                progress=progress,
            )
            draft.chmod(0o444)
            draft.replace(path)
            return path
        except (OSError, _native.WeightsFault) as fault:
            faults.append(str(fault))
        except _native.BrokenWeights as fault:
            raise WeightsError(
                f"{bundle.directory}: {fault}",
                hint="the checkpoint is damaged, or overflowed when it was converted",
            ) from fault
        finally:
            if draft is not None:
                draft.unlink(missing_ok=True)
    raise WeightsError(
        f"the prepared weights cannot be written: {'; '.join(faults)}",
        hint="free some disk space, or set XLMR_CACHE_DIR to a place that can be written",
    )
