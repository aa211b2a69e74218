"""Addresses of records in the console."""

from __future__ import annotations

from app.records.resources import RESOURCES
from app.settings import Settings

# What has a page in the console, by its kind: `/deals/12`.
PAGES = {each.kind: str(each.table.name).replace("_", "-") for each in RESOURCES} | {"import": "imports", "job": "jobs"}


def link_to(settings: Settings, kind: str, record_id: int) -> str | None:
    """Where a record is in the console, if its address is known."""
    page = PAGES.get(kind)
    if not settings.console_url or page is None:
        return None
    return f"{settings.console_url.rstrip('/')}/{page}/{record_id}"
