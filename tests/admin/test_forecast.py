"""What is expected, and what came of it, by the days of the tenant's timezone."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from litestar import Litestar
from litestar.testing import TestClient

from tests.callers import Caller, refused

PATH = "/admin/reports/deals/forecast"
FIGURES = ("won_count", "won_value", "open_count", "open_value", "weighted_value", "lost_count", "lost_value")
YEAR = {"from": "2030-01-01", "to": "2030-12-31"}


def deal(admin: Caller, **fields: Any) -> None:
    customer = fields.pop("customer_id", None) or admin.customer()["id"]
    admin.ok("POST", "/admin/deals", {"title": "D", "customer_id": customer} | fields)


def figures(admin: Caller, **query: Any) -> dict[tuple[str, str], tuple[float, ...]]:
    """Of the periods that have any."""
    periods = admin.ok("GET", PATH, **query)["periods"]
    every = {(each["period"], each["currency"]): tuple(each[name] for name in FIGURES) for each in periods}
    assert len(every) == len(periods)
    return {key: values for key, values in every.items() if any(values)}


def test_every_period_is_there_for_every_currency_that_occurs(admin: Caller) -> None:
    assert admin.ok("GET", PATH, **YEAR) == {"periods": []}
    deal(admin, amount=10, expected_close_date="2030-05-06")
    deal(admin, amount=20, currency="EUR", expected_close_date="2030-12-31")
    deal(admin, amount=20, currency="JPY", expected_close_date="2031-01-01")
    shown = admin.ok("GET", PATH, **YEAR)["periods"]
    names = ["overdue", "2030-Q1", "2030-Q2", "2030-Q3", "2030-Q4", "none"]
    assert [(each["period"], each["currency"]) for each in shown] == [(n, c) for n in names for c in ("EUR", "USD")]
    assert [(each["start"], each["end"]) for each in shown[2:4]] == [("2030-01-01", "2030-03-31")] * 2
    assert (shown[0]["start"], shown[0]["end"]) == (None, None)
    months = admin.ok("GET", PATH, by="month", **{"from": "2032-02-10", "to": "2032-03-05"})["periods"]
    assert months == []
    deal(admin, amount=10, expected_close_date="2032-02-29")
    months = admin.ok("GET", PATH, by="month", **{"from": "2032-02-10", "to": "2032-03-05"})["periods"]
    assert [(each["period"], each["start"], each["end"], each["open_count"]) for each in months] == [
        ("overdue", None, None, 0),
        ("2032-02", "2032-02-10", "2032-02-29", 1),
        ("2032-03", "2032-03-01", "2032-03-05", 0),
        ("none", None, None, 0),
    ]


def test_open_deals_are_of_the_day_they_are_expected_and_closed_ones_of_the_day_they_closed(admin: Caller) -> None:
    open_ = {"amount": 100, "probability": 25, "stage": "proposal"}
    deal(admin, **open_, expected_close_date="2030-03-31")
    deal(admin, **open_)
    deal(admin, **open_, expected_close_date="2020-01-01")
    closed = {"expected_close_date": "2030-02-01", "amount": 10.5}
    deal(admin, **closed, stage="closed_won", actual_close_date="2030-04-01")
    deal(admin, **closed, stage="closed_lost", actual_close_date="2030-06-30T23:59:59.999999Z")
    deal(admin, **closed, stage="closed_won", actual_close_date="2029-12-31")
    assert figures(admin, **YEAR) == {
        ("overdue", "USD"): (0, 0, 1, 100, 25, 0, 0),
        ("2030-Q1", "USD"): (0, 0, 1, 100, 25, 0, 0),
        ("2030-Q2", "USD"): (1, 10.5, 0, 0, 0, 1, 10.5),
        ("none", "USD"): (0, 0, 1, 100, 25, 0, 0),
    }
    half_year = figures(admin, by="month", **(YEAR | {"to": "2030-06-30"}))
    assert list(half_year["2030-06", "USD"]) == [0, 0, 0, 0, 0, 1, 10.5]
    assert figures(admin, owner_id="none", **YEAR) == {}
    assert len(figures(admin, owner_id="me", **YEAR)) == 4


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Etc/GMT+12", "America/New_York"])
def test_days_are_those_of_the_tenants_timezone(admin: Caller, zone: str) -> None:
    admin.ok("PUT", "/admin/settings", {"timezone": zone})
    there = ZoneInfo(zone)
    begins = datetime(2030, 4, 1, tzinfo=there)
    customer = admin.customer()["id"]
    for moment in (begins, begins - timedelta(seconds=1)):
        deal(admin, customer_id=customer, amount=1, expected_close_date=moment.isoformat())
    for day in ("2030-04-01", "2030-03-31"):
        deal(admin, customer_id=customer, amount=1, expected_close_date=day)
    counts = {period: values[2] for (period, _), values in figures(admin, by="month", **YEAR).items()}
    assert counts == {"2030-03": 2, "2030-04": 2}
    one_day = figures(admin, **{"from": "2030-04-01", "to": "2030-04-01"})
    assert {period: values[2] for (period, _), values in one_day.items()} == {"2030-Q2": 2}
    today = datetime.now(there).date()
    deal(admin, customer_id=customer, amount=1, expected_close_date=today.isoformat())
    deal(admin, customer_id=customer, amount=1, expected_close_date=(today - timedelta(days=1)).isoformat())
    now = figures(admin)
    assert now["overdue", "USD"][2] == 1
    assert now[f"{today.year}-Q{(today.month + 2) // 3}", "USD"][2] == 1


def test_at_first_it_is_this_quarter_and_the_next_three(admin: Caller) -> None:
    deal(admin)
    today = datetime.now(ZoneInfo("UTC")).date()
    shown = admin.ok("GET", PATH)["periods"]
    assert len(shown) == 6
    first, last = date.fromisoformat(shown[1]["start"]), date.fromisoformat(shown[4]["end"])
    assert first <= today
    assert (first.year + 1, first.month, 1) == ((last + timedelta(days=1)).year, (last + timedelta(days=1)).month, 1)
    assert len(admin.ok("GET", PATH, by="month")["periods"]) == 14


@pytest.mark.parametrize(
    ("query", "wrong"),
    [
        ({"from": "2030-02-01", "to": "2030-01-31"}, "to"),
        ({"from": "2000-01-01", "to": "2010-01-01", "by": "month"}, "to"),
        ({"from": "0002-01-01", "to": "9999-12-31"}, "to"),
        ({"by": "week"}, "by"),
        ({"from": "soon"}, "from"),
    ],
)
def test_a_range_without_a_day_or_with_too_many_periods_is_refused(
    admin: Caller, query: dict[str, str], wrong: str
) -> None:
    data = refused(admin.get(PATH, **query), 400, "INVALID_REQUEST")
    assert [fault["field"] for fault in data["fields"]] == [wrong]
    ten_years = {"from": "2000-01-01", "to": "2009-12-31", "by": "month"}
    assert admin.ok("GET", PATH, **ten_years) == {"periods": []}
    deal(admin, amount=1, expected_close_date="9999-12-31")
    assert figures(admin, **{"from": "9999-11-05"})["9999-Q4", "USD"][2] == 1
    admin.ok("GET", PATH, **{"from": "0002-01-01", "to": "0002-01-01"})


def test_an_agent_limited_to_its_own_sees_a_forecast_of_its_own(
    admin: Caller, own_scope: TestClient[Litestar], callers: Any, tenant: str
) -> None:
    limited = callers.person("agent", tenant, client=own_scope)
    deal(admin, amount=1)
    deal(admin, amount=5, owner_id=limited.user_id)
    assert figures(limited)["none", "USD"][2:4] == (1, 5)
