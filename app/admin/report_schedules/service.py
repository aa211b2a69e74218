"""The rules of report schedules, beyond those of every record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import convert
from sqlalchemy import delete

from app.admin.report_runs import service as report_runs
from app.admin.report_runs.schemas import ReportRun
from app.admin.report_schedules.queries import ALL, REPORT_SCHEDULES, UNKNOWN_RECIPIENTS
from app.admin.report_schedules.schemas import (
    Every,
    ReportSchedule,
    ReportScheduleChange,
    ReportScheduleCreate,
)
from app.models import ReportSchedule as Row
from app.records.transaction import Transaction
from app.web.errors import Fault, invalid
from app.web.paging import Everything

# The field that says when in its time, for what is not made each day.
NEEDED = {Every.WEEK.value: "weekday", Every.MONTH.value: "day"}


async def list_all(tx: Transaction) -> Everything[ReportSchedule]:
    """Every schedule that the person sees, the oldest first."""
    schedules = [ReportSchedule(*row) for row in await tx.connection.execute(ALL)]
    return Everything(schedules, len(schedules))


async def create(tx: Transaction, data: ReportScheduleCreate) -> ReportSchedule:
    """A schedule that runs as this person. Raises AppError INVALID_REQUEST, or LIMIT_REACHED."""
    values = await _checked(tx, data.given(), {})
    # What says when it is due is the database's.
    person = {
        "user_id": tx.actor.reference,
        "user_name": tx.actor.name or tx.actor.email,
        "user_role": tx.actor.role.value,
    }
    return await REPORT_SCHEDULES.create(tx, values | person)


async def change(tx: Transaction, schedule_id: int, data: ReportScheduleChange) -> ReportSchedule:
    """Raises AppError INVALID_REQUEST, or as `Repository.get_for_update`."""
    row = await REPORT_SCHEDULES.get_for_update(tx, schedule_id)
    await REPORT_SCHEDULES.update(tx, row, await _checked(tx, data.given(), row))
    return await REPORT_SCHEDULES.get(tx, schedule_id)


async def remove(tx: Transaction, schedule_id: int) -> None:
    """Delete a schedule; what it has made stays."""
    await REPORT_SCHEDULES.get_for_update(tx, schedule_id)
    await tx.connection.execute(delete(Row).where(Row.__table__.c.id == schedule_id))


async def _checked(tx: Transaction, values: dict[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    """The values as they are stored over this row. Raises AppError INVALID_REQUEST."""
    values |= _timing(values, {**row, **values})
    then = {**row, **values}
    run = {name: then[name] for name in ReportRun.__struct_encode_fields__ if then.get(name) is not None}
    await report_runs.check_run(tx, convert(run, ReportRun))
    given = values.get("recipients", [])
    unknown = (await tx.connection.execute(UNKNOWN_RECIPIENTS, {"given": given})).all() if given else []
    if unknown:
        raise invalid(Fault("recipients", f"nobody of your organization has the address {unknown[0][0]}"))
    return values


def _timing(values: Mapping[str, Any], then: Mapping[str, Any]) -> dict[str, Any]:
    """`weekday` and `day`, each of which goes with one `every`: what the others had is forgotten."""
    faults: list[Fault] = []
    cleared: dict[str, Any] = {}
    needed = NEEDED.get(then["every"])
    for every, name in NEEDED.items():
        if name == needed and then.get(name) is None:
            faults.append(Fault(name, f"is required for every {every}"))
        elif name != needed and values.get(name) is not None:
            faults.append(Fault(name, f"is for every {every} only"))
        elif name != needed:
            cleared[name] = None
    if faults:
        raise invalid(*faults)
    return cleared
