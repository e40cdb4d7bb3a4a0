"""Spans for a collector, by OpenTelemetry's own exporter: OTLP in protobuf over HTTP."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from xlmr.errors import MissingExtraError, SettingsError
from xlmr.telemetry.traces import Finished

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

_TIMEOUT_SECONDS = 5
_PATH = "/v1/traces"


class OtlpExporter:
    """Exports to one collector; its variables (`OTEL_EXPORTER_OTLP_HEADERS`, …) apply as usual."""

    def __init__(self, endpoint: str, *, version: str, timeout_s: float = _TIMEOUT_SECONDS) -> None:
        """Opens nothing yet: a collector that is away now may come back.

        Args:
            endpoint: where the collector listens, `http://localhost:4318`; without a path the
                usual `/v1/traces` is added.
            version: ours, for the resource.
            timeout_s: how long one export may take, tries included.

        Raises:
            MissingExtraError: the packages are not installed.
            SettingsError: the endpoint is no URL.
        """
        url = urlsplit(endpoint)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise SettingsError(
                f"XLMR_OTLP_ENDPOINT={endpoint!r}: expected a URL",
                hint="for example http://localhost:4318",
            )
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import OTELResourceDetector, Resource
            from opentelemetry.sdk.util.instrumentation import InstrumentationScope
        except ImportError as fault:
            package = (fault.name or "opentelemetry").partition(".")[0]
            raise MissingExtraError(package, extra="otel") from fault
        where = endpoint if url.path not in ("", "/") else f"{url.scheme}://{url.netloc}{_PATH}"
        self._exporter = OTLPSpanExporter(endpoint=where, timeout=timeout_s)
        ours = Resource({"service.name": "xlmr", "service.version": version})
        self._resource = ours.merge(OTELResourceDetector().detect())
        self._scope = InstrumentationScope("xlmr", version)
        self._closed = False

    def export(self, requests: Sequence[Finished]) -> bool:
        """Sends the spans of requests; False where the collector did not take them."""
        from opentelemetry.sdk.trace.export import SpanExportResult

        spans = [span for request in requests for span in self._spans(request)]
        return self._exporter.export(spans) is SpanExportResult.SUCCESS

    def close(self) -> None:
        """Ends an export that waits for its next try. Calling it twice is harmless."""
        if not self._closed:
            self._closed = True
            self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def _spans(self, request: Finished) -> list[ReadableSpan]:
        """The request's span, then one below it for each stage."""
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.status import Status, StatusCode

        trace = request.trace
        whole = self._span(
            request,
            name=request.name,
            context=_context(trace.id, trace.span),
            parent=_context(trace.id, trace.parent, remote=True) if trace.parent else None,
            kind=SpanKind.SERVER,
            attributes=dict(request.attributes),
            # Its description stays empty: a code says enough, and words might quote.
            status=Status(StatusCode.ERROR if request.fault else StatusCode.UNSET),
            started=request.started,
            ended=request.ended,
        )
        return [
            whole,
            *(
                self._span(
                    request,
                    name=stage.name,
                    context=_context(trace.id, f"{random.getrandbits(64) or 1:016x}"),
                    parent=whole.context,
                    kind=SpanKind.INTERNAL,
                    started=stage.started,
                    ended=stage.ended,
                )
                for stage in request.stages
            ),
        ]

    def _span(
        self, request: Finished, *, started: float, ended: float, **fields: Any
    ) -> ReadableSpan:
        from opentelemetry.sdk.trace import ReadableSpan

        return ReadableSpan(
            resource=self._resource,
            instrumentation_scope=self._scope,
            start_time=round((started + request.epoch_s) * 1e9),
            end_time=round((ended + request.epoch_s) * 1e9),
            **fields,
        )


def _context(trace: str, span: str, *, remote: bool = False) -> Any:
    from opentelemetry.trace import SpanContext, TraceFlags

    return SpanContext(int(trace, 16), int(span, 16), remote, TraceFlags(TraceFlags.SAMPLED))
