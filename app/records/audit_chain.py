"""The audit log's chain of hashes. Each tenant's entries have seals in the order of their ids; each seal is a hash over
the entry and the seal before it.

Entries are sealed after they were committed, so that writers never wait for one another. A function of the database
makes the seals (`crm_seal_audit`), so that the service's login can't make a wrong one. Here they are checked, by other
code.

A seal of version 2 is over salted digests of the entry's values, so that the values can be erased. Entries of before
have a seal of version 1 too, which is over the values, and their seal of version 2 is over that one.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence, Set
from datetime import UTC
from decimal import Decimal
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import text

from app.db.database import Database
from app.db.result import RowMapping
from app.db.session import Session
from app.web import strict_json

BATCH = 250
CUT_AT_ONCE = 5_000
CHUNK = 5_000
BEFORE_THE_FIRST = bytes(32)
LEAST_ID = -(2**63)  # none of ours is below 1, but one that somebody made up may be
MOST_NOTES, SHOWN = 100, 10  # lines about erasures, and entries that each of them names
WRITTEN_ANEW = "the checkpoint saw another seal: the chain was written anew, from here or from earlier on"

# What a seal covers, beside the tenant and the sequence. It must never change: old seals would no longer match.
PUBLIC = """
    id resource_type resource_id action user_id user_name user_role ip_address user_agent request_id created_at
""".split()
SEALED_V1 = (*PUBLIC, "old_values", "new_values")
SEALED = (*PUBLIC, "version", "operation_id", "via", "old_digest", "new_digest")

decode_values = msgspec.json.Decoder(float_hook=Decimal).decode

ENDS = text("""
    SELECT (SELECT coalesce(max(id), 0) FROM audit_entries), greatest(
        0, (SELECT max(entry_id) FROM audit_seals WHERE hash IS NULL),
        (SELECT max(entry_id) FROM audit_seals WHERE hash IS NOT NULL)
    )
""")
WAITING = text("SELECT count(*) FROM audit_entries WHERE id > :sealed AND tenant_id = coalesce(:only, tenant_id)")
SEAL = text("SELECT count, sealed, newest FROM crm_seal_audit(:most)")
HEADS = text("""
    SELECT tenant, head.sequence, head.hash, head.version FROM unnest(CAST(:tenants AS text[])) AS tenant
    CROSS JOIN LATERAL (
        SELECT sequence, coalesce(hash, hash_v1) AS hash, CASE WHEN hash IS NULL THEN 1 ELSE 2 END AS version
        FROM audit_seals WHERE tenant_id = tenant ORDER BY sequence DESC LIMIT 1
    ) AS head
""")
TENANTS = text("""
    SELECT tenant_id FROM audit_entries UNION SELECT tenant_id FROM audit_seals UNION SELECT tenant_id FROM audit_cuts
    ORDER BY 1
""")
CUT = text("SELECT crm_cut_audit(:most)")
CUT_OF = text("SELECT sequence, entry_id, hash, hash_v1 FROM audit_cuts WHERE tenant_id = :tenant")
WALK = text(f"""
    SELECT seal.*, entry.* FROM (
        SELECT sequence, entry_id, hash, hash_v1 FROM audit_seals
        WHERE tenant_id = :tenant AND entry_id > :after ORDER BY entry_id LIMIT {CHUNK}
    ) AS seal FULL JOIN (
        SELECT {", ".join(SEALED)}, old_values::text, new_values::text, salt, erased_by FROM audit_entries
        WHERE tenant_id = :tenant AND id > :after AND id <= :sealed ORDER BY id LIMIT {CHUNK}
    ) AS entry ON entry.id = seal.entry_id
    ORDER BY coalesce(seal.entry_id, entry.id) LIMIT {CHUNK}
""")  # noqa: S608 -- our own names
NAMED = text("""
    SELECT entry.id, erasure.id FROM audit_entries AS erasure
    CROSS JOIN LATERAL jsonb_array_elements(
        CASE jsonb_typeof(new_values -> 'entries') WHEN 'array' THEN new_values -> 'entries' ELSE '[]' END
    ) AS named
    JOIN unnest(CAST(:entries AS bigint[])) AS entry (id) ON to_jsonb(entry.id) = named
    WHERE tenant_id = :tenant AND erasure.id = ANY (:erasures) AND action = 'erase'
""")
KEPT = text("""
    SELECT min(id) FROM audit_entries
    WHERE tenant_id = :tenant AND id = ANY (:entries) AND erased_by IS DISTINCT FROM :erasure
""")
NOT_SEALED = text("""
    SELECT id, action, resource_type, user_name, created_at, new_values::text FROM audit_entries
    WHERE tenant_id = :tenant AND id > :sealed AND (
        action = 'erase' OR resource_type = 'audit_log' AND action = 'purge'
    ) ORDER BY id
""")


class Head(Struct, frozen=True):
    """The last seal of a tenant's chain."""

    sequence: int = 0
    hash: bytes = BEFORE_THE_FIRST
    version: int = 2


class Cut(Struct, frozen=True):
    """The last of the seals that retention deleted: a chain begins after it."""

    sequence: int = 0
    entry_id: int = LEAST_ID
    hash: bytes = BEFORE_THE_FIRST
    hash_v1: bytes | None = BEFORE_THE_FIRST

    @property
    def values(self) -> dict[str, Any]:
        """What the entry says that names this cut."""
        old = None if self.hash_v1 is None else self.hash_v1.hex()
        return {"sequence": self.sequence, "entry_id": self.entry_id, "hash": self.hash.hex(), "hash_v1": old}


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


def seal_v1(previous: bytes, tenant: str, sequence: int, entry: Mapping[str, Any]) -> bytes:
    """The seal of version 1: SHA-256 over the one before it and the entry, values included."""
    return _seal(previous, tenant, sequence, {name: entry[name] for name in SEALED_V1})


def seal_v2(previous: bytes, tenant: str, sequence: int, entry: Mapping[str, Any], old_seal: bytes | None) -> bytes:
    """The seal of version 2: SHA-256 over the one before it, the entry with digests for values, and its old seal."""
    values = {name: entry[name] for name in SEALED} | {"seal_v1": old_seal}
    return _seal(
        previous,
        tenant,
        sequence,
        {name: value.hex() if isinstance(value, bytes) else value for name, value in values.items()},
    )


def _seal(previous: bytes, tenant: str, sequence: int, values: dict[str, Any]) -> bytes:
    """SHA-256 over the seal before it and JSON with sorted names."""
    values["created_at"] = values["created_at"].astimezone(UTC)
    canonical = strict_json.encode_sorted({"tenant_id": tenant, "sequence": sequence, **values})
    return hashlib.sha256(previous + canonical).digest()


def values_digest(salt: bytes, values: str) -> bytes:
    """The digest of an entry's values, as the database writes their JSON."""
    return hashlib.sha256(salt + values.encode()).digest()


async def seal(database: Database) -> Progress | None:
    """Seal a batch of entries. A lower id may be committed later than a higher one, so only entries are sealed below
    which no id can still be committed.

    Returns None while another worker does it. Raises AppError.
    """
    async with database.maintenance() as connection:
        count, sealed, newest = (await connection.execute(SEAL, {"most": BATCH})).one()
    return None if newest is None else Progress(count, sealed, newest)


async def cut(database: Database) -> int:
    """Delete a batch of entries that are older than their tenant keeps them, with their seals; returns how many.

    Raises AppError.
    """
    async with database.maintenance() as connection:
        return int((await connection.execute(CUT, {"most": CUT_AT_ONCE})).scalar_one())


async def heads(connection: Session) -> dict[str, Head]:
    """The last seal of each tenant's chain."""
    tenants = (await connection.execute(TENANTS)).scalars().all()
    found = await connection.execute(HEADS, {"tenants": tenants})
    return {tenant: Head(sequence, hash_, version) for tenant, sequence, hash_, version in found}


class Walk:
    """Checks each chain, or only this tenant's, from its start. `seen` are the last seals that a checkpoint saw.

    `notes` are lines about what was erased or cut off, the first ones of `noted`.
    """

    def __init__(self, connection: Session, seen: Mapping[str, Head], only: str | None = None) -> None:
        self._connection = connection
        self._seen = seen
        self._only = only
        self.entries = 0
        self.waiting = 0
        self.notes: list[str] = []
        self.noted = 0

    async def breaks(self) -> AsyncIterator[Break]:
        """The first break of each tenant's chain."""
        newest, sealed = (await self._connection.execute(ENDS)).one()
        if self._only is None:
            tenants = sorted({*(await self._connection.execute(TENANTS)).scalars(), *self._seen})
        else:
            tenants = [self._only]
        for tenant in tenants:
            if broken := await self._broken(tenant, sealed):
                yield broken
        if newest > sealed:
            count = text(
                "SELECT count(*) FROM audit_entries WHERE id > :sealed AND tenant_id = coalesce(:only, tenant_id)"
            )
            self.waiting = (await self._connection.execute(count, {"sealed": sealed, "only": self._only})).scalar_one()

    async def _broken(self, tenant: str, sealed: int) -> Break | None:
        while True:
            cut = await self._cut(tenant)
            broken = await self._first_break(tenant, sealed, cut)
            if broken is None or cut == await self._cut(tenant):
                return broken  # else the log was cut meanwhile

    async def _cut(self, tenant: str) -> Cut:
        found = (await self._connection.execute(CUT_OF, {"tenant": tenant})).one_or_none()
        return Cut(*found) if found else Cut()

    async def _first_break(self, tenant: str, sealed: int, cut: Cut) -> Break | None:
        seen = self._seen.get(tenant, Head())
        if 0 < seen.sequence < cut.sequence:
            what = f"the log was cut after sequence {seen.sequence}, which the checkpoint saw: take a newer checkpoint"
            return Break(tenant, None, cut.sequence, what)
        chain, after = _Chain(tenant, cut, seen), cut.entry_id
        if seen.sequence == cut.sequence and chain.differs_from_checkpoint(cut.hash_v1, cut.hash):
            return Break(tenant, None, cut.sequence, WRITTEN_ANEW)
        while True:
            where = {"tenant": tenant, "after": after, "sealed": sealed}
            rows = (await self._connection.execute(WALK, where)).mappings().all()
            erased = await self._erased(tenant, rows)
            for row in rows:
                after = row["id"] if row["entry_id"] is None else row["entry_id"]
                if (fault := chain.fault(row, erased) or await self._false_claim(chain, row)) is not None:
                    return Break(tenant, after, chain.sequence + 1, fault)
                chain.sequence += 1
            self.entries += len(rows)
            if len(rows) < CHUNK:
                break
        if chain.sequence < seen.sequence:
            what = f"the chain was cut here: the checkpoint saw {seen.sequence} entries"
            return Break(tenant, None, chain.sequence + 1, what)
        for row in (await self._connection.execute(NOT_SEALED, {"tenant": tenant, "sealed": sealed})).mappings():
            if (fault := await self._false_claim(chain, row, ", which is not sealed yet")) is not None:
                return Break(tenant, row["id"], chain.sequence + 1, fault)
        if cut.sequence and not chain.cut_is_named:
            return Break(tenant, None, cut.sequence, "the beginning of the log was cut off, and no entry says so")
        return None

    async def _false_claim(self, chain: _Chain, row: RowMapping, addition: str = "") -> str | None:
        """What is wrong with what this entry says about others: that they were erased, or cut off."""
        if row["action"] == "erase" and (entries := _named(row)):
            where = {"tenant": chain.tenant, "erasure": row["id"], "entries": entries}
            kept = (await self._connection.execute(KEPT, where)).scalar_one()
            if kept is not None:
                return f"it says that entry {kept} was erased, which is not so"
            named = ", ".join(map(str, entries[:SHOWN]))
            more = f" and {len(entries) - SHOWN} more" if len(entries) > SHOWN else ""
            what = f"entry {named} was" if len(entries) == 1 else f"entries {named}{more} were"
            self._note(f"{chain.tenant}: {what} erased by {_described(row)}{addition}")
        elif row["resource_type"] == "audit_log" and row["action"] == "purge":
            values, cut = _values(row), chain.cut
            if _is_id(values.get("sequence")) and values["sequence"] < cut.sequence:
                return None  # an earlier cut
            if any(values.get(name) != value for name, value in cut.values.items()):
                return "it says that the log was cut at another place than where it begins"
            chain.cut_is_named = True
            what = f"entries up to {cut.entry_id} (sequence {cut.sequence}) were cut off"
            self._note(f"{chain.tenant}: {what} by {_described(row)}{addition}")
        return None

    def _note(self, line: str) -> None:
        self.noted += 1
        if len(self.notes) < MOST_NOTES:
            self.notes.append(line)

    async def _erased(self, tenant: str, rows: Sequence[RowMapping]) -> set[tuple[int, int]]:
        """Those of these entries, each with its erasure, that the entry of the erasure names."""
        erased = {row["id"]: row["erased_by"] for row in rows if row["erased_by"] is not None}
        if not erased:
            return set()
        where = {"tenant": tenant, "erasures": list(set(erased.values())), "entries": list(erased)}
        return {(entry, erasure) for entry, erasure in await self._connection.execute(NAMED, where)}


class _Chain:
    """Where the walk through a tenant's chain is."""

    def __init__(self, tenant: str, cut: Cut, seen: Head) -> None:
        self.tenant = tenant
        self.cut = cut
        self.cut_is_named = False
        self.seen = seen
        self.sequence = cut.sequence
        self._v1 = cut.hash_v1  # none after version 2 took over
        self._v2: bytes | None = cut.hash  # none where old entries still wait for their new seals

    def fault(self, row: RowMapping, erased: Set[tuple[int, int]]) -> str | None:
        """What is wrong with the next seal of the chain. If nothing is, the walk is now at this seal."""
        sequence, v1, v2 = self.sequence + 1, row["hash_v1"], row["hash"]
        if row["sequence"] is None:
            return "the entry has no seal: it was inserted later, or its seal was deleted"
        if row["sequence"] != sequence:
            return f"the seal says {row['sequence']}: seals were deleted, inserted or reordered"
        if row["id"] is None:
            return "the entry was deleted"
        if v1 is not None and self._v1 is None:
            return "the seal is of version 1, but version 2 had taken over"
        if v2 is not None and self._v2 is None:
            return "seals of version 2 were deleted before this one"
        if row["erased_by"] is None:
            fits = self._values_fit(row)
        elif (row["id"], row["erased_by"]) not in erased:
            return f"its values were erased, but entry {row['erased_by']} does not say so"
        else:
            fits = all(row[emptied] is None for emptied in ("old_values", "new_values", "salt"))
        if not fits or not self._seal_fits(row) or (v1 is None and v2 is None):
            return "the entry, or its seal, was changed"
        if sequence == self.seen.sequence and self.differs_from_checkpoint(v1, v2):
            return WRITTEN_ANEW
        self._v1, self._v2 = v1, v2
        return None

    def differs_from_checkpoint(self, v1: bytes | None, v2: bytes | None) -> bool:
        return self.seen.hash != (v1 if self.seen.version == 1 else v2)

    def _values_fit(self, row: RowMapping) -> bool:
        """Whether the entry's values are those that its digests, or its old seal, were made over."""
        if (v1 := row["hash_v1"]) is not None and self._v1 is not None:
            values = {side: row[side] and decode_values(row[side]) for side in ("old_values", "new_values")}
            if seal_v1(self._v1, self.tenant, row["sequence"], dict(row) | values) != v1:
                return False
            if row["salt"] is None:
                return True
        salt = row["salt"] or b""
        return all(
            row[digest] == (None if row[side] is None else values_digest(salt, row[side]))
            for side, digest in (("old_values", "old_digest"), ("new_values", "new_digest"))
        )

    def _seal_fits(self, row: RowMapping) -> bool:
        v1, v2 = row["hash_v1"], row["hash"]
        return v2 is None or (self._v2 is not None and seal_v2(self._v2, self.tenant, row["sequence"], row, v1) == v2)


def _values(row: RowMapping) -> dict[str, Any]:
    values = None if row["new_values"] is None else decode_values(row["new_values"])
    return values if isinstance(values, dict) else {}


def _named(row: RowMapping) -> list[int]:
    """The entries that an erasure's entry names."""
    entries = _values(row).get("entries")
    return [entry for entry in entries if _is_id(entry)] if isinstance(entries, list) else []


def _is_id(value: Any) -> bool:
    return type(value) is int and abs(value) < 2**63


def _described(row: RowMapping) -> str:
    who = "" if row["user_name"] is None else f"{row['user_name']!r}, "
    return f"entry {row['id']} ({who}{row['created_at'].astimezone(UTC).isoformat(sep=' ', timespec='seconds')})"
