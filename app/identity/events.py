"""What happened: entries in `auth_events`, never with a secret, and the limits that are counted from them."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Text, bindparam, func, insert, select, text

from app.identity.database import Transaction
from app.identity.models import AuthEvent
from app.web.email import fold_email
from app.web.errors import AppError, Code

WINDOW_SECONDS = 60
# In a minute: of one email from one network, and of all emails from one network.
MOST_OF_EMAIL, MOST_OF_NETWORK = 5, 50
# Also with the right password: logins in a minute for one email from one network, and refreshes of one session. Each
# leaves rows, and a login takes a place among those who wait for a hash.
MOST_OF_PERSON = 30

c = AuthEvent.__table__.c


class Kind(StrEnum):
    """Everything that is noted."""

    REGISTERED = "registered"
    EMAIL_VERIFIED = "email_verified"
    LOGGED_IN = "logged_in"
    LOGIN_FAILED = "login_failed"
    LINK_REFUSED = "link_refused"
    REFRESHED = "refreshed"
    TOKEN_REUSED = "token_reused"
    LOGGED_OUT = "logged_out"
    SESSION_ENDED = "session_ended"
    RESET_ASKED = "reset_asked"
    PASSWORD_RESET = "password_reset"
    PASSWORD_CHANGED = "password_changed"
    USER_ADDED = "user_added"
    USER_DISABLED = "user_disabled"
    USER_ENABLED = "user_enabled"
    ORGANIZATION_CREATED = "organization_created"
    ORGANIZATION_RENAMED = "organization_renamed"
    MEMBER_INVITED = "member_invited"
    INVITATION_WITHDRAWN = "invitation_withdrawn"
    MEMBER_JOINED = "member_joined"
    MEMBER_CHANGED = "member_changed"
    MEMBER_REMOVED = "member_removed"


NOTE = insert(AuthEvent).values(
    kind=bindparam("kind"),
    user_id=bindparam("user_id"),
    email=bindparam("email"),
    email_folded=bindparam("email_folded"),
    organization_id=bindparam("organization_id"),
    network=bindparam("network"),
    user_agent=bindparam("user_agent"),
    request_id=bindparam("request_id"),
    data=bindparam("data"),
)
# In how many seconds each of the last ones does not count any more, the newest first.
RECENT = (
    select(func.extract("epoch", c.at - func.now()) + WINDOW_SECONDS, c.email_folded)
    .where(
        c.network == bindparam("network", type_=Text),
        c.kind == bindparam("kind", type_=Text),
        c.at > func.now() - text(f"interval '{WINDOW_SECONDS} seconds'"),
    )
    .order_by(c.at.desc())
    .limit(MOST_OF_NETWORK)
)
# Mails to one address, whoever asked for them. The links in these are good for as long: nobody needs another one.
MOST_MAILS, MAIL_WINDOW_MINUTES = 5, 30
MAILED = (
    select(c.id)
    .where(
        c.email_folded == bindparam("folded", type_=Text),
        c.kind == bindparam("kind", type_=Text),
        c.at > func.now() - text(f"interval '{MAIL_WINDOW_MINUTES} minutes'"),
        c.data["is_mailed"].as_boolean(),
    )
    .limit(MOST_MAILS)
)
LOCK = select(func.pg_advisory_xact_lock(func.hashtextextended(bindparam("what", type_=Text), 0)))


async def note(
    tx: Transaction,
    kind: Kind,
    *,
    user_id: UUID | None = None,
    email: str | None = None,
    organization_id: str | None = None,
    **data: Any,
) -> None:
    """Write an entry in this transaction."""
    caller = tx.caller
    await tx.execute(
        NOTE,
        {
            "kind": kind.value,
            "user_id": user_id,
            "email": email,
            "email_folded": None if email is None else fold_email(email),
            "organization_id": organization_id,
            "network": caller.network,
            "user_agent": caller.user_agent,
            "request_id": caller.request_id,
            "data": data,
        },
    )


async def has_enough_mails(tx: Transaction, kind: Kind, email: str) -> bool:
    """Whether this address got so many mails of this kind in the last half hour that it gets no more: else whoever asks
    from many networks could fill it. The caller notes `is_mailed`.
    """
    folded = fold_email(email)
    await tx.execute(LOCK, {"what": f"{kind} {folded}"})
    return len((await tx.execute(MAILED, {"folded": folded, "kind": kind.value})).all()) >= MOST_MAILS


async def refuse_many(tx: Transaction, kind: Kind, email: str | None = None, *, exactly: bool = False) -> None:
    """Raises AppError RATE_LIMITED where there were too many of these in the last minute, from this network, or from
    there about this email. `exactly` waits for who counts at the same moment, until this transaction ends.
    """
    counted = {"network": tx.caller.network, "kind": kind.value}
    if exactly:
        await tx.execute(LOCK, {"what": f"{kind} {tx.caller.network}"})
    found = (await tx.execute(RECENT, counted)).all()
    of_email = [seconds for seconds, folded in found if email is not None and folded == fold_email(email)]
    for recent, most in ((of_email, MOST_OF_EMAIL), ([seconds for seconds, _ in found], MOST_OF_NETWORK)):
        if len(recent) >= most:
            wait = max(1, math.ceil(recent[most - 1]))
            raise AppError(Code.RATE_LIMITED, headers={"Retry-After": str(wait)})
