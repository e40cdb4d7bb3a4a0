"""What a server exports, by name: the only names that rules and panels may ask for. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from xlmr.telemetry.table import TABLE

# Not of our table: what Prometheus knows of a target, and what its client tells of a process.
FOREIGN = frozenset(("up", "process_start_time_seconds", "ALERTS"))

# Ends of requests that are the caller's own: they say nothing of the server.
CALLERS_OWN = (
    "body_too_large",
    "budget_exceeded",
    "client_gone",
    "digest_mismatch",
    "empty",
    "feedback_off",
    "forbidden",
    "invalid_header",
    "invalid_input",
    "invalid_json",
    "method_not_allowed",
    "model_conflict",
    "model_not_found",
    "model_refused",
    "not_found",
    "proof_failed",
    "quota_exceeded",
    "task_not_supported",
    "too_long",
    "too_many_items",
    "unauthenticated",
    "unsupported_media_type",
    "weights_error",
)
OURS = f'code!~"{"|".join(CALLERS_OWN)}"'
HARMED = f'code!~"{"|".join(("ok", *CALLERS_OWN))}"'


def _exported() -> Iterator[str]:
    for metric in TABLE:
        if metric.kind == "histogram":
            yield from (f"{metric.name}_{part}" for part in ("bucket", "count", "sum"))
        else:
            yield f"{metric.name}_total" if metric.kind == "counter" else metric.name


EXPORTED = frozenset(_exported())


class Fleet:
    """Series of the servers of one Prometheus job."""

    def __init__(self, job: str) -> None:
        self._job = job

    def __call__(self, name: str, *matchers: str, **values: str) -> str:
        """A selector, as `of("xlmr_sheds_total", reason="late")`.

        Args:
            name: of the series.
            matchers: what is no equality, as PromQL says it.
            values: labels and the values they must have.

        Raises:
            KeyError: no server exports this name.
        """
        if name not in EXPORTED | FOREIGN:
            raise KeyError(name)
        equal = [f'{label}="{value}"' for label, value in {"job": self._job, **values}.items()]
        return f"{name}{{{','.join((*equal, *matchers))}}}"
