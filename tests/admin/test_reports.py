"""The reports: every figure equals one that is computed here, another way, from the raw rows of seeded data."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, NamedTuple

import psycopg
import pytest
from litestar import Litestar
from litestar.testing import TestClient
from psycopg.rows import dict_row

from app.dev.seed import fill
from app.settings import Settings
from tests.callers import Caller, Callers

Row = dict[str, Any]


class Books(NamedTuple):
    """The raw rows of one tenant."""

    customers: list[Row]
    deals: list[Row]
    activities: list[Row]
    stages: list[Row]
    history: list[Row]


@pytest.fixture(scope="module")
def seeded(settings: Settings) -> Iterator[tuple[str, Books]]:
    """A tenant with made-up data, some of it in the trash, and its raw rows."""
    tenant = "reports-on-seeded-data"
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    with psycopg.connect(settings.migration_dsn) as owner:
        fill(owner, 300, tenant, 3, today, "USD")
    with psycopg.connect(settings.migration_dsn, row_factory=dict_row) as connection:
        connection.execute("SELECT set_config('crm.tenant', %s, false)", [tenant])
        connection.execute("UPDATE customers SET deleted_at = now() WHERE id % 10 = 0")
        connection.execute("UPDATE deals SET deleted_at = now() WHERE id % 11 = 0")
        connection.execute("UPDATE activities SET due_date = now() + interval '1 hour' WHERE id % 7 = 0")
        connection.commit()

        def live(table: str) -> list[Row]:
            return connection.execute(f"SELECT * FROM {table} WHERE deleted_at IS NULL").fetchall()

        stages = connection.execute('SELECT * FROM pipeline_stages ORDER BY "order"').fetchall()
        history = connection.execute("SELECT * FROM stage_history ORDER BY id").fetchall()
        yield tenant, Books(live("customers"), live("deals"), live("activities"), stages, history)


@pytest.fixture
def books(seeded: tuple[str, Books]) -> Books:
    return seeded[1]


@pytest.fixture
def reader(seeded: tuple[str, Books], callers: Callers) -> Caller:
    return callers.person("admin", seeded[0])


def kind_of(books: Books) -> dict[int, str]:
    return {stage["id"]: stage["kind"] for stage in books.stages}


def money(amount: Decimal) -> float:
    return float(amount.quantize(Decimal("0.01"), ROUND_HALF_UP))


def total(rows: list[Row]) -> float:
    return money(sum((row["amount"] for row in rows if row["currency"] == "USD"), Decimal(0)))


def by_currency(rows: list[Row]) -> dict[str, float]:
    sums: dict[str, Decimal] = defaultdict(Decimal)
    for row in rows:
        sums[row["currency"]] += row["amount"]
    return {currency: money(amount) for currency, amount in sums.items()}


def test_the_overview_counts_customers_and_deals(reader: Caller, books: Books) -> None:
    report = reader.ok("GET", "/admin/reports/overview")
    assert report["customers"]["total"] == len(books.customers) > 200
    statuses = Counter(row["status"] for row in books.customers)
    assert report["customers"]["by_status"] == dict(statuses)
    kinds = kind_of(books)
    parts = {kind: [d for d in books.deals if kinds[d["stage_id"]] == kind] for kind in ("open", "won", "lost")}
    deals = report["deals"]
    assert deals["total"] == len(books.deals)
    assert [deals[f"{kind}_count"] for kind in parts] == [len(rows) for rows in parts.values()]
    assert deals["total_value"] == total(books.deals)
    assert deals["total_value_by_currency"] == by_currency(books.deals)
    assert len(deals["total_value_by_currency"]) == 3
    assert (deals["won_value"], deals["open_value"]) == (total(parts["won"]), total(parts["open"]))
    assert deals["won_value_by_currency"] == by_currency(parts["won"])
    dollars = [d for d in books.deals if d["currency"] == "USD"]
    assert deals["average_deal_size"] == money(sum(d["amount"] for d in dollars) / len(dollars))
    open_dollars = [d for d in parts["open"] if d["currency"] == "USD"]
    assert deals["weighted_value"] == money(
        sum((d["amount"] * d["probability"] / 100 for d in open_dollars), Decimal(0))
    )
    in_stage = Counter(d["stage_id"] for d in books.deals)
    assert deals["by_stage"] == {stage["name"]: in_stage[stage["id"]] for stage in books.stages}
    assert [(s["stage"], s["count"], s["value"]) for s in report["deals_by_stage"]] == [
        (stage["name"], in_stage[stage["id"]], total([d for d in books.deals if d["stage_id"] == stage["id"]]))
        for stage in books.stages
    ]


def test_the_overview_counts_activities(reader: Caller, books: Books) -> None:
    report = reader.ok("GET", "/admin/reports/overview")
    now = datetime.now(UTC)

    def shown(row: Row) -> str:
        late = row["status"] == "scheduled" and row["due_date"] is not None and row["due_date"] < now
        return "overdue" if late else str(row["status"])

    statuses = Counter(map(shown, books.activities))
    figures = report["activities"]
    assert {name: figures[name] for name in ("scheduled", "completed", "overdue", "cancelled")} == dict(statuses)
    assert figures["total"] == len(books.activities)
    assert figures["by_type"] == dict(Counter(row["type"] for row in books.activities))
    days = Counter(((row["due_date"] or row["created_at"]).date().isoformat(), row["type"]) for row in books.activities)
    expected = [(now.date() - timedelta(days=back)).isoformat() for back in range(29, -1, -1)]
    assert [day["date"] for day in report["activities_over_time"]] == expected
    for day in report["activities_over_time"]:
        assert day["breakdown"] == {kind: days[day["date"], kind] for kind in day["breakdown"]}
        assert day["count"] == sum(day["breakdown"].values())
    monday = now.date() - timedelta(days=now.weekday())
    week = [
        r for r in books.activities if monday <= (r["due_date"] or r["created_at"]).date() < monday + timedelta(days=7)
    ]
    assert report["metrics"]["activities_this_week"] == len(week) > 0


def test_the_overviews_metrics_and_rankings(reader: Caller, books: Books) -> None:
    report = reader.ok("GET", "/admin/reports/overview")
    now, kinds = datetime.now(UTC), kind_of(books)
    month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    won = [d for d in books.deals if kinds[d["stage_id"]] == "won"]
    open_ = [d for d in books.deals if kinds[d["stage_id"]] == "open"]
    assert report["metrics"] | {"activities_this_week": 0} == {
        "total_customers": len(books.customers),
        "active_deals": len(open_),
        "pipeline_value": total(open_),
        "pipeline_value_by_currency": by_currency(open_),
        "activities_this_week": 0,
        "customers_this_month": sum(c["created_at"] >= month for c in books.customers),
        "won_deals_this_month": sum(d["actual_close_date"] >= month for d in won),
    }
    newest = sorted(books.deals, key=lambda d: (d["created_at"], d["id"]), reverse=True)[:5]
    assert [d["id"] for d in report["recent_deals"]] == [d["id"] for d in newest]
    values: dict[int, list[Row]] = defaultdict(list)
    for d in books.deals:
        values[d["customer_id"]].append(d)
    best = sorted(values.items(), key=lambda item: (-total(item[1]), -len(item[1]), item[0]))[:5]
    assert [(c["id"], c["deals_count"], c["deals_value"]) for c in report["top_customers"]] == [
        (customer, len(rows), total(rows)) for customer, rows in best
    ]
    closed = Counter(d["owner_id"] for d in won if d["actual_close_date"] >= now - timedelta(days=90))
    pipeline = {o: total([d for d in open_ if d["owner_id"] == o]) for o in {d["owner_id"] for d in books.deals}}
    people = sorted(pipeline, key=lambda o: (-closed[o], -pipeline[o], o))[:5]
    assert [(p["id"], p["deals_closed"], p["pipeline_value"]) for p in report["top_performers"]] == [
        (owner, closed[owner], pipeline[owner]) for owner in people
    ]


@pytest.mark.parametrize("owners", ["", "agent-1,agent-2", "none"])
def test_the_summary(reader: Caller, books: Books, owners: str) -> None:
    chosen = [d for d in books.deals if not owners or d["owner_id"] in owners.split(",")]
    kinds = kind_of(books)
    groups: dict[tuple[str, str], list[Decimal]] = defaultdict(list)
    for d in chosen:
        groups[kinds[d["stage_id"]], d["currency"]].append(d["amount"])
    report = reader.ok("GET", "/admin/reports/deals/summary", owner_id=owners)
    assert {(r["status"], r["currency"]): (r["count"], r["total"], r["average"]) for r in report["by_status"]} == {
        key: (len(amounts), money(sum(amounts, Decimal(0))), money(sum(amounts, Decimal(0)) / len(amounts)))
        for key, amounts in groups.items()
    }
    recent = datetime.now(UTC) - timedelta(days=30)
    assert report["new_deals_last_30_days"] == sum(d["created_at"] >= recent for d in chosen)
    days = [
        (d["actual_close_date"] - d["created_at"]) / timedelta(days=1) for d in chosen if kinds[d["stage_id"]] == "won"
    ]
    assert report["average_days_to_close"] == (pytest.approx(statistics.mean(days), abs=0.006) if days else None)


@pytest.mark.parametrize("cut", [False, True])
def test_the_funnel(reader: Caller, books: Books, cut: bool) -> None:
    since = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=200)
    chosen = {d["id"]: d for d in books.deals if not cut or d["created_at"] >= since}
    ways: dict[int, set[int]] = defaultdict(set)
    stays: dict[int, list[float]] = defaultdict(list)
    for move in books.history:
        if move["deal_id"] in chosen:
            ways[move["deal_id"]].add(move["to_stage_id"])
            if move["left_at"]:
                stays[move["to_stage_id"]].append((move["left_at"] - move["entered_at"]).total_seconds())
    filters = {"from": since.isoformat()} if cut else {}
    report = reader.ok("GET", "/admin/reports/deals/funnel", **filters)["stages"]
    assert [row["stage"] for row in report] == [stage["name"] for stage in books.stages]
    for place, (row, stage) in enumerate(zip(report, books.stages, strict=True)):
        here = [d for d in chosen.values() if d["stage_id"] == stage["id"]]
        assert row["entered"] == sum(stage["id"] in way for way in ways.values())
        assert (row["current"], row["value"], row["value_by_currency"]) == (len(here), total(here), by_currency(here))
        before = [s for s in books.stages[:place] if s["kind"] == "open"]
        later = {s["id"] for s in books.stages[place + 1 :] if s["kind"] != "lost"} | {stage["id"]}
        came_from = [way for way in ways.values() if before and before[-1]["id"] in way]
        share = sum(bool(way & later) for way in came_from) / len(came_from) if came_from else None
        assert row["conversion"] == (pytest.approx(share, abs=0.0001) if before else None)
        if len(stays[stage["id"]]) > 1:
            deciles = statistics.quantiles(stays[stage["id"]], n=10, method="inclusive")
            assert row["median_seconds"] == pytest.approx(statistics.median(stays[stage["id"]]), abs=1)
            assert row["p90_seconds"] == pytest.approx(deciles[8], abs=1)
        else:
            assert row["median_seconds"] is None


def test_the_team(reader: Caller, books: Books) -> None:
    kinds, now = kind_of(books), datetime.now(UTC)
    team = {row["id"]: row for row in reader.ok("GET", "/admin/reports/team")["data"]}
    assert {d["owner_id"] for d in books.deals} <= set(team)
    for person, row in team.items():
        own = {
            kind: [d for d in books.deals if d["owner_id"] == person and kinds[d["stage_id"]] == kind]
            for kind in set(kinds.values())
        }
        won, lost = len(own["won"]), len(own["lost"])
        assert (row["open_deals"], row["won_count"], row["lost_count"]) == (len(own["open"]), won, lost)
        assert (row["open_value"], row["won_value"]) == (total(own["open"]), total(own["won"]))
        assert row["win_rate"] == (pytest.approx(won / (won + lost), abs=0.0001) if won + lost else None)
        work = [a for a in books.activities if a["assigned_to"] == person]
        assert row["activities_completed"] == sum(a["status"] == "completed" for a in work)
        late = [a for a in work if a["status"] == "scheduled" and a["due_date"] and a["due_date"] < now]
        assert row["activities_overdue"] == len(late)


def test_the_overview_is_kept_for_a_moment_and_dropped_by_a_write(admin: Caller, agent: Caller) -> None:
    admin.customer()
    first = admin.get("/admin/reports/overview")
    again = agent.get("/admin/reports/overview")
    assert (first.headers["Age"], again.content) == ("0", first.content)
    asked = admin.call("GET", "/admin/reports/overview", headers={"Cache-Control": "no-cache"})
    assert asked.json() == first.json()
    admin.customer("Second")
    assert admin.ok("GET", "/admin/reports/overview")["customers"]["total"] == 2


def test_a_day_begins_where_the_tenant_lives(admin: Caller) -> None:
    admin.ok("PUT", "/admin/settings", {"timezone": "Pacific/Kiritimati"})
    report = admin.ok("GET", "/admin/reports/overview")
    ahead = (datetime.now(UTC) + timedelta(hours=14)).date().isoformat()
    assert report["activities_over_time"][-1]["date"] == ahead


def test_currencies_are_never_added_up(admin: Caller) -> None:
    customer = admin.customer()["id"]
    for amount, currency in ((10, "USD"), (1000, "JPY"), (0.5, "KWD")):
        admin.ok(
            "POST", "/admin/deals", {"title": "D", "customer_id": customer, "amount": amount, "currency": currency}
        )
    deals = admin.ok("GET", "/admin/reports/overview")["deals"]
    assert (deals["open_value"], deals["open_value_by_currency"]) == (10, {"JPY": 1000, "KWD": 0.5, "USD": 10})


def test_the_newest_deals_are_shown_as_lists_show_them(admin: Caller) -> None:
    customer = admin.customer()["id"]
    assert admin.ok("GET", "/admin/reports/overview")["recent_deals"] == []
    for number in range(7):
        body = {"title": f"D{number}", "customer_id": customer, "amount": 10.25, "expected_close_date": "2030-01-02"}
        admin.ok("POST", "/admin/deals", body)
    newest = admin.ok("GET", "/admin/deals", page_size=5)["data"]
    assert admin.ok("GET", "/admin/reports/overview")["recent_deals"] == newest


def test_the_team_has_a_row_for_what_belongs_to_no_one(admin: Caller, agent: Caller) -> None:
    customer = admin.customer()["id"]
    deal = {"title": "D", "customer_id": customer, "owner_id": None, "amount": 5}
    for stage in ("proposal", "closed_won", "closed_lost"):
        admin.ok("POST", "/admin/deals", deal | {"stage": stage})
    task = {"title": "T", "type": "call", "assigned_to": None}
    admin.ok("POST", "/admin/activities", task | {"due_date": "2020-01-01"})
    admin.ok("POST", "/admin/activities", task | {"status": "completed"})
    agent.ok("GET", "/admin/me")
    rows = admin.ok("GET", "/admin/reports/team")["data"]
    assert [row["id"] for row in rows][-1] is None
    nobody = {name: value for name, value in rows[-1].items() if not name.endswith("currency")}
    assert nobody == {
        "id": None, "name": None, "email": None, "open_deals": 1, "open_value": 5, "won_count": 1, "won_value": 5,
        "lost_count": 1, "win_rate": 0.5, "average_days_to_close": 0, "activities_completed": 1,
        "activities_overdue": 1,
    }  # fmt: skip
    assert [row["id"] for row in agent.ok("GET", "/admin/reports/team")["data"]] == [agent.user_id]


def test_limited_to_its_own_an_agent_is_shown_no_customers_of_others(
    admin: Caller, callers: Callers, tenant: str, own_scope: TestClient[Litestar]
) -> None:
    limited = callers.person("agent", tenant, client=own_scope)
    hidden, own = admin.customer("Hidden")["id"], admin.customer("Mine", assigned_to=limited.user_id)["id"]
    for customer, amount in ((hidden, 100), (own, 1)):
        body = {"title": "D", "customer_id": customer, "owner_id": limited.user_id, "amount": amount}
        admin.ok("POST", "/admin/deals", body)
    overview = limited.ok("GET", "/admin/reports/overview")
    assert [each["name"] for each in overview["top_customers"]] == ["Mine"]
    assert overview["deals"]["total"] == 2
    everything = admin.ok("GET", "/admin/reports/overview")
    assert [each["name"] for each in everything["top_customers"]] == ["Hidden", "Mine"]


def test_who_sees_only_own_records_counts_each_deal_that_was_won_this_month_once(
    admin: Caller, callers: Callers, tenant: str, own_scope: TestClient[Litestar]
) -> None:
    limited = callers.person("agent", tenant, client=own_scope)
    own = admin.customer("Mine", assigned_to=limited.user_id)["id"]
    for owner in (limited.user_id, "7", "7", None):
        body = {"title": "D", "customer_id": own, "owner_id": owner, "amount": 1, "stage": "closed_won"}
        admin.ok("POST", "/admin/deals", body)
    assert limited.ok("GET", "/admin/reports/overview")["metrics"]["won_deals_this_month"] == 4
