"""Reads each tenant's feed, and compares the customers and contacts that it names; at first, all that are there."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import text

from app.admin.duplicates.finding import BY_INDEX, by_kind, country_of, forget_dismissals, refresh
from app.db.session import Session
from app.events.watch import FeedWatch

# So many events, or records, at a time: a step takes some tenths of a second.
EVENTS, RECORDS = 500, 200
KINDS = {"customer": "customers", "contact": "contacts"}

BEHIND = text("SELECT mark, tenants FROM crm_duplicates_behind(CAST(:since AS bigint))")
# What is there now is walked through by id; what happens from now on, the feed says.
BEGIN = text("""
    INSERT INTO duplicate_states (tenant_id, place)
    SELECT current_setting('crm.tenant'), coalesce(max(sequence), 0) FROM audit_seals ON CONFLICT DO NOTHING
""")
# Of several workers, one at a time.
STATE = text("SELECT place, customers_to, contacts_to FROM duplicate_states FOR UPDATE SKIP LOCKED")
ENDS = text("""
    SELECT coalesce((SELECT max(sequence) FROM audit_seals), 0), coalesce((SELECT sequence FROM audit_cuts), 0)
""")
NAMED = text("""
    SELECT DISTINCT resource_type, resource_id, action IN ('purge', 'erase') FROM audit_seals
        JOIN audit_entries ON audit_entries.tenant_id = audit_seals.tenant_id AND id = entry_id
    WHERE sequence > :after AND sequence <= :until
        AND (resource_type IN ('customer', 'contact') OR resource_type = 'settings' AND new_values ? 'country')
""")
NEXT = {
    kind: text(f"SELECT id FROM {kind} WHERE id > :after AND deleted_at IS NULL ORDER BY id LIMIT :most")  # noqa: S608 -- our own names
    for kind in KINDS.values()
}
READ = text("UPDATE duplicate_states SET place = :place")
BEGIN_AGAIN = text("UPDATE duplicate_states SET customers_to = 0, contacts_to = 0, place = :place")
WALKED = {
    kind: text(f"UPDATE duplicate_states SET {kind}_to = :until")  # noqa: S608 -- our own names
    for kind in KINDS.values()
}


class _State(NamedTuple):
    place: int
    customers_to: int | None
    contacts_to: int | None


class DuplicateWatch(FeedWatch):
    """Keeps up what may be duplicates."""

    name = "duplicates"
    look_seconds = 2.0
    waits = "duplicates wait: looking for changes failed, and is tried again"
    fails = "duplicates can't be looked for and are tried again"

    async def behind(self, since: int | None) -> tuple[int, list[str]]:
        """The tenants whose events it has not read."""
        async with self._database.maintenance() as session:
            mark, tenants = (await session.execute(BEHIND, {"since": since})).one()
            return mark, tenants

    async def step(self, tenant: str) -> bool:
        """The tenant's next events, else its next records; returns whether there is more. Raises AppError."""
        async with self._database.in_tenant(tenant) as session:
            await session.execute(BY_INDEX)
            await session.execute(BEGIN)
            found = (await session.execute(STATE)).all()
            if not found:
                return False  # another worker has it
            state = _State(*found[0])
            newest, cut = (await session.execute(ENDS)).one()
            if state.place < cut:
                # What happened meanwhile is not told any more.
                await session.execute(BEGIN_AGAIN, {"place": newest})
                return True
            if state.place < newest:
                until = min(state.place + EVENTS, newest)
                await self._read(session, state, until)
                return True
            return await self._walk(session, state)

    async def _read(self, session: Session, state: _State, until: int) -> None:
        """The records that these events are about."""
        rows = (await session.execute(NAMED, {"after": state.place, "until": until})).all()
        if any(resource == "settings" for resource, _, _ in rows):
            # Phone numbers are read in another country now.
            await session.execute(BEGIN_AGAIN, {"place": state.place})
        country = await country_of(session)
        for kind, ids in by_kind((KINDS[name], each) for name, each, _ in rows if name in KINDS).items():
            await refresh(session, kind, ids, country)
        for kind, ids in by_kind((KINDS[name], each) for name, each, gone in rows if name in KINDS and gone).items():
            await forget_dismissals(session, kind, ids)
        await session.execute(READ, {"place": until})

    async def _walk(self, session: Session, state: _State) -> bool:
        """The next records of those that were there before; returns whether there are more."""
        for kind, after in (("customers", state.customers_to), ("contacts", state.contacts_to)):
            if after is None:
                continue
            ids = (await session.execute(NEXT[kind], {"after": after, "most": RECORDS})).scalars().all()
            if ids:
                await refresh(session, kind, ids, await country_of(session))
            await session.execute(WALKED[kind], {"until": ids[-1] if len(ids) == RECORDS else None})
            return True
        return False
