"""What monitors see of jobs."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

JOBS = Counter("crm_jobs", "Jobs that came to an end", ["kind", "outcome"])
DURATION = Histogram(
    "crm_job_duration_seconds",
    "Time from a job's start to its end",
    ["kind"],
    buckets=(0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 14_400),
)
# Each worker asks the database for these: the newest answer is right.
WAITING = Gauge("crm_jobs_waiting", "Jobs that wait for a worker", multiprocess_mode="livemostrecent")
OLDEST = Gauge(
    "crm_jobs_oldest_waiting_seconds",
    "How long the oldest job waits that has not begun",
    multiprocess_mode="livemostrecent",
)
