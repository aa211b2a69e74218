"""What clients see of notifications, and changes of how a person is told."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET
from sqlalchemy import Select, Text, bindparam, func, select, update

from app.access.permissions import Permission
from app.admin.notifications import queries
from app.admin.notifications.queries import Reader, Told
from app.admin.notifications.schemas import (
    Channels,
    Digest,
    Notification,
    NotificationActor,
    NotificationKind,
    NotificationRecord,
    NotificationSettings,
    NotificationSettingsChange,
    QuietHours,
    QuietHoursChange,
    Remind,
)
from app.locales import Locale
from app.models import NotificationSettings as Row
from app.models import TenantSettings
from app.records.transaction import Transaction
from app.sentences import sentence

c = Row.__table__.c
_mine = c.user_id == bindparam("me", type_=Text)
SETTINGS: Select[Any] = select(
    c.hidden,
    c.emailed,
    c.digest,
    c.digest_at,
    c.quiet_from,
    c.quiet_to,
    func.coalesce(c.timezone, select(TenantSettings.timezone).scalar_subquery(), type_=Text()),
    c.locale,
    c.follow_up_minutes,
    c.closing_minutes,
).where(_mine)
WRITABLE = tuple(column for column in c if not column.primary_key)
LOCKED: Select[Any] = select(*WRITABLE).where(_mine).with_for_update()
STORE = update(Row).where(_mine).values({column: bindparam(column.name) for column in WRITABLE})


def shown(tx: Transaction, reader: Reader, told: Told) -> Notification:
    """A notification as this person reads it."""
    # The address of a webhook is for those who may change it.
    title = told.title if told.resource_type != "webhook" or tx.actor.can(Permission.CONFIGURE) else None
    said = sentence(
        reader.locale,
        reader.zone,
        told.kind,
        told.resource_type,
        actor=told.actor_name,
        title=title,
        data=told.data,
    )
    return Notification(
        id=told.id,
        kind=NotificationKind(told.kind),
        at=told.at,
        read_at=told.read_at,
        actor=None if told.actor_id is None else NotificationActor(told.actor_id, told.actor_name),
        record=NotificationRecord(told.resource_type, told.resource_id, title),
        text=said,
    )


async def mark_read(tx: Transaction, notification_id: int) -> Notification:
    """Note that it is read; what is read stays so. Raises AppError NOTIFICATION_NOT_FOUND."""
    await queries.read(tx, notification_id)
    return shown(tx, await queries.reader_of(tx), await queries.get(tx, notification_id))


async def get_settings(tx: Transaction) -> NotificationSettings:
    """How the person who asks wants to be told."""
    row = (await tx.connection.execute(SETTINGS, {"me": tx.actor.user_id})).one()
    hidden, emailed, digest, digest_at, quiet_from, quiet_to, timezone, locale, follow_ups, closings = row
    return NotificationSettings(
        kinds={kind: Channels(in_app=kind not in hidden, email=kind in emailed) for kind in NotificationKind},
        digest=Digest(digest),
        digest_at=digest_at,
        quiet_hours=None if quiet_from is None else QuietHours(from_=quiet_from, to=quiet_to),
        timezone=timezone,
        locale=Locale(locale),
        remind=Remind(follow_ups, closings),
    )


async def change_settings(tx: Transaction, data: NotificationSettingsChange) -> NotificationSettings:
    """Change the settings that are present."""
    given = data.given()
    me = {"me": tx.actor.user_id}
    ((row),) = (await tx.connection.execute(LOCKED, me)).mappings().all()
    stored = dict(row) | {name: value for name, value in given.items() if name in row}
    for kind, wanted in given.get("kinds", {}).items():
        if wanted.in_app is not UNSET:
            stored["hidden"] = _with(stored["hidden"], kind, holds=not wanted.in_app)
        if wanted.email is not UNSET:
            stored["emailed"] = _with(stored["emailed"], kind, holds=wanted.email)
    if "quiet_hours" in given:
        hours: QuietHoursChange | None = given["quiet_hours"]
        stored["quiet_from"], stored["quiet_to"] = (hours.from_, hours.to) if hours else (None, None)
    if "remind" in given:
        for column, minutes in (
            ("follow_up_minutes", given["remind"].follow_ups),
            ("closing_minutes", given["remind"].closings),
        ):
            stored[column] = stored[column] if minutes is UNSET else minutes
    if stored != row:
        await tx.connection.execute(STORE, stored | me)
    return await get_settings(tx)


def _with(kinds: list[str], kind: NotificationKind, *, holds: bool) -> list[str]:
    """The list with this kind, or without it; in one order, so that equal settings are stored alike."""
    return sorted({*kinds, kind.value} if holds else {*kinds} - {kind.value})
