"""A page in the middle of a long list begins where what the database keeps of its records' creation says."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from app.db.roles import enter_tenant
from app.records import walking
from app.records.counts import BLOCK_HOURS
from app.settings import Settings
from tests.callers import Caller

BLOCK = timedelta(hours=BLOCK_HOURS)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
PAGES = [(1, 1), (1, 2), (3, 4), (2, 17), (5, 9), (20, 2), (40, 1), (50, 2), (60, 1), (1, 64)]


def moments(chance: random.Random) -> Iterator[datetime]:
    """Times at the edges of blocks and within them, many of them equal, some before 1970 or at the ends of all time."""
    while True:
        yield chance.choice([datetime(2, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, tzinfo=UTC)])
        for _ in range(20):
            edge = EPOCH + chance.choice([-3, -1, 0, 1, 2400, 2401, 2402, 2403]) * BLOCK
            yield edge + chance.choice([timedelta(0), timedelta(microseconds=-1), timedelta(hours=1), BLOCK / 2])


@pytest.mark.parametrize("seed", range(2))
def test_pages_by_number_are_those_of_the_order_wherever_they_begin(
    seed: int, admin: Caller, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(seed)
    times = moments(chance)
    monkeypatch.setattr(walking, "DEEP_OFFSET", 0)
    monkeypatch.setattr(walking, "FAR_OFFSET", 0)
    with psycopg.connect(settings.migration_dsn) as connection:
        enter_tenant(connection, admin.tenant, {})
        for part in range(3):
            connection.execute(
                "INSERT INTO customers (tenant_id, name, status, assigned_to, created_at)"
                " SELECT %s, 'Ada', status, nullif(person, ''), at"
                " FROM unnest(%s::text[], %s::text[], %s::timestamptz[]) AS new (status, person, at)",
                [
                    admin.tenant,
                    [chance.choice(["lead", "active"]) for _ in range(30)],
                    [chance.choice(["", "ada"]) for _ in range(30)],
                    [next(times) for _ in range(30)],
                ],
            )
            connection.execute("UPDATE customers SET deleted_at = now() WHERE mod(id, 5) = %s", [part])
            if part == 1:
                # Some of what changed is added to the sums, the rest waits.
                connection.execute("SELECT crm_fold_report_changes(3)")
                connection.execute("UPDATE customers SET deleted_at = NULL WHERE mod(id, 5) = 0")
        rows = connection.execute(
            "SELECT id FROM customers WHERE deleted_at IS NULL ORDER BY created_at DESC, id DESC"
        ).fetchall()
    ids = [row[0] for row in rows]
    for order, expected in (("desc", ids), ("asc", ids[::-1])):
        for size, page in PAGES:
            found = admin.ok("GET", "/admin/customers", page=page, page_size=size, sort_order=order)
            assert [row["id"] for row in found["data"]] == expected[(page - 1) * size : page * size], (
                order,
                size,
                page,
            )
            assert found["total"] == len(ids)
