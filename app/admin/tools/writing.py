"""The tools that write: what each asks for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

from app.admin.tools.answers import CODE
from app.admin.tools.arguments import CreateRecord, DeleteRecord, MergeCustomers, RestoreRecord, UpdateRecord
from app.admin.tools.kinds import kind_of
from app.admin.tools.tool import Request, ToolError
from app.web.fields import BareDate
from app.web.structs import MAX_ID, Body

# The arguments as they were sent: a bare date means another thing than the time that it is read as.
Sent: TypeAlias = dict[str, Any]
# From its midnight in UTC until a day has ended everywhere.
LONGEST_DAY = timedelta(hours=36)
# In the order in which an activity or a note is said to belong to one.
LINKS = ("customer_id", "deal_id", "project_id", "activity_id", "contact_id")


def create_record(given: CreateRecord, _: Sent) -> Request:
    """Make a record."""
    kind = kind_of(given.type)
    values = _known(given.type, kind.create, given.values)
    path = kind.collection
    if kind.made_at is not None:
        owner = kind.made_at.partition("{")[2].partition("}")[0]
        values = dict(values)
        belongs_to = values.pop(owner, None)
        if not isinstance(belongs_to, int) or not 0 < belongs_to <= MAX_ID:
            raise ToolError(f"values.{owner} is required, a whole number: find it with search.")
        path = kind.made_at.format_map({owner: belongs_to})
    return Request("POST", path, values, f"Create {_one(given.type)}", given.type)


def update_record(given: UpdateRecord, _: Sent) -> Request:
    """Change fields of a record."""
    kind = kind_of(given.type)
    values = _known(given.type, kind.change, given.values)
    what = ", ".join(values)[:200]
    return Request(
        "PATCH",
        f"{kind.collection}/{given.id}",
        values,
        f"Change {_said(given.type)} {given.id}: {what}",
        given.type,
        (given.id,),
    )


def delete_record(given: DeleteRecord, _: Sent) -> Request:
    """Put a record into the trash, or delete what has none."""
    kind = kind_of(given.type)
    return Request(
        "DELETE",
        f"{kind.collection}/{given.id}",
        None,
        f"Delete {_said(given.type)} {given.id}",
        given.type,
        (given.id,),
    )


def restore_record(given: RestoreRecord, _: Sent) -> Request:
    """Take a record out of the trash."""
    kind = kind_of(given.type)
    return Request(
        "POST",
        f"{kind.collection}/{given.id}/restore",
        None,
        f"Restore {_said(given.type)} {given.id}",
        given.type,
        (given.id,),
    )


def log_activity(given: Any, sent: Sent) -> Request:
    """Write down what was done, or is to be done: what has a date to come and no outcome yet is planned."""
    values = dict(sent)
    now, due = datetime.now(UTC), given.due_date
    is_to_come = due and due + (LONGEST_DAY if isinstance(due, BareDate) else timedelta()) > now
    is_planned = is_to_come and not given.outcome and not given.completed_at
    values.setdefault("status", "scheduled" if is_planned else "completed")
    # What was due and is done was done then, if nothing else is said.
    if values["status"] == "completed" and due and due <= now and not given.completed_at:
        values["completed_at"] = values["due_date"]
    return Request("POST", "/admin/activities", values, f"Log {_one(values['type'])}{_of(values)}", "activity")


def add_note(_: Any, sent: Sent) -> Request:
    """Write a note."""
    values = dict(sent)
    return Request("POST", "/admin/notes", values, f"Add a note{_of(values)}", "note")


def move_deal(given: Any, sent: Sent) -> Request:
    """Move a deal to another stage."""
    values = dict(sent)
    deal = values.pop("id")
    # The name of a stage is somebody's text, unless it looks like a code.
    stage = given.stage if CODE.fullmatch(given.stage) else "another stage"
    return Request("PATCH", f"/admin/deals/{deal}", values, f"Move deal {deal} to {stage}", "deal", (deal,))


def merge_customers(given: MergeCustomers, _: Sent) -> Request:
    """Merge customers."""
    others = ", ".join(map(str, given.from_))
    path = f"/admin/customers/{given.into}/merge"
    summary = f"Merge {'customers' if given.from_[1:] else 'customer'} {others} into {given.into}"
    return Request("POST", path, {"from": given.from_}, summary, "customer", (given.into, *given.from_))


def _said(kind: str) -> str:
    return kind.replace("_", " ")


def _one(kind: str) -> str:
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {_said(kind)}"


def _of(values: dict[str, Any]) -> str:
    links = [f"{name.removesuffix('_id')} {values[name]}" for name in LINKS if values.get(name)]
    return f" for {' and '.join(links)}" if links else ""


def _known(name: str, body: type[Body] | None, values: dict[str, Any]) -> dict[str, Any]:
    """The values, if all are of fields that can be written: nothing is ignored in silence. Raises ToolError."""
    known = () if body is None else body.__struct_encode_fields__
    unknown = [field for field in values if field not in known]
    if unknown:
        named = ", ".join(map(repr, unknown[:5]))
        raise ToolError(f"values: {named} can't be written; the fields of a {_said(name)} are {', '.join(known)}.")
    if not values:
        raise ToolError("values is empty: name at least one field with its value.")
    return values
