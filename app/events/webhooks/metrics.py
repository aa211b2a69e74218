"""What monitors see of webhooks."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

DELIVERIES = Counter("crm_webhook_deliveries", "Attempts to deliver an event to a webhook", ["outcome"])
# Each is there from the start, so that a rate begins at 0.
DELIVERED, RETRY, GIVEN_UP = (DELIVERIES.labels(outcome) for outcome in ("delivered", "retry", "given_up"))
DURATION = Histogram(
    "crm_webhook_attempt_duration_seconds",
    "Time that receivers of webhooks take to answer",
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15),
)
# Each worker asks the database for these: the newest answer is right.
PENDING = Gauge(
    "crm_webhook_deliveries_pending", "Deliveries that are not finished", multiprocess_mode="livemostrecent"
)
OLDEST = Gauge(
    "crm_webhook_oldest_due_seconds",
    "For how long the oldest delivery has been due that nobody has taken",
    multiprocess_mode="livemostrecent",
)
