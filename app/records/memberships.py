"""Reading what organizations have changed about their people's rights."""

from __future__ import annotations

from functools import partial

from sqlalchemy import BigInteger, bindparam, text

from app.access.memberships import Changes, Membership, Memberships
from app.db.database import Database

CHANGES = text("""
    SELECT mark, invitations, tenant_id, id, user_id, email_folded, role, is_active, signed_out_at
    FROM crm_member_changes(:since)
""").bindparams(bindparam("since", type_=BigInteger))


def memberships_of(database: Database) -> Memberships:
    """What a worker knows of its people."""
    return Memberships(partial(_read, database))


async def _read(database: Database, since: int | None) -> Changes:
    async with database.maintenance() as session:
        rows = (await session.execute(CHANGES, {"since": since})).all()
    mark, invitations = rows[0][:2]
    return Changes(mark, invitations, [Membership(*row[2:]) for row in rows if row[2] is not None])
