"""The rules of members, beyond those of every record. That somebody stays admin, the database sees to."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from msgspec import Struct, convert, to_builtins
from sqlalchemy import delete, func, update

from app.access.permissions import Permission
from app.admin.jobs import queries as jobs
from app.admin.jobs.schemas import JobKind, JobStarted
from app.admin.members.queries import BELONGING, EXPECTED, HAND_OVER, HOLDER, LOCK, MEMBERS
from app.admin.members.schemas import HandedOver, Handover, Member, MemberChange, MemberInvite
from app.jobs.queue import Job, Step, enqueue
from app.models import Member as Row
from app.records.repository import NotLiveError
from app.records.transaction import Transaction
from app.web.errors import AppError, Code, bad_field

# Invitations that nobody came for yet.
MOST_EXPECTED = 1000
# So many records are handed over by the request itself. More become a job, whose steps do so many each.
MOST_AT_ONCE, STEP = 1000, 500

c = Row.__table__.c


async def invite(tx: Transaction, data: MemberInvite) -> Member:
    """Expect somebody. Raises AppError EMAIL_EXISTS, or LIMIT_REACHED."""
    # Whoever is seen for the first time waits as well: nobody is there twice.
    await tx.connection.execute(LOCK)
    holder = (await tx.connection.execute(HOLDER, {"address": data.email})).scalar_one_or_none()
    if holder is not None:
        message = "A member with this email is here already, or expected"
        raise AppError(Code.EMAIL_EXISTS, message, data={"member_id": holder})
    if (await tx.connection.execute(EXPECTED)).scalar_one() >= MOST_EXPECTED:
        text = f"{MOST_EXPECTED} people are expected already: withdraw invitations that nobody came for"
        raise AppError(Code.LIMIT_REACHED, text, data={"max": MOST_EXPECTED})
    return await MEMBERS.create(tx, data.given() | {"invited_at": datetime.now(UTC)})


async def change(tx: Transaction, member_id: int, data: MemberChange) -> Member:
    """Narrow a person's role, or shut the person out.

    Raises AppError MEMBER_NOT_FOUND, VERSION_CONFLICT or LAST_ADMIN.
    """
    # In this order everywhere: first the people, then one of them.
    await tx.connection.execute(LOCK)
    return await MEMBERS.change(tx, member_id, data.given())


async def sign_out(tx: Transaction, member_id: int) -> Member:
    """Let all tokens from before now be refused. Raises AppError MEMBER_NOT_FOUND, or INSUFFICIENT_PERMISSIONS for
    others than admins and the person itself.
    """
    row = await MEMBERS.get_for_update(tx, member_id)
    if row["user_id"] != tx.actor.reference:
        tx.actor.require(Permission.CONFIGURE)
    now = update(Row).where(c.id == member_id).values(signed_out_at=func.clock_timestamp())
    await tx.connection.execute(now)
    return await MEMBERS.get(tx, member_id)


async def withdraw(tx: Transaction, member_id: int) -> None:
    """Delete an invitation. Raises AppError MEMBER_NOT_FOUND, VERSION_CONFLICT, or MEMBER_SEEN."""
    await tx.connection.execute(LOCK)
    row = await MEMBERS.get_for_update(tx, member_id)
    if row["user_id"] is not None:
        raise AppError(Code.MEMBER_SEEN)
    await tx.connection.execute(delete(Row).where(c.id == member_id))


# ── handing over ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def reassign(tx: Transaction, member_id: int, data: Handover) -> HandedOver | JobStarted:
    """Give all that is open of a person to another one: the customers, and the open deals, projects and activities. Of
    more than 1,000 records, the job that it becomes.

    Raises AppError MEMBER_NOT_FOUND, or a 400 for a `to` that can have nothing.
    """
    present = (await MEMBERS.get(tx, member_id)).user_id
    next_ = await _receiver(tx, member_id, data.to)
    if present is None:
        return HandedOver(0, 0, 0, 0)
    people = {"present": str(present), "next": str(next_)}
    total = sum((await tx.connection.execute(BELONGING, {"present": str(present)})).one())
    if total <= MOST_AT_ONCE:
        return HandedOver(**{name: await _give(tx, name, people, MOST_AT_ONCE) for name in HAND_OVER})
    if tx.dry_run:
        text = f"These are {total} records: more than {MOST_AT_ONCE} become a job, which can't be tried"
        raise AppError(Code.DRY_RUN_UNSUPPORTED, text, data={"matched": total})
    job_id = await enqueue(tx, JobKind.REASSIGN, people, targets=None, total=total)
    return JobStarted(await jobs.get(tx, job_id))


async def _receiver(tx: Transaction, member_id: int, to: int) -> int | str:
    try:
        receiver = await MEMBERS.get(tx, to)
    except NotLiveError:
        raise bad_field(Code.MEMBER_NOT_FOUND, "to") from None
    wrong = (
        "is the same person"
        if to == member_id
        else "is only expected so far, and can have nothing yet"
        if receiver.user_id is None
        else None
        if receiver.is_active
        else "is deactivated"
    )
    if wrong is not None or receiver.user_id is None:
        raise bad_field(Code.INVALID_REQUEST, "to", wrong)
    return receiver.user_id


async def _give(tx: Transaction, name: str, people: dict[str, Any], most: int) -> int:
    return len((await tx.connection.execute(HAND_OVER[name], people | {"most": most})).all())


class _Progress(Struct):
    """How much was handed over so far."""

    customers: int = 0
    deals: int = 0
    activities: int = 0
    projects: int = 0


async def reassign_step(tx: Transaction, job: Job) -> Step:
    """The work of a job that hands over what is a person's, until nothing is left."""
    tx.actor.require(Permission.CONFIGURE)
    so_far = to_builtins(convert(job.state, _Progress))
    for name in HAND_OVER:
        if given := await _give(tx, name, job.arguments, STEP):
            so_far[name] += given
            return Step(job.done + given, so_far)
    return Step(job.done, {}, so_far)
