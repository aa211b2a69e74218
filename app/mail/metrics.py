"""What monitors see of mail."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

MAILS = Counter("crm_mails", "Mails by what came of them", ["outcome"])
# Each is there from the start, so that a rate begins at 0. `retry` is an attempt that is made again.
OUTCOMES = {outcome: MAILS.labels(outcome) for outcome in ("sent", "retry", "dropped", "refused", "failed", "unknown")}
# Each worker asks the database for these: the newest answer is right.
WAITING = Gauge("crm_mails_waiting", "Mails that are not sent yet", multiprocess_mode="livemostrecent")
OLDEST = Gauge(
    "crm_mails_oldest_due_seconds",
    "For how long the oldest mail has been due that is not sent",
    multiprocess_mode="livemostrecent",
)
