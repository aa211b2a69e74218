"""Planning an import, and letting it run: both are jobs."""

from __future__ import annotations

from functools import cache
from typing import Any

from msgspec import convert, to_builtins
from sqlalchemy import Executable, Table, select, text

from app.access.permissions import Permission
from app.admin.imports import matching, queries
from app.admin.imports.check import CheckWanted
from app.admin.imports.kinds import KINDS, OWNERS
from app.admin.imports.plans import MOST_VALUES, ImportPlan, ImportRun, MatchOn, OnError
from app.admin.imports.run import RunWanted
from app.admin.imports.schemas import ImportKind, ImportStatus
from app.admin.imports.service import BUSY
from app.admin.imports.values import mapping_faults
from app.admin.jobs import queries as jobs
from app.admin.jobs.schemas import JobKind, JobStarted
from app.db.result import RowMapping
from app.files.unpacked import Column
from app.jobs.queue import enqueue, longer_statements
from app.models import TenantSettings
from app.records.transaction import Transaction
from app.web import strict_json
from app.web.errors import AppError, Code, Fault, Faults
from app.web.input import read_again

MOST_OUTDATED = 100
SETTINGS = select(TenantSettings.timezone, TenantSettings.country)
PLAN = text("""
    UPDATE imports SET mapping = CAST(:mapping AS jsonb), options = CAST(:options AS jsonb), summary = NULL,
        status = 'checking', job_id = :job_id, operation_id = NULL, updated_at = now()
    WHERE id = :import_id
""")
CHECKED_BY = text("SELECT user_id, user_role FROM jobs WHERE id = :job_id")
RUN = text("""
    UPDATE imports SET status = 'running', job_id = :job_id, operation_id = :operation_id, updated_at = now()
    WHERE id = :import_id
""")


async def start_check(tx: Transaction, import_id: int, data: ImportPlan) -> JobStarted:
    """Let a job check every row by this plan.

    Raises AppError IMPORT_NOT_FOUND, IMPORT_BUSY, INVALID_REQUEST, AMBIGUOUS_DATES, or INSUFFICIENT_PERMISSIONS.
    """
    row = await _idle(tx, import_id)
    if row["object_key"] is None:
        raise AppError(Code.ANSWER_ERASED, "The file named somebody who was erased since: send it again")
    columns = [convert(column, Column) for column in row["columns"]]
    document = to_builtins(data)
    said = (await tx.connection.execute(SETTINGS)).mappings().one()
    document["options"] = {name: value for name, value in said.items() if value} | document.get("options", {})
    kind = ImportKind(row["kind"])
    faults = Faults(*mapping_faults(kind, columns, data.mapping, data.chosen.values))
    await _name_owners(tx, document["options"], faults)
    plan = read_again(document, ImportPlan)
    _check_options(kind, plan, faults)
    if faults:
        raise faults.error()
    if plan.chosen.create_tags and not tx.actor.can(Permission.CONFIGURE):
        text = "Only admins make tags: leave create_tags out, or let an admin import the file"
        raise AppError(Code.INSUFFICIENT_PERMISSIONS, text)
    wanted = CheckWanted(import_id, kind, row["object_key"], columns, document)
    manner = wanted.reading(plan).manner
    # A file of some of its rows may not prove it.
    document["options"] |= {
        name: found.value
        for name, found in (("date_order", manner.date_order), ("decimal", manner.decimal))
        if found is not None
    }
    job_id = await enqueue(tx, JobKind.IMPORT_CHECK, to_builtins(wanted), targets=None, total=row["rows"])
    given = {name: strict_json.encode(document[name]).decode() for name in ("mapping", "options")}
    await tx.connection.execute(PLAN, {"import_id": import_id, "job_id": job_id, **given})
    return JobStarted(await jobs.get(tx, job_id))


async def start_run(tx: Transaction, import_id: int, data: ImportRun) -> JobStarted:
    """Let a job do what the check has found.

    Raises AppError IMPORT_NOT_FOUND, IMPORT_BUSY, IMPORT_NOT_CHECKED, IMPORT_HAS_ERRORS, or PLAN_OUTDATED.
    """
    row = await _idle(tx, import_id)
    if row["status"] != ImportStatus.CHECKED:
        raise AppError(Code.IMPORT_NOT_CHECKED)
    planned: ImportPlan = read_again({"mapping": row["mapping"], "options": row["options"]}, ImportPlan)
    stop = planned.chosen.on_error is OnError.STOP
    if stop and row["summary"]["error"]:
        raise AppError(Code.IMPORT_HAS_ERRORS, data={"summary": row["summary"]})
    checked_by = (await tx.connection.execute(CHECKED_BY, {"job_id": row["job_id"]})).all()
    if checked_by != [(tx.actor.user_id, tx.actor.role.value)]:
        text = "Somebody else has had it checked, and what is stored depends on who does it: check it again"
        raise AppError(Code.PLAN_OUTDATED, text)
    accept = data.accept_changes is True
    if not accept and (outdated := await _outdated(tx, row)):
        raise outdated
    wanted = RunWanted(import_id, row["kind"], stop, accept, planned.columns)
    total = row["summary"]["create"] + row["summary"]["update"]
    job_id = await enqueue(tx, JobKind.IMPORT_RUN, to_builtins(wanted), targets=None, total=total)
    ids = {"import_id": import_id, "job_id": job_id, "operation_id": tx.operation_id}
    await tx.connection.execute(RUN, ids)
    return JobStarted(await jobs.get(tx, job_id))


async def _idle(tx: Transaction, import_id: int) -> RowMapping:
    """The import, locked. Raises AppError IMPORT_NOT_FOUND, or IMPORT_BUSY."""
    row: RowMapping = await queries.get_for_update(tx, import_id)
    if row["status"] in BUSY:
        raise AppError(Code.IMPORT_BUSY)
    return row


async def _name_owners(tx: Transaction, options: dict[str, Any], faults: Faults) -> None:
    """Put people's ids in place of what names them."""
    named = {name: str(options[name]) for name in OWNERS if options.get(name) is not None}
    found = await matching.people(tx, set(named.values()))
    for name, term in named.items():
        if len(found[term]) == 1:
            options[name] = found[term][0]
        else:
            text = "must be the id, the e-mail address or the name of one person who was here"
            faults.append(Fault(f"options.{name}", text))


def _check_options(kind_name: ImportKind, data: ImportPlan, faults: Faults) -> None:
    """Add what does not go with the mapping, or with the kind of the records."""
    kind, options, taken = KINDS[kind_name], data.chosen, data.columns
    match_on = options.match_on
    if match_on is MatchOn.EMAIL and kind.of_email is None:
        faults.append(Fault("options.match_on", f"can't be email: {kind_name} have none"))
    elif match_on is not MatchOn.NONE and match_on.value not in taken:
        faults.append(Fault("options.match_on", f"is {match_on.value}, but no column is"))
    wrong = {
        "create_customers": kind.of_customers,
        "take_overdue": "due_date" in kind.create.__struct_fields__ and "type" in kind.create.__struct_fields__,
        **dict.fromkeys(("create_tags", "tags"), kind.tagged),
        **{name: name in kind.create.__struct_fields__ for name in OWNERS},
    }
    for name, fits in wrong.items():
        if getattr(options, name) and not fits:
            faults.append(Fault(f"options.{name}", f"is not for {kind_name}"))
    if sum(map(len, options.values.values())) > MOST_VALUES:
        faults.append(Fault("options.values", f"has more than {MOST_VALUES} values"))


async def _outdated(tx: Transaction, row: RowMapping) -> AppError | None:
    """The error if records that would be changed have changed since the check."""
    statement = _changed_since(KINDS[row["kind"]].repository.resource.table)
    async with longer_statements(tx):
        found = (await tx.connection.execute(statement, {"import_id": row["id"]})).all()
    if not found:
        return None
    shown = [{"row": number, "id": record_id} for number, record_id in found[:MOST_OUTDATED]]
    more = {"more": True} if len(found) > MOST_OUTDATED else {}
    return AppError(Code.PLAN_OUTDATED, data={"records": shown} | more)


@cache
def _changed_since(table: Table) -> Executable:
    return text(f"""
        SELECT number, record_id FROM import_rows AS planned
        LEFT JOIN {table.name} AS record ON record.id = record_id AND record.deleted_at IS NULL
        WHERE import_id = :import_id AND planned.outcome = 'update'
            AND record.version IS DISTINCT FROM planned.version
        ORDER BY number LIMIT {MOST_OUTDATED + 1}
    """)  # noqa: S608 -- our own names
