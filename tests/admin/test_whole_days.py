"""A day is a day of the tenant's timezone, and lasts until its end."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import psycopg
import pytest
from psycopg.sql import SQL

from app.records.calendar import day_of, first_moment, last_moment
from tests.admin.reports_from_rows import first_moment as first_moment_in_sql
from tests.callers import Caller, refused

DAY = timedelta(days=1)
# At any moment the first two have different dates.
ZONES = ["Pacific/Kiritimati", "Etc/GMT+12", "UTC", "America/New_York"]
every_zone = pytest.mark.parametrize("zone", ZONES)


def today(zone: str) -> date:
    return datetime.now(ZoneInfo(zone)).date()


def live_in(admin: Caller, zone: str) -> None:
    admin.ok("PUT", "/admin/settings", {"timezone": zone})


def task(caller: Caller, **fields: object) -> dict[str, object]:
    made: dict[str, object] = caller.ok("POST", "/admin/activities", {"title": "X", "type": "task", **fields})
    return made


@every_zone
def test_a_task_due_today_is_scheduled_until_the_day_is_over(admin: Caller, zone: str) -> None:
    live_in(admin, zone)
    made = task(admin, due_date=today(zone).isoformat())
    assert (made["status"], made["all_day"]) == ("scheduled", True)
    assert made["due_date"] == f"{today(zone)}T00:00:00Z"
    body = {"title": "X", "type": "task", "due_date": (today(zone) - DAY).isoformat()}
    refused(admin.post("/admin/activities", body), 400, "DUE_DATE_IN_PAST")
    assert admin.ok("POST", "/admin/activities", body | {"type": "call"})["status"] == "overdue"
    figures = admin.ok("GET", "/admin/reports/overview")["activities"]
    assert (figures["scheduled"], figures["overdue"]) == (1, 1)
    (row,) = admin.ok("GET", "/admin/reports/team")["data"]
    assert row["activities_overdue"] == 1
    for status in ("scheduled", "overdue"):
        (found,) = admin.ok("GET", "/admin/activities", status=status)["data"]
        assert found["status"] == status


def test_another_timezone_is_another_today(admin: Caller) -> None:
    live_in(admin, "Etc/GMT+12")
    made = task(admin, due_date=today("Etc/GMT+12").isoformat())
    live_in(admin, "Pacific/Kiritimati")
    assert admin.ok("GET", f"/admin/activities/{made['id']}")["status"] == "overdue"


@every_zone
def test_a_customers_upcoming_activities_are_those_whose_day_is_not_over(admin: Caller, zone: str) -> None:
    live_in(admin, zone)
    customer = admin.customer()["id"]
    for days in (-1, 0, 1):
        task(admin, type="call", customer_id=customer, due_date=(today(zone) + days * DAY).isoformat(), title=str(days))
    shown = admin.ok("GET", f"/admin/customers/{customer}")
    assert [each["title"] for each in shown["upcoming_activities"]] == ["0", "1"]
    assert shown["upcoming_activities_count"] == 2


@every_zone
def test_an_activity_of_a_whole_day_counts_for_that_day(admin: Caller, zone: str) -> None:
    live_in(admin, zone)
    task(admin, due_date=today(zone).isoformat())
    days = admin.ok("GET", "/admin/reports/overview")["activities_over_time"]
    assert {each["date"]: each["count"] for each in days if each["count"]} == {today(zone).isoformat(): 1}


def test_what_makes_a_whole_day(admin: Caller) -> None:
    def all_day(**fields: object) -> object:
        return task(admin, **fields)["all_day"]

    midnight, noon = "2030-01-02T00:00:00Z", "2030-01-02T12:00:00Z"
    assert all_day(due_date="2030-01-02", type="meeting")
    assert all_day(due_date=midnight)
    assert not all_day(due_date=midnight, type="meeting")
    assert not all_day(due_date=midnight, all_day=False)
    assert not all_day(due_date=noon)
    assert not all_day()


def test_what_becomes_a_whole_day_is_of_the_day_that_it_is_for_the_tenant(admin: Caller) -> None:
    live_in(admin, "America/New_York")
    evening = "2030-01-02T22:00:00-05:00"
    assert task(admin, due_date=evening, all_day=True)["due_date"] == "2030-01-02T00:00:00Z"
    made = task(admin, type="meeting", due_date=evening)
    path = f"/admin/activities/{made['id']}"
    day = admin.ok("PATCH", path, {"all_day": True})
    assert (day["due_date"], day["all_day"]) == ("2030-01-02T00:00:00Z", True)
    assert admin.ok("PUT", path, day)["version"] == day["version"]
    assert found(admin, "/admin/activities", due_date_from="2030-01-02", due_date_to="2030-01-02") == ["X", "X"]
    timed = admin.ok("PATCH", path, {"all_day": False, "due_date": evening})
    assert (timed["due_date"], timed["all_day"]) == ("2030-01-03T03:00:00Z", False)


def test_a_whole_day_stays_one_until_it_is_moved_to_a_time(admin: Caller) -> None:
    made = task(admin, type="meeting", due_date="2030-01-02")
    path = f"/admin/activities/{made['id']}"
    assert admin.ok("PUT", path, made)["version"] == 1
    # As a client sends it that does not know the field.
    assert admin.ok("PATCH", path, {"due_date": made["due_date"]})["version"] == 1
    assert admin.ok("PATCH", path, {"title": "Y"})["all_day"] is True
    assert admin.ok("PATCH", path, {"due_date": "2030-01-03T00:00:00Z"})["all_day"] is False
    assert admin.ok("PATCH", path, {"due_date": "2030-01-03"})["all_day"] is True
    assert admin.ok("PATCH", path, {"due_date": None})["all_day"] is False
    audited = admin.audit(resource_type="activity", resource_id=made["id"], action="update")[2]
    assert audited["changes"]["all_day"] == {"old": True, "new": False}


def test_a_task_that_is_late_can_be_sent_back_with_its_date(admin: Caller) -> None:
    live_in(admin, "Etc/GMT+12")
    made = task(admin, due_date=today("Etc/GMT+12").isoformat())
    live_in(admin, "Pacific/Kiritimati")
    path = f"/admin/activities/{made['id']}"
    for due in (str(made["due_date"])[:10], made["due_date"]):
        assert admin.ok("PATCH", path, {"due_date": due})["version"] == 1


def test_a_moment_ago_is_not_the_past(admin: Caller) -> None:
    now = datetime.now(UTC)
    assert task(admin, due_date=(now - timedelta(seconds=20)).isoformat())["status"] == "overdue"
    body = {"title": "X", "type": "task", "due_date": (now - timedelta(seconds=70)).isoformat()}
    refused(admin.post("/admin/activities", body), 400, "DUE_DATE_IN_PAST")


@every_zone
def test_a_task_may_have_no_end(admin: Caller, zone: str) -> None:
    live_in(admin, zone)
    for due in ("9999-12-31", "9999-12-31T23:59:59.999999Z"):
        made = task(admin, due_date=due)
        assert (made["status"], str(made["due_date"])[:10]) == ("scheduled", "9999-12-31")
        assert admin.ok("PUT", f"/admin/activities/{made['id']}", made)["version"] == 1
    assert task(admin, type="call", due_date="0002-01-01")["status"] == "overdue"
    assert admin.ok("GET", "/admin/activities", sort_by="agenda")["total"] == 3
    for late in ("10000-01-01", "9999-12-31T23:59:59-01:00", "0001-12-31", "0000-01-01", "2026-02-29"):
        body = {"title": "X", "type": "call", "due_date": late}
        refused(admin.post("/admin/activities", body), 400, "INVALID_REQUEST")


@pytest.mark.parametrize(
    ("zone", "day", "begins", "ends"),
    [
        ("America/New_York", "2026-03-08", "2026-03-08T05:00", "2026-03-09T04:00"),  # 23 hours
        ("America/New_York", "2026-11-01", "2026-11-01T04:00", "2026-11-02T05:00"),  # 25 hours
        ("America/Sao_Paulo", "2018-11-04", "2018-11-04T03:00", "2018-11-05T02:00"),  # begins at one o'clock
        ("America/Havana", "2026-11-01", "2026-11-01T04:00", "2026-11-02T05:00"),  # its midnight comes twice
        ("Asia/Kathmandu", "2028-02-29", "2028-02-28T18:15", "2028-02-29T18:15"),
    ],
)
def test_a_day_begins_and_ends_as_people_there_have_it(zone: str, day: str, begins: str, ends: str) -> None:
    there, wanted = ZoneInfo(zone), date.fromisoformat(day)
    first, last = first_moment(wanted, there), last_moment(wanted, there)
    assert first == datetime.fromisoformat(f"{begins}:00+00:00")
    assert last + timedelta(microseconds=1) == datetime.fromisoformat(f"{ends}:00+00:00")
    assert day_of(first, there) == day_of(last, there) == wanted
    assert day_of(first - timedelta(microseconds=1), there) == wanted - DAY


def found(admin: Caller, path: str, **filters: object) -> list[str]:
    rows = admin.ok("GET", path, **filters)["data"]
    return sorted(row.get("title") or row["name"] for row in rows)


def test_a_bare_date_in_a_filter_is_a_day_of_the_tenants_timezone(admin: Caller) -> None:
    live_in(admin, "America/New_York")
    for title, due in (
        ("early", "2030-03-09T04:59:59Z"),  # the 8th, 23:59:59
        ("first", "2030-03-09T05:00:00Z"),
        ("last", "2030-03-10T04:59:59.999999Z"),
        ("after", "2030-03-10T05:00:00Z"),
        ("whole", "2030-03-09"),
        ("whole before", "2030-03-08"),
        ("whole after", "2030-03-10"),
    ):
        task(admin, title=title, due_date=due)
    path = "/admin/activities"
    assert found(admin, path, due_date_from="2030-03-09", due_date_to="2030-03-09") == ["first", "last", "whole"]
    assert found(admin, path, due_date_to="2030-03-08") == ["early", "whole before"]
    assert found(admin, path, due_date_from="2030-03-10") == ["after", "whole after"]
    # Of moments, a whole day counts as the day that they are in.
    moments = {"due_date_from": "2030-03-09T05:00:00Z", "due_date_to": "2030-03-10T04:59:59.999999Z"}
    assert found(admin, path, **moments) == ["first", "last", "whole"]
    page = admin.ok("GET", path, due_date_from="2030-03-09", due_date_to="2030-03-09", page_size=1)
    walked = page["data"]
    while page["next_cursor"]:
        page = admin.ok("GET", path, cursor=page["next_cursor"], page_size=1)
        walked += page["data"]
    assert [each["title"] for each in walked] == ["whole", "first", "last"]


@every_zone
def test_days_of_follow_ups_and_closing_dates_are_calendar_days_in_every_timezone(admin: Caller, zone: str) -> None:
    live_in(admin, zone)
    names = ("2030-05-01", "2030-05-02", "2030-05-03")
    customers = [admin.customer(day, next_follow_up_at=day)["id"] for day in names]
    for day in names:
        admin.ok("POST", "/admin/deals", {"title": day, "customer_id": customers[0], "expected_close_date": day})
    day = names[1]
    assert found(admin, "/admin/customers", follow_up_from=day, follow_up_to=day) == [day]
    assert found(admin, "/admin/deals", expected_close_from=day, expected_close_to=day) == [day]


@every_zone
def test_what_was_made_today_is_found_by_todays_date(admin: Caller, zone: str) -> None:
    live_in(admin, zone)
    customer = admin.customer("Ada")["id"]
    admin.ok("POST", "/admin/deals", {"title": "D", "customer_id": customer, "stage": "closed_won", "amount": 1})
    now, day = today(zone).isoformat(), timedelta(days=1)
    yesterday, tomorrow = (today(zone) - day).isoformat(), (today(zone) + day).isoformat()
    for path, one, other in (
        ("/admin/customers", "created_from", "created_to"),
        ("/admin/deals", "created_from", "created_to"),
        ("/admin/audit", "from", "to"),
    ):
        assert admin.ok("GET", path, **{one: now, other: now})["total"] > 0
        assert admin.ok("GET", path, **{one: tomorrow})["total"] == 0
        assert admin.ok("GET", path, **{other: yesterday})["total"] == 0
    for path in ("/admin/reports/deals/summary", "/admin/reports/deals/funnel", "/admin/reports/team"):
        inside = admin.ok("GET", path, **{"from": now, "to": now})
        assert inside == admin.ok("GET", path)
        assert admin.ok("GET", path, **{"from": tomorrow}) == admin.ok("GET", path, to=yesterday) != inside


@every_zone
def test_a_deal_won_today_is_won_this_month_and_lately(admin: Caller, zone: str) -> None:
    live_in(admin, zone)
    now = today(zone)
    deal = {"title": "D", "customer_id": admin.customer()["id"], "stage": "closed_won", "amount": 5}
    last_month = now.replace(day=1) - timedelta(days=1)
    for day in (now, last_month):
        admin.ok("POST", "/admin/deals", deal | {"actual_close_date": day.isoformat()})
    overview = admin.ok("GET", "/admin/reports/overview")
    assert overview["metrics"]["won_deals_this_month"] == 1
    assert overview["top_performers"][0]["deals_closed"] == 2
    (row,) = admin.ok("GET", "/admin/reports/team", **{"from": now.isoformat(), "to": now.isoformat()})["data"]
    assert row["won_count"] == 1


@pytest.mark.parametrize("value", ["2026-02-29", "2026-13-01", "10000-01-01", "2026-01-01T00:00:00", "today", "1"])
def test_what_is_no_time_is_refused_in_a_filter(admin: Caller, value: str) -> None:
    for name in ("created_from", "created_to"):
        refused(admin.get("/admin/customers", **{name: value}), 400, "INVALID_REQUEST")


@every_zone
@pytest.mark.parametrize("end", ["0002-01-01", "9999-12-31", "0002-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"])
def test_the_ends_of_the_calendar_are_filters(admin: Caller, zone: str, end: str) -> None:
    live_in(admin, zone)
    task(admin, due_date="2030-01-02")
    before = end.startswith("0002")
    for path, name in (("activities", "due_date"), ("customers", "follow_up"), ("deals", "expected_close")):
        admin.ok("GET", f"/admin/{path}", **{f"{name}_from": end})
        admin.ok("GET", f"/admin/{path}", **{f"{name}_to": end})
    assert admin.ok("GET", "/admin/activities", due_date_from=end)["total"] == int(before)
    assert admin.ok("GET", "/admin/activities", due_date_to=end)["total"] == int(not before)
    admin.ok("GET", "/admin/reports/team", **{"from": end, "to": end})


def test_the_database_and_the_service_agree_on_when_days_begin(service_connection: psycopg.Connection) -> None:
    days = [date(2026, 1, 1) + timedelta(days=number) for number in range(365)]
    asked = SQL("SELECT {begins} FROM unnest(%s::date[]) AS days (day), (SELECT %s AS zone) AS tenant").format(
        begins=SQL(first_moment_in_sql("day::timestamp"))
    )
    for zone in (*ZONES, "America/Havana", "Africa/Cairo", "Asia/Beirut", "America/Santiago", "Australia/Lord_Howe"):
        told = [row[0] for row in service_connection.execute(asked, [days, zone])]
        assert told == [first_moment(day, ZoneInfo(zone)) for day in days], zone
