"""Logs, metrics and traces: one log line, one measurement and one span for each request, with the request's id."""

from __future__ import annotations

import asyncio
import os
import platform
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import nullcontext
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path

import structlog
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.propagate import extract
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from app.shared.memory import memory_limit
from app.usage import USAGE, UsageCollector
from app.web.error_responses import as_app_error, send_refusal
from app.web.errors import Code
from app.web.limits import STREAMING

REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
# The standard requires 512. The library takes quadratic time for longer ones.
MAX_TRACE_HEADER_LENGTH = 512
TRACE_HEADERS = {b"traceparent", b"tracestate"}
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
UNKNOWN_ENDPOINT = "unknown"

REQUESTS = Counter("crm_http_requests", "Requests answered", ["method", "endpoint", "status"])
DURATION = Histogram("crm_http_request_duration_seconds", "Time to the whole answer", ["method", "endpoint"])
REFUSED = Counter("crm_http_requests_refused", "Requests of who may not, or too often, by the error's code", ["code"])
IN_FLIGHT = Gauge("crm_http_requests_in_flight", "Requests that are being answered", multiprocess_mode="livesum")
LOOP_LAG = Histogram(
    "crm_event_loop_lag_seconds",
    "How much later than asked for the event loop goes on",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
)
START_SECONDS = Gauge("crm_start_seconds", "Time from a worker's start until it serves", multiprocess_mode="livemax")
# Of the newest worker: one that was started again shows as a change.
STARTED_AT = Gauge("crm_started_timestamp_seconds", "When the newest worker served", multiprocess_mode="max")
MEMORY_LIMIT = Gauge("crm_memory_limit_bytes", "Memory that all workers together may use", multiprocess_mode="livemax")
BUILD = Gauge("crm_build_info", "The release that runs", ["version", "python"], multiprocess_mode="livemax")

# What keeps people and programs out: tokens, rights, limits.
REFUSALS = frozenset(code.name for code in Code if code.status in {401, 403, 429})
LAG_SECONDS = 0.5

log = structlog.get_logger("requests")
tracer = trace.get_tracer("crm-service")


class Telemetry:
    """The layer that gives each request its id, and counts, times and logs the answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        for code in REFUSALS:
            REFUSED.labels(code)  # from the start, so that a monitor sees its first one

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope["state"]["request_id"] = request_id
        structlog.contextvars.bind_contextvars(request_id=request_id)
        span = tracer.start_span(scope["method"], context=_callers_trace(scope), kind=SpanKind.SERVER)
        status = 0
        started = time.perf_counter()

        async def answered(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = int(message["status"])
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        IN_FLIGHT.inc()
        try:
            # Where nothing is traced, nobody asks which span is the current one.
            with trace.use_span(span) if span.is_recording() else nullcontext():
                await self._app(scope, receive, answered)
        except Exception as error:  # noqa: BLE001 -- nothing outside can answer
            # No handler caught it: the connection broke, or a layer outside the router failed.
            refusal = as_app_error(error)
            if status == 0:
                await send_refusal(answered, refusal)
        finally:
            IN_FLIGHT.dec()
            self._record(scope, status, time.perf_counter() - started, span)
            _finish(span, scope, status)
            structlog.contextvars.unbind_contextvars("request_id")

    def _record(self, scope: HTTPScope, status: int, seconds: float, span: Span) -> None:
        method = scope["method"] if scope["method"] in METHODS else "OTHER"
        endpoint = _endpoint(scope)
        _requests(method, endpoint, status).inc()
        if (code := scope["state"].get("error_code")) in REFUSALS:
            REFUSED.labels(code).inc()
        if STREAMING not in scope["state"]:
            _duration(method, endpoint).observe(seconds)
        actor = scope.get("user")
        if actor is not None:
            USAGE.count(actor.tenant_id)
        log.info(
            "request",
            method=method,
            route=endpoint,
            status=status,
            code=scope["state"].get("error_code"),
            duration_ms=round(seconds * 1000, 2),
            user=getattr(actor, "user_id", None),
            tenant=getattr(actor, "tenant_id", None),
            client=scope["client"][0] if scope["client"] else None,
            **({"reason": reason} if (reason := scope["state"].get("refused_token")) else {}),
            **({"trace_id": f"{span.get_span_context().trace_id:032x}"} if span.is_recording() else {}),
        )


def _callers_trace(scope: HTTPScope) -> Context:
    """The caller's trace, from the header `traceparent`."""
    carried = {
        name.decode(): value.decode("latin-1")
        for name, value in scope["headers"]
        if name in TRACE_HEADERS and len(value) <= MAX_TRACE_HEADER_LENGTH
    }
    return extract(carried) if carried else Context()


def _finish(span: Span, scope: HTTPScope, status: int) -> None:
    if span.is_recording():
        endpoint = _endpoint(scope)
        span.update_name(f"{scope['method']} {endpoint}")
        span.set_attributes(
            {
                "http.request.method": scope["method"],
                "http.route": endpoint,
                "http.response.status_code": status,
            }
        )
        if status >= 500:
            span.set_status(Status(StatusCode.ERROR))
    span.end()


def _request_id(scope: Scope) -> str:
    given = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-request-id"]
    return given[0] if len(given) == 1 and REQUEST_ID.fullmatch(given[0]) else uuid.uuid4().hex


def _endpoint(scope: Scope) -> str:
    """The route's template, such as /admin/customers/{customer_id}."""
    template = scope.get("path_template")
    return _without_types(str(template)) if template else UNKNOWN_ENDPOINT


# Both keep what the library would look up under a lock for each request: there are as many as there are series.
@cache
def _requests(method: str, endpoint: str, status: int) -> Counter:
    return REQUESTS.labels(method, endpoint, str(status))


@cache
def _duration(method: str, endpoint: str) -> Histogram:
    return DURATION.labels(method, endpoint)


@cache
def _without_types(template: str) -> str:
    return re.sub(r":\w+}", "}", template)


# ── metrics ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def metrics_page(most_tenants: int) -> bytes:
    """All metrics, of all workers, and of so many organizations."""
    tenants = CollectorRegistry()
    if most_tenants:
        tenants.register(UsageCollector(most_tenants))
    directory = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if directory is None:
        return generate_latest(REGISTRY) + generate_latest(tenants)
    registry = CollectorRegistry()
    MultiProcessCollector(registry, directory)  # type: ignore[no-untyped-call]  # the library's own gap
    registry.register(_Processes(directory))
    return generate_latest(registry) + generate_latest(tenants)


def note_start() -> None:
    """This worker begins to serve."""
    BUILD.labels(version("crm-service"), platform.python_version()).set(1)
    STARTED_AT.set_to_current_time()
    began = ProcessCollector(registry=CollectorRegistry()).collect()
    for family in began:
        if family.name == "process_start_time_seconds":
            START_SECONDS.set(time.time() - family.samples[0].value)
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    MEMORY_LIMIT.set(min(machine, memory_limit() or machine))


async def measure_lag() -> None:
    """Look twice a second how late the event loop is, until cancelled: whatever keeps it busy keeps every request of
    this worker waiting.
    """
    while True:
        asked = time.monotonic()
        await asyncio.sleep(LAG_SECONDS)
        LOOP_LAG.observe(max(0.0, time.monotonic() - asked - LAG_SECONDS))


def forget_dead_workers() -> None:
    """Remove the gauges of workers that have ended; their counters stay."""
    if directory := os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        for pid in _worker_pids(directory):
            if not Path(f"/proc/{pid}").exists() and Path("/proc/self").exists():
                mark_process_dead(pid, directory)  # type: ignore[no-untyped-call]  # the library's own gap


class _Processes(Collector):
    """Process metrics of each worker, with its pid as a label: the library's multiprocess mode leaves them out."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for pid in _worker_pids(self._directory):
            for family in ProcessCollector(pid=partial(int, pid), registry=CollectorRegistry()).collect():
                known = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                for sample in family.samples:
                    known.add_sample(sample.name, {**sample.labels, "pid": str(pid)}, sample.value)
        yield from families.values()


def _worker_pids(directory: str) -> list[int]:
    return sorted({int(path.stem.rsplit("_", 1)[1]) for path in Path(directory).glob("*_*.db")})
