"""Traces, as a collector receives them from a real process, and the log line of a slow statement."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from litestar import Litestar
from litestar.testing import TestClient
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from structlog.testing import capture_logs

from app import tracing
from app.settings import Settings
from tests.callers import Callers
from tests.processes import Service, beside

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


class Collector:
    """Takes spans over HTTP, as OpenTelemetry's own does."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.resources: list[dict[str, str]] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.path == "/v1/traces"
                body = self.rfile.read(int(self.headers["content-length"]))
                collector.take(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def take(self, request: Any) -> None:
        for resource in request.resource_spans:
            self.resources.append({each.key: each.value.string_value for each in resource.resource.attributes})
            for scope in resource.scope_spans:
                self.spans.extend(scope.spans)


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.server.shutdown()
    collector.server.server_close()


def attributes(span: Any) -> dict[str, Any]:
    return {each.key: each.value.string_value or each.value.int_value for each in span.attributes}


@pytest.mark.slow
def test_a_request_is_one_trace_of_its_route_and_its_statements(
    collector: Collector, tmp_path: Path, settings: Settings, tenant: str
) -> None:
    told = beside(settings) | {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "SLOW_QUERY_MS": "0"}
    service = Service(tmp_path / "data", **told)
    token = service.token("admin", "--tenant", tenant)
    service.call("POST", "/admin/tags", token, json={"name": "canary of a body"})
    parent = f"00-{TRACE}-00f067aa0ba902b7-01"
    answer = httpx.get(
        f"{service.url}/admin/customers/12", headers={"Authorization": f"Bearer {token}", "traceparent": parent}
    )
    assert answer.status_code == 404
    customer = service.call("POST", "/admin/customers", token, json={"name": "Ada"}).json()["id"]
    file = {"file": ("a.txt", b"canary of a file")}
    assert service.call("POST", f"/admin/customers/{customer}/attachments", token, files=file).status_code == 201
    assert service.stop(signal.SIGTERM) == 0  # what was not sent yet is sent now

    spans = [span for span in collector.spans if span.trace_id.hex() == TRACE]
    (request,) = [span for span in spans if span.name == "GET /admin/customers/{customer_id}"]
    assert request.parent_span_id.hex() == "00f067aa0ba902b7"
    assert attributes(request)["http.response.status_code"] == 404
    statements = [span for span in spans if span.parent_span_id == request.span_id]
    assert any("FROM customers" in attributes(span)["db.query.text"] for span in statements)
    assert {attributes(span)["request.id"] for span in spans} == {answer.headers["X-Request-ID"]}
    (stored,) = [span for span in collector.spans if span.name == "s3.put"]
    (upload,) = [span for span in collector.spans if span.span_id == stored.parent_span_id]
    assert upload.name == "POST /admin/customers/{customer_id}/attachments"
    assert collector.resources[0]["service.name"] == "crm-service"

    lines = [json.loads(line) for line in service.log.read_text().splitlines()]
    slow = [line for line in lines if line["event"] == "slow query"]
    assert any("FROM customers" in line["statement"] and line["duration_ms"] > 0 for line in slow)
    assert answer.headers["X-Request-ID"] in {line.get("request_id") for line in slow}
    assert "canary" not in service.log.read_text() + str(collector.spans)


def test_a_process_that_ends_does_not_wait_long_for_a_silent_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "LAST_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as collector:
        collector.settimeout(30)
        exporter = OTLPSpanExporter(f"http://127.0.0.1:{collector.getsockname()[1]}", timeout=20)
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(exporter))
        provider.get_tracer("test").start_span("last").end()
        asyncio.run(tracing.send_last(provider))
        connection, _ = collector.accept()
    with connection:
        assert connection.recv(4) == b"POST"
        connection.setblocking(False)
        with pytest.raises(BlockingIOError):  # the exporter still waits for the answer
            list(iter(partial(connection.recv, 4096), b""))
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


@pytest.mark.parametrize(("slow_ms", "logged"), [(0, True), (4000, False)])
def test_a_statement_that_is_quick_enough_is_not_logged(
    slow_ms: int, logged: bool, callers: Callers, tenant: str, variant: Callable[..., TestClient[Litestar]]
) -> None:
    person = callers.person("admin", tenant, client=variant(slow_query_ms=slow_ms))
    with capture_logs() as lines:
        person.ok("GET", "/admin/customers")
    assert ("slow query" in {line["event"] for line in lines}) is logged
