"""Which records may be the same as one, and saying that some are not."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET

from app.admin.contacts.queries import CONTACTS
from app.admin.customers.queries import CUSTOMERS
from app.admin.duplicates import finding
from app.admin.duplicates.queries import DUPLICATES, shown
from app.admin.duplicates.schemas import Dismissal, Duplicate, DuplicateKind
from app.records.repository import Repository
from app.records.transaction import Transaction
from app.web.errors import bad_field
from app.web.paging import Everything

REPOSITORIES: dict[str, Repository[Any]] = {"customers": CUSTOMERS, "contacts": CONTACTS}


async def duplicates_of(tx: Transaction, repository: Repository[Any], record_id: int) -> Everything[Duplicate]:
    """The records that may be the same as this one, the best first. Raises AppError: not found."""
    await repository.ensure_exists(tx, record_id)
    rows = await tx.connection.execute(DUPLICATES[repository.resource.table.name], {"record_id": record_id})
    found = [each for row in rows if (each := shown(row)) is not None]
    return Everything(found, len(found))


async def dismiss(tx: Transaction, data: Dismissal) -> None:
    """These are different from each other. Raises AppError CUSTOMER_NOT_FOUND or CONTACT_NOT_FOUND, a 400."""
    kind = DuplicateKind.CUSTOMERS if data.kind is UNSET else data.kind
    repository, ids = REPOSITORIES[kind], sorted(set(data.ids))
    live = await repository.get_live(tx, ids)
    if missing := [record_id for record_id in ids if record_id not in live]:
        message = f"has {', '.join(map(str, missing))}, which is not there"
        raise bad_field(repository.resource.not_found, "ids", message)
    await finding.dismiss(tx.connection, kind, ids)
