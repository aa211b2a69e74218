"""The funnel's median and ninth tenth are exact, and little is read for them, wherever the visits of stages lie."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, NamedTuple

import psycopg
import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from msgspec import json
from sqlalchemy import Executable
from structlog.testing import capture_logs

from app.access.actor import Actor
from app.access.permissions import Role
from app.admin.reports.queries import TIMES, TIMES_AT
from app.admin.reports.sums import Between
from app.db.database import Database
from app.db.result import Result
from app.db.roles import enter_tenant
from app.db.session import Session
from app.records.transaction import Transaction
from app.settings import Settings
from tests.admin.test_report_sums import compare, times_in_stages
from tests.callers import Callers

DEALS = 40
NOW = datetime.now(UTC).replace(microsecond=0)
EARLIER, LATELY = NOW - timedelta(days=400), NOW - timedelta(days=10)
PERIOD = Between(LATELY - timedelta(hours=30), LATELY + timedelta(hours=30))
# Below a second, where buckets meet, and the longest.
NASTY = [0, 1e-6, 0.25, 0.999999, 1, 1.010889, 1.010890, 2, 59.999999, 60, 86400, 86400.000001, 3.2e8]


class Visit(NamedTuple):
    """How long a deal was in its first stage, and whose it is."""

    seconds: float
    lately: bool = True
    owner: str = "ada"


class Visits:
    """Deals that left their first stage."""

    def __init__(self, settings: Settings, tenant: str) -> None:
        self.settings, self.tenant = settings, tenant
        with psycopg.connect(settings.database_dsn) as connection:
            enter_tenant(connection, tenant, {})
            first, second = (row[0] for row in connection.execute("SELECT id FROM pipeline_stages LIMIT 2"))
            self.ids = [
                row[0]
                for row in connection.execute(
                    "INSERT INTO deals (tenant_id, title, stage_id, customer_id, currency, probability)"
                    " SELECT %s, 'X', %s, max(id), 'USD', 0"
                    " FROM customers CROSS JOIN generate_series(1, %s) AS n GROUP BY n RETURNING id",
                    [tenant, first, DEALS],
                )
            ]
            connection.execute("UPDATE deals SET stage_id = %s", [second])

    def become(self, visits: list[Visit]) -> None:
        """Of so many deals; the others are in the trash."""
        with psycopg.connect(self.settings.migration_dsn) as owner:
            enter_tenant(owner, self.tenant, {})
            owner.execute("UPDATE deals SET deleted_at = now()")
            given = [
                self.ids[: len(visits)],
                [LATELY if visit.lately else EARLIER for visit in visits],
                [visit.owner for visit in visits],
                [timedelta(seconds=visit.seconds) for visit in visits],
            ]
            changed = "unnest(%s::bigint[], %s::timestamptz[], %s::text[], %s::interval[]) AS c (deal, created, who, t)"
            owner.execute(
                f"UPDATE deals SET deleted_at = NULL, created_at = created, owner_id = who FROM {changed}"
                " WHERE id = deal",
                given,
            )
            owner.execute("RESET ROLE")
            strange = "SELECT * FROM crm_compare_report_sums(%s) WHERE compared = 'stage_history'"
            assert owner.execute(strange, [self.tenant]).fetchall() == []
            owner.execute(
                "UPDATE stage_history SET entered_at = created, left_at = created + t"
                f" FROM {changed} WHERE deal_id = deal AND left_at IS NOT NULL",
                given,
            )
            owner.execute("SELECT crm_add_up_reports(%s)", [self.tenant])

    async def read(self, between: Between | None) -> dict[str, Any]:
        """As an administrator."""
        actor = Actor(user_id="ada", tenant_id=self.tenant, role=Role.ADMIN)
        async with Database(self.settings) as database, database.reader(actor) as session:
            return await times_in_stages(Transaction(actor, session), between, None)


@pytest.fixture(scope="module")
def visits(settings: Settings, client: Any) -> Visits:
    admin = Callers(client, settings).person("admin", "times-in-stages")
    admin.customer()
    return Visits(settings, admin.tenant)


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Executable, Any]]:
    """What the database answers."""
    execute = Session.execute
    seen: list[tuple[Executable, Any]] = []

    async def seeing(session: Session, statement: Executable, given: Any = None) -> Result[Any]:
        found = await execute(session, statement, given)
        if statement in {TIMES, TIMES_AT}:
            seen.append((statement, json.decode(found.scalar_one())))
        return found

    monkeypatch.setattr(Session, "execute", seeing)
    return seen


def asked() -> Iterator[Callable[..., Any]]:
    for between in (None, PERIOD):
        for people in (None, ["ada"], ["ada", ""]):
            yield partial(times_in_stages, between=between, people=people)


@given(
    st.lists(
        st.builds(
            Visit, st.sampled_from(NASTY) | st.floats(0, 1.2), st.booleans(), st.sampled_from(["ada", "ada", "7"])
        ),
        max_size=DEALS,
    )
)
@example([Visit(0.5)] * DEALS)
@example([Visit(n / DEALS, lately=n < 3) for n in range(DEALS)])
@example([Visit(n / DEALS, lately=n >= DEALS - 3, owner="7" if n % 2 else "ada") for n in range(DEALS)])
@hypothesis_settings(max_examples=2)
def test_times_in_stages_are_those_of_the_rows_wherever_they_lie(visits: Visits, lasted: list[Visit]) -> None:
    visits.become(lasted)
    asyncio.run(compare(visits.settings, visits.tenant, asked()))


def test_only_the_wanted_visits_come_back_where_all_took_about_as_long(
    visits: Visits, answers: list[tuple[Executable, Any]]
) -> None:
    # Eight numbers of the index, which are one of the sums.
    took = [(1000 + 2 * n) / 1000 for n in range(DEALS)]
    visits.become([Visit(seconds) for seconds in took])
    (found,) = filter(None, asyncio.run(visits.read(None)).values())
    assert found == pytest.approx([(took[19] + took[20]) / 2, 0.9 * took[35] + 0.1 * took[36]])
    assert answers == [(TIMES_AT, [[took[19], took[20]], [took[36], took[35]]])]


def test_where_copies_in_visits_are_wrong_the_rows_are_read(
    visits: Visits, answers: list[tuple[Executable, Any]]
) -> None:
    visits.become([Visit(n / DEALS) for n in range(DEALS)])
    with psycopg.connect(visits.settings.migration_dsn) as owner:
        owner.execute("SELECT set_config('crm.tenant', %s, true)", [visits.tenant])
        owner.execute("UPDATE stage_history SET deal_created_at = NULL")
    with capture_logs() as logged:
        (found,) = filter(None, asyncio.run(visits.read(None)).values())
    assert found == pytest.approx([19.5 / DEALS, 35.1 / DEALS])
    assert [statement for statement, _ in answers] == [TIMES_AT, TIMES]
    assert [line["event"] for line in logged] == ["visits have wrong copies of their deals: run crm db check"]


def test_no_more_is_read_for_a_period_than_the_period_has(
    visits: Visits, answers: list[tuple[Executable, Any]]
) -> None:
    """Its few visits are those that took longest among many of another time that took about as long."""
    visits.become([Visit(n / DEALS, lately=n == DEALS - 1) for n in range(DEALS)])
    (found,) = filter(None, asyncio.run(visits.read(PERIOD)).values())
    assert found == [39 / DEALS, 39 / DEALS]
    assert [statement for statement, _ in answers] == [TIMES_AT, TIMES]
    # Where the period has all but a few, they are read in order.
    answers.clear()
    visits.become([Visit(n + 1, lately=n >= 3) for n in range(DEALS)])
    asyncio.run(visits.read(PERIOD))
    assert [statement for statement, _ in answers] == [TIMES_AT]
