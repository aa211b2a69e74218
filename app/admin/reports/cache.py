"""The overview of each tenant, kept for a moment in one worker."""

from __future__ import annotations

import time

from msgspec import Struct

from app.admin.pipeline_stages.queries import StageOrigin
from app.admin.reports.schemas import Overview

MOST_KEPT = 200


class KeptReport(Struct, frozen=True):
    """A report, and when it was begun (monotonic seconds)."""

    report: Overview
    # Of the same moment: what the stages that it names began as.
    stages: list[StageOrigin]
    made_at: float

    @property
    def age(self) -> int:
        """Whole seconds since it was made."""
        return int(time.monotonic() - self.made_at)


class ReportCache:
    """By tenant, and under AGENT_READ_SCOPE=own by person. A write of this worker drops its tenant's."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._kept: dict[tuple[str, str | None], KeptReport] = {}
        self._dropped_at: dict[str, float] = {}

    def get(self, tenant_id: str, person: str | None) -> KeptReport | None:
        """The kept report, unless it is too old."""
        kept = self._kept.get((tenant_id, person))
        if kept is None or self._is_dropped(tenant_id, kept) or time.monotonic() - kept.made_at >= self._seconds:
            return None
        return kept

    def keep(self, tenant_id: str, person: str | None, kept: KeptReport) -> None:
        """Keep a report, unless a write came after it was begun."""
        if self._is_dropped(tenant_id, kept):
            return
        if len(self._kept) >= MOST_KEPT:
            self._kept.clear()
        self._kept[tenant_id, person] = kept

    def drop(self, tenant_id: str) -> None:
        """Forget a tenant's reports."""
        if len(self._dropped_at) >= MOST_KEPT:
            self._dropped_at.clear()
            self._kept.clear()
        self._dropped_at[tenant_id] = time.monotonic()

    def _is_dropped(self, tenant_id: str, kept: KeptReport) -> bool:
        return kept.made_at < self._dropped_at.get(tenant_id, kept.made_at)
