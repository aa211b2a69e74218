"""Logs on standard error: JSON lines, or coloured text on a terminal."""

from __future__ import annotations

import logging
import logging.config
import sys
from typing import Any

import msgspec
import structlog

from app.settings import LogFormat

# The names of the Elastic Common Schema for ours. What it has no name for stands under `labels`.
ECS_VERSION = "8.17.0"
ECS_NAMES = {
    "timestamp": "@timestamp",
    "level": "log.level",
    "logger": "log.logger",
    "event": "message",
    "request_id": "http.request.id",
    "trace_id": "trace.id",
    "method": "http.request.method",
    "status": "http.response.status_code",
    "code": "error.code",
    "exception": "error.stack_trace",
    "client": "client.ip",
    "user": "user.id",
    "tenant": "organization.id",
}
NANOSECONDS = 1_000_000  # of a millisecond


def log_config(level: str, style: LogFormat) -> dict[str, Any]:
    """A logging.config dictionary that sends the logs of all libraries to standard error in one form."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"lines": {"()": "app.logs.line_formatter", "style": style}},
        "filters": {"without_content": {"()": "app.logs.WithoutContent"}},
        "handlers": {
            "stderr": {
                "class": "logging.StreamHandler",
                "formatter": "lines",
                "filters": ["without_content"],
                "stream": "ext://sys.stderr",
            }
        },
        "root": {"handlers": ["stderr"], "level": level.upper()},
        "loggers": {
            # One line for each plugin, at every start.
            "alembic.runtime.plugins": {"level": "WARNING"},
            # Some lines at every start and stop: app/jobs/worker.py says what ends.
            "procrastinate": {"level": "WARNING"},
            # Lines for each attempt to reach a broker that is away: app/events/relay.py says it once.
            "aio_pika": {"level": "CRITICAL"},
            "aiormq": {"level": "CRITICAL"},
            # What they debug is what clients and servers send: passwords, tokens, and addresses that are secrets.
            "httpcore2": {"level": "WARNING"},
            "httpx2": {"level": "WARNING"},
            "mcp": {"level": "WARNING"},
            "_granian": {"handlers": [], "level": "INFO", "propagate": True},
            "granian.access": {"handlers": [], "level": "INFO", "propagate": True},
        },
    }


class WithoutContent(logging.Filter):
    """Takes the errors out of the lines of the Model Context Protocol's library, but for their names: their texts quote
    what a client or a server has sent.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Always true: the line itself is logged."""
        if record.name.startswith("mcp.") and record.exc_info and record.exc_info[0] is not None:
            record.msg, record.args = f"{record.getMessage()}: {record.exc_info[0].__name__}", ()
            record.exc_info = record.exc_text = None
        return True


_SHARED: list[structlog.typing.Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def line_formatter(style: str) -> logging.Formatter:
    """Formats the log lines of libraries."""
    last: list[structlog.typing.Processor] = (
        [
            structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        ]  # no local variables: they contain bodies
        if _is_pretty(style)
        else [*_machine_readable(style), structlog.processors.JSONRenderer(_as_json_text)]
    )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_SHARED,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
    )


def configure_logging(level: str, style: LogFormat) -> None:
    """Set up this process's logs."""
    logging.config.dictConfig(log_config(level, style))
    if _is_pretty(style):
        structlog.configure(
            processors=[
                structlog.stdlib.filter_by_level,
                *_SHARED,
                structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
            ],
            logger_factory=structlog.stdlib.LoggerFactory(),
            wrapper_class=structlog.stdlib.BoundLogger,
            cache_logger_on_first_use=True,
        )
        return
    # Our own lines bypass the standard library's logging, which would take a tenth of a request's time.
    structlog.configure(
        processors=[*_SHARED, *_machine_readable(style), structlog.processors.JSONRenderer(_as_json)],
        logger_factory=structlog.BytesLoggerFactory(sys.stderr.buffer),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )


def _machine_readable(style: str) -> list[structlog.typing.Processor]:
    return [structlog.processors.format_exc_info, *([_as_ecs] if style == "ecs" else [])]


def _as_ecs(_: object, __: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """The line with ECS's names; dots in them stand for objects inside objects."""
    named: dict[str, Any] = {"ecs.version": ECS_VERSION}
    labels: dict[str, Any] = {}
    for name, value in line.items():
        if value is None:
            continue
        if name == "duration_ms":
            named["event.duration"] = round(value * NANOSECONDS)
        elif name in ECS_NAMES:
            named[ECS_NAMES[name]] = value
        else:
            labels[name] = str(value)  # the schema has labels as texts
    return named | ({"labels": labels} if labels else {})


def _is_pretty(style: str) -> bool:
    return style == "pretty" or (style == "auto" and sys.stderr.isatty())


def _as_json(line: object, **_: object) -> bytes:
    return msgspec.json.encode(line, enc_hook=str)


def _as_json_text(line: object, **_: object) -> str:
    return _as_json(line).decode()
