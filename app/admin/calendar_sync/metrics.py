"""What monitors see of connected calendars."""

from __future__ import annotations

from prometheus_client import Counter

SYNCS = Counter("crm_calendar_syncs", "Syncs of connected calendars", ["outcome"])
# Each is there from the start, so that a rate begins at 0.
DONE, RETRY, STOPPED = (SYNCS.labels(outcome) for outcome in ("done", "retry", "stopped"))
