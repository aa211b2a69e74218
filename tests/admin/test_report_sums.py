"""Reports are made from sums that the database keeps. Their figures are those of the rows, at every moment."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import product
from typing import Any
from unittest.mock import patch

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from app.access.actor import Actor
from app.access.permissions import Role
from app.admin.reports import forecast, from_sums, service
from app.admin.reports.schemas import DealReportQuery, ForecastQuery, PeriodQuery
from app.admin.reports.sums import FIRST_HOUR, LAST_HOUR, SPANS, Between, cover
from app.db.database import Database
from app.db.roles import enter_tenant
from app.records.transaction import Transaction
from app.settings import Settings
from tests.admin.reports_from_rows import reports_from_rows
from tests.callers import Caller, Callers

NOW = datetime.now(UTC).replace(microsecond=0)
ZONES = ["UTC", "Pacific/Kiritimati", "Etc/GMT+12", "America/New_York", "Asia/Kathmandu"]
OWNERS = ["ada", "7", None]
CURRENCIES = ["USD", "EUR", "JPY"]
SUMS = (
    "SELECT * FROM report_sums WHERE span <> 1 ORDER BY series, by_person, span, person, hour, whole_day, facet, part"
)
VALUES = "SELECT * FROM customer_values ORDER BY customer_id, currency"

MAKE = """
    INSERT INTO deals (tenant_id, title, customer_id, owner_id, amount, currency, probability, stage_id)
    SELECT %(tenant)s, 'X', (SELECT min(id) FROM customers), '7', 10, 'USD', 0, min(id) FROM pipeline_stages
"""
MOVE = "UPDATE deals SET customer_id = (SELECT min(id) FROM customers) WHERE id = (SELECT max(id) FROM deals)"
CHANGE = "UPDATE deals SET amount = amount + 1, stage_id = (SELECT max(id) FROM pipeline_stages)"
GIVE = "UPDATE customers SET assigned_to = 'bob' WHERE id = (SELECT min(id) FROM customers)"

Make = Callable[[Transaction], Awaitable[Any]]


def moments(chance: random.Random) -> Iterator[datetime]:
    """Times near the ends of days, weeks and years, today and long ago, and whole days."""
    while True:
        around = NOW + timedelta(days=chance.choice([0, 0, 1, 7, 30, 90, 400]) * chance.choice([-1, 1]))
        if chance.random() < 0.1:
            around = around.replace(year=chance.choice([2, 1969, 9999]), day=1)
        day = around.replace(hour=0, minute=0, second=0)
        yield chance.choice([day, around, day + timedelta(seconds=chance.choice([1, 20700, 46800, 86399]))])


def reports(chance: random.Random, times: Iterator[datetime]) -> Iterator[Make]:
    """Every report as it is, and cut by people and a period."""
    yield service.overview
    for cut in (False, True):
        period: dict[str, Any] = {}
        ends = sorted((next(times), next(times)))
        if cut:
            chosen = (chance.choice([end.isoformat(), end.date().isoformat()]) for end in ends)
            period = dict(zip(("from_", "to"), chosen, strict=True))
        owners = chance.choice([None, ["ada"], ["7", "none"], ["nobody at all"]])
        people: dict[str, Any] = {"owner_id": owners} if cut and owners else {}
        yield partial(service.summary, query=DealReportQuery(**period, **people))
        yield partial(service.funnel, query=DealReportQuery(**period, **people))
        named = [{"none": ""}.get(owner, owner) for owner in owners] if cut and owners else None
        yield partial(times_in_stages, between=Between(*ends) if cut else None, people=named)
        yield partial(service.team, query=PeriodQuery(**period))
        day = next(times).replace(year=2026)
        span: dict[str, Any] = (
            {"from_": day.date().isoformat(), "to": (day + timedelta(days=300)).date().isoformat()} if cut else {}
        )
        yield partial(forecast.forecast, query=ForecastQuery(**span, **people))


async def times_in_stages(tx: Transaction, between: Between | None, people: list[str] | None) -> dict[str, Any]:
    """The median and the ninth tenth, before the funnel cuts them to whole seconds, for which a test is too short."""
    return {stage.stage: stage.seconds for stage in (await from_sums.funnel_rows(tx, between, people)).stages}


async def compare(settings: Settings, tenant: str, wanted: Iterator[Make]) -> None:
    """Fail unless each report from the sums is that of the rows, both at the same moment."""
    async with Database(replace(settings, agent_read_scope="own")) as database:
        for number, (role, make) in enumerate(product((Role.ADMIN, Role.AGENT), wanted)):
            actor = Actor(user_id="ada", tenant_id=tenant, role=role)
            # As of somebody with few records, and with many.
            few = patch.object(from_sums, "FEW", number % 2 * from_sums.FEW - 1)
            async with database.reader(actor) as session:
                tx = Transaction(actor, session, own_records_only=database.sees_own_only(actor))
                with few:
                    kept = await make(tx)
                with reports_from_rows():
                    rows = await make(tx)
                    assert kept == rows, (role, make)


class Books:
    """An organization whose records change in every way, by the service's own login."""

    def __init__(self, settings: Settings, tenant: str, seed: int) -> None:
        self.settings, self.tenant = settings, tenant
        self.chance = random.Random(seed)
        self.times = moments(self.chance)

    def pick(self, *choices: Any) -> Any:
        return self.chance.choice(choices)

    def deal(self) -> dict[str, Any]:
        return {
            "stage_id": self.pick(*self.stages),
            "owner_id": self.pick(*OWNERS),
            "currency": self.pick(*CURRENCIES),
            "amount": self.pick(0, 10, 10.5, 999999.9999),
            "probability": self.pick(0, 33, 100),
            "created_at": next(self.times),
            "expected_close_date": self.pick(None, next(self.times)),
            "actual_close_date": self.pick(None, next(self.times)),
            "customer_id": self.pick(*self.customers),
        }

    def activity(self) -> dict[str, Any]:
        due = self.pick(None, next(self.times))
        return {
            "type": self.pick("call", "task"),
            "status": self.pick("scheduled", "scheduled", "completed", "cancelled"),
            "assigned_to": self.pick(*OWNERS),
            "due_date": due,
            "all_day": due is not None and (due.hour, due.minute, due.second) == (0, 0, 0),
            "created_at": next(self.times),
        }

    def customer(self) -> dict[str, Any]:
        return {
            "status": self.pick("lead", "active"),
            "created_at": next(self.times),
            "assigned_to": self.pick(*OWNERS),
        }

    def made(self, table: str) -> dict[str, Any]:
        return {"customers": self.customer, "deals": self.deal, "activities": self.activity}[table]()

    @contextmanager
    def connected(self) -> Iterator[psycopg.Connection]:
        """One transaction."""
        with psycopg.connect(self.settings.database_dsn) as connection:
            enter_tenant(connection, self.tenant, {})
            self.stages = [row[0] for row in connection.execute("SELECT id FROM pipeline_stages")]
            self.customers = [row[0] for row in connection.execute("SELECT id FROM customers")]
            yield connection

    def insert(self, connection: psycopg.Connection, table: str, count: int) -> None:
        named = "name" if table == "customers" else "title"
        # Customers are held in the order of their ids, as by those who change them.
        for made in sorted((self.made(table) for _ in range(count)), key=lambda made: made.get("customer_id", 0)):
            values = {"tenant_id": self.tenant, named: "X"} | made
            columns, places = ", ".join(values), ", ".join("%s" for _ in values)
            connection.execute(f"INSERT INTO {table} ({columns}) VALUES ({places})", list(values.values()))

    def change(self, connection: psycopg.Connection) -> None:
        """Some rows of a table, by one statement. They are locked as the service does: first what is referred to."""
        table = self.pick("customers", "deals", "deals", "activities")
        values = self.made(table)
        if self.chance.random() < 0.4:
            values = {"deleted_at": self.pick(None, None, NOW)}
        if customer := values.get("customer_id"):
            connection.execute("SELECT FROM customers WHERE id = %s FOR SHARE", [customer])
        some = self.pick(0, 1, 2)
        connection.execute(f"SELECT FROM {table} WHERE id %% 3 = %s ORDER BY id FOR UPDATE", [some])
        if table == "customers" and "deleted_at" in values:  # their deals go into the trash with them
            connection.execute("SELECT FROM deals WHERE customer_id %% 3 = %s ORDER BY id FOR UPDATE", [some])
        assignments = ", ".join(f"{column} = %s" for column in values)
        connection.execute(f"UPDATE {table} SET {assignments} WHERE id %% 3 = %s", [*values.values(), some])

    def live(self) -> None:
        """A few transactions, of which some are undone."""
        for _ in range(6):
            with self.connected() as connection:
                table = self.pick("customers", "deals", "activities")
                self.insert(connection, table, self.pick(1, 3))
                # Who made a deal holds its customer, which nobody can give to another person meanwhile.
                if table != "deals":
                    self.change(connection)
                if self.chance.random() < 0.2:
                    connection.rollback()

    def settle(self) -> None:
        """Other settings, and a part of what changed is added up."""
        with self.connected() as connection:
            connection.execute("UPDATE settings SET timezone = %s", [self.pick(*ZONES)])
            connection.execute("UPDATE settings SET default_currency = %s", [self.pick(*CURRENCIES)])
        self.fold(self.pick(1, 5, 10_000))

    def fold(self, most: int, *, until_done: bool = False) -> None:
        with psycopg.connect(self.settings.database_dsn, autocommit=True) as connection:
            connection.execute("SET ROLE crm_service")
            while connection.execute("SELECT crm_fold_report_changes(%s)", [most]).fetchone() != (0,) and until_done:
                pass


@pytest.fixture
def books(settings: Settings, admin: Caller) -> Books:
    admin.customer()
    return Books(settings, admin.tenant, 1)


@pytest.mark.parametrize("examples", [1, pytest.param(5, marks=pytest.mark.slow)])
def test_reports_from_sums_are_those_of_the_rows(make_books: Callable[[int], Books], examples: int) -> None:
    for seed in random.sample(range(10_000), examples):
        books = make_books(seed)
        try:
            for _ in range(3):
                books.live()
                books.settle()
                asyncio.run(compare(books.settings, books.tenant, reports(books.chance, books.times)))
        except AssertionError as error:
            error.add_note(f"The seed was {seed}.")
            raise


@pytest.fixture(scope="module")
def make_books(settings: Settings, client: Any) -> Callable[[int], Books]:
    """Each example goes on with what the ones before have left."""
    admin = Callers(client, settings).person("admin", "report-sums")
    admin.customer()
    return lambda seed: Books(settings, admin.tenant, seed)


def test_reports_are_right_while_many_write_and_somebody_adds_up(books: Books) -> None:
    writers = [Books(books.settings, books.tenant, seed) for seed in range(4)]

    def write(mine: Books) -> None:
        for _ in range(3):
            mine.live()
            mine.settle()

    with ThreadPoolExecutor(len(writers)) as people:
        works = [people.submit(write, mine) for mine in writers]
        while not all(work.done() for work in works):
            asyncio.run(compare(books.settings, books.tenant, reports(books.chance, books.times)))
        for work in works:
            work.result()
    asyncio.run(compare(books.settings, books.tenant, reports(books.chance, books.times)))


@pytest.mark.parametrize(
    ("first", "second"), [pair for write in (MAKE, MOVE, CHANGE) for pair in ((write, GIVE), (GIVE, write))]
)
def test_who_writes_a_deal_and_who_gives_its_customer_away_wait_for_each_other(
    books: Books, first: str, second: str
) -> None:
    with books.connected() as connection:
        connection.execute("UPDATE customers SET assigned_to = 'ada'")
        connection.execute("INSERT INTO customers (tenant_id, name) VALUES (%s, 'Y')", [books.tenant])
        connection.execute(MAKE, {"tenant": books.tenant})
        connection.execute(MAKE.replace("min(id)", "max(id)"), {"tenant": books.tenant})

    def write(connection: psycopg.Connection, statement: str) -> None:
        connection.execute(statement, {"tenant": books.tenant} if statement == MAKE else None)

    with ThreadPoolExecutor(1) as other, psycopg.connect(books.settings.migration_dsn, autocommit=True) as owner:
        with books.connected() as one:
            write(one, first)
            with books.connected() as two:
                work = other.submit(write, two, second)
                blocked = f"SELECT pg_blocking_pids({two.info.backend_pid}) = ARRAY[{one.info.backend_pid}]"
                give_up = time.monotonic() + 20
                while owner.execute(blocked).fetchone() != (True,) and not work.done():
                    assert time.monotonic() < give_up
                    time.sleep(0.01)
                one.commit()
                work.result()
        assert owner.execute("SELECT * FROM crm_compare_report_sums(%s)", [books.tenant]).fetchall() == []


@pytest.mark.parametrize("rounds", [1, pytest.param(5, marks=pytest.mark.slow)])
def test_what_was_added_up_bit_by_bit_is_what_is_added_up_at_once(books: Books, rounds: int) -> None:
    for _ in range(rounds):
        books.live()
        books.settle()
    with psycopg.connect(books.settings.migration_dsn) as owner:
        owner.execute("SELECT set_config('crm.tenant', %s, false)", [books.tenant])
        books.fold(100, until_done=True)
        kept = [owner.execute(query).fetchall() for query in (SUMS, VALUES)]
        owner.execute("SELECT crm_add_up_reports(%s)", [books.tenant])
        assert kept == [owner.execute(query).fetchall() for query in (SUMS, VALUES)]


@pytest.mark.slow
def test_sums_that_are_not_those_of_the_rows_are_found(books: Books) -> None:
    for _ in range(3):
        books.live()
        books.settle()
    with psycopg.connect(books.settings.migration_dsn) as owner:
        compared = partial(owner.execute, "SELECT compared FROM crm_compare_report_sums(%s)", [books.tenant])
        assert compared().fetchall() == []
        owner.execute("ALTER TABLE deals DISABLE TRIGGER sum_update")
        owner.execute("UPDATE deals SET amount = amount + 1, currency = 'CHF'")
        owner.execute("UPDATE stage_history SET deal_owner_id = 'somebody else'")
        assert {"customer_values", "deals.created", "stage_history"} <= {of for (of,) in compared().fetchall()}
        owner.rollback()


@pytest.mark.slow
def test_what_is_added_up_anew_counts_nothing_twice(books: Books) -> None:
    """What was not added up yet is in the rows already."""
    books.live()
    with psycopg.connect(books.settings.migration_dsn) as owner:
        owner.execute("SELECT crm_add_up_reports(%s)", [books.tenant])
    asyncio.run(compare(books.settings, books.tenant, reports(books.chance, books.times)))


def test_what_changed_is_added_up_while_the_sealing_is_far_behind(
    admin: Caller, settings: Settings, variant: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(_: Database) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("app.records.maintenance.seal", never)
    admin.customer()
    variant(upkeep_seconds=0.05)
    waiting = "SELECT count(*) FROM report_changes WHERE tenant_id = %s"
    with psycopg.connect(settings.migration_dsn, autocommit=True) as owner:
        owner.execute("SELECT set_config('crm.tenant', %s, false)", [admin.tenant])
        give_up = time.monotonic() + 20
        while owner.execute(waiting, [admin.tenant]).fetchone() != (0,):
            assert time.monotonic() < give_up
            time.sleep(0.02)


def test_a_statement_appends_a_row_for_each_group(admin: Caller, settings: Settings) -> None:
    admin.customer()
    with psycopg.connect(settings.database_dsn) as connection:
        enter_tenant(connection, admin.tenant, {})
        appended = "SELECT count(*), sum(rows) FROM report_changes WHERE series = 'customers'"
        before = connection.execute(appended).fetchone()
        connection.execute(
            "INSERT INTO customers (tenant_id, name) SELECT %s, 'X' FROM generate_series(1, 500)", [admin.tenant]
        )
        assert before == (1, 1)
        assert connection.execute(appended).fetchone() == (2, 501)
        connection.execute("UPDATE customers SET name = 'Y'")
        assert connection.execute(appended).fetchone() == (2, 501)


@given(st.data())
def test_a_period_is_covered_by_spans_without_gap_or_overlap(data: st.DataObject) -> None:
    spans = data.draw(st.sampled_from([SPANS, SPANS[1:], SPANS[2:]]))
    ends = st.integers(-(10**6), 10**6).map(lambda number: number * spans[0])
    first, last = sorted((data.draw(ends | st.just(FIRST_HOUR)), data.draw(ends | st.just(LAST_HOUR))))
    parts = sorted(cover(first, last, spans), key=lambda part: part[1])
    assert [part[1] for part in parts] == [first, *(part[2] for part in parts[:-1])] if parts else first == last
    assert not parts or parts[-1][2] == last
    assert all(begin % span == end % span == 0 and begin < end for span, begin, end in parts)
    # No more rows are read than a period's ends need.
    assert all((end - begin) // span < 2 * 8 * 3 for span, begin, end in parts if span != spans[-1])


@pytest.mark.slow
def test_whatever_is_done_through_the_api_the_sums_are_those_of_the_rows(admin: Caller, settings: Settings) -> None:
    lead, other, kept = (admin.customer(name)["id"] for name in ("Ada", "Bob", "Cleo"))
    stages = [stage["name"] for stage in admin.ok("GET", "/admin/pipeline-stages")["data"]]
    deals = [
        admin.ok("POST", "/admin/deals", {"title": "D", "customer_id": customer, "amount": 5, "owner_id": owner})["id"]
        for customer in (lead, other)
        for owner in (7, None)
    ]
    with psycopg.connect(settings.migration_dsn, autocommit=True) as owner:

        def check() -> None:
            wrong = owner.execute("SELECT * FROM crm_compare_report_sums(%s)", [admin.tenant]).fetchall()
            assert wrong == []

        moved = {"ids": deals, "action": "update", "values": {"stage": stages[1]}}
        done = admin.post("/admin/deals/bulk", moved)
        assert done.json()["changed"] == len(deals)
        check()
        admin.ok("POST", f"/admin/operations/{done.headers['X-Operation-Id']}/undo", {})
        check()
        admin.ok("PATCH", f"/admin/deals/{deals[0]}", {"stage": stages[-1], "owner_id": 8, "currency": "EUR"})
        admin.ok("DELETE", f"/admin/customers/{lead}")
        check()
        admin.ok("POST", f"/admin/customers/{lead}/restore")
        check()
        admin.ok("POST", f"/admin/customers/{kept}/merge", {"from": [other]})
        check()
        admin.ok("POST", f"/admin/customers/{lead}/erase", {"reason": "Asked for it", "confirm": "Ada"})
        check()
