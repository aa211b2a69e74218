"""What is known of people: what the CMS's tokens said last."""

from __future__ import annotations

from app.admin.users import queries
from app.admin.users.schemas import User
from app.db.transaction import Transaction


async def find(tx: Transaction, user_id: int | str) -> User | None:
    """A person, if ever seen."""
    row = (await tx.connection.execute(queries.ONE, {"user_id": user_id})).one_or_none()
    return None if row is None else User(*row)
