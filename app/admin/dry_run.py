"""What a request would do: it was done, is shown by its audit entries, and is undone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Raw, Struct

from app.admin.audit import queries as audit
from app.admin.audit.schemas import AuditEntry
from app.records.audit_values import AuditAction, Difference, ResourceType
from app.records.transaction import FIRST_PLACEHOLDER_ID, Transaction
from app.web import strict_json

MOST_CHANGES = 1000
DIGITS = len(str(FIRST_PLACEHOLDER_ID))


class Change(Struct):
    """What would become of one record; `resource_id` is null for a new one."""

    resource_type: ResourceType
    resource_id: int | None
    action: AuditAction
    changes: dict[str, Difference]


class DryRun(Struct):
    """The answer of a request with `Dry-Run: true`: `result` is what it would answer, with null for ids that would be
    new. `changes` are the first 1,000 records that would change, and `more` counts the others.
    """

    result: Any
    changes: list[Change]
    more: int


class DryRunDone(Exception):
    """A dry run that went well. It is raised so that the transaction is undone."""

    def __init__(self, status: int, body: bytes, entries: Sequence[AuditEntry]) -> None:
        self.status = status
        self.body = body
        # What it would leave in the audit log.
        self.entries = entries


async def preview(tx: Transaction) -> DryRunDone:
    """What the transaction did. No constraint waits for the commit, so all were checked."""
    assert tx.answer is not None, "a handler answers inside its transaction"  # noqa: S101
    assert tx.operation_id is not None, "only a write is tried"  # noqa: S101
    entries, count = await audit.of_operation(tx, tx.operation_id, MOST_CHANGES)
    changes = [Change(each.resource_type, each.resource_id, each.action, each.changes) for each in entries]
    body = strict_json.encode(DryRun(Raw(tx.answer.body), changes, count - len(changes)))
    if tx.placeholder_ids:
        body = strict_json.encode(_without(tx.placeholder_ids, strict_json.decode_own(body)))
    return DryRunDone(tx.answer.status, body, entries)


def _without(new: range, document: Any) -> Any:
    """The document with null for ids of new records, which the console gets as text."""
    if isinstance(document, dict):
        return {name: _without(new, value) for name, value in document.items()}
    if isinstance(document, list):
        return [_without(new, item) for item in document]
    is_id = isinstance(document, int) or (
        isinstance(document, str) and document.isdecimal() and len(document) == DIGITS
    )
    return None if is_id and int(document) in new else document
