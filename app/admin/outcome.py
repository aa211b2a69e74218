"""What a request did, as one hash: a dry run and the request itself have the same, if nothing else happens than was
shown.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from typing import Any

from msgspec.json import encode
from sqlalchemy import ARRAY, BigInteger, ColumnElement, Select, any_, bindparam, cast, func, select

from app.models import AuditEntry, PipelineStage
from app.records.audit_values import AuditAction
from app.records.resources import RESOURCES
from app.records.transaction import FIRST_PLACEHOLDER_ID, Transaction

AT_ONCE = 1000
NEW = "new"
# Tokens of one person may have different names.
OF_THE_MOMENT = {"id", "author_name"}

c = AuditEntry.__table__.c
stage = PipelineStage.__table__.c


def _stage(values: ColumnElement[Any]) -> ColumnElement[Any]:
    # A stage of the same id may mean another thing by now.
    said = func.concat_ws(" ", stage.kind, stage.name)
    return select(said).where(stage.id == cast(values["stage_id"].astext, BigInteger)).scalar_subquery().label(None)


ENTRIES: Select[Any] = (
    select(c.id, c.resource_type, c.resource_id, c.action, c.old_values, c.new_values, _stage(c.new_values))
    .where(c.operation_id == bindparam("operation_id"), c.id > bindparam("after"))
    .order_by(c.id)
    .limit(AT_ONCE)
)
PARENTS = {f"{each.kind}_id": each for each in RESOURCES if each.title}


async def outcome_of(tx: Transaction) -> str:
    """The hash of all entries that the transaction's operation has in the audit log: which records, what was done, and
    to which values. Without what differs each time, which are moments and new ids; with what the records are called
    that a new one belongs to.
    """
    said: list[bytes] = []
    made: set[tuple[str, int]] = set()
    parents: dict[str, set[int]] = defaultdict(set)
    after = 0
    while rows := (await tx.connection.execute(ENTRIES, {"operation_id": tx.operation_id, "after": after})).all():
        for after, kind, record_id, action, old, new, stage_now in rows:  # noqa: B007 -- the last one is where to read on
            is_new = action == AuditAction.CREATE
            if is_new:
                made.add((kind, record_id))
                for name in PARENTS.keys() & (new or {}):
                    if new[name] is not None and not _is_new(name, new[name], made):
                        parents[name].add(new[name])
            about = NEW if is_new else record_id
            entry = (kind, about, action, _lasting(old, made), _lasting(new, made), stage_now)
            said.append(hashlib.sha256(encode(entry, order="deterministic")).digest())
    for name, ids in sorted(parents.items()):
        said += await _called(tx, name, ids)
    return hashlib.sha256(b"".join(sorted(said))).hexdigest()


def _lasting(values: dict[str, Any] | None, made: set[tuple[str, int]]) -> dict[str, Any]:
    return {
        name: NEW if _is_new(name, value, made) else value
        for name, value in (values or {}).items()
        if name not in OF_THE_MOMENT and not name.endswith("_at")
    }


def _is_new(name: str, value: Any, made: set[tuple[str, int]]) -> bool:
    """Whether it is the id of a record that the operation has made."""
    if not isinstance(value, int):
        return False
    return value >= FIRST_PLACEHOLDER_ID or (name.removesuffix("_id"), value) in made


async def _called(tx: Transaction, name: str, ids: set[int]) -> list[bytes]:
    resource = PARENTS[name]
    one = resource.table.c.id
    wanted = select(one, resource.shown_title).where(one == any_(bindparam("ids", type_=ARRAY(BigInteger))))
    rows = await tx.connection.execute(wanted, {"ids": sorted(ids)})
    return [hashlib.sha256(encode((name, *row))).digest() for row in rows]
