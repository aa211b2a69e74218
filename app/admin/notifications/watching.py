"""Tells people what others did to what is theirs, by each tenant's feed, and reminds them of what is due."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import text

from app.admin.notifications.mentions import People, mentioned
from app.admin.notifications.queries import TELL
from app.admin.notifications.schemas import NotificationKind
from app.db.database import Database
from app.db.session import Session
from app.events.places import NEWS
from app.events.watch import LONGEST_PAUSE_SECONDS, FeedWatch

READER = "notifications"
REMIND_SECONDS = 2.0
# So many at a time: a note has up to 80 KB.
EVENTS = 200
REMINDERS = 1000
KEPT_DAYS = 90
PRUNED_AT_ONCE = 1000

# Of several workers, one at a time.
BEGIN = text("""
    INSERT INTO feed_places (tenant_id, reader, sequence) VALUES (current_setting('crm.tenant'), 'notifications', 0)
    ON CONFLICT DO NOTHING
""")
HOLD = text("SELECT sequence FROM feed_places WHERE reader = 'notifications' FOR UPDATE SKIP LOCKED")
MOVE_ON = text("UPDATE feed_places SET sequence = :until WHERE reader = 'notifications'")
NEWEST = text("SELECT coalesce(max(sequence), 0) FROM audit_seals")
CHANGES = text("""
    SELECT entry.id, via, resource_type, resource_id, user_id, user_name, coalesce(operation_id::text, entry.id::text),
        coalesce(new_values ->> 'owner_id', new_values ->> 'assigned_to'),
        CASE WHEN resource_type = 'project' THEN ARRAY(
            SELECT jsonb_array_elements_text(new_values -> 'assignees')
            EXCEPT SELECT jsonb_array_elements_text(coalesce(old_values -> 'assignees', '[]'))
        ) END,
        resource_type = 'deal' AND action = 'update' AND new_values ? 'stage_id',
        CASE WHEN resource_type = 'note' THEN new_values ->> 'content' END,
        CASE WHEN resource_type = 'note' THEN old_values ->> 'content' END,
        resource_type = 'webhook' AND new_values ->> 'is_active' = 'false' AND user_id IS NULL,
        resource_type = 'assistant_settings' AND new_values ->> 'failed_at' IS NOT NULL,
        coalesce(new_values ->> 'remind_at', new_values ->> 'next_follow_up_at',
            new_values ->> 'expected_close_date') IS NOT NULL
    FROM audit_seals AS seal JOIN audit_entries AS entry ON entry.tenant_id = seal.tenant_id AND entry.id = entry_id
    WHERE sequence > :after AND sequence <= :until AND action IN ('create', 'update')
        AND resource_type IN ('customer', 'deal', 'activity', 'project', 'note', 'webhook', 'assistant_settings')
    ORDER BY sequence
""")
# Whose each deal was right after the change.
OWNERS = text("""
    SELECT entry_id, CASE WHEN later.id IS NULL THEN owner_id ELSE later.former END
    FROM unnest(CAST(:ids AS bigint[]), CAST(:entries AS bigint[])) AS moved (id, entry_id)
        JOIN deals ON deals.id = moved.id AND deleted_at IS NULL
        LEFT JOIN LATERAL (
            SELECT audit_entries.id, old_values ->> 'owner_id' AS former FROM audit_entries
            WHERE resource_type = 'deal' AND resource_id = moved.id AND audit_entries.id > entry_id
                AND action = 'update' AND new_values ? 'owner_id'
            ORDER BY audit_entries.id LIMIT 1
        ) AS later ON true
""")
# What people want to hear nothing of.
UNWANTED = text("""
    SELECT user_id, kind FROM notification_settings CROSS JOIN unnest(hidden) AS kind
    WHERE user_id = ANY (CAST(:people AS text[])) AND kind <> ALL (emailed)
""")
ADMINS = text("SELECT id FROM users WHERE role = 'admin'")
# Of what is set to a time for which the reminder should have come already, but is still ahead, people are told at once;
# not those who are told of it anyway.
REMIND_NOW = text("""
    WITH ahead AS (
        SELECT assigned_to AS user_id, 'activity' AS resource_type, id, remind_at AS named, due_date AS due, all_day
        FROM activities CROSS JOIN (SELECT timezone FROM settings) AS organization
        WHERE id = ANY (CAST(:activity AS bigint[])) AND deleted_at IS NULL AND status = 'scheduled'
            AND remind_at <= now()
            AND (due_date IS NULL AND remind_at >= now() - interval '1 day' OR due_date >= CASE WHEN all_day
                THEN timezone('UTC', date_trunc('day', timezone(timezone, now()))) ELSE now() END)
        UNION ALL
        SELECT assigned_to, resource_type, id, moment, moment, is_day FROM (
            SELECT assigned_to, 'customer' AS resource_type, customers.id, next_follow_up_at AS moment,
                timezone('UTC', next_follow_up_at)::time = '00:00' AS is_day, follow_up_minutes AS minutes
            FROM customers JOIN notification_settings ON user_id = assigned_to
            WHERE customers.id = ANY (CAST(:customer AS bigint[])) AND deleted_at IS NULL
            UNION ALL
            SELECT owner_id, 'deal', deals.id, expected_close_date,
                timezone('UTC', expected_close_date)::time = '00:00', closing_minutes
            FROM deals JOIN notification_settings ON user_id = owner_id
                JOIN pipeline_stages AS stage ON stage.id = stage_id AND stage.kind = 'open'
            WHERE deals.id = ANY (CAST(:deal AS bigint[])) AND deals.deleted_at IS NULL
        ) AS planned CROSS JOIN (SELECT timezone FROM settings) AS organization CROSS JOIN LATERAL (
            SELECT CASE WHEN is_day THEN timezone(timezone, timezone('UTC', moment)::date + interval '1 day')
                ELSE moment END AS ends
        ) AS latest
        WHERE ends > now() AND ends - make_interval(mins => minutes) <= now()
    )
    INSERT INTO notifications (
        tenant_id, user_id, kind, key, resource_type, resource_id, data, in_app, by_email
    )
    SELECT current_setting('crm.tenant'), user_id, 'reminder',
        concat_ws('/', 'reminder', resource_type, id, extract(epoch FROM named)), resource_type, id,
        jsonb_build_object('due_at', due, 'all_day', all_day), coalesce('reminder' <> ALL (hidden), true),
        coalesce('reminder' = ANY (emailed), false)
    FROM ahead LEFT JOIN notification_settings AS person USING (user_id)
    WHERE user_id IS NOT NULL AND concat_ws('/', user_id, resource_type, id) <> ALL (CAST(:told AS text[]))
        AND ('reminder' <> ALL (hidden) OR 'reminder' = ANY (emailed)) IS NOT FALSE
    ON CONFLICT DO NOTHING
""")
REMIND = text("SELECT crm_remind(:most)")
PRUNE = text("SELECT crm_prune_notifications(:days, :most)")


class _Change(NamedTuple):
    """What an event says, as far as somebody may be told of it."""

    entry_id: int
    via: str | None
    resource_type: str
    resource_id: int
    actor_id: str | None
    actor_name: str | None
    # What was done at once: a request, or a job.
    action: str
    holder: str | None
    assignees: list[str] | None
    is_moved: bool
    content: str | None
    former_content: str | None
    is_switched_off: bool
    is_refused: bool
    has_reminder: bool


class NotificationWatch(FeedWatch):
    """Tells people of changes, and reminds them."""

    name = "notifications"
    look_seconds = 1.0
    waits = "notifications wait: looking for changes failed"
    fails = "people can't be told of changes, which is tried again"

    async def run(self) -> None:
        """Run until it is cancelled."""
        await asyncio.gather(super().run(), self._remind())

    async def behind(self, since: int | None) -> tuple[int, list[str]]:
        """The tenants whose events it has not read."""
        async with self._database.maintenance() as session:
            mark, tenants, _ = (await session.execute(NEWS, {"name": READER, "since": since})).one()
            return mark, tenants

    async def step(self, tenant: str) -> bool:
        """Tell of the tenant's next events; returns whether there are more. Raises AppError."""
        async with self._database.in_tenant(tenant) as session:
            await session.execute(BEGIN)
            held = (await session.execute(HOLD)).scalars().all()
            newest = (await session.execute(NEWEST)).scalar_one()
            if not held or held[0] >= newest:
                return False  # another worker has it, or it was done meanwhile
            until = min(held[0] + EVENTS, newest)
            rows = await session.execute(CHANGES, {"after": held[0], "until": until})
            await _tell(session, [_Change(*row) for row in rows])
            await session.execute(MOVE_ON, {"until": until})
            return bool(until < newest)

    async def _remind(self) -> None:
        """Make the reminders that are due, of all tenants."""
        failures = 0
        while True:
            made = 0
            try:
                made = await remind(self._database)
                failures = 0
            except Exception as error:
                if not failures:
                    self.log.warning("reminders wait: looking for them failed", exc_info=error)
                failures = min(failures + 1, 10)
            if made < REMINDERS:
                await asyncio.sleep(min(REMIND_SECONDS * 2**failures, LONGEST_PAUSE_SECONDS))


async def remind(database: Database) -> int:
    """Make a batch of the reminders that are due, of all tenants; returns how many. Raises AppError."""
    async with database.maintenance() as session:
        return int((await session.execute(REMIND, {"most": REMINDERS})).scalar_one())


async def prune_notifications(database: Database) -> int:
    """Delete a batch of notifications that were kept long enough; returns how many. Raises AppError."""
    async with database.maintenance() as session:
        given = {"days": KEPT_DAYS, "most": PRUNED_AT_ONCE}
        return int((await session.execute(PRUNE, given)).scalar_one())


async def _tell(session: Session, changes: Sequence[_Change]) -> None:
    """Store what these changes tell to whom."""
    told: dict[tuple[str, str], dict[str, Any]] = {}
    found = [
        *_assigned(changes),
        *await _moved(session, changes),
        *await _mentioned(session, changes),
        *await _for_admins(session, changes),
    ]
    people = sorted({person for person, *_ in found})
    unwanted = {(*row,) for row in await session.execute(UNWANTED, {"people": people})} if people else set()
    for person, kind, key, change in found:
        # Of the several things that one action is for a person, the first one is told that the person wants to hear.
        if person == change.actor_id or (person, kind.value) in unwanted:
            continue
        before = told.get((person, key))
        if before is None:
            told[person, key] = {
                "user_id": person,
                "kind": kind,
                "key": key,
                "actor_id": change.actor_id,
                "actor_name": change.actor_name,
                "resource_type": change.resource_type,
                "resource_id": change.resource_id,
                "data": {"count": 1},
            }
        elif before["kind"] == kind:
            before["data"]["count"] += 1
    if told:
        await session.execute(TELL, {"told": [*told.values()]})
    planned = {
        kind: sorted({c.resource_id for c in changes if c.has_reminder and c.resource_type == kind})
        for kind in ("activity", "customer", "deal")
    }
    if any(planned.values()):
        handed = [
            f"{c.holder}/{c.resource_type}/{c.resource_id}"
            for c in changes
            if c.holder is not None
            and c.holder != c.actor_id
            and (c.holder, NotificationKind.ASSIGNED.value) not in unwanted
        ]
        await session.execute(REMIND_NOW, planned | {"told": handed})


Told = Iterable[tuple[str, NotificationKind, str, _Change]]


def _assigned(changes: Sequence[_Change]) -> Told:
    """Whoever became responsible for something."""
    for change in changes:
        for person in dict.fromkeys([change.holder, *(change.assignees or ())]):
            if person is not None and change.resource_type not in {"note", "webhook", "assistant_settings"}:
                yield person, NotificationKind.ASSIGNED, f"action/{change.action}", change


async def _moved(session: Session, changes: Sequence[_Change]) -> Told:
    """Whose deal went to another stage."""
    moved = [change for change in changes if change.is_moved]
    if not moved:
        return []
    given = {"ids": [change.resource_id for change in moved], "entries": [change.entry_id for change in moved]}
    owners = dict((await session.execute(OWNERS, given)).all())
    return [
        (owner, NotificationKind.DEAL_MOVED, f"action/{change.action}", change)
        for change in moved
        if (owner := owners.get(change.entry_id)) is not None
    ]


async def _mentioned(session: Session, changes: Sequence[_Change]) -> Told:
    """Whom a note names, and did not name before. Notes that are moved in name people as of long ago."""
    notes = [each for each in changes if each.content is not None and "@" in each.content and each.via != "import"]
    if not notes:
        return []
    people = await People.read(session)
    return [
        (person, NotificationKind.MENTIONED, f"action/{note.action}", note)
        for note in notes
        for person in sorted(mentioned(note.content or "", people) - mentioned(note.former_content or "", people))
    ]


async def _for_admins(session: Session, changes: Sequence[_Change]) -> Told:
    """The admins, where a webhook failed for so long that the service switched it off, and where the assistant's
    provider refuses its key.
    """
    failed = [change for change in changes if change.is_switched_off or change.is_refused]
    if not failed:
        return []
    admins = (await session.execute(ADMINS)).scalars().all()
    return [
        (
            admin,
            NotificationKind.ASSISTANT_FAILED if change.is_refused else NotificationKind.WEBHOOK_DISABLED,
            f"{change.resource_type}/{change.action}/{change.resource_id}",
            change,
        )
        for change in failed
        for admin in admins
    ]
