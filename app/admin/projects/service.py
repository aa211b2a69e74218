"""The rules of projects: about their days, their people, and the tasks that are open when one is completed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import any_, bindparam, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import BigInteger

from app.access.permissions import Permission
from app.admin.activities import service as activities
from app.admin.activities.schemas import Activity, ActivityCreate, ActivityType
from app.admin.projects.queries import DETAIL, OPEN_TASKS, PROJECTS
from app.admin.projects.schemas import Project, ProjectChange, ProjectCreate, ProjectDetail, TaskCreate
from app.db.result import RowMapping
from app.models import Activity as Activities
from app.records import history
from app.records.calendar import Zone, day_of, midnight
from app.records.repository import differing
from app.records.transaction import Transaction
from app.web.errors import AppError, Code, Fault, invalid

COMPLETED = "completed"
DAYS = ("start_date", "due_date")
NEW: dict[str, Any] = {"status": "planned", "completed_at": None}
# One transaction completes them, and an undo takes them back.
MOST_COMPLETED = 999

task = Activities.__table__.c
COMPLETE = (
    update(Activities)
    .where(task.id == any_(bindparam("ids", type_=ARRAY(BigInteger))))
    .values(status=COMPLETED, completed_at=bindparam("now"))
)


async def detail(tx: Transaction, project_id: int) -> ProjectDetail:
    """A project with its tasks. Raises AppError PROJECT_NOT_FOUND."""
    row = (await tx.connection.execute(DETAIL, {"project_id": project_id})).one_or_none()
    if row is None:
        raise PROJECTS.not_found()
    return ProjectDetail(*row)


async def create(tx: Transaction, data: ProjectCreate) -> Project:
    """Begin a project. Raises AppError INSUFFICIENT_PERMISSIONS, or 400 for a reference."""
    return await PROJECTS.create(tx, await prepare(tx, data.given(), Zone(tx)))


async def prepare(tx: Transaction, values: dict[str, Any], zone: Zone) -> dict[str, Any]:
    """What is stored of a new project with these values, once its references are checked.

    Raises AppError INSUFFICIENT_PERMISSIONS.
    """
    values = PROJECTS.with_owner(tx, values)
    return values | await _follows(NEW, values, zone)


async def change(tx: Transaction, project_id: int, data: ProjectChange) -> Project:
    """Raises AppError as `apply`."""
    await apply(tx, project_id, data)
    return await PROJECTS.get(tx, project_id)


async def apply(tx: Transaction, project_id: int, data: ProjectChange) -> bool:
    """Change a project; returns whether anything differed.

    Raises AppError PROJECT_NOT_FOUND, INSUFFICIENT_PERMISSIONS, VERSION_CONFLICT, OPEN_TASKS, or as `create`.
    """
    row = await PROJECTS.get_for_update(tx, project_id)
    values = data.given()
    # One that is completed already may have got tasks since.
    with_tasks = values.pop("complete_tasks", False) and values.get("status") == COMPLETED
    done = await _complete_tasks(tx, project_id) if with_tasks else 0
    values = await prepare_change(tx, row, values, Zone(tx))
    await PROJECTS.check_references(tx, differing(row, values))
    return await PROJECTS.update(tx, row, values) or done > 0


async def prepare_change(tx: Transaction, row: RowMapping, values: dict[str, Any], zone: Zone) -> dict[str, Any]:
    """What such a change stores in the project, once its references are checked.

    Raises AppError INSUFFICIENT_PERMISSIONS or OPEN_TASKS.
    """
    PROJECTS.check_owner(tx, row, values)
    if _completes(row, values):
        await _require_no_open_tasks(tx, row["id"])
    values = values | await _follows(row, values, zone)
    after = dict(row) | values
    if tx.own_records_only and tx.actor.reference not in {after["owner_id"], *after["assignees"]}:
        message = "Nobody else may take you off a project but its owner or a manager: you would not see it any more"
        raise AppError(Code.INSUFFICIENT_PERMISSIONS, message)
    return values


async def check_put_back(tx: Transaction, project: Mapping[str, Any], fields: Mapping[str, Any]) -> None:
    """Raise AppError OPEN_TASKS if a project is completed again that has open tasks by now."""
    if "status" in fields and project["status"] == COMPLETED:
        await _require_no_open_tasks(tx, int(project["id"]))


async def create_task(tx: Transaction, project_id: int, data: TaskCreate) -> Activity:
    """Plan a task of a project. Raises AppError PROJECT_NOT_FOUND, or as for any other activity."""
    await PROJECTS.lock_parent(tx, project_id)
    given = {name: value for name, value in data.given().items() if name not in {"type", "project_id"}}
    faults = [
        Fault(name, message)
        for name, value, message in (
            ("type", ActivityType.TASK.value, "must be task"),
            ("project_id", project_id, "must be the one in the path"),
        )
        if data.given().get(name, value) != value
    ]
    if faults:
        raise invalid(*faults)
    return await activities.create(tx, ActivityCreate(**given, type=ActivityType.TASK, project_id=project_id))


def _completes(before: Mapping[str, Any], values: Mapping[str, Any]) -> bool:
    return values.get("status") == COMPLETED and before["status"] != COMPLETED


async def _follows(before: Mapping[str, Any], given: Mapping[str, Any], zone: Zone) -> dict[str, Any]:
    """What follows from the given values: whole days, and when the project was completed."""
    follows: dict[str, Any] = {}
    for name in DAYS:
        due = given.get(name)
        if due is not None and due != midnight(due):
            # The day is that of the tenant's timezone: in the evening in New York, it is tomorrow in UTC.
            follows[name] = midnight(day_of(due, await zone.get()))
    start, due = (({**given} | follows).get(name, before.get(name)) for name in DAYS)
    if start is not None and due is not None and start > due and (changed := [name for name in DAYS if name in given]):
        wrong = {"start_date": "can't be after the due_date", "due_date": "can't be before the start_date"}
        raise invalid(Fault(changed[-1], wrong[changed[-1]]))
    now, completed = datetime.now(UTC), given.get("status", before["status"]) == COMPLETED
    completed_at = given.get("completed_at") or before["completed_at"]
    if completed_at != before["completed_at"] and not completed:
        raise invalid(Fault("completed_at", "is only of a project that is completed"))
    if completed_at != before["completed_at"] and completed_at > now:
        raise invalid(Fault("completed_at", "can't be in the future"))
    return follows | {"completed_at": (completed_at or now) if completed else None}


async def _open_tasks(tx: Transaction, project_id: int) -> list[RowMapping]:
    """Its open tasks, other people's too; at most one more than can be completed with it."""
    async with history.seeing_all(tx):
        given = {"project_id": project_id, "most": MOST_COMPLETED + 1}
        return list((await tx.connection.execute(OPEN_TASKS, given)).mappings().all())


async def _require_no_open_tasks(tx: Transaction, project_id: int) -> None:
    if tasks := await _open_tasks(tx, project_id):
        # Whoever sees own records only does not learn how many tasks others have.
        data = None if tx.own_records_only or len(tasks) > MOST_COMPLETED else {"open_tasks": len(tasks)}
        raise AppError(Code.OPEN_TASKS, data=data)


async def _complete_tasks(tx: Transaction, project_id: int) -> int:
    """Complete what is open; returns how many. Raises AppError as a change of each of these tasks would."""
    tasks = await _open_tasks(tx, project_id)
    if len(tasks) > MOST_COMPLETED:
        message = f"More than {MOST_COMPLETED} of its tasks are open: complete them by a bulk change first"
        raise AppError(Code.OPEN_TASKS, message)
    if not tx.actor.can(Permission.MANAGE_ALL) and any(each["assigned_to"] != tx.actor.reference for each in tasks):
        message = "Some of its open tasks are other people's: they, or a manager, may complete them"
        raise AppError(Code.INSUFFICIENT_PERMISSIONS, message)
    if tasks:
        given = {"ids": [each["id"] for each in tasks], "now": datetime.now(UTC)}
        await tx.connection.execute(COMPLETE, given)
    return len(tasks)
