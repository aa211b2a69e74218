"""Connecting calendars: what lets the service in is tried, and then kept encrypted."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import msgspec
import structlog
from litestar.datastructures import State

from app.admin.connections import queries
from app.admin.connections.opening import SECRET, written
from app.admin.connections.queries import Removed
from app.admin.connections.schemas import CalDavConnect, Connection, ConnectionFinish
from app.admin.notifications.queries import reader_of
from app.calendars import adapters
from app.calendars.adapters import CalendarProvider
from app.calendars.consent import Grant, Service, login_page, new_verifier, service_at
from app.calendars.entries import Account, Password
from app.calendars.errors import CalendarError, ReconnectNeeded
from app.crypto.cipher import UnreadableError
from app.crypto.keys import Keys
from app.records.transaction import Transaction
from app.settings import Settings
from app.web.addresses import RefusedAddressError
from app.web.errors import AppError, Code, bad_field

VERIFIER = "oauth_states.verifier"
STATE_BYTES = 32
LONGEST_CALENDAR = 1500
CALLBACK = "/public/connections/callback"
TRY_SECONDS, REVOKE_SECONDS = 30.0, 10.0
SLOW = "The calendar's server did not answer in time"
STATE_GONE = "This consent was for somebody else, is older than 10 minutes, or was used already: begin again"

log = structlog.get_logger("calendars")


class Found(NamedTuple):
    """A calendar that was reached, and what lets the service in."""

    provider: CalendarProvider
    account: Account
    secret: Grant | Password


# ── with a password ──────────────────────────────────────────────────────────────────────────────────────────────────


async def zone_of(tx: Transaction) -> ZoneInfo:
    """The person's time zone: times in calendars that name none go by it."""
    return (await reader_of(tx)).zone


async def try_caldav(data: CalDavConnect, zone: ZoneInfo, state: State) -> Found:
    """Look for the calendar with this password. Not within a transaction.

    Raises AppError WEBHOOK_URL_REFUSED, or CALENDAR_REFUSED.
    """
    settings: Settings = state.settings
    try:
        await state.addresses.check_url(data.url, https_only=settings.production)
    except RefusedAddressError as error:
        raise bad_field(Code.WEBHOOK_URL_REFUSED, "url", str(error)) from None
    secret = Password(data.username, data.password)
    try:
        async with (
            asyncio.timeout(TRY_SECONDS),
            adapters.caldav(data.url, secret, state.addresses, zone) as adapter,
        ):
            account = await adapter.check()
    except (CalendarError, TimeoutError) as error:
        field = "password" if isinstance(error, ReconnectNeeded) else "url"
        raise bad_field(Code.CALENDAR_REFUSED, field, str(error) or SLOW) from None
    return Found(CalendarProvider.CALDAV, account, secret)


# ── by consent ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _service(provider: str, settings: Settings) -> Service:
    """Raises AppError NOT_CONFIGURED."""
    service = service_at(provider, settings)
    if service is None:
        raise AppError(Code.NOT_CONFIGURED)
    return service


async def begin(tx: Transaction, provider: CalendarProvider, state: State, address: str) -> str:
    """Where the person consents, for the next minutes. Raises AppError NOT_CONFIGURED."""
    service = _service(provider, state.settings)
    word, verifier = secrets.token_urlsafe(STATE_BYTES), new_verifier()
    hashed, keys = _hashed(word), state.encryption
    await tx.connection.execute(queries.PRUNE_STATES)
    values = {
        "tenant_id": tx.actor.tenant_id,
        "state_hash": hashed,
        "user_id": tx.actor.user_id,
        "provider": provider.value,
        "verifier": keys.encrypt(verifier, VERIFIER, tx.actor.tenant_id, hashed.hex()),
    }
    await tx.connection.execute(queries.MAKE_STATE, values)
    return login_page(service, address + CALLBACK, word, verifier)


async def use_state(tx: Transaction, data: ConnectionFinish, keys: Keys) -> tuple[CalendarProvider, str]:
    """For whom a consent was, and the secret that its code is exchanged with; it is good once.

    Raises AppError INVALID_STATE.
    """
    hashed = _hashed(data.state)
    row = (await tx.connection.execute(queries.USE_STATE, {"state_hash": hashed})).one_or_none()
    if row is None:
        raise bad_field(Code.INVALID_STATE, "state", STATE_GONE)
    try:
        return CalendarProvider(row[0]), keys.decrypt(row[1], VERIFIER, tx.actor.tenant_id, hashed.hex())
    except UnreadableError:
        raise bad_field(Code.INVALID_STATE, "state", STATE_GONE) from None


async def exchange(provider: CalendarProvider, code: str, verifier: str, state: State, address: str) -> Found:
    """Exchange the code, and look for the calendar. Not within a transaction.

    Raises AppError NOT_CONFIGURED, or CALENDAR_REFUSED.
    """
    service = _service(provider, state.settings)
    kept: list[Grant] = []

    async def keep(grant: Grant) -> None:
        kept.append(grant)

    try:
        async with asyncio.timeout(TRY_SECONDS):
            kept.append(await adapters.exchange(service, code, verifier, address + CALLBACK))
            async with adapters.consented(service, kept[0], keep) as adapter:
                account = await adapter.check()
    except (CalendarError, TimeoutError) as error:
        raise bad_field(Code.CALENDAR_REFUSED, "code", str(error) or SLOW) from None
    return Found(provider, account, kept[-1])


def _hashed(word: str) -> bytes:
    """What is kept of a state. It is random and long: a fast hash is enough."""
    return hashlib.sha256(word.encode()).digest()


def back_to_console(settings: Settings, parameters: dict[str, str]) -> str:
    """Where a person's browser goes from the provider's page: the console, whose user finishes it with a token."""
    return f"{settings.console_url.rstrip('/')}?{urlencode(parameters)}"


# ── what is kept ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def store(tx: Transaction, found: Found, keys: Keys) -> Connection:
    """Keep a connection. A calendar that is connected already goes on with what lets in now.

    Raises AppError LIMIT_REACHED, or SERVICE_UNAVAILABLE without a key to encrypt with.
    """
    account = found.account
    if len(account.calendar.encode()) > LONGEST_CALENDAR:
        raise AppError(Code.CALENDAR_REFUSED, "The calendar's address is too long")
    await tx.connection.execute(queries.ONE_AT_A_TIME)
    values = {
        "tenant_id": tx.actor.tenant_id,
        "user_id": tx.actor.user_id,
        "provider": found.provider.value,
        "account": account.name[:320],
        "calendar": account.calendar,
        "calendar_name": account.calendar_name[:255],
        "secret": b"",
    }
    same = {"of_provider": values["provider"], "of_calendar": account.calendar}
    connection_id = (await tx.connection.execute(queries.SAME, same)).scalar_one_or_none()
    if connection_id is None:
        if (await tx.connection.execute(queries.COUNT)).scalar_one() >= queries.MOST_CONNECTIONS:
            raise AppError(Code.LIMIT_REACHED, data={"max": queries.MOST_CONNECTIONS})
        if tx.dry_run:
            made = await tx.connection.execute(queries.TRY, values | {"id": tx.placeholder_id()})
        else:
            made = await tx.connection.execute(queries.MAKE, values)
        connection_id = int(made.scalar_one())
    # It is bound to the row, whose id may be known only now.
    encrypted = keys.encrypt(written(found.secret), SECRET, tx.actor.tenant_id, connection_id)
    kept = {"of_account": values["account"], "named": values["calendar_name"], "encrypted": encrypted}
    await tx.connection.execute(queries.AGAIN, {"connection_id": connection_id, **kept})
    return await queries.get(tx, connection_id)


async def decide(tx: Transaction, connection_id: int, *, apply: bool) -> Connection:
    """Say what becomes of what vanished. Raises AppError CONNECTION_NOT_FOUND, or NOTHING_TO_CONFIRM."""
    given = {"connection_id": connection_id, "decided": "cancel" if apply else "write_again"}
    if (await tx.connection.execute(queries.DECIDE, given)).first() is None:
        await queries.get(tx, connection_id)
        raise AppError(Code.NOTHING_TO_CONFIRM)
    return await queries.get(tx, connection_id)


async def revoke(removed: Removed, tenant: str, state: State) -> None:
    """Give the consent for a deleted connection back, where the provider has a way. If it fails, the consent is only
    forgotten here.
    """
    service = service_at(removed.provider, state.settings)
    if service is None:
        return
    keys: Keys = state.encryption
    with suppress(CalendarError, TimeoutError, UnreadableError):
        secret = keys.decrypt(removed.secret, SECRET, tenant, removed.id)
        async with asyncio.timeout(REVOKE_SECONDS):
            await adapters.revoke(service, msgspec.json.decode(secret, type=Grant))
        return
    log.warning("a consent could not be given back", provider=removed.provider, connection=removed.id)
