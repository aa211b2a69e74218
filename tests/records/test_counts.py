"""The totals that the database keeps are what counting would say, whatever is done to the rows and by whomever."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import psycopg
import pytest

from app.db.roles import enter_tenant
from app.settings import Settings
from tests.callers import Caller
from tests.processes import wait_until

BURST = 3_000
# A count for each of so many rows would take some 40 pages, and its index as many again.
FEW_PAGES = 25
COUNTED = {
    "customers": ("status", "deleted_at IS NULL"),
    "customer_tags": ("tag_id", "live"),
    "contacts": ("''", "deleted_at IS NULL"),
    "deals": ("stage_id", "deleted_at IS NULL"),
    "activities": ("type", "deleted_at IS NULL"),
    "notes": ("''", "deleted_at IS NULL"),
    "audit_entries": ("resource_type", "true"),
}


def check_counts(settings: Settings, tenant: str) -> None:
    """Fail unless each kept count equals one made now."""
    with psycopg.connect(settings.migration_dsn) as connection:
        connection.execute("SELECT set_config('crm.tenant', %s, false)", [tenant])
        for table, (facet, live) in COUNTED.items():
            kept = connection.execute(
                "SELECT facet, sum(rows) FROM record_counts WHERE counted = %s GROUP BY 1 HAVING sum(rows) <> 0",
                [table],
            ).fetchall()
            counted = connection.execute(
                f"SELECT ({facet})::text, count(*) FROM {table} WHERE {live} GROUP BY 1"
            ).fetchall()
            assert dict(kept) == dict(counted), table


@pytest.mark.parametrize(("many", "each"), [(3, 1), pytest.param(6, 6, marks=pytest.mark.slow)])
def test_counts_stay_right_while_many_create_change_delete_and_restore(
    many: int, each: int, admin: Caller, settings: Settings
) -> None:
    tags = [admin.tag(f"tag {number}")["id"] for number in range(3)]

    def live(seed: int) -> None:
        chance = random.Random(seed)
        for number in range(each):
            customer = admin.customer(f"{seed}.{number}", status=chance.choice(["lead", "active"]))["id"]
            path = f"/admin/customers/{customer}"
            admin.ok("PUT", f"{path}/tags", {"tag_ids": chance.sample(tags, chance.randint(0, 3))})
            admin.ok("POST", f"{path}/contacts", {"first_name": "Grace"})
            deal = admin.ok("POST", "/admin/deals", {"title": "Engine", "customer_id": customer, "amount": 1})["id"]
            admin.ok("POST", "/admin/activities", {"title": "Ring", "type": "call", "deal_id": deal})
            admin.ok("POST", f"{path}/notes", {"content": "Hm."})
            admin.ok("PATCH", f"/admin/deals/{deal}", {"stage": chance.choice(["proposal", "closed_won"])})
            if chance.random() < 0.7:
                admin.ok("DELETE", path)
                if chance.random() < 0.5:
                    admin.ok("POST", f"{path}/restore")
            admin.post("/admin/tags", {"name": "tag 0"})  # refused, and not counted

    with ThreadPoolExecutor(many) as people:
        list(people.map(live, range(many)))
    check_counts(settings, admin.tenant)
    assert admin.ok("GET", "/admin/customers")["total"] == len(
        admin.ok("GET", "/admin/customers", page_size=100)["data"]
    )


def test_bulk_sql_and_folding_keep_the_counts(
    admin: Caller, settings: Settings, service_connection: psycopg.Connection
) -> None:
    for number in range(20):
        admin.customer(f"Customer {number}")
    service_connection.execute("SELECT set_config('crm.tenant', %s, false)", [admin.tenant])
    for statement in (
        "UPDATE customers SET status = 'churned' WHERE id % 2 = 0",
        "UPDATE customers SET deleted_at = now() WHERE id % 3 = 0",
        "UPDATE customers SET deleted_at = NULL WHERE id % 6 = 0",
        "UPDATE customers SET name = name || '!'",
    ):
        service_connection.execute(statement)
    check_counts(settings, admin.tenant)
    with psycopg.connect(settings.migration_dsn) as owner:
        owner.execute("SELECT set_config('crm.tenant', %s, false)", [admin.tenant])
        owner.execute("SELECT crm_merge_counts('customers')")
        folded = owner.execute("SELECT count(*), count(DISTINCT facet) FROM record_counts WHERE counted = 'customers'")
        rows, facets = folded.fetchone() or (0, 0)
        assert rows == facets
    check_counts(settings, admin.tenant)


@pytest.mark.slow
@pytest.mark.parametrize("at_once", [True, False], ids=["in one statement", "in as many statements"])
def test_a_burst_of_rows_leaves_a_total_that_is_read_off_a_few_pages(
    at_once: bool, admin: Caller, settings: Settings
) -> None:
    """Also before a vacuum: a table of counts that grows with each row would be read whole by every list."""
    admin.ok("GET", "/admin/me")
    one = "INSERT INTO customers (tenant_id, name) SELECT %s, 'Burst ' || n FROM generate_series(1, %s) AS n"
    with psycopg.connect(settings.database_dsn) as login:
        enter_tenant(login, admin.tenant, {})
        for _ in range(1 if at_once else BURST):
            login.execute(one.encode(), [admin.tenant, BURST if at_once else 1])
    check_counts(settings, admin.tenant)
    with psycopg.connect(settings.database_dsn) as login:
        enter_tenant(login, admin.tenant, {})
        # Who comes to a dead row by the index marks it, and the next one passes it by. A bitmap scan, which the planner
        # may prefer once the table was analyzed, leaves no marks: there, only a vacuum helps.
        login.execute("SET LOCAL enable_bitmapscan = off")
        total = "SELECT sum(rows) FROM record_counts WHERE counted = %s"

        def is_few(table: str) -> bool:
            plan = login.execute(b"EXPLAIN (ANALYZE, BUFFERS, FORMAT json) " + total.encode(), [table]).fetchone()
            assert plan is not None
            read: dict[str, int] = plan[0][0]["Plan"]
            return read["Shared Hit Blocks"] + read["Shared Read Blocks"] < FEW_PAGES

        for name in ("customers", "audit_entries"):
            # The snapshot of somebody else keeps dead rows for as long as it lasts.
            wait_until(partial(is_few, name), f"a total of {name} that is read off a few pages")


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO record_counts (tenant_id, counted, facet, rows) VALUES ('t', 'x', '', 1)",
        "UPDATE record_counts SET rows = 0",
        "DELETE FROM record_counts",
    ],
)
def test_the_service_can_not_change_a_count(statement: str, service_connection: psycopg.Connection) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        service_connection.execute(statement)


def test_totals_of_filters_are_those_of_the_rows(admin: Caller) -> None:
    for number in range(30):
        admin.customer(f"Customer {number}", status=["lead", "active", "churned"][number % 3])
    for query, total in (({}, 30), ({"status": "lead"}, 10), ({"status": "lead,active"}, 20), ({"search": "r 2"}, 12)):
        page = admin.ok("GET", "/admin/customers", page_size=5, **query)
        assert (page["total"], page["total_pages"]) == (total, -(-total // 5)), query
