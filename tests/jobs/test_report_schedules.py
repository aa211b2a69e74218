"""Reports that are made again and again: when, once, and as whom."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

from app.db.database import Database
from app.jobs.queue import run_schedules
from app.settings import Settings
from tests.callers import Caller, Callers, refused
from tests.jobs.conftest import Work, report_maker
from tests.jobs.test_report_runs import sell

SCHEDULES = "/admin/report-schedules"
DAILY = {"report": "team", "format": "csv", "every": "day", "at": "07:30"}
NEXT = "SELECT to_char(crm_next_run(%s, %s, %s, %s, %s, %s) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI')"


def make_due(settings: Settings, schedule: dict[str, Any], since: str = "1 minute") -> None:
    """As if so much time had gone by since it was due."""
    with psycopg.connect(settings.migration_dsn) as connection:
        connection.execute("ALTER TABLE report_schedules NO FORCE ROW LEVEL SECURITY")
        statement = "UPDATE report_schedules SET due_at = now() - %s::interval WHERE id = %s"
        connection.execute(statement, [since, schedule["id"]])
        connection.execute("ALTER TABLE report_schedules FORCE ROW LEVEL SECURITY")


def run_due(settings: Settings, workers: int = 1) -> int:
    """What so many workers at the same time do: answers how many jobs they made."""

    async def run() -> int:
        async with Database(settings) as database:
            return sum(await asyncio.gather(*(run_schedules(database) for _ in range(workers))))

    return asyncio.run(run())


def jobs(caller: Caller) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = caller.ok("GET", "/admin/jobs", kind="report")["data"]
    return found


@pytest.mark.parametrize(
    ("every", "at", "weekday", "day", "zone", "since", "due"),
    [
        # A day; the same moment is over.
        ("day", "07:30", None, None, "UTC", "2026-11-26 07:29Z", "2026-11-26 07:30"),
        ("day", "07:30", None, None, "UTC", "2026-11-26 07:30Z", "2026-11-27 07:30"),
        ("day", "00:30", None, None, "Asia/Tokyo", "2026-11-26 14:00Z", "2026-11-26 15:30"),
        # Berlin has no 02:30 on 29 March, and two on 25 October.
        ("day", "02:30", None, None, "Europe/Berlin", "2026-03-28 12:00Z", "2026-03-29 01:30"),
        ("day", "02:30", None, None, "Europe/Berlin", "2026-03-29 01:30Z", "2026-03-30 00:30"),
        ("day", "02:30", None, None, "Europe/Berlin", "2026-10-24 12:00Z", "2026-10-25 01:30"),
        ("day", "02:30", None, None, "Europe/Berlin", "2026-10-25 01:30Z", "2026-10-26 01:30"),
        # 2026-11-26 is a Thursday.
        ("week", "07:30", 4, None, "UTC", "2026-11-26 07:00Z", "2026-11-26 07:30"),
        ("week", "07:30", 4, None, "UTC", "2026-11-26 07:30Z", "2026-12-03 07:30"),
        ("week", "07:30", 3, None, "UTC", "2026-11-26 07:30Z", "2026-12-02 07:30"),
        # There, it is Friday already.
        ("week", "07:30", 5, None, "Pacific/Kiritimati", "2026-11-26 12:00Z", "2026-11-26 17:30"),
        ("month", "07:30", None, 31, "UTC", "2026-01-31 07:30Z", "2026-02-28 07:30"),
        ("month", "07:30", None, 31, "UTC", "2028-02-01 00:00Z", "2028-02-29 07:30"),
        ("month", "07:30", None, 31, "UTC", "2026-02-28 07:30Z", "2026-03-31 07:30"),
        ("month", "07:30", None, 15, "UTC", "2026-12-15 07:30Z", "2027-01-15 07:30"),
        # There, it is the next month already.
        ("month", "01:00", None, 1, "Pacific/Kiritimati", "2026-11-30 10:30Z", "2026-11-30 11:00"),
    ],
)
def test_a_schedule_is_due_at_its_time_of_day(
    every: str, at: str, weekday: int, day: int, zone: str, since: str, due: str, catalog: psycopg.Connection
) -> None:
    assert catalog.execute(NEXT, [every, at, weekday, day, zone, since]).fetchone() == (due,)


@given(
    st.sampled_from(["Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Pacific/Apia", "Africa/Casablanca"]),
    st.integers(0, 23),
    st.sampled_from([0, 15, 30, 59]),
    st.integers(2010, 2035),
)
@profile(max_examples=10, deadline=None)
def test_over_a_year_a_daily_schedule_is_due_once_on_each_day(
    settings: Settings, zone: str, hour: int, minute: int, year: int
) -> None:
    with psycopg.connect(settings.migration_dsn) as connection:
        found = connection.execute(
            """
            WITH RECURSIVE runs (moment) AS (
                SELECT crm_next_run('day', %(at)s, NULL, NULL, %(zone)s, make_date(%(year)s, 1, 1)::timestamptz)
                UNION ALL SELECT crm_next_run('day', %(at)s, NULL, NULL, %(zone)s, moment)
                FROM runs WHERE moment < make_date(%(year)s + 1, 1, 1)
            )
            SELECT array_agg(DISTINCT lead - (moment AT TIME ZONE %(zone)s)::date) FROM (
                SELECT moment, (lead(moment) OVER (ORDER BY moment) AT TIME ZONE %(zone)s)::date AS lead FROM runs
            ) AS pairs WHERE lead IS NOT NULL
            """,
            {"at": f"{hour:02}:{minute:02}", "zone": zone, "year": year},
        ).fetchone()
    # Samoa left out a day.
    assert found is not None
    assert set(found[0]) <= ({1, 2} if zone == "Pacific/Apia" and year == 2011 else {1})


def test_a_schedule_has_a_whole_life(admin: Caller, settings: Settings) -> None:
    made = admin.ok("POST", SCHEDULES, DAILY | {"name": "Each day", "from": "2026-01-01"})
    path = f"{SCHEDULES}/{made['id']}"
    assert (made["from"], made["weekday"], made["recipients"], made["last_run"]) == ("2026-01-01", None, [], None)
    assert made["next_run_at"].endswith("07:30:00Z")
    assert admin.get(path).json() == made
    refused(admin.patch(path, {"every": "week"}), 400, "INVALID_REQUEST")
    weekly = admin.ok("PATCH", path, {"every": "week", "weekday": 1, "at": "06:00"})
    assert (weekly["version"], weekly["next_run_at"][11:]) == (2, "06:00:00Z")
    monthly = admin.ok("PATCH", path, {"every": "month", "day": 31, "from": None})
    assert (monthly["weekday"], monthly["day"], monthly["from"]) == (None, 31, None)
    told = admin.audit(resource_type="report_schedule")
    assert told[0]["changes"] == {
        "every": {"old": "week", "new": "month"},
        "weekday": {"old": 1, "new": None},
        "day": {"old": None, "new": 31},
        "from": {"old": "2026-01-01", "new": None},
    }
    undone = admin.ok("POST", f"{path}/undo", {"entry_id": told[0]["id"]})
    assert (undone["every"], undone["next_run_at"]) == ("week", weekly["next_run_at"])
    before = admin.ok("GET", path, as_of=made["updated_at"])
    assert (before["every"], before["from"]) == ("day", "2026-01-01")
    make_due(settings, made)
    assert run_due(settings) == 1
    ran = admin.ok("GET", path)
    assert (ran["version"], ran["last_run"]) == (4, jobs(admin)[0]["id"])
    admin.ok("DELETE", path)
    refused(admin.get(path), 404, "REPORT_SCHEDULE_NOT_FOUND")
    assert admin.ok("GET", SCHEDULES)["total"] == 0
    assert admin.audit(resource_type="report_schedule")[0]["action"] == "delete"
    assert len(jobs(admin)) == 1


def test_what_is_due_runs_once_however_many_workers_there_are(
    admin: Caller, stranger: Caller, settings: Settings
) -> None:
    schedules = [(caller, caller.ok("POST", SCHEDULES, DAILY)) for caller in (admin, stranger) for _ in range(5)]
    assert run_due(settings) == 0
    for _, schedule in schedules:
        # Several runs were missed: one is made up.
        make_due(settings, schedule, "10 days")
    assert run_due(settings, workers=5) == 10
    assert run_due(settings, workers=5) == 0
    for caller in (admin, stranger):
        assert len({job["id"] for job in jobs(caller)}) == 5
    for caller, schedule in schedules:
        assert caller.ok("GET", f"{SCHEDULES}/{schedule['id']}")["next_run_at"] == schedule["next_run_at"]


def test_a_run_is_its_makers_with_the_role_of_then(
    admin: Caller, callers: Callers, settings: Settings, work: Work
) -> None:
    agent, other = (callers.person("agent", admin.tenant) for _ in range(2))
    for caller in (admin, agent):
        sell(caller)
    mine = agent.ok("POST", SCHEDULES, DAILY | {"format": "json"})
    refused(other.patch(f"{SCHEDULES}/{mine['id']}", {"name": "x"}), 403, "INSUFFICIENT_PERMISSIONS")
    refused(other.delete(f"{SCHEDULES}/{mine['id']}"), 403, "INSUFFICIENT_PERMISSIONS")
    assert admin.ok("PATCH", f"{SCHEDULES}/{mine['id']}", {"name": "Changed"})["user_id"] == agent.user_id
    # By now this person may do more.
    callers.person("admin", admin.tenant, user_id=agent.user_id).ok("GET", "/admin/me")
    make_due(settings, mine)
    work({"report": report_maker(settings)}, lambda: [job["status"] for job in jobs(admin)] == ["done"])
    (job,) = jobs(admin)
    assert job["user_id"] == agent.user_id
    file = admin.client.get(job["result"]["download_url"])
    assert [member["id"] for member in file.json()["data"]] == [agent.user_id]


def test_another_timezone_moves_the_next_run(admin: Caller, settings: Settings) -> None:
    schedule, due = (admin.ok("POST", SCHEDULES, DAILY) for _ in range(2))
    make_due(settings, due)
    admin.ok("PUT", "/admin/settings", {"timezone": "Asia/Tokyo"})
    moved = admin.ok("GET", f"{SCHEDULES}/{schedule['id']}")
    assert (moved["next_run_at"][11:], moved["version"]) == ("22:30:00Z", 1)
    assert run_due(settings) == 1, "what is due stays due"


def test_what_does_not_fit_is_refused(admin: Caller, callers: Callers) -> None:
    for body, field in (
        ({"every": "week"}, "weekday"),
        ({"every": "month"}, "day"),
        ({"weekday": 1}, "weekday"),
        ({"every": "week", "weekday": 8}, "weekday"),
        ({"at": "24:00"}, "at"),
        ({"report": "overview", "from": "2026-01-01"}, "from"),
        ({"recipients": ["nobody@example.com"]}, "recipients"),
    ):
        (fault,) = refused(admin.post(SCHEDULES, DAILY | body), 400, "INVALID_REQUEST")["fields"]
        assert fault["field"] == field
    callers.person("agent", admin.tenant, email="Grace@example.com").ok("GET", "/admin/me")
    made = admin.ok("POST", SCHEDULES, DAILY | {"recipients": ["grace@example.com", "grace@example.com"]})
    assert made["recipients"] == ["grace@example.com"]
