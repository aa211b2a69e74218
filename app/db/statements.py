"""Every statement to the database, watched: a log line for a slow one, and a span where requests are traced."""

from __future__ import annotations

import time
from typing import Any

import structlog
from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode
from sqlalchemy import Engine, ExceptionContext, event

log = structlog.get_logger("database")
tracer = trace.get_tracer("crm-service")

BEGAN = "crm_statement_began"
LONGEST_LOGGED = 4000  # a list of columns alone takes a thousand characters


def watch(engine: Engine, slow_ms: float) -> None:
    """Watch this engine's statements. They are told without their parameters, which hold what people wrote."""

    def begin(connection: Any, *_: object) -> None:
        connection.info[BEGAN] = time.time_ns()

    def end(connection: Any, statement: str | None, error: BaseException | None = None) -> None:
        began = connection.info.pop(BEGAN, None)
        if began is None or statement is None:
            return
        tell(statement, began, time.time_ns(), error, slow_ms)

    def finish(connection: Any, _cursor: object, statement: str, *_: object) -> None:
        end(connection, statement)

    def fail(failed: ExceptionContext) -> None:
        if failed.connection is not None:
            end(failed.connection, failed.statement, failed.original_exception)

    event.listen(engine, "before_cursor_execute", begin)
    event.listen(engine, "after_cursor_execute", finish)
    event.listen(engine, "handle_error", fail)


def tell(statement: str, began: int, ended: int, error: BaseException | None, slow_ms: float) -> None:
    """Log a statement that was slow, and put it into the request's trace; the times are in nanoseconds."""
    if (duration := (ended - began) / 1e6) > slow_ms:
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
