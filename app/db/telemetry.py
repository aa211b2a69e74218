"""Every statement to the database, watched: a log line for a slow one, and a span where requests are traced."""

from __future__ import annotations

import structlog
from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode
from prometheus_client import Counter

SLOW = Counter("crm_db_slow_statements", "Statements that took longer than SLOW_QUERY_MS")

log = structlog.get_logger("database")
tracer = trace.get_tracer("crm-service")

LONGEST_LOGGED = 4000  # a list of columns alone takes a thousand characters


def record_statement(statement: str, began: int, ended: int, error: BaseException | None, slow_ms: float) -> None:
    """Log a statement that was slow, and put it into the request's trace; the times are in nanoseconds.

    It is told without its parameters, which hold what people wrote.
    """
    if (duration := (ended - began) / 1e6) > slow_ms:
        SLOW.inc()
        log.warning(
            "slow query", statement=" ".join(statement.split())[:LONGEST_LOGGED], duration_ms=round(duration, 2)
        )
    if trace.get_current_span().is_recording():
        _span(statement, began, ended, error)


def _span(statement: str, began: int, ended: int, error: BaseException | None) -> None:
    span = tracer.start_span(
        statement.split(maxsplit=1)[0].upper(),
        kind=SpanKind.CLIENT,
        start_time=began,
        attributes={"db.system.name": "postgresql", "db.query.text": statement},
    )
    if error is not None:
        span.set_status(Status(StatusCode.ERROR, type(error).__name__))
    span.end(ended)
