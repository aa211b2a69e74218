"""The assistant's settings and what was used, as the database has them."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, NamedTuple

from sqlalchemy import Select, bindparam, delete, func, select, text
from sqlalchemy.dialects.postgresql import insert

from app.assistant.provider import Usage
from app.db.session import Session
from app.models import AssistantSettings as Row
from app.records.transaction import Transaction

c = Row.__table__.c


class Stored(NamedTuple):
    """What an organization has set."""

    version: int = 0
    provider: str | None = None
    model: str | None = None
    base_url: str | None = None
    secret: bytes | None = None
    secret_end: str | None = None
    secret_changed_at: datetime | None = None
    failure: str | None = None
    failed_at: datetime | None = None
    monthly_tokens: int | None = None
    monthly_tokens_per_person: int | None = None


class Used(NamedTuple):
    """The tokens of this month, in the organization's timezone, and the day and the moment when it ends."""

    by_all: int
    by_me: int
    next_day: date
    ends_at: datetime


STORED: Select[Any] = select(*(c[name] for name in Stored._fields))
LOCKED: Select[Any] = STORED.with_for_update()
WRITABLE = tuple(name for name in Stored._fields if name != "version")
STORE = insert(Row).values({name: bindparam(name, type_=c[name].type) for name in ("tenant_id", *WRITABLE)})
STORE = STORE.on_conflict_do_update(
    index_elements=["tenant_id"], set_={name: getattr(STORE.excluded, name) for name in WRITABLE}
)
REMOVE = delete(Row).returning(func.count())
MONTH = "date_trunc('month', timezone(timezone, now()))"
USED = text(f"""
    SELECT coalesce(sum(input_tokens + output_tokens), 0)::bigint,
        coalesce(sum(input_tokens + output_tokens) FILTER (WHERE user_id = :me), 0)::bigint,
        ({MONTH} + interval '1 month')::date, timezone(timezone, {MONTH} + interval '1 month')
    FROM settings LEFT JOIN assistant_usage ON month = {MONTH}::date GROUP BY timezone
""")  # noqa: S608 -- put together from parts of its own
USE = text(f"""
    INSERT INTO assistant_usage (tenant_id, month, user_id, input_tokens, output_tokens)
    SELECT current_setting('crm.tenant'), {MONTH}::date, :me, :input, :output FROM settings
    ON CONFLICT (tenant_id, month, user_id) DO UPDATE SET
        input_tokens = assistant_usage.input_tokens + excluded.input_tokens,
        output_tokens = assistant_usage.output_tokens + excluded.output_tokens
""")  # noqa: S608 -- put together from parts of its own
# The same once a day, so that admins are told once a day. Of the operator's key, too, which those wait for as well.
FAIL = text("""
    INSERT INTO assistant_settings AS known (tenant_id, failure, failed_at)
    VALUES (current_setting('crm.tenant'), :failure, now())
    ON CONFLICT (tenant_id) DO UPDATE SET failure = excluded.failure, failed_at = CASE
        WHEN known.failed_at > now() - interval '1 day' AND coalesce(known.failure, excluded.failure) = excluded.failure
        THEN known.failed_at ELSE now() END
    WHERE known.failure IS DISTINCT FROM excluded.failure OR (known.failed_at < now() - interval '1 day') IS NOT FALSE
""")
# When they were told last stays, so that a key which works now and then tells them once a day, too.
WORK = text("UPDATE assistant_settings SET failure = NULL WHERE failure IS NOT NULL")


async def stored(tx: Transaction, *, lock: bool = False) -> Stored:
    """What the organization has set; nothing, if it has set nothing."""
    row = (await tx.connection.execute(LOCKED if lock else STORED)).one_or_none()
    return Stored() if row is None else Stored(*row)


async def used(tx: Transaction) -> Used:
    """What was used of this month."""
    return Used(*(await tx.connection.execute(USED, {"me": tx.actor.user_id})).one())


async def use(session: Session, user_id: str, usage: Usage) -> None:
    """Count what an answer took. The session is of the person, or of nobody in the tenant."""
    given = {"me": user_id, "input": max(usage.input_tokens, 0), "output": max(usage.output_tokens, 0)}
    await session.execute(USE, given)
