"""The forms of log lines."""

from __future__ import annotations

import json
import logging

import pytest

from app.logs import WithoutContent, line_formatter

REQUEST = {
    "request_id": "abc",
    "method": "GET",
    "route": "/admin/customers",
    "status": 403,
    "code": "INSUFFICIENT_PERMISSIONS",
    "duration_ms": 1.5,
    "user": "77",
    "tenant": "acme",
    "client": "192.0.2.7",
}


def line(style: str, message: object, failure: BaseException | None = None) -> dict[str, object]:
    exception = (type(failure), failure, failure.__traceback__) if failure else None
    record = logging.LogRecord("requests", logging.WARNING, __file__, 1, message, None, exception)
    record.__dict__ |= {"_logger": None, "_name": "warning"} if isinstance(message, dict) else {}
    written: dict[str, object] = json.loads(line_formatter(style).format(record))
    return written


def test_a_line_in_ecs_has_the_schemas_names() -> None:
    written = line("ecs", {"event": "request", "level": "warning", **REQUEST})
    assert written == {
        "ecs.version": "8.17.0",
        "log.level": "warning",
        "message": "request",
        "http.request.id": "abc",
        "http.request.method": "GET",
        "http.response.status_code": 403,
        "error.code": "INSUFFICIENT_PERMISSIONS",
        "event.duration": 1_500_000,
        "user.id": "77",
        "organization.id": "acme",
        "client.ip": "192.0.2.7",
        "labels": {"route": "/admin/customers"},
    }


@pytest.mark.parametrize(("style", "place"), [("json", "exception"), ("ecs", "error.stack_trace")])
def test_a_librarys_failure_is_one_line(style: str, place: str) -> None:
    try:
        raise ValueError("what went wrong")
    except ValueError as failure:
        written = line(style, "it failed", failure)
    assert "what went wrong" in str(written[place])
    assert written["message" if style == "ecs" else "event"] == "it failed"


def test_what_a_client_sent_is_not_quoted_by_the_protocols_library() -> None:
    try:
        raise ValueError("input_value='a secret of somebody'")
    except ValueError as failure:
        error = type(failure), failure, failure.__traceback__
    for name, quotes in (("mcp.client.streamable_http", False), ("psycopg", True)):
        record = logging.LogRecord(name, logging.ERROR, __file__, 1, "Error parsing %s", ("JSON",), error)
        assert WithoutContent().filter(record)
        written = line_formatter("json").format(record)
        assert "Error parsing JSON" in written
        assert "ValueError" in written
        assert ("a secret" in written) is quotes
