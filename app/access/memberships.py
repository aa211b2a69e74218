"""What organizations make of the roles in tokens: each worker has it in memory, so that no request asks for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import NamedTuple

import structlog
from msgspec.structs import replace

from app.access.actor import Actor
from app.access.permissions import RANK, Role
from app.web.email import fold_email
from app.web.errors import AppError, Code

# A change reaches every worker within 5 seconds: it is read this often, and what is older than this is read again
# before anybody is let in.
READ_SECONDS = 1.5
MOST_SECONDS = 4.0
# Now and then all of it is read: a server that was set back to a backup counts its transactions anew.
WHOLE_SECONDS = 60.0
TASK = "memberships"

log = structlog.get_logger("memberships")


class Membership(NamedTuple):
    """What an organization says of a person: of who is expected, by the email that the token will have."""

    tenant_id: str
    id: int
    user_id: str | None
    email_folded: str | None
    role: str | None
    is_active: bool
    signed_out_at: datetime | None

    @property
    def is_less(self) -> bool:
        """Whether the person may do less than the token says."""
        return self.role is not None or not self.is_active or self.signed_out_at is not None

    @property
    def is_invitation(self) -> bool:
        """Whether it is one of those that the database counts: of who is expected, and says less."""
        return self.user_id is None and (self.role is not None or not self.is_active)

    @property
    def person(self) -> tuple[str, str, str | None]:
        """Whom it is about."""
        if self.user_id is None:
            return self.tenant_id, "email", self.email_folded
        return self.tenant_id, "id", self.user_id


class Changes(NamedTuple):
    """What was changed since a mark; the next mark; and how many invitations there are that say less."""

    mark: int
    invitations: int
    changed: list[Membership]


# Reads what was changed since a mark; without one, all that says less. Raises AppError.
Read = Callable[[int | None], Awaitable[Changes]]


class Memberships:
    """Whose rights are less than their token's, in all organizations."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._people: dict[tuple[str, str, str | None], Membership] = {}
        self._by_id: dict[tuple[str, int], Membership] = {}
        self._invitations = 0
        self._mark: int | None = None
        self._read_at = self._whole_at = -float("inf")
        self._reading: asyncio.Task[AppError | None] | None = None

    # ── keeping up ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def run(self) -> None:
        """Read what is changed, until cancelled."""
        failing = False
        while True:
            error = await self._read_once()
            if error is not None and not failing:
                log.warning("memberships can't be read: nobody is let in until they can", reason=error.message)
            failing = error is not None
            await asyncio.sleep(READ_SECONDS)

    @property
    def is_fresh(self) -> bool:
        """Whether what is known is young enough to go by."""
        return time.monotonic() - self._read_at <= MOST_SECONDS

    async def fresh(self) -> None:
        """Wait until what is known is young enough. Raises AppError SERVICE_UNAVAILABLE."""
        if not self.is_fresh and (error := await self._read_once()) is not None:
            raise AppError(error.code, error.message)

    async def catch_up(self) -> None:
        """Read what this worker has just committed, so that it is known here at once; elsewhere it takes a moment."""
        if self._reading is not None:  # it may have begun before the commit
            await asyncio.wait([self._reading])
        await self._read_once()

    async def _read_once(self) -> AppError | None:
        """All who wait share one reading."""
        if self._reading is None:
            self._reading = asyncio.create_task(self._read_changes(), name=TASK)
        return await asyncio.shield(self._reading)

    async def _read_changes(self) -> AppError | None:
        began = time.monotonic()
        mark = None if began - self._whole_at >= WHOLE_SECONDS else self._mark
        try:
            changes = await self._read(mark)
            if mark is not None and not self._apply(changes):
                # An invitation was withdrawn, or the server is another one.
                mark, changes = None, await self._read(None)
            if mark is None:
                self._people, self._by_id, self._invitations, self._whole_at = {}, {}, 0, began
                self._apply(changes)
            self._mark, self._read_at = changes.mark, began
        except AppError as error:
            return error
        except Exception as error:  # as before `crm db upgrade`
            log.error("memberships can't be read", exc_info=error)
            return AppError(Code.SERVICE_UNAVAILABLE)
        finally:
            self._reading = None
        return None

    def _apply(self, changes: Changes) -> bool:
        """Take over what was changed; False where it does not fit to what is known."""
        for each in changes.changed:
            if (former := self._by_id.pop((each.tenant_id, each.id), None)) is not None:
                self._people.pop(former.person, None)
                self._invitations -= former.is_invitation
            if each.is_less:
                self._by_id[each.tenant_id, each.id] = self._people[each.person] = each
                self._invitations += each.is_invitation
        return changes.mark >= (self._mark or 0) and changes.invitations == self._invitations

    # ── asking ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def refuse_revoked(self, tenant_id: str, user_id: str, email: str | None, issued_at: float | None) -> None:
        """Raise AppError TOKEN_REVOKED for a token from before the person was signed out, or that does not say when it
        was issued.
        """
        for each in self._of(tenant_id, user_id, email):
            since = each.signed_out_at
            if since is not None and (issued_at is None or issued_at < since.timestamp()):
                raise AppError(Code.TOKEN_REVOKED)

    def expects(self, actor: Actor) -> bool:
        """Whether an invitation to the token's email says less, that is nobody's so far."""
        return any(each.is_invitation for each in self._of(actor.tenant_id, actor.user_id, actor.email))

    def is_shut_out(self, tenant_id: str, user_id: str, email: str | None) -> bool:
        """Whether the organization has deactivated this person."""
        return any(not each.is_active for each in self._of(tenant_id, user_id, email))

    def narrowed(self, actor: Actor) -> Actor:
        """The person with the role that counts. Raises AppError MEMBER_INACTIVE."""
        roles = [actor.token_role or actor.role]
        for each in self._of(actor.tenant_id, actor.user_id, actor.email):
            if not each.is_active:
                raise AppError(Code.MEMBER_INACTIVE)
            if each.role is not None:
                roles.append(Role(each.role))
        role = min(roles, key=RANK.__getitem__)
        return actor if role is actor.role else replace(actor, role=role, token_role=roles[0])

    def still_holds(self, actor: Actor) -> bool:
        """Whether what this person was let in with is still so."""
        try:
            self.refuse_revoked(actor.tenant_id, actor.user_id, actor.email, actor.issued_at)
            return self.narrowed(actor).role is actor.role
        except AppError:
            return False

    def _of(self, tenant_id: str, user_id: str, email: str | None) -> list[Membership]:
        """What is said of a person: by the id, and by the email as long as nobody was seen with it."""
        if not self._people:
            return []
        keys: list[tuple[str, str, str | None]] = [(tenant_id, "id", user_id)]
        if email:
            keys.append((tenant_id, "email", fold_email(email)))
        return [self._people[key] for key in keys if key in self._people]
