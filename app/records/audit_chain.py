"""The audit log's chain of hashes. Each tenant's entries have seals in the order of their ids; each seal is a hash over
the entry and the seal before it.

Entries are sealed after they were committed, so that writers never wait for one another. A function of the database
makes the seals (`crm_seal_audit`), so that the service's login can't make a wrong one. Here they are checked, by other
code.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping
from datetime import UTC
from typing import Any

from msgspec import Struct
from sqlalchemy import text

from app.db.database import Database
from app.db.result import RowMapping
from app.db.session import Session
from app.web import strict_json

BATCH = 250
CHUNK = 5_000
BEFORE_THE_FIRST = bytes(32)
LEAST_ID = -(2**63)  # none of ours is below 1, but one that somebody made up may be

# The fields that a seal covers, beside the sequence. They must never change: old seals would no longer match.
SEALED = """
    id resource_type resource_id action user_id user_name user_role old_values new_values
    ip_address user_agent request_id created_at
""".split()

ENDS = text("""
    SELECT (SELECT coalesce(max(id), 0) FROM audit_entries), (SELECT coalesce(max(entry_id), 0) FROM audit_seals)
""")
SEAL = text("SELECT count, sealed, newest FROM crm_seal_audit(:most)")
HEADS = text("""
    SELECT tenant, head.sequence, head.hash FROM unnest(CAST(:tenants AS text[])) AS tenant
    CROSS JOIN LATERAL (
        SELECT sequence, hash FROM audit_seals WHERE tenant_id = tenant ORDER BY sequence DESC LIMIT 1
    ) AS head
""")
TENANTS = text("SELECT tenant_id FROM audit_entries UNION SELECT tenant_id FROM audit_seals ORDER BY 1")
WALK = text(f"""
    SELECT seal.sequence, seal.entry_id, seal.hash, entry.* FROM (
        SELECT sequence, entry_id, hash FROM audit_seals
        WHERE tenant_id = :tenant AND entry_id > :after ORDER BY entry_id LIMIT {CHUNK}
    ) AS seal FULL JOIN (
        SELECT {", ".join(SEALED)} FROM audit_entries
        WHERE tenant_id = :tenant AND id > :after AND id <= :sealed ORDER BY id LIMIT {CHUNK}
    ) AS entry ON entry.id = seal.entry_id
    ORDER BY coalesce(seal.entry_id, entry.id) LIMIT {CHUNK}
""")  # noqa: S608 -- our own names


class Head(Struct, frozen=True):
    """The last seal of a tenant's chain."""

    sequence: int = 0
    hash: bytes = BEFORE_THE_FIRST


class Break(Struct, frozen=True):
    """The first place where a tenant's chain is broken."""

    tenant: str
    entry_id: int | None
    sequence: int
    what: str

    def __str__(self) -> str:
        entry = "" if self.entry_id is None else f", entry {self.entry_id}"
        return f"{self.tenant}: sequence {self.sequence}{entry}: {self.what}"


class Progress(Struct, frozen=True):
    """How many entries were sealed just now, the last entry that is sealed, and the newest entry."""

    count: int
    sealed: int
    newest: int


def seal_hash(previous: bytes, tenant: str, sequence: int, entry: Mapping[str, Any]) -> bytes:
    """The seal of one entry: SHA-256 over the seal before it and the entry as JSON with sorted names."""
    values = {name: entry[name] for name in SEALED}
    values["created_at"] = values["created_at"].astimezone(UTC)
    canonical = strict_json.encode_sorted({"tenant_id": tenant, "sequence": sequence, **values})
    return hashlib.sha256(previous + canonical).digest()


async def seal(database: Database) -> Progress | None:
    """Seal a batch of entries. A lower id may be committed later than a higher one, so only entries are sealed below
    which no id can still be committed.

    Returns None while another worker does it. Raises AppError.
    """
    async with database.maintenance() as connection:
        count, sealed, newest = (await connection.execute(SEAL, {"most": BATCH})).one()
    return None if newest is None else Progress(count, sealed, newest)


async def heads(connection: Session) -> dict[str, Head]:
    """The last seal of each tenant's chain."""
    tenants = (await connection.execute(TENANTS)).scalars().all()
    found = await connection.execute(HEADS, {"tenants": tenants})
    return {tenant: Head(sequence, hash_) for tenant, sequence, hash_ in found}


class Walk:
    """Checks each chain from its start. `seen` are the last seals that a checkpoint saw."""

    def __init__(self, connection: Session, seen: Mapping[str, Head]) -> None:
        self._connection = connection
        self._seen = seen
        self.entries = 0
        self.waiting = 0

    async def breaks(self) -> AsyncIterator[Break]:
        """The first break of each tenant's chain."""
        newest, sealed = (await self._connection.execute(ENDS)).one()
        tenants = set((await self._connection.execute(TENANTS)).scalars())
        for tenant in sorted(tenants | set(self._seen)):
            if broken := await self._first_break(tenant, sealed):
                yield broken
        if newest > sealed:
            count = text("SELECT count(*) FROM audit_entries WHERE id > :sealed")
            self.waiting = (await self._connection.execute(count, {"sealed": sealed})).scalar_one()

    async def _first_break(self, tenant: str, sealed: int) -> Break | None:
        head, after = Head(), LEAST_ID
        seen = self._seen.get(tenant, Head())
        while True:
            where = {"tenant": tenant, "after": after, "sealed": sealed}
            rows = (await self._connection.execute(WALK, where)).mappings().all()
            for row in rows:
                after = row["id"] if row["entry_id"] is None else row["entry_id"]
                following = Head(head.sequence + 1, row["hash"])
                if what := _fault(head, following, tenant, row, seen):
                    return Break(tenant, after, following.sequence, what)
                head = following
            self.entries += len(rows)
            if len(rows) < CHUNK:
                break
        if head.sequence < seen.sequence:
            what = f"the chain was cut here: the checkpoint saw {seen.sequence} entries"
            return Break(tenant, None, head.sequence + 1, what)
        return None


def _fault(head: Head, following: Head, tenant: str, row: RowMapping, seen: Head) -> str | None:
    """What is wrong with the next seal of the chain."""
    if row["sequence"] is None:
        return "the entry has no seal: it was inserted later, or its seal was deleted"
    if row["sequence"] != following.sequence:
        return f"the seal says {row['sequence']}: seals were deleted, inserted or reordered"
    if row["id"] is None:
        return "the entry was deleted"
    if seal_hash(head.hash, tenant, row["sequence"], row) != row["hash"]:
        return "the entry, or its seal, was changed"
    if following.sequence == seen.sequence and following.hash != seen.hash:
        return "the checkpoint saw another seal: the chain was written anew, from here or from earlier on"
    return None
