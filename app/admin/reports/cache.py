"""The overview of each tenant, kept for a moment in one worker."""

from __future__ import annotations

import time

from msgspec import Struct

from app.admin.reports.schemas import Overview

MOST_KEPT = 1000


class KeptReport(Struct, frozen=True):
    """A report, and when it was made (monotonic seconds)."""

    report: Overview
    made_at: float

    @property
    def age(self) -> int:
        """Whole seconds since it was made."""
        return int(time.monotonic() - self.made_at)


class ReportCache:
    """By tenant, and under AGENT_READ_SCOPE=own by person. A write of this worker drops its tenant's."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._kept: dict[str, dict[str | None, KeptReport]] = {}
        self._dropped_at: dict[str, float] = {}

    def get(self, tenant_id: str, person: str | None) -> KeptReport | None:
        """The kept report, unless it is too old."""
        kept = self._kept.get(tenant_id, {}).get(person)
        return None if kept is None or time.monotonic() - kept.made_at >= self._seconds else kept

    def keep(self, tenant_id: str, person: str | None, report: Overview, made_at: float) -> None:
        """Keep a report that was begun at this moment, unless a write came in between."""
        if made_at < self._dropped_at.get(tenant_id, made_at):
            return
        if len(self._kept) >= MOST_KEPT:
            self._kept.clear()
        self._kept.setdefault(tenant_id, {})[person] = KeptReport(report, made_at)

    def drop(self, tenant_id: str) -> None:
        """Forget a tenant's reports."""
        self._kept.pop(tenant_id, None)
        if len(self._dropped_at) >= MOST_KEPT:
            self._dropped_at.clear()
        self._dropped_at[tenant_id] = time.monotonic()
