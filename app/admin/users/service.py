"""What is known of people: what the CMS's tokens said last."""

from __future__ import annotations

from collections.abc import Iterable

from app.admin.users import queries
from app.admin.users.schemas import User
from app.db.transaction import Transaction


async def by_id(tx: Transaction, ids: Iterable[int | str | None]) -> dict[int | str, User]:
    """Those of these people that were ever seen."""
    wanted = sorted({str(person) for person in ids if person is not None})
    if not wanted:
        return {}
    rows = await tx.connection.execute(queries.SOME, {"ids": wanted})
    return {user.id: user for user in (User(*row) for row in rows)}
