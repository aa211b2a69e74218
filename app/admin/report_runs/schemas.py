"""Runs of reports as JSON."""

from __future__ import annotations

from enum import StrEnum

from msgspec import UNSET, Struct, field

from app.web.structs import Body, From, Maybe, Until, UserId


class ReportName(StrEnum):
    """The reports, by the last part of their addresses."""

    OVERVIEW = "overview"
    SUMMARY = "summary"
    FUNNEL = "funnel"
    FORECAST = "forecast"
    TEAM = "team"


class ReportFormat(StrEnum):
    """What a report is written as: `json` is the report's own answer, the others are tables."""

    JSON = "json"
    CSV = "csv"
    XLSX = "xlsx"


class ReportRun(Body, kw_only=True):
    """A report to make, with the filters that the report has. `owner_id` is one person; `me` is whoever asks."""

    report: ReportName
    format: ReportFormat
    from_: Maybe[From] = field(default=UNSET, name="from")
    to: Maybe[Until] = UNSET
    owner_id: Maybe[UserId] = UNSET


class ReportResult(Struct):
    """What the job of a report comes to. Whoever reads the job gets a `download_url` too."""

    report: ReportName
    format: ReportFormat
    file_name: str
    content_type: str
    size: int
