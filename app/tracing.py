"""Sends spans to an OpenTelemetry collector. Loaded only if one is configured; needs the extra `tracing`."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from importlib.metadata import version

import structlog
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from app.settings import Settings

# How long a process that ends waits for a collector. What is not sent by then is lost.
LAST_SECONDS = 2.0


class _RequestId(SpanProcessor):
    """Adds the request's id, which is also in logs and the audit log, to each span."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:  # noqa: ARG002 -- the library's form
        request_id = structlog.contextvars.get_contextvars().get("request_id")
        if request_id is not None:
            span.set_attribute("request.id", request_id)


def export_spans(settings: Settings) -> Callable[[], Awaitable[None]]:
    """Send this process's spans to the configured collector; what is returned sends the last ones. OpenTelemetry's own
    variables are read too.
    """
    os.environ.setdefault("OTEL_SERVICE_NAME", "crm-service")
    resource = Resource.create({"service.version": version("crm-service")})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)  # which a forked process would not be told
    provider.add_span_processor(_RequestId())
    endpoint = f"{settings.otel_exporter_otlp_endpoint.rstrip('/')}/v1/traces"
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint)))
    trace.set_tracer_provider(provider)
    return partial(send_last, provider)


async def send_last(provider: TracerProvider) -> None:
    """Send what waits, and end. OpenTelemetry would try for half a minute to reach a collector that does not answer."""
    sending = threading.Thread(target=provider.shutdown, daemon=True)  # daemon: it may go on when the process ends
    sending.start()
    await asyncio.to_thread(sending.join, LAST_SECONDS)
