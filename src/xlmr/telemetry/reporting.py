"""Everything a server reports with, made from its settings."""

from __future__ import annotations

from dataclasses import dataclass

from xlmr.settings import Settings
from xlmr.telemetry.gpu import gpu_readings
from xlmr.telemetry.logs import JsonRequestLog
from xlmr.telemetry.metrics import Metrics
from xlmr.telemetry.traces import Tracer


@dataclass(frozen=True, slots=True)
class Reporting:
    """Metrics, the log of requests, and traces where somebody wants them."""

    metrics: Metrics
    log: JsonRequestLog
    tracer: Tracer | None

    def close(self) -> None:
        """Sends and writes what waits, as far as that goes within seconds."""
        if self.tracer is not None:
            self.tracer.close()
        self.log.close()


def open_reporting(settings: Settings, *, version: str) -> Reporting:
    """Metrics and a log; traces, which name our version, where `otlp_endpoint` is set.

    Raises:
        MissingExtraError: traces are wanted and OpenTelemetry is not installed.
        SettingsError: the endpoint is no URL.
    """
    metrics = Metrics(price_per_hour=settings.price_per_hour)
    if settings.runtime == "torch":
        metrics.watch_gpus(gpu_readings())
    tracer = None
    if settings.otlp_endpoint:
        from xlmr.telemetry.otlp import OtlpExporter

        tracer = Tracer(
            OtlpExporter(settings.otlp_endpoint, version=version),
            ratio=settings.trace_sample_ratio,
            on_export=metrics.spans_exported,
            on_drop=metrics.spans_dropped,
        )
    log = JsonRequestLog(settings.log_level, on_drop=metrics.log_dropped)
    return Reporting(metrics, log, tracer)
