"""Which model answers, whether it may, and what it took."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import structlog
from litestar.datastructures import State
from sqlalchemy import delete

from app.access.actor import Actor
from app.admin.assistant.settings import queries
from app.admin.assistant.settings.queries import Stored
from app.admin.assistant.settings.schemas import SHOWN, AssistantSettings, AssistantSettingsChange
from app.assistant import provider
from app.assistant.provider import HOMES, Message, Model, Provider, ProviderError, Text, Usage
from app.crypto.cipher import UnreadableError
from app.crypto.keys import Keys
from app.db.database import Database
from app.models import AssistantSettings as Row
from app.records.transaction import Transaction
from app.settings import Settings
from app.web.addresses import Addresses, RefusedAddressError
from app.web.errors import AppError, Code, Fault, bad_field, invalid

log = structlog.get_logger("assistant")

# The name of the column that holds the key, for its encryption.
SECRET = "assistant_settings.secret"  # noqa: S105 -- a name
TRY_SECONDS, TRY_TOKENS = 20.0, 16
UNREADABLE = "The assistant's key can't be read any more: an admin has to set it again under /admin/assistant/settings"
# What says that a request was understood, and its key accepted.
ACCEPTED = {"overloaded", "quota", "too_long"}


# ── which model answers ──────────────────────────────────────────────────────────────────────────────────────────────


async def model_for(tx: Transaction, state: State) -> Model:
    """The model that answers this person now. To be asked before each call of it.

    Raises AppError ASSISTANT_NOT_CONFIGURED or ASSISTANT_BUDGET_USED.
    """
    stored = await queries.stored(tx)
    model = _model(stored, tx.actor.tenant_id, state)
    await _require_budget(tx, stored, state.settings)
    return model


def _model(stored: Stored, tenant: str, state: State) -> Model:
    settings: Settings = state.settings
    if stored.provider is None or stored.model is None:
        if not settings.has_own_model:
            raise AppError(Code.ASSISTANT_NOT_CONFIGURED)
        kind = Provider(settings.assistant_provider)
        home = _home(kind, settings)
        assert home is not None, "the settings were checked"  # noqa: S101
        return Model(provider=kind, name=settings.assistant_model, key=settings.assistant_api_key, base_url=home)
    return _own_model(stored, _key(stored, tenant, state.encryption), state)


def _own_model(stored: Stored, key: str, state: State) -> Model:
    """The model of the organization's own account."""
    kind = Provider(stored.provider or "")
    home = stored.base_url or _home(kind, state.settings)
    if home is None or stored.model is None:
        raise AppError(Code.ASSISTANT_NOT_CONFIGURED)
    addresses: Addresses | None = state.addresses if stored.base_url else None
    return Model(provider=kind, name=stored.model, key=key, base_url=home, addresses=addresses)


def _home(kind: Provider, settings: Settings) -> str | None:
    """Where a provider is for whoever names no address."""
    if kind is Provider.ANTHROPIC:
        return settings.anthropic_base_url or HOMES[kind]
    if kind is Provider.OPENAI:
        return settings.openai_base_url or HOMES[kind]
    if kind is Provider.OPENAI_COMPATIBLE:
        return settings.openai_base_url or None
    return HOMES[kind]


def _key(stored: Stored, tenant: str, keys: Keys) -> str:
    if stored.secret is None:
        return ""
    try:
        return keys.decrypt(stored.secret, SECRET, tenant)
    except UnreadableError:
        raise AppError(Code.ASSISTANT_NOT_CONFIGURED, UNREADABLE) from None


# ── what it may cost ─────────────────────────────────────────────────────────────────────────────────────────────────


async def _require_budget(tx: Transaction, stored: Stored, settings: Settings) -> None:
    limits = [stored.monthly_tokens]
    if stored.provider is None:
        limits.append(settings.assistant_monthly_tokens or None)
    most = min((limit for limit in limits if limit is not None), default=None)
    mine = stored.monthly_tokens_per_person
    if most is None and mine is None:
        return
    used = await queries.used(tx)
    if most is not None and used.by_all >= most:
        who = "Your organization has"
    elif mine is not None and used.by_me >= mine:
        who = "You have"
    else:
        return
    text = f"{who} used the assistant's tokens of this month: they begin anew on {used.next_day}"
    raise AppError(Code.ASSISTANT_BUDGET_USED, text)


async def count(database: Database, actor: Actor, usage: Usage) -> None:
    """Count what an answer took, in a transaction of its own: it was taken, whatever becomes of the answer."""
    async with database.in_tenant(actor.tenant_id) as session:
        await queries.use(session, actor.user_id, usage)


async def failed(database: Database, tenant: str, error: ProviderError) -> None:
    """Note that the provider refuses the key, so that the admins are told, and by the log the operator."""
    if error.kind not in {"key_refused", "quota"}:
        return
    log.error("the assistant's provider refuses the key", tenant=tenant, reason=error.kind)
    async with database.in_tenant(tenant) as session:
        await session.execute(queries.FAIL, {"failure": error.kind})


async def accepted(database: Database, tenant: str) -> None:
    """Note that the provider has answered: whatever was wrong with the key is mended."""
    async with database.in_tenant(tenant) as session:
        await session.execute(queries.WORK)


# ── settings ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def shown(tx: Transaction, settings: Settings) -> AssistantSettings:
    """The settings as admins see them."""
    stored, used = await queries.stored(tx), await queries.used(tx)
    own = stored.provider is not None
    return AssistantSettings(
        by="organization" if own else "operator" if settings.has_own_model else None,
        provider=None if stored.provider is None else Provider(stored.provider),
        model=stored.model,
        base_url=stored.base_url,
        key=_shown(stored),
        key_changed_at=stored.secret_changed_at,
        failure=stored.failure,  # type: ignore[arg-type]  # the database checks what it may be
        failed_at=None if stored.failure is None else stored.failed_at,
        monthly_tokens=stored.monthly_tokens,
        monthly_tokens_per_person=stored.monthly_tokens_per_person,
        used_tokens=used.by_all,
        ends_at=used.ends_at,
        version=stored.version,
    )


def _shown(stored: Stored) -> str | None:
    """What is shown of the key."""
    return None if stored.secret_end is None else f"{SHOWN}{stored.secret_end}"


def changed(before: Stored, data: AssistantSettingsChange, tenant: str, state: State) -> tuple[Stored, Model | None]:
    """What the settings become, and the model that has to be tried before. Raises AppError 400, or SERVICE_UNAVAILABLE
    without a key to encrypt with.
    """
    given = {name: value for name, value in data.given().items() if name == "key" or value != getattr(before, name)}
    key: str | None = given.pop("key", None)
    if key == _shown(before):
        key = None
    after = before._replace(**given)
    if not given.keys() & {"provider", "model", "base_url"} and key is None:
        return after, None
    if key is not None and key.startswith(SHOWN):
        raise invalid(Fault("key", "is a part of a key, as it is shown: give the whole key"))
    if after.provider is None:
        raise invalid(Fault("provider", "is required with a model"))
    if after.provider != before.provider and "base_url" not in given:
        after = after._replace(base_url=None)
    if after.model is None:
        raise invalid(Fault("model", "is required with a provider"))
    if after.provider == Provider.OPENAI_COMPATIBLE and not (after.base_url or state.settings.openai_base_url):
        raise invalid(Fault("base_url", "is required for openai_compatible"))
    moves = (after.provider, after.base_url) != (before.provider, before.base_url)
    if key is None and moves:
        if before.secret is not None:
            raise invalid(Fault("key", "must be given again: it is not sent to another address than before"))
        if after.provider != Provider.OPENAI_COMPATIBLE:
            raise invalid(Fault("key", "is required for this provider"))
    if key is not None:
        encryption: Keys = state.encryption
        after = after._replace(
            secret=encryption.encrypt(key, SECRET, tenant),
            secret_end=key[-4:] if len(key) > 12 else "",
            secret_changed_at=datetime.now(UTC),
        )
    after = after._replace(failure=None, failed_at=None)
    return after, _own_model(after, _key(after, tenant, state.encryption), state)


async def try_out(model: Model, *, https_only: bool) -> None:
    """Ask the model for a word. Raises AppError ASSISTANT_REFUSED, or WEBHOOK_URL_REFUSED for its address. Not within a
    transaction.
    """
    if model.addresses is not None:
        try:
            await model.addresses.check_url(model.base_url, https_only=https_only)
        except RefusedAddressError as error:
            raise bad_field(Code.WEBHOOK_URL_REFUSED, "base_url", str(error)) from None
    question = [Message("user", [Text("Say: ok")])]
    try:
        async with asyncio.timeout(TRY_SECONDS):
            async for _ in provider.stream(model, "Answer with one word.", question, [], TRY_TOKENS):
                pass
    except TimeoutError:
        raise _refused("base_url", f"The provider did not answer within {TRY_SECONDS:g} seconds") from None
    except ProviderError as error:
        if error.kind not in ACCEPTED:
            field = {"key_refused": "key", "unreachable": "base_url"}.get(error.kind, "model")
            said = "The provider refuses this key" if field == "key" else error.message
            raise _refused(field, said) from None


def _refused(field: str, message: str) -> AppError:
    return bad_field(Code.ASSISTANT_REFUSED, field, message)


async def store(tx: Transaction, before: Stored, after: Stored) -> None:
    """Keep the settings. Raises AppError VERSION_CONFLICT if they are not what they were any more."""
    now = await queries.stored(tx, lock=True)
    tx.precondition.check(now.version)
    if now.version != before.version:
        raise AppError(Code.VERSION_CONFLICT, data={"current_version": now.version})
    if after == before:
        return
    values: dict[str, Any] = {name: getattr(after, name) for name in queries.WRITABLE}
    await tx.connection.execute(queries.STORE, {"tenant_id": tx.actor.tenant_id, **values})


async def remove(tx: Transaction) -> None:
    """Forget all of them, with the key. Raises AppError VERSION_CONFLICT."""
    tx.precondition.check((await queries.stored(tx, lock=True)).version)
    await tx.connection.execute(delete(Row))
