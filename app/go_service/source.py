"""Reading the Go service's database: everything at one moment, whatever columns this version of it has.

Each row is read as JSON, so that the types of its columns do not matter, nor times that Python can't hold.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from functools import partial
from typing import Any

import psycopg
from psycopg.rows import dict_row, tuple_row
from psycopg.types.json import set_json_loads

# In the order in which one needs the other.
TABLES = ("tags", "pipeline_stages", "customers", "contacts", "deals", "activities", "notes")
OTHERS = ("customer_tags", "audit_logs")
# Without one of these columns it is another program's table.
REQUIRED = {
    "customers": "id name email",
    "contacts": "id customer_id",
    "deals": "id customer_id title stage",
    "activities": "id title type",
    "notes": "id content",
}
COLUMNS = """
SELECT asked, attname FROM unnest(%s::text[]) AS asked JOIN pg_attribute ON attrelid = to_regclass(asked)
WHERE attnum > 0 AND NOT attisdropped
"""
# No other server has the same number; not every login may ask for it.
SERVER = "SELECT system_identifier::text FROM pg_control_system()"
MAY_ASK = "SELECT has_function_privilege('pg_control_system()', 'EXECUTE')"
DATABASE = "SELECT datname || '/' || oid FROM pg_database WHERE datname = current_database()"
READABLE = "BETWEEN '0002-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00'"
NAME_PARTS = ("first_name", "last_name")
CHUNK = 2_000

Row = dict[str, Any]


class SourceError(Exception):
    """This is no database that can be moved in; the message says why."""


def identity(connection: psycopg.Connection[Any]) -> str:
    """What tells this database from every other."""
    with connection.cursor(row_factory=tuple_row) as cursor:
        ((allowed,),) = cursor.execute(MAY_ASK).fetchall()
        server = cursor.execute(SERVER).fetchall()[0][0] if allowed else connection.info.host
        return f"{server}/{cursor.execute(DATABASE).fetchall()[0][0]}"


@contextmanager
def opened(dsn: str, tenant: str, here: str) -> Iterator[Source]:
    """The database, as it is at this moment. `here` is the identity of our own.

    Raises SourceError or psycopg.Error.
    """
    with psycopg.connect(dsn, row_factory=dict_row) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        set_json_loads(partial(json.loads, parse_float=Decimal), connection)
        connection.execute("SELECT set_config('timezone', 'UTC', true), set_config('jit', 'off', true)")
        if identity(connection) == here:
            raise SourceError(
                "The source is this service's own database: the Go service's tables must be in another one"
            )
        yield Source(connection, tenant)


class Source:
    """The rows of one organization; all rows, where the tables know no organizations."""

    def __init__(self, connection: psycopg.Connection[Row], tenant: str) -> None:
        self._connection = connection
        self._tenant = tenant
        self._columns: dict[str, set[str]] = {table: set() for table in TABLES + OTHERS}
        for found in connection.execute(COLUMNS, [list(self._columns)]):
            self._columns[found["asked"]].add(found["attname"])
        for table, required in REQUIRED.items():
            missing = ", ".join(sorted(set(required.split()) - self._columns[table]))
            if not self._columns[table]:
                raise SourceError(f"This is not the Go service's database: it has no table {table}")
            if missing:
                raise SourceError(f"This is not the Go service's database: its table {table} has no column {missing}")
        # What belongs to a record in the trash: when that one went there.
        self._parents = f"""
            cu AS (SELECT t.id, {self._went("customers")} AS went FROM customers AS t WHERE {self._mine("customers")}),
            de AS (
                SELECT t.id, t.customer_id, coalesce({self._went("deals")}, cu.went) AS went
                FROM deals AS t LEFT JOIN cu ON cu.id = t.customer_id WHERE {self._mine("deals")}
            ),
            co AS (
                SELECT t.id, t.customer_id, coalesce({self._went("contacts")}, cu.went) AS went,
                    concat_ws(' ', {", ".join(self._text("contacts", part) for part in NAME_PARTS)}) AS name
                FROM contacts AS t LEFT JOIN cu ON cu.id = t.customer_id WHERE {self._mine("contacts")}
            ),
            ac AS (
                SELECT t.id, coalesce({self._went("activities")}, least(cu.went, de.went)) AS went
                FROM activities AS t LEFT JOIN cu ON cu.id = {self._id("activities", "customer_id")}
                    LEFT JOIN de ON de.id = {self._id("activities", "deal_id")} WHERE {self._mine("activities")}
            )
        """

    @property
    def has_organizations(self) -> bool:
        """Whether it is of the later version, whose rows belong to organizations."""
        return "tenant_id" in self._columns["customers"]

    def identity(self) -> str:
        """What tells this database from every other."""
        return identity(self._connection)

    def has(self, table: str) -> bool:
        """Whether there is such a table."""
        return bool(self._columns[table])

    def count(self, table: str) -> int:
        """How many rows of the organization a table has, those in its trash included."""
        if table == "customer_tags" and self.has(table):
            mine = self._mine("customers")
            belongs = f" WHERE customer_id IN (SELECT id FROM customers AS t WHERE {mine})" if mine != "true" else ""
            return int(self._one(f"SELECT count(*) AS answer FROM customer_tags{belongs}"))
        if not self.has(table):
            return 0
        return int(self._one(f"SELECT count(*) AS answer FROM {table} AS t WHERE {self._mine(table)}"))

    def count_in_trash(self, table: str) -> int:
        """How many of them are in its trash."""
        if not self.has(table):
            return 0
        query = f"SELECT count({self._went(table)}) AS answer FROM {table} AS t WHERE {self._mine(table)}"
        return int(self._one(query))

    def others(self) -> int:
        """How many customers belong to other organizations, or to none."""
        mine = self._mine("customers")
        return int(self._one(f"SELECT count(*) AS answer FROM customers AS t WHERE ({mine}) IS NOT TRUE"))

    def amounts(self) -> dict[str, Decimal]:
        """The amounts of deals that are not in its trash, by currency as it is written there."""
        mine, alive = self._mine("deals"), f"{self._went('deals')} IS NULL"
        currency, amount = self._text("deals", "currency"), self._text("deals", "amount")
        query = (
            f"SELECT coalesce({currency}, '(none)') AS currency, sum({amount}::numeric) AS amount FROM deals AS t"
            f" WHERE {mine} AND {alive} AND {amount}::numeric BETWEEN -1e15 AND 1e15 GROUP BY 1"
        )
        found = self._connection.execute(query, {"tenant": self._tenant}).fetchall()
        return {row["currency"]: Decimal(row["amount"] or 0) for row in found}

    def highest_id(self, table: str) -> int:
        """The highest id of a table; of customers, also of those that are only referred to."""
        if not self.has(table):
            return 0
        ids = self._customer_ids() if table == "customers" else f"SELECT id FROM {table} AS t WHERE {self._mine(table)}"
        return int(self._one(f"SELECT coalesce(max(id), 0) AS answer FROM ({ids}) AS ids"))

    def stage_names(self) -> list[str | None]:
        """Every stage that a deal names."""
        query = f"SELECT DISTINCT t.stage::text AS stage FROM deals AS t WHERE {self._mine('deals')} ORDER BY 1"
        return [row["stage"] for row in self._connection.execute(query, {"tenant": self._tenant})]

    def rows(self, table: str) -> Iterator[Row]:
        """A table's rows by id: `row` as it is there, and beside it what its links lead to.

        `went` is when it went to the trash, by itself (`own`) or with what it belongs to. A customer that is only
        referred to has no `row`.
        """
        query = self._query(table) if self.has(table) else None
        if query is None:
            return
        with self._connection.cursor("rows") as cursor:
            cursor.itersize = CHUNK
            yield from cursor.execute(query, {"tenant": self._tenant})

    def _query(self, table: str) -> str:
        went, mine = self._went(table), self._mine(table)
        to_customer = f"LEFT JOIN cu ON cu.id = {self._id(table, 'customer_id')}"
        to_deal = f"LEFT JOIN de ON de.id = {self._id(table, 'deal_id')}"
        to_contact = f"LEFT JOIN co ON co.id = {self._id(table, 'contact_id')}"
        contact = "co.id IS NOT NULL AS has_contact, co.customer_id AS contact_of, co.went AS contact_went, co.name"
        from_table = {
            "tags": f"SELECT t.id, to_json(t) AS row, {went} AS own, {went} AS went FROM tags AS t",
            "pipeline_stages": (
                f"SELECT t.id, to_json(t) AS row, {went} AS own, {went} AS went FROM pipeline_stages AS t"
            ),
            "contacts": f"SELECT t.id, to_json(t) AS row, {went} AS own, cu.went FROM contacts AS t {to_customer}",
            "deals": (
                f"SELECT t.id, to_json(t) AS row, {went} AS own, cu.went, {contact}"
                f" FROM deals AS t {to_customer} {to_contact}"
            ),
            "activities": (
                f"SELECT t.id, to_json(t) AS row, {went} AS own, least(cu.went, de.went) AS went, {contact},"
                " de.id IS NOT NULL AS has_deal, de.customer_id AS deal_of"
                f" FROM activities AS t {to_customer} {to_deal} {to_contact}"
            ),
            "notes": (
                f"SELECT t.id, to_json(t) AS row, {went} AS own, least(cu.went, de.went, ac.went) AS went,"
                " de.id IS NOT NULL AS has_deal, ac.id IS NOT NULL AS has_activity"
                f" FROM notes AS t {to_customer} {to_deal}"
                f" LEFT JOIN ac ON ac.id = {self._id('notes', 'activity_id')}"
            ),
        }
        if table != "customers":
            return f"WITH {self._parents} {from_table[table]} WHERE {mine} ORDER BY t.id"
        links = (
            "LEFT JOIN (SELECT customer_id, array_agg(tag_id ORDER BY tag_id) AS tags FROM customer_tags GROUP BY 1)"
            " AS linked ON linked.customer_id = t.id"
            if self.has("customer_tags")
            else "CROSS JOIN (SELECT NULL::bigint[] AS tags) AS linked"
        )
        return f"""
            SELECT ids.id, CASE WHEN t.id IS NOT NULL THEN to_json(t) END AS row, {went} AS own, {went} AS went,
                linked.tags
            FROM ({self._customer_ids()}) AS ids LEFT JOIN customers AS t ON t.id = ids.id AND {mine} {links}
            ORDER BY ids.id
        """

    def _customer_ids(self) -> str:
        """The ids of customers, those included that are only referred to."""
        referring = " ".join(
            f"UNION SELECT {self._id(table, 'customer_id')} FROM {table} AS t"
            f" WHERE {self._mine(table)} AND {self._id(table, 'customer_id')} > 0"
            for table in ("contacts", "deals", "activities", "notes")
        )
        return f"SELECT t.id::bigint FROM customers AS t WHERE {self._mine('customers')} {referring}"

    def _mine(self, table: str) -> str:
        return "t.tenant_id::text = %(tenant)s" if "tenant_id" in self._columns[table] else "true"

    def _id(self, table: str, column: str) -> str:
        return f"t.{column}::bigint" if column in self._columns[table] else "NULL::bigint"

    def _text(self, table: str, column: str) -> str:
        return f"nullif(t.{column}::text, '')" if column in self._columns[table] else "NULL"

    def _went(self, table: str) -> str:
        """When a row went to the trash by itself; a time that nobody could read is replaced by one that is near."""
        times = [
            f"t.{name}::timestamptz"
            for name in ("deleted_at", "updated_at", "created_at")
            if name in self._columns[table]
        ]
        if "deleted_at" not in self._columns[table]:
            return "NULL::timestamptz"
        cases = " ".join(f"WHEN {time} {READABLE} THEN {time}" for time in times)
        return f"CASE WHEN {times[0]} IS NULL THEN NULL {cases} ELSE '1970-01-01 00:00:00+00' END"

    def _one(self, query: str) -> Any:
        row = self._connection.execute(query, {"tenant": self._tenant}).fetchone()
        assert row is not None  # noqa: S101 -- an aggregate is one row
        return row["answer"]
