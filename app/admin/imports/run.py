"""The run of an import: it stores what the check has found, batch by batch, each in one transaction."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any
from uuid import UUID

from msgspec import Struct, convert, to_builtins
from psycopg.errors import IntegrityError
from sqlalchemy import DefaultClause, Executable, Table, all_, any_, bindparam, select, text, update
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.types import BigInteger

from app.access.permissions import Permission
from app.admin.customers import service as customers
from app.admin.history import operations
from app.admin.imports.check import (
    CREATE,
    NEW_CUSTOMER,
    NEW_TAGS,
    SUMMARY,
    UPDATE,
    Summary,
)
from app.admin.imports.kinds import KINDS, Kind
from app.admin.imports.matching import USE_INDEXES, live_ids, owned_ids
from app.admin.imports.values import Problem
from app.admin.projects.queries import WITH_OPEN_TASKS
from app.admin.tags.queries import TAGS
from app.jobs.queue import Job, Step, Work, longer_statements
from app.models import Contact
from app.records import history
from app.records.resources import CONTACTS, CUSTOMERS, PROJECTS, Resource, references
from app.records.transaction import Transaction
from app.settings import Settings
from app.web import strict_json
from app.web.errors import AppError, Code

# What one transaction changes can be taken back in one: see app/admin/history/operations.py. A row may change three
# records.
ROWS = 300
NEVER_WRITTEN = {"tenant_id", "id", "version", "updated_at", "deleted_at"}

NEXT = text("""
    SELECT number, outcome, record_id, version, coalesce(document, '{}') FROM import_rows
    WHERE import_id = :import_id AND number > :after AND outcome IN ('create', 'update') ORDER BY number LIMIT :most
""")
RENAME = text("""
    UPDATE import_rows SET document = given.document
    FROM json_to_recordset(CAST(:rows AS json)) AS given (number integer, document jsonb)
    WHERE import_id = :import_id AND import_rows.number = given.number
""")
FAIL = text("""
    UPDATE import_rows SET outcome = 'error', problems = given.problems,
        document = NULL, before = NULL, version = NULL
    FROM json_to_recordset(CAST(:rows AS json)) AS given (number integer, problems jsonb)
    WHERE import_id = :import_id AND import_rows.number = given.number
""")
DONE = text("UPDATE imports SET status = 'done', updated_at = now() WHERE id = :import_id")
LOG = text("SELECT crm_log_import(:import_id, :details)").bindparams(bindparam("details", type_=JSONB))
contact = Contact.__table__.c
# Both answer the name as it was asked for, in the form that is compared, and the id of a record that is called so.
FIND_CUSTOMERS = text("""
    WITH wanted AS MATERIALIZED (
        SELECT name, crm_fold(name) AS folded FROM unnest(CAST(:names AS text[])) AS given (name)
    ), found AS MATERIALIZED (
        SELECT name_folded, min(id) AS id FROM customers
        WHERE name_folded = ANY(ARRAY(SELECT folded FROM wanted)) AND deleted_at IS NULL GROUP BY name_folded
    ) SELECT name, folded, id FROM wanted LEFT JOIN found ON name_folded = folded ORDER BY name
""")
FIND_TAGS = text("""
    SELECT wanted.name, folded, (SELECT id FROM tags WHERE name_folded = folded)
    FROM (SELECT name, crm_fold(name) AS folded FROM unnest(CAST(:names AS text[])) AS given (name) OFFSET 0) AS wanted
    ORDER BY wanted.name
""")
MAKE_CUSTOMERS = text("""
    INSERT INTO customers (tenant_id, name, assigned_to)
    SELECT current_setting('crm.tenant'), name, CAST(:assigned_to AS text)
    FROM unnest(CAST(:names AS text[])) AS wanted (name) RETURNING id, name
""")
OF_CONTACTS = select(contact.customer_id).where(contact.id == any_(bindparam("ids", type_=ARRAY(BigInteger))))
UNMAKE_PRIMARY = (
    update(Contact)
    .where(
        contact.customer_id == any_(bindparam("customers", type_=ARRAY(BigInteger))),
        contact.id != all_(bindparam("besides", type_=ARRAY(BigInteger))),
        contact.is_primary,
        contact.deleted_at.is_(None),
    )
    .values(is_primary=False)
)
LOCK_CUSTOMERS = text("SELECT id FROM customers WHERE id = ANY(CAST(:customers AS bigint[])) ORDER BY id FOR UPDATE")
# By constraint: what a value that another record has by now is called.
CONFLICTS = {"customers_live_email_key": ("email", Code.EMAIL_EXISTS)} | {
    kind.repository.resource.external_id_key: ("external_id", Code.EXTERNAL_ID_EXISTS) for kind in KINDS.values()
}


class RunWanted(Struct):
    """What the job of a run has to know. With `stop`, a row that fails ends it, and what it did is taken back."""

    import_id: int
    kind: str
    stop: bool
    accept_changes: bool
    # By field: its column in the file.
    columns: dict[str, str]


class Ran(Struct):
    """What the job of a run comes to: how many records it made and changed, and how many rows were wrong, or failed."""

    import_id: int
    created: int
    updated: int
    unchanged: int
    skipped: int
    failed: int


class _Progress(Struct):
    number: int = 0
    # The first row that failed, and why: what was done is taken back.
    failed: int | None = None
    problems: list[Problem] = []
    taken_back: operations.TakenBack | None = None


@dataclass(eq=False)
class Planned:
    """A row that is stored."""

    number: int
    outcome: str
    record_id: int | None
    version: int | None
    document: dict[str, Any]


class Failure(Exception):
    """A row can't be stored, and why."""

    def __init__(self, number: int, problems: list[Problem]) -> None:
        super().__init__(number)
        self.number = number
        self.problems = problems


def run_in_steps(settings: Settings) -> Work:
    """The work of jobs that run an import."""

    async def step(tx: Transaction, job: Job) -> Step:
        tx.actor.require(Permission.WRITE)
        wanted, progress = convert(job.arguments, RunWanted), convert(job.state, _Progress)
        if progress.failed is not None:
            return await _take_back(tx, job, progress, settings)
        given = {"import_id": wanted.import_id, "after": progress.number, "most": ROWS}
        await tx.connection.execute(USE_INDEXES)
        async with longer_statements(tx):
            rows = [Planned(*row) for row in await tx.connection.execute(NEXT, given)]
            if not rows:
                return Step(job.done, {}, to_builtins(await _finish(tx, wanted, job.operation_id)))
            failures = await Run(tx, wanted).store(rows)
        if failures and wanted.stop:
            first = min(failures)
            return Step(job.done, to_builtins(_Progress(failed=first, problems=failures[first])))
        return Step(job.done + len(rows), to_builtins(_Progress(rows[-1].number)))

    return step


async def _finish(tx: Transaction, wanted: RunWanted, operation_id: UUID) -> Ran:
    counted = (await tx.connection.execute(SUMMARY, {"import_id": wanted.import_id})).all()
    told = Summary(**{outcome: count for outcome, count, _ in counted})
    await tx.connection.execute(DONE, {"import_id": wanted.import_id})
    ran = Ran(wanted.import_id, told.create, told.update, told.unchanged, told.skip, told.error)
    details = {"kind": wanted.kind, "operation_id": str(operation_id)} | to_builtins(ran)
    del details["import_id"]
    await tx.connection.execute(LOG, {"import_id": wanted.import_id, "details": details})
    return ran


async def _take_back(tx: Transaction, job: Job, progress: _Progress, settings: Settings) -> Step:
    """Raises AppError IMPORT_STOPPED once nothing is left of the run."""
    taken = progress.taken_back
    if taken is not None and taken.over:
        reasons = [{"column": each.column, "field": each.field, "message": each.message} for each in progress.problems]
        text = f"Row {progress.failed} can't be stored: {progress.problems[0].message}. What was done is taken back"
        data = {"row": progress.failed, "problems": reasons} | ({"kept": taken.kept} if taken.kept else {})
        raise AppError(Code.IMPORT_STOPPED, text, data=to_builtins(data))
    taken = taken or operations.TakenBack()
    await operations.take_back(tx, job.operation_id, taken, settings)
    progress.taken_back = taken
    return Step(job.done, to_builtins(progress))


class Run:
    """Stores a batch."""

    def __init__(self, tx: Transaction, wanted: RunWanted) -> None:
        self._tx = tx
        self._wanted = wanted
        self._kind: Kind = KINDS[wanted.kind]
        self._resource: Resource = self._kind.repository.resource
        self._failures: dict[int, list[Problem]] = {}

    async def store(self, rows: Sequence[Planned]) -> dict[int, list[Problem]]:
        """Store them; returns the problems of those that failed. If these stop the run, nothing is stored."""
        await self._check(rows)
        good = [row for row in rows if row.number not in self._failures]
        if good and not (self._failures and self._wanted.stop):
            await self._store(good)
        if self._failures:
            failed = [{"number": number, "problems": problems} for number, problems in self._failures.items()]
            await self._tx.connection.execute(FAIL, self._given(failed))
        return self._failures

    def _given(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        return {"import_id": self._wanted.import_id, "rows": strict_json.encode(rows).decode()}

    def _fail(self, row: Planned, message: str, name: str | None = None) -> None:
        columns = self._wanted.columns
        column = None if name is None else columns.get(name) or columns.get(name.removesuffix("_id"))
        value = None if name is None or row.document.get(name) is None else str(row.document[name])
        self._failures.setdefault(row.number, []).append(Problem(column, name, value, message))

    # ── what may have changed since the check ────────────────────────────────────────────────────────────────────────

    async def _check(self, rows: Sequence[Planned]) -> None:
        changing = {row.record_id: row for row in rows if row.outcome == UPDATE and row.record_id is not None}
        if changing:
            found = await self._tx.connection.execute(_lock(self._resource), {"ids": sorted(changing)})
            versions: dict[int, int] = dict(found.all())
            for record_id, row in changing.items():
                if record_id not in versions:
                    self._fail(row, f"this {self._resource.kind} was deleted since the check")
                elif versions[record_id] != row.version and not self._wanted.accept_changes:
                    self._fail(row, f"this {self._resource.kind} was changed since the check")
        if self._resource is PROJECTS:
            await self._check_open_tasks(changing)
        for column, target in references(self._resource):
            referring = [row for row in rows if row.document.get(column) is not None]
            live = await live_ids(self._tx, target, {row.document[column] for row in referring}, lock=True)
            for row in referring:
                if row.document[column] not in live:
                    self._fail(row, target.not_found.message, column)
        if not self._tx.actor.can(Permission.MANAGE_ALL):
            await self._check_owners(rows, list(changing))

    async def _check_open_tasks(self, changing: Mapping[int, Planned]) -> None:
        """A project is not completed while tasks are open."""
        completed = [record_id for record_id, row in changing.items() if row.document.get("status") == "completed"]
        if completed:
            async with history.seeing_all(self._tx):
                found = await self._tx.connection.execute(WITH_OPEN_TASKS, {"ids": completed})
            for record_id in found.scalars():
                self._fail(changing[record_id], Code.OPEN_TASKS.message, "status")

    async def _check_owners(self, rows: Sequence[Planned], changing: Collection[int]) -> None:
        own = await owned_ids(self._tx, self._resource, changing)
        for row in rows:
            if row.outcome == UPDATE and row.record_id not in own:
                self._fail(row, f"this {self._resource.kind} is not yours any more")
        if self._resource is not CONTACTS:
            return
        added = [
            (row, row.document["customer_id"])
            for row in rows
            if row.outcome == CREATE and "customer_id" in row.document
        ]
        own = await owned_ids(self._tx, CUSTOMERS, {customer_id for _, customer_id in added})
        for row, customer_id in added:
            if customer_id not in own:
                self._fail(row, "this customer is not yours any more", "customer_id")

    # ── storing ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _store(self, rows: Sequence[Planned]) -> None:
        """All of them at once; where the database refuses that, one after the other, to find out which."""
        try:
            async with self._tx.savepoint():
                await self._write(rows)
        except (IntegrityError, AppError) as error:
            if isinstance(error, AppError) and error.status >= 500:
                raise
            stopped = await self._store_each(rows)
            if stopped is not None:
                self._failures[stopped.number] = stopped.problems

    async def _store_each(self, rows: Sequence[Planned]) -> Failure | None:
        """With `stop`, nothing is stored if one fails."""
        try:
            async with self._tx.savepoint():
                for row in rows:
                    await self._store_one(row)
        except Failure as failure:
            return failure
        return None

    async def _store_one(self, row: Planned) -> None:
        try:
            async with self._tx.savepoint():
                await self._write([row])
        except (IntegrityError, AppError) as error:
            if isinstance(error, AppError) and error.status >= 500:
                raise
            self._explain(row, error)
            if self._wanted.stop:
                raise Failure(row.number, self._failures[row.number]) from error

    def _explain(self, row: Planned, error: IntegrityError | AppError) -> None:
        if isinstance(error, AppError):
            fields = (error.data or {}).get("fields") or [{"field": None, "message": error.message}]
            for fault in fields:
                self._fail(row, fault["message"], fault["field"])
        elif (known := CONFLICTS.get(error.diag.constraint_name or "")) is not None:
            self._fail(row, known[1].message, known[0])
        else:
            self._fail(row, "does not fit to what is there by now")

    async def _write(self, rows: Sequence[Planned]) -> None:
        execute = self._tx.connection.execute
        await self._name_new(rows)
        if self._resource is CONTACTS:
            await self._unmake_primaries(rows)
        for outcome, statement in ((CREATE, _insert(self._resource.table)), (UPDATE, _update(self._resource.table))):
            if numbers := [row.number for row in rows if row.outcome == outcome]:
                await execute(statement, {"import_id": self._wanted.import_id, "numbers": numbers})

    async def _name_new(self, rows: Sequence[Planned]) -> None:
        """Make the customers and tags that have to be made, and put their ids into what is stored."""
        customers_named = {row.document[NEW_CUSTOMER] for row in rows if NEW_CUSTOMER in row.document}
        tags_named = {name for row in rows for name in row.document.get(NEW_TAGS, ())}
        if not customers_named and not tags_named:
            return
        customer_ids = await self._named(FIND_CUSTOMERS, customers_named, self._make_customers)
        tag_ids = await self._named(FIND_TAGS, tags_named, self._make_tags)
        renamed = []
        for row in rows:
            document = dict(row.document)
            if not document.keys() & {NEW_CUSTOMER, NEW_TAGS}:
                continue
            if (name := document.pop(NEW_CUSTOMER, None)) is not None:
                document["customer_id"] = customer_ids[name]
            if (names := document.pop(NEW_TAGS, None)) is not None:
                document["tags"] = sorted({*document.get("tags", ()), *(tag_ids[name] for name in names)})
            renamed.append({"number": row.number, "document": document})
        await self._tx.connection.execute(RENAME, self._given(renamed))

    async def _named(
        self, find: Executable, names: Collection[str], make: Callable[[list[str]], Awaitable[dict[str, int]]]
    ) -> dict[str, int]:
        """By name the id of the record that is called so, or alike: an earlier row may have made it."""
        if not names:
            return {}
        found = (await self._tx.connection.execute(find, {"names": sorted(names)})).all()
        # Of names that are alike, the first one.
        missing = {folded: name for name, folded, record_id in reversed(found) if record_id is None}
        made = await make(list(missing.values())) if missing else {}
        return {name: made[missing[folded]] if record_id is None else record_id for name, folded, record_id in found}

    async def _make_customers(self, names: list[str]) -> dict[str, int]:
        values = customers.prepare(self._tx, {"name": names[0]})
        given = {"names": names, "assigned_to": values.get("assigned_to")}
        return {name: made for made, name in await self._tx.connection.execute(MAKE_CUSTOMERS, given)}

    async def _make_tags(self, names: list[str]) -> dict[str, int]:
        self._tx.actor.require(Permission.CONFIGURE)
        return {name: await TAGS.insert(self._tx, {"name": name}) for name in names}

    async def _unmake_primaries(self, rows: Sequence[Planned]) -> None:
        """A new primary contact takes the place of the present one: so a request does it, too."""
        primary = [row for row in rows if row.document.get("is_primary")]
        if not primary:
            return
        besides = [row.record_id for row in primary if row.record_id is not None]
        found = (await self._tx.connection.execute(OF_CONTACTS, {"ids": besides})).scalars()
        named = {row.document["customer_id"] for row in primary if "customer_id" in row.document}
        given = {"customers": sorted({*found, *named}), "besides": besides}
        await self._tx.connection.execute(LOCK_CUSTOMERS, given)
        await self._tx.connection.execute(UNMAKE_PRIMARY, given)


@cache
def _lock(resource: Resource) -> Executable:
    """The versions of live records, which are locked for a change."""
    c = resource.table.c
    live = select(c.id, c.version).where(
        c.id == any_(bindparam("ids", type_=ARRAY(BigInteger))), c.deleted_at.is_(None)
    )
    return live.order_by(c.id).with_for_update()


def _columns(table: Table) -> dict[str, str | None]:
    """The columns that a row may say something about, and their defaults."""
    return {
        column.name: str(column.server_default.arg) if isinstance(column.server_default, DefaultClause) else None
        for column in table.columns
        if column.computed is None and column.name not in NEVER_WRITTEN
    }


@cache
def _insert(table: Table) -> Executable:
    """Store new records with the values that the rows have, and note their ids: they grow in the order of the rows."""
    columns = _columns(table)
    names = ", ".join(f'"{name}"' for name in columns)
    values = ", ".join(
        f'given."{name}"' if default is None else f'coalesce(given."{name}", {default})'
        for name, default in columns.items()
    )
    return text(f"""
        WITH wanted AS MATERIALIZED (
            SELECT number, document FROM import_rows
            WHERE import_id = :import_id AND number = ANY(CAST(:numbers AS integer[]))
        ), made AS (
            INSERT INTO {table.name} (tenant_id, {names})
            SELECT current_setting('crm.tenant'), {values} FROM wanted
            CROSS JOIN LATERAL jsonb_populate_record(CAST(NULL AS {table.name}), document) AS given ORDER BY number
            RETURNING id
        ), numbered AS MATERIALIZED (
            SELECT id, row_number() OVER (ORDER BY id) AS place FROM made
        ), placed AS MATERIALIZED (
            SELECT number, row_number() OVER (ORDER BY number) AS place FROM wanted
        )
        UPDATE import_rows AS mine SET record_id = numbered.id FROM placed JOIN numbered USING (place)
        WHERE mine.import_id = :import_id AND mine.number = placed.number
            AND mine.number = ANY(CAST(:numbers AS integer[]))
    """)  # noqa: S608 -- our own names


@cache
def _update(table: Table) -> Executable:
    """Give records the values that the rows have; the others stay."""
    names = ", ".join(f'"{name}"' for name in _columns(table))
    values = ", ".join(f'given."{name}"' for name in _columns(table))
    return text(f"""
        UPDATE {table.name} SET ({names}) = (
            SELECT {values} FROM jsonb_populate_record({table.name}, wanted.document) AS given
        )
        FROM import_rows AS wanted
        WHERE wanted.import_id = :import_id AND wanted.number = ANY(CAST(:numbers AS integer[]))
            AND {table.name}.id = wanted.record_id
    """)  # noqa: S608 -- our own names
