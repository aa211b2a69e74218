"""What is kept of a connected calendar: how far it is read, and which of its entries is which activity."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import JSONB

from app.access.actor import Actor
from app.access.permissions import RANK, Role
from app.admin.calendar_sync.reconcile import Content, Link, Local, Party, Taken, meeting
from app.calendars.entries import Entry, Times, Window
from app.db.database import Database
from app.records.transaction import Transaction

# What belongs into calendars, and of that, what takes up its person's time.
TYPES = ("meeting", "call", "task")
BUSY = ("meeting", "call")
DAY = timedelta(days=1)
# So many of each are followed.
MOST_LINKS, MOST_UNLINKED, MOST_TAKEN = 20_000, 5000, 5000
# What is over for so long is followed no more.
FOLLOWED_DAYS = 400

CLAIM = text("SELECT * FROM crm_claim_calendars(:most, :seconds)")
WAKE = text("SELECT crm_wake_calendars(CAST(:since AS bigint))")
# A person who is shut out meanwhile is not synced any more.
OURS = """
    id = :connection AND claims = :claims AND status = 'active'
    AND EXISTS (SELECT FROM members WHERE user_id = current_setting('crm.user') AND is_active)
"""
HOLD = text(f"""
    UPDATE calendar_connections SET claimed_until = now() + make_interval(secs => :seconds) WHERE {OURS} RETURNING id
""")  # noqa: S608 -- our own text
BEGIN = text(f"""
    UPDATE calendar_connections SET operation_id = :operation WHERE {OURS}
    RETURNING id, provider, account, calendar, calendar_name, secret, sync_token, listed_at, decision, failures
""")  # noqa: S608 -- our own text
LOCK = text(f"SELECT id FROM calendar_connections WHERE {OURS} AND operation_id = :operation FOR UPDATE")  # noqa: S608 -- our own text
READ_UP_TO = text("""
    UPDATE calendar_connections SET sync_token = :token, vanished = NULL, decision = NULL,
        listed_at = CASE WHEN :complete THEN now() ELSE listed_at END
    WHERE id = :connection
""")
ASK = text("""
    UPDATE calendar_connections SET status = 'needs_confirmation', vanished = :vanished, claimed_until = NULL
    WHERE id = :connection
""")
# Changes here that came while it was synced made it due.
DONE = text(f"""
    UPDATE calendar_connections SET claimed_until = NULL, failures = 0, last_error = :problem, last_synced_at = now(),
        next_sync_at = least(next_sync_at, now() + make_interval(secs => :seconds))
    WHERE {OURS} RETURNING id
""")  # noqa: S608 -- our own text
FAILED = text(f"""
    UPDATE calendar_connections SET claimed_until = NULL, failures = failures + 1, last_error = :problem,
        next_sync_at = now() + make_interval(secs => :seconds)
    WHERE {OURS} RETURNING id
""")  # noqa: S608 -- our own text
RELEASE = text(f"""
    UPDATE calendar_connections SET claimed_until = NULL, next_sync_at = now() WHERE {OURS} RETURNING id
""")  # noqa: S608 -- our own text
# Not of one that its person has connected again meanwhile.
RECONNECT = text(f"""
    UPDATE calendar_connections SET status = 'needs_reconnect', claimed_until = NULL, last_error = :problem
    WHERE {OURS} AND operation_id IS NOT NULL RETURNING id
""")  # noqa: S608 -- our own text

ACTIVITY = """
    activity.version, activity.title, activity.description, activity.due_date, activity.all_day, activity.duration,
    activity.status, activity.remind_at
"""
BELONGS = """
    activity.assigned_to = current_setting('crm.user') AND activity.deleted_at IS NULL
    AND activity.type IN ('meeting', 'call', 'task') AND activity.due_date IS NOT NULL
"""
LINKS = text(f"""
    SELECT linked.id, activity_id, remote_id, key, series, uid, etag, here, there, sent, is_kept, starts_at, ends_at,
        linked.all_day, {BELONGS} AND activity.status <> 'cancelled', {ACTIVITY}
    FROM calendar_entries AS linked LEFT JOIN activities AS activity ON activity.id = linked.activity_id
    WHERE connection_id = :connection AND linked.activity_id IS NOT NULL ORDER BY linked.id LIMIT {MOST_LINKS}
""")  # noqa: S608 -- our own text
UNLINKED = text(f"""
    SELECT activity.id, {ACTIVITY} FROM activities AS activity
    WHERE {BELONGS} AND activity.status = 'scheduled' AND activity.due_date BETWEEN :since AND :until AND NOT EXISTS (
        SELECT FROM calendar_entries WHERE connection_id = :connection AND activity_id = activity.id
    ) ORDER BY activity.due_date, activity.id LIMIT {MOST_UNLINKED}
""")  # noqa: S608 -- our own text
CONTENTS = text(f"""
    SELECT activity.id, activity.type, {ACTIVITY} FROM activities AS activity
    WHERE {BELONGS} AND id = ANY (CAST(:ids AS bigint[]))
""")  # noqa: S608 -- our own text
TAKEN = text(f"""
    SELECT remote_id, starts_at, ends_at, all_day, series FROM calendar_entries
    WHERE connection_id = :connection AND activity_id IS NULL LIMIT {MOST_TAKEN + 1}
""")  # noqa: S608 -- our own text
# The same invitation in another calendar of this person's.
ELSEWHERE = text("""
    SELECT uid, CASE WHEN series IS NOT NULL THEN starts_at END, activity_id FROM calendar_entries AS other
    WHERE user_id = current_setting('crm.user') AND activity_id IS NOT NULL AND connection_id <> :connection
        AND uid = ANY (CAST(:uids AS text[])) AND NOT EXISTS (
            SELECT FROM calendar_entries AS mine
            WHERE mine.connection_id = :connection AND mine.activity_id = other.activity_id
        )
""")
# Meetings that are not in this calendar, as far as the service knows.
MET = text("""
    SELECT title, due_date, all_day, customer_id, id FROM activities AS activity
    WHERE assigned_to = current_setting('crm.user') AND deleted_at IS NULL AND type = 'meeting'
        AND status <> 'cancelled' AND due_date = ANY (CAST(:starts AS timestamptz[])) AND NOT EXISTS (
            SELECT FROM calendar_entries WHERE connection_id = :connection AND activity_id = activity.id
        )
    ORDER BY id DESC
""")
# A contact says more than the customer alone.
PARTIES = text("""
    SELECT email_folded, id, CAST(NULL AS bigint) FROM customers
    WHERE email_folded = ANY (CAST(:emails AS text[])) AND deleted_at IS NULL
    UNION ALL
    SELECT found.email, contacts.customer_id, contacts.id
    FROM crm_find_contacts(CAST(:emails AS text[])) AS found JOIN contacts ON contacts.id = found.id
    WHERE contacts.deleted_at IS NULL
    ORDER BY 3 DESC NULLS FIRST
""")
KEPT = """
    id bigint, activity_id bigint, remote_id text, key text, series text, uid text, etag text, here text[],
    there text[], sent text[], is_kept boolean, starts_at timestamptz, ends_at timestamptz, all_day boolean
"""
ADD = text(f"""
    INSERT INTO calendar_entries (tenant_id, connection_id, user_id, activity_id, remote_id, key, series, uid, etag,
        here, there, sent, starts_at, ends_at, all_day)
    SELECT current_setting('crm.tenant'), :connection, current_setting('crm.user'), activity_id, remote_id, key, series,
        uid, etag, here, there, sent, starts_at, ends_at, all_day
    FROM jsonb_to_recordset(:rows) AS row ({KEPT})
    ON CONFLICT (tenant_id, connection_id, remote_id) DO UPDATE
        SET starts_at = excluded.starts_at, ends_at = excluded.ends_at, all_day = excluded.all_day,
            series = excluded.series
        WHERE calendar_entries.activity_id IS NULL AND excluded.activity_id IS NULL
""").bindparams(bindparam("rows", type_=JSONB))  # noqa: S608 -- our own text
KEEP = text(f"""
    UPDATE calendar_entries AS kept SET remote_id = row.remote_id, series = row.series, uid = row.uid, etag = row.etag,
        here = row.here, there = row.there, sent = row.sent, is_kept = row.is_kept, starts_at = row.starts_at,
        ends_at = row.ends_at, all_day = row.all_day
    FROM jsonb_to_recordset(:rows) AS row ({KEPT})
    WHERE kept.id = row.id AND kept.connection_id = :connection
""").bindparams(bindparam("rows", type_=JSONB))  # noqa: S608 -- our own text
DROP = text("DELETE FROM calendar_entries WHERE connection_id = :connection AND id = ANY (CAST(:ids AS bigint[]))")
FREE = text("""
    DELETE FROM calendar_entries
    WHERE connection_id = :connection AND activity_id IS NULL AND remote_id = ANY (CAST(:ids AS text[]))
""")
# What was being written, and is not among what changed there since, was not written.
NOT_WRITTEN = text("""
    UPDATE calendar_entries SET sent = NULL
    WHERE connection_id = :connection AND remote_id IS NOT NULL AND sent IS NOT NULL
""")
FORGET = text(f"""
    DELETE FROM calendar_entries
    WHERE connection_id = :connection AND (ends_at < CAST(:since AS timestamptz) - interval '{FOLLOWED_DAYS} days'
        OR ends_at < :since AND (series IS NOT NULL OR activity_id IS NULL))
""")  # noqa: S608 -- our own text


class Claimed(NamedTuple):
    """A connection that this worker has, and its person, as the last token and the organization say."""

    tenant_id: str
    id: int
    claims: int
    user_id: str
    role: str
    member_role: str | None
    name: str | None
    email: str | None

    @property
    def actor(self) -> Actor:
        """The person, who does here what the calendar says."""
        roles = [Role(role) for role in (self.role, self.member_role) if role is not None]
        role = min(roles, key=RANK.__getitem__)
        return Actor(user_id=self.user_id, tenant_id=self.tenant_id, role=role, name=self.name, email=self.email)


class Connection(NamedTuple):
    """A connection as a sync begins with it."""

    id: int
    provider: str
    account: str
    calendar: str
    calendar_name: str
    secret: bytes
    sync_token: str | None
    listed_at: datetime | None
    decision: str | None
    failures: int


class Activity(NamedTuple):
    """What an activity has that its entry is made of."""

    version: int
    title: str
    description: str | None
    due_date: datetime
    all_day: bool
    duration: int | None
    status: str
    remind_at: datetime | None

    @property
    def content(self) -> Content:
        """As calendars have it."""
        end = self.due_date + (DAY if self.all_day else timedelta(minutes=self.duration or 0))
        times = Times(self.due_date, end, self.all_day)
        remind_at = self.remind_at if self.status == "scheduled" else None
        return Content(self.title, self.description, times, self.status == "completed", remind_at)


async def claim(database: Database, most: int, seconds: float) -> list[Claimed]:
    """Take connections that are due, of all tenants, for so many seconds. Raises AppError."""
    async with database.maintenance() as session:
        return [Claimed(*row) for row in await session.execute(CLAIM, {"most": most, "seconds": seconds})]


async def wake(database: Database, since: int | None) -> int:
    """Make connections due for whose person something was changed here since a mark; returns the next mark. Raises
    AppError.
    """
    async with database.maintenance() as session:
        return int((await session.execute(WAKE, {"since": since})).scalar_one())


async def links(tx: Transaction, connection_id: int) -> list[Link]:
    """Every entry of the calendar that is an activity."""
    return await tx.connection.fetch(LINKS, {"connection": connection_id}, _link, most=MOST_LINKS)


def _link(row: tuple[Any, ...]) -> Link:
    # Of the texts only digests are held: there may be many.
    entry_id, activity_id, remote_id, key, series, uid, etag, here, there, sent, is_kept = row[:11]
    starts_at, ends_at, all_day, belongs, version = row[11:16]
    local = None
    if version is not None:
        activity = Activity(*row[15:])
        local = Local(
            activity_id, version, activity.content.digests if belongs else None, activity.status == "scheduled"
        )
    times = Times(starts_at, ends_at, all_day)
    return Link(entry_id, activity_id, remote_id, key, series, uid, etag, here, there, sent, is_kept, times, local)


async def unlinked(tx: Transaction, connection_id: int, window: Window) -> list[Local]:
    """Open activities of the person's that are not in the calendar yet, those that are next first."""

    def local(row: tuple[Any, ...]) -> Local:
        activity = Activity(*row[1:])
        return Local(row[0], activity.version, activity.content.digests, is_open=True)

    given = {"connection": connection_id, "since": window.since, "until": window.until}
    return await tx.connection.fetch(UNLINKED, given, local, most=MOST_UNLINKED)


async def contents(tx: Transaction, ids: Sequence[int]) -> dict[int, tuple[str, Activity]]:
    """The type and what else these activities have, of those that belong into calendars."""
    found = await tx.connection.execute(CONTENTS, {"ids": ids})
    return {activity_id: (kind, Activity(*rest)) for activity_id, kind, *rest in found}


async def taken(tx: Transaction, connection_id: int) -> dict[str, Taken]:
    """The times of which is known that they are taken, by the entry's id."""

    def read(row: tuple[Any, ...]) -> tuple[str, Taken]:
        remote_id, starts_at, ends_at, all_day, series = row
        return remote_id, Taken(Times(starts_at, ends_at, all_day), series)

    return dict(await tx.connection.fetch(TAKEN, {"connection": connection_id}, read, most=MOST_TAKEN + 1))


async def elsewhere(tx: Transaction, connection_id: int, entries: Collection[Entry]) -> dict[tuple[str, object], int]:
    """The activities of these entries that another calendar of this person's has, too, by their occasion."""
    uids = sorted({entry.uid for entry in entries})
    rows = await tx.connection.execute(ELSEWHERE, {"connection": connection_id, "uids": uids}) if uids else ()
    return {(uid, starts_at): activity_id for uid, starts_at, activity_id in rows}


async def met(
    tx: Transaction, connection_id: int, entries: Collection[Entry], parties: Mapping[str, Party]
) -> dict[tuple[object, ...], int]:
    """The person's meetings that such entries with these people may be, by `reconcile.meeting`."""
    starts = {entry.times.starts_at for entry in entries if not parties.keys().isdisjoint(entry.attendees)}
    given = {"connection": connection_id, "starts": sorted(starts)}
    rows = await tx.connection.execute(MET, given) if starts else ()
    return {meeting(*row[:4]): row[4] for row in rows}


async def parties(tx: Transaction, entries: Collection[Entry]) -> dict[str, Party]:
    """The customers and contacts who take part in these entries, by their folded addresses."""
    emails = sorted({address for entry in entries for address in entry.attendees})
    rows = await tx.connection.execute(PARTIES, {"emails": emails}) if emails else ()
    return {email: Party(customer_id, contact_id) for email, customer_id, contact_id in rows}


def row_of(link: Link) -> dict[str, Any]:
    """A link as it is stored."""
    times = link.times
    fields = ("id", "activity_id", "remote_id", "key", "series", "uid", "etag", "is_kept")
    return {name: getattr(link, name) for name in fields} | {
        **{name: None if (value := getattr(link, name)) is None else [*value] for name in ("here", "there", "sent")},
        "starts_at": times.starts_at.isoformat(),
        "ends_at": times.ends_at.isoformat(),
        "all_day": times.all_day,
    }


def row_taken(remote_id: str, now: Taken) -> dict[str, Any]:
    """A time that is taken, as it is stored."""
    times = now.times
    return {
        "remote_id": remote_id,
        "series": now.series,
        "starts_at": times.starts_at.isoformat(),
        "ends_at": times.ends_at.isoformat(),
        "all_day": times.all_day,
    }


async def write(tx: Transaction, statement: Any, connection_id: int, rows: Sequence[Mapping[str, Any]]) -> None:
    """Execute one of the statements for many rows, if there are any."""
    if rows:
        await tx.connection.execute(statement, {"connection": connection_id, "rows": rows})


async def remove(tx: Transaction, statement: Any, connection_id: int, ids: Sequence[Any]) -> None:
    """Execute one of the statements that delete, if there is anything to delete."""
    if ids:
        await tx.connection.execute(statement, {"connection": connection_id, "ids": ids})
