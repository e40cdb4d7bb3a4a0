"""The runtimes behind the port of `xlmr.model.runtime`, each loaded when it is asked for."""

from __future__ import annotations

from pathlib import Path

from xlmr.errors import EngineError, MissingExtraError, SettingsError
from xlmr.model.bundle import EncoderFiles
from xlmr.model.runtime import Runtime


def open_runtime(
    bundle: EncoderFiles,
    *,
    name: str = "native",
    precision: str = "int8",
    threads: int = 0,
    isa: str = "auto",
    batch_tokens: int = 4096,
    cache_dir: Path | None = None,
) -> Runtime:
    """Opens the runtime that computes a bundle's encoder.

    Args:
        bundle: the model.
        name: `native`; `torch`, for GPUs; or `reference`, which is slow and in numpy.
        precision: `int8` (native only), `bf16` or `fp32`; the reference computes float32 whatever
            is asked.
        threads: compute threads; 0 follows the cgroup quota.
        isa: which kernels; `auto` picks by CPU feature.
        batch_tokens: most tokens in one batch. At least what one text may have.
        cache_dir: where prepared weights are kept; None keeps none.

    Raises:
        SettingsError: no runtime of that name.
        EngineError: the native library cannot be loaded.
        MissingExtraError: the torch runtime, and torch is not installed.
        WeightsError: the weights cannot be read.
    """
    # A budget below the longest text would make texts the model can read unanswerable.
    batch_tokens = max(batch_tokens, bundle.max_tokens)
    if name == "reference":
        from xlmr.model.runtimes.reference import ReferenceRuntime

        return ReferenceRuntime.open(bundle, batch_tokens=batch_tokens)
    if name == "native":
        try:
            from xlmr.model.runtimes.native import NativeRuntime
        except ImportError as fault:
            raise EngineError(
                f"the native runtime cannot be loaded: {fault}",
                hint="reinstall xlmr with a C++ compiler, or set XLMR_RUNTIME=reference",
            ) from fault
        return NativeRuntime.open(
            bundle,
            precision=precision,
            threads=threads,
            isa=isa,
            batch_tokens=batch_tokens,
            cache_dir=cache_dir,
        )
    if name == "torch":
        try:
            from xlmr.model.runtimes.torch_runtime import TorchRuntime
        except ModuleNotFoundError as fault:
            raise MissingExtraError("torch", extra="train") from fault
        return TorchRuntime.open(
            bundle, precision=precision, threads=threads, batch_tokens=batch_tokens
        )
    raise SettingsError(
        f"runtime {name!r}: not part of this version", hint="use native, torch or reference"
    )
