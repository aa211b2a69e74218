"""What the first request of a tenant or a person stores: the tenant's settings and stages, the person's name."""

from __future__ import annotations

import time
from datetime import timedelta

from sqlalchemy import Boolean, bindparam, func, or_, select
from sqlalchemy.dialects.postgresql import insert

from app.access.actor import Actor
from app.db.database import Database, Origin
from app.db.session import Session
from app.models import GoImport, TenantSettings, User
from app.records.transaction import writing
from app.settings import Settings
from app.web.errors import AppError, Code

REMEMBERED_SECONDS = 600
MAX_KEYS = 50_000
CLOSED = select(GoImport.closed_at).where(GoImport.opened_at.is_(None))
# They are compiled once: each person's first request waits for them.
STORE_SETTINGS = (
    insert(TenantSettings)
    .values(tenant_id=bindparam("tenant"), default_currency=bindparam("money"), timezone=bindparam("zone"))
    .on_conflict_do_nothing()
)
CREATE_STAGES = select(func.crm_create_default_stages())
_person = insert(User).values(
    tenant_id=bindparam("tenant"),
    id=bindparam("person"),
    name=bindparam("called"),
    email=bindparam("address"),
    role=bindparam("token_role"),
)
_latest = _person.excluded
STORE_PERSON = _person.on_conflict_do_update(
    index_elements=["tenant_id", "id"],
    set_={
        "name": func.coalesce(_latest.name, User.name),
        "email": func.coalesce(_latest.email, User.email),
        "role": _latest.role,
        "last_seen_at": func.now(),
    },
    where=or_(
        User.last_seen_at < func.now() - timedelta(seconds=REMEMBERED_SECONDS),
        User.role != _latest.role,
        User.email.is_distinct_from(func.coalesce(_latest.email, User.email)),
        bindparam("anew", type_=Boolean),
    ),
)
MOVING = "The data of this organization are being moved in: it opens when all of them are here"
RETRY_AFTER = {"Retry-After": "60"}


class TenantBootstrap:
    """Remembers who was here, so that a worker tells the database at most every ten minutes."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        self._seen: dict[tuple[str, str], tuple[float, str, str | None]] = {}
        self._programs: dict[tuple[str, str], float] = {}

    async def ensure(self, actor: Actor, *, anew: bool = False) -> None:
        """Store a person who was not seen lately, and the tenant's settings and stages if it has none yet. With `anew`,
        also who was: the database looks again whether the person is expected under the email.

        This is a separate transaction and not audited, since nobody changed anything. Raises AppError while the
        organization's data are being moved in.
        """
        if actor.access_token is not None:
            await self._refuse_while_moving(actor)
            return
        # The token's, whatever the organization makes of it. With another role it is told at once, since live streams
        # end when a person has a lower one; and with another email, under which the person may be expected.
        role = (actor.token_role or actor.role).value
        person = (actor.tenant_id, actor.user_id)
        seen_at, *said = self._seen.get(person, (-REMEMBERED_SECONDS, None, None))
        if not anew and said == [role, actor.email] and time.monotonic() - seen_at < REMEMBERED_SECONDS:
            return
        async with writing(self._database, actor, Origin()) as tx:
            session, tenant = tx.connection, {"tenant": actor.tenant_id}
            await _refuse_moving(session)
            await session.execute(
                STORE_SETTINGS,
                tenant | {"money": self._settings.default_currency, "zone": self._settings.report_timezone},
            )
            await session.execute(CREATE_STAGES)
            await session.execute(
                STORE_PERSON,
                tenant
                | {
                    "person": actor.user_id,
                    "called": actor.name,
                    "address": actor.email,
                    "token_role": role,
                    "anew": anew,
                },
            )
        if len(self._seen) >= MAX_KEYS:
            self._seen.clear()
        self._seen[person] = (time.monotonic(), role, actor.email)

    async def _refuse_while_moving(self, actor: Actor) -> None:
        """For a program with an access token: that it was here does not say that its person was."""
        person = (actor.tenant_id, actor.user_id)
        if time.monotonic() - self._programs.get(person, -REMEMBERED_SECONDS) < REMEMBERED_SECONDS:
            return
        async with self._database.reader(actor, one_statement=True) as session:
            await _refuse_moving(session)
        if len(self._programs) >= MAX_KEYS:
            self._programs.clear()
        self._programs[person] = time.monotonic()


async def _refuse_moving(session: Session) -> None:
    if (await session.execute(CLOSED)).scalar_one_or_none() is not None:
        raise AppError(Code.SERVICE_UNAVAILABLE, MOVING, headers=RETRY_AFTER)
