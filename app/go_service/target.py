"""Writing the records here: in batches, each with how far it is, into an organization that is closed meanwhile."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import psycopg

from app.go_service.drafts import Record
from app.go_service.mapping import Mapper
from app.go_service.source import TABLES, identity
from app.go_service.sums import Sums, stored
from app.records.bootstrap import REMEMBERED_SECONDS
from app.settings import Settings
from app.web import strict_json

ACTOR = {"user_name": "crm import-go", "via": "import"}
BATCH = 1_000
# After the last of them everything is here.
STEPS = (*TABLES, "")
# Their records are few, and are made together.
AT_ONCE = frozenset({"tags", "pipeline_stages"})
EMPTY = ("customers", "contacts", "deals", "projects", "activities", "notes", "tags", "attachments")
OWN_STAGES = "SELECT count(*) FROM pipeline_stages WHERE tenant_id = %s AND (origin IS NULL OR version > 1)"
# Each before what it belongs to.
REMOVED = (
    "notes", "activities", "stage_history", "deals", "contacts", "customers", "tags", "pipeline_stages",
)  # fmt: skip
SEEN = "SELECT max(last_seen_at) FROM users WHERE tenant_id = %s AND last_seen_at > %s"
STATE = "source, operation_id, closed_at, opened_at, holder_id, copying, last_id"


class TargetError(Exception):
    """The organization can't take these data; the message says why."""


class State(NamedTuple):
    """How far an import is."""

    source: str
    operation_id: UUID
    closed_at: datetime
    opened_at: datetime | None
    holder_id: int
    copying: str
    last_id: int


class Target:
    """One organization, over a connection of the tables' owner."""

    def __init__(self, connection: psycopg.Connection[Any], tenant: str) -> None:
        self._connection = connection
        self._tenant = tenant

    def state(self) -> State | None:
        """How far this organization's import is; None if there was none."""
        query = f"SELECT {STATE} FROM go_imports WHERE tenant_id = %s"
        row = self._connection.execute(query, [self._tenant]).fetchone()
        return None if row is None else State(*row)

    def identity(self) -> str:
        """What tells this database from every other."""
        return identity(self._connection)

    def currency(self, default: str) -> str:
        """The organization's currency."""
        query = "SELECT default_currency FROM settings WHERE tenant_id = %s"
        row = self._connection.execute(query, [self._tenant]).fetchone()
        return default if row is None else str(row[0])

    def fold(self, texts: list[str]) -> list[str]:
        """Texts as the database folds them: those that are alike are equal then."""
        return self._folded("crm_fold", texts)

    def fold_emails(self, emails: list[str]) -> list[str]:
        """Emails likewise."""
        return self._folded("crm_fold_email", emails)

    def require_empty(self) -> None:
        """Raises TargetError if the organization has records, or stages of its own."""
        for table in EMPTY:
            found = self._connection.execute(
                f"SELECT EXISTS (SELECT FROM {table} WHERE tenant_id = %s)", [self._tenant]
            ).fetchone()
            if found == (True,):
                raise TargetError(
                    f"The organization {self._tenant} has {table} already. The data of the Go service keep their ids,"
                    " so they come into an organization without records only"
                )
        if self._connection.execute(OWN_STAGES, [self._tenant]).fetchone() != (0,):
            raise TargetError(f"The organization {self._tenant} has pipeline stages of its own already")

    def close(self, source: str, highest_ids: Mapping[str, int], settings: Settings) -> State:
        """Let nobody into the organization from now on, and no new record have an id that is going to come."""
        with self._connection.transaction():
            # Whoever was let in a moment ago is known then, and whoever comes now waits.
            self._connection.execute("SET LOCAL lock_timeout = '5s'")
            self._connection.execute("LOCK TABLE go_imports IN ACCESS EXCLUSIVE MODE")
            self.require_empty()
            for table, highest in highest_ids.items():
                ((sequence,),) = self._connection.execute("SELECT pg_get_serial_sequence(%s, 'id')", [table]).fetchall()
                self._connection.execute(
                    f"SELECT setval(%s, %s) FROM {sequence} WHERE last_value < %s", [sequence, highest, highest]
                )
            self._connection.execute(
                "INSERT INTO settings (tenant_id, default_currency, timezone) VALUES (%s, %s, %s)"
                " ON CONFLICT DO NOTHING",
                [self._tenant, settings.default_currency, settings.report_timezone],
            )
            row = self._connection.execute(
                "INSERT INTO go_imports (tenant_id, source, operation_id, holder_id, copying)"
                " VALUES (%s, %s, %s, nextval(pg_get_serial_sequence('customers', 'id')), %s)"
                f" RETURNING {STATE}",
                [self._tenant, source, uuid4(), STEPS[0]],
            ).fetchone()
        assert row is not None  # noqa: S101 -- the statement always returns one
        return State(*row)

    def discard(self) -> None:
        """Take out what an unfinished import has copied, and let people in again: as if there had been none.

        Raises TargetError for one that is finished.
        """
        state = self.state()
        if state is None:
            return
        if state.opened_at is not None:
            raise TargetError(f"The organization {self._tenant} is open: what is there is not taken out again")
        with self._connection.transaction():
            self._act_as(state, removal="purge")
            # Before the first step, what is there is not of the import.
            for table in (*(() if state.copying == STEPS[0] else REMOVED), "go_imports"):
                self._connection.execute(f"DELETE FROM {table} WHERE tenant_id = %s", [self._tenant])

    def quiet_at(self, state: State) -> datetime | None:
        """Until when somebody who was let in before may still be at work; None if there is nobody."""
        remembered = timedelta(seconds=REMEMBERED_SECONDS)
        ((seen, now),) = self._connection.execute(
            f"SELECT ({SEEN}), now()", [self._tenant, state.closed_at - 2 * remembered]
        ).fetchall()
        until = state.closed_at + remembered
        return until if seen is not None and now < until else None

    def copy(self, mapper: Mapper, state: State, moved: Callable[[int], None]) -> list[str]:
        """Store what is not here yet. Answers what is here otherwise than it should be then, by counts and sums.

        `moved` hears of how many records went by, those included that were here.
        """
        self._act_as(state)
        sums = {table: Sums(table) for table in TABLES}
        highest_ids = dict.fromkeys(TABLES, 0)
        here = STEPS.index(state.copying)
        has_holder = self._has("customers", state.holder_id)
        for step, table in enumerate(TABLES):
            last_id = state.last_id if step == here else 0
            for batch in _batches(mapper.records(table), None if table in AT_ONCE else BATCH):
                new = [record for record in batch if record.id > last_id or table in AT_ONCE]
                if new and step >= here:
                    with self._connection.transaction():
                        if mapper.needs_holder and not has_holder:
                            self._store("customers", [mapper.holder()])
                            has_holder = True
                        self._store(table, new)
                        if table in AT_ONCE:
                            self._note(STEPS[step + 1], 0)
                        else:
                            self._note(table, new[-1].id)
                for record in batch:
                    sums[table].add(record.id or None, record.values)
                    for note in record.notes:
                        sums["notes"].add(None, note)
                highest_ids[table] = max(highest_ids[table], *(record.id for record in batch))
                moved(len(batch))
            if step >= here:
                self._note(STEPS[step + 1], 0)
        if mapper.needs_holder:
            sums["customers"].add(None, mapper.holder().values)
        return self._differences(sums, highest_ids)

    def _act_as(self, state: State, **more: str) -> None:
        actor = ACTOR | {"operation_id": str(state.operation_id)} | more
        self._connection.execute("SELECT set_config('crm.actor', %s, false)", [json.dumps(actor)])

    def _differences(self, sums: Mapping[str, Sums], highest_ids: Mapping[str, int]) -> list[str]:
        found = []
        for table, expected in sums.items():
            here, there = stored(self._connection, self._tenant, table, highest_ids[table]), expected.total
            if here != there:
                found.append(
                    f"{table}: {here.rows} are here, {here.in_trash} of them in the trash; it should be {there.rows}"
                    f" and {there.in_trash}" + (", and they differ" if here[:2] == there[:2] else "")
                )
        return found

    def open(self) -> None:
        """Let people in."""
        self._connection.execute("UPDATE go_imports SET opened_at = now() WHERE tenant_id = %s", [self._tenant])
        self._connection.execute("ANALYZE " + ", ".join((*TABLES, "customer_tags", "audit_entries", "stage_history")))

    def _store(self, table: str, records: list[Record]) -> None:
        rows = [({"id": record.id} if record.id else {}) | record.values for record in records]
        if table == "pipeline_stages":
            # Those that a new organization has: they come again, with the ids that they have there.
            self._connection.execute("DELETE FROM pipeline_stages WHERE tenant_id = %s", [self._tenant])
        if table == "deals":
            query = "SELECT name, id FROM pipeline_stages WHERE tenant_id = %s"
            stages = dict(self._connection.execute(query, [self._tenant]).fetchall())
            for row in rows:
                row["stage_id"] = stages[row.pop("stage")]
        self._insert(table, [row for row in rows if "id" in row])
        self._insert(table, [row for row in rows if "id" not in row])
        self._insert("notes", [note for record in records for note in record.notes])

    def _insert(self, table: str, rows: list[dict[str, Any]]) -> None:
        if not rows:
            return
        columns = ", ".join(f'"{name}"' for name in rows[0])
        self._connection.execute(
            f"INSERT INTO {table} (tenant_id, {columns})"
            f" SELECT %s, {columns} FROM json_populate_recordset(NULL::{table}, %s)",
            [self._tenant, strict_json.encode(rows).decode()],
        )

    def _has(self, table: str, record_id: int) -> bool:
        query = f"SELECT FROM {table} WHERE tenant_id = %s AND id = %s"
        return self._connection.execute(query, [self._tenant, record_id]).fetchone() is not None

    def _note(self, step: str, last_id: int) -> None:
        query = "UPDATE go_imports SET copying = %s, last_id = %s WHERE tenant_id = %s"
        self._connection.execute(query, [step, last_id, self._tenant])

    def _folded(self, function: str, texts: list[str]) -> list[str]:
        query = f"SELECT {function}(text) FROM unnest(%s::text[]) WITH ORDINALITY AS t (text, place) ORDER BY place"
        return [folded for (folded,) in self._connection.execute(query, [texts])]


def _batches(records: Iterator[Record], most: int | None) -> Iterator[list[Record]]:
    while batch := list(islice(records, most)):
        yield batch


@contextmanager
def opened(dsn: str, tenant: str) -> Iterator[Target]:
    """The organization, for this process alone. Raises TargetError if another one is at work, or psycopg.Error."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "SELECT set_config('crm.tenant', %s, false), set_config('timezone', 'UTC', false),"
            " set_config('jit', 'off', false)",
            [tenant],
        )
        lock = "SELECT pg_try_advisory_lock(hashtextextended('crm import-go ' || %s, 0))"
        if connection.execute(lock, [tenant]).fetchone() != (True,):
            raise TargetError(f"Another crm import-go is moving data into {tenant}")
        yield Target(connection, tenant)
