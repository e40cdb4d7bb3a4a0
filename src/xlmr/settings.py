"""Every knob and every environment variable, once.

`Settings.from_environment` is called at the edge (the CLI, a test); everything below takes the
frozen value, or the one field it needs, as an argument. No other module reads the environment.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from xlmr.errors import SettingsError


def _knob(
    default: Any,
    variable: str,
    help: str,
    *,
    choices: tuple[str, ...] = (),
    minimum: int | None = None,
) -> Any:
    """Declares a field together with its environment variable, its help and its bounds."""
    metadata = {"variable": variable, "help": help, "choices": choices, "minimum": minimum}
    return field(default=default, metadata=metadata)


def _default_cache() -> Path:
    return Path("~/.cache/xlmr")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings of a process. Sizes are in the unit their name ends in."""

    runtime: str = _knob(
        "native", "XLMR_RUNTIME", "which runtime computes", choices=("native", "reference", "torch")
    )
    precision: str = _knob(
        "int8", "XLMR_PRECISION", "number format of the matrices", choices=("int8", "bf16", "fp32")
    )
    isa: str = _knob(
        "auto",
        "XLMR_ISA",
        "force the native runtime's kernels; auto picks the best the processor has",
        choices=("auto", "avx512bf16", "avx512vnni", "avx2vnni", "avx2", "neon", "portable"),
    )
    threads: int = _knob(
        0, "XLMR_THREADS", "compute threads; 0 follows the cgroup quota and the affinity", minimum=0
    )
    cache_dir: Path = _knob(
        _default_cache(), "XLMR_CACHE_DIR", "where downloads and prepared weights are kept"
    )
    host: str = _knob("127.0.0.1", "XLMR_HOST", "address the server listens on")
    port: int = _knob(
        8080, "XLMR_PORT", "port the server listens on; 0 takes a free one", minimum=0
    )
    max_body_bytes: int = _knob(
        4 * 1024 * 1024, "XLMR_MAX_BODY_BYTES", "largest request body", minimum=1
    )
    max_items: int = _knob(256, "XLMR_MAX_ITEMS", "most texts in one request", minimum=1)
    max_chars: int = _knob(1_000_000, "XLMR_MAX_CHARS", "longest text, in characters", minimum=1)
    batch_tokens: int = _knob(
        4096, "XLMR_BATCH_TOKENS", "most tokens computed in one batch", minimum=1
    )
    queue_tokens: int = _knob(
        65_536,
        "XLMR_QUEUE_TOKENS",
        "most tokens waiting; beyond it requests are refused",
        minimum=1,
    )
    drain_seconds: int = _knob(
        30, "XLMR_DRAIN_SECONDS", "longest wait for requests in flight when stopping", minimum=0
    )
    log_level: str = _knob(
        "info",
        "XLMR_LOG_LEVEL",
        "how much is logged",
        choices=("debug", "info", "warning", "error"),
    )
    tracker: str = _knob(
        "", "XLMR_TRACKER", "who is told of a training run's steps", choices=("mlflow", "wandb")
    )
    country: str = _knob(
        "",
        "XLMR_COUNTRY",
        "three letters (ISO 3166) of where this machine stands, for a run's emissions",
    )

    @classmethod
    def from_environment(
        cls, environ: Mapping[str, str] | None = None, **overrides: Any
    ) -> Settings:
        """Reads the environment; keyword overrides (a command line) win. None means "not given".

        Raises:
            SettingsError: a value is not of its kind, not among its choices, or below its minimum.
        """
        environ = os.environ if environ is None else environ
        values: dict[str, Any] = {}
        for knob in fields(cls):
            given = overrides.get(knob.name)
            if given is None:
                given = environ.get(knob.metadata["variable"]) or None
            if given is not None:
                values[knob.name] = _parse(knob.name, given, knob.default, knob.metadata)
        settings = cls(**values)
        expanded = Path(settings.cache_dir).expanduser()
        return cls(
            **{f.name: getattr(settings, f.name) for f in fields(cls)} | {"cache_dir": expanded}
        )


def keep_blas_out_of_the_way() -> None:
    """Gives numpy's BLAS one thread unless told otherwise. Call it before numpy is imported.

    Our matrices outside the engine are small: a thread pool of BLAS's own only takes cores from
    the engine (a head's product measured 70 times slower on two busy cores).
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def keep_packages_quiet() -> None:
    """Tells optional packages, before they are imported, to report nothing about their use.

    Each does so by default, over the network. What the environment already says stands.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    # Its default waits minutes for a server that is gone; and its project would be "uncategorized".
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("WANDB_PROJECT", "xlmr")


def _parse(name: str, given: Any, default: Any, metadata: Mapping[str, Any]) -> Any:
    variable = metadata["variable"]
    if isinstance(default, int):
        try:
            value: Any = int(given)
        except (TypeError, ValueError):
            raise SettingsError(
                f"{variable}={given!r}: expected a whole number",
                hint=f"for example {variable}={default}",
            ) from None
        if metadata["minimum"] is not None and value < metadata["minimum"]:
            raise SettingsError(f"{variable}={value}: expected at least {metadata['minimum']}")
        return value
    if isinstance(default, Path):
        return Path(given)
    if metadata["choices"] and given not in metadata["choices"]:
        raise SettingsError(
            f"{variable}={given!r}: expected one of {', '.join(metadata['choices'])}"
        )
    return str(given)
