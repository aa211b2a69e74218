"""Who runs the assistant's model, what it may cost, and what becomes of a key that is refused."""

from __future__ import annotations

import asyncio
import base64
import secrets
import sys
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from litestar import Litestar
from litestar.testing import TestClient

from app.access.actor import Actor
from app.access.permissions import Role
from app.admin.assistant.settings import service
from app.admin.notifications.watching import NotificationWatch
from app.assistant.provider import Model, ProviderError, Usage
from app.db.database import Database
from app.db.roles import enter_tenant
from app.records.transaction import reading
from app.settings import Settings
from app.web.errors import AppError, Code
from tests.callers import Caller, Callers, refused
from tests.peers.models import Fail, Models, Say
from tests.processes import crm_here
from tests.records.chains import seal

PATH = "/admin/assistant/settings"
Variant = Callable[..., TestClient[Litestar]]


def own(models: Models, **more: Any) -> dict[str, Any]:
    return {
        "provider": "openai_compatible",
        "model": "small",
        "base_url": models.base_url("openai_compatible"),
        "key": "sk-a-key-of-our-own-1234",
        **more,
    }


def asked_for(app: Litestar, caller: Caller) -> Model:
    """The model that answers this person, as a conversation asks for it."""
    actor = Actor(user_id=caller.user_id, tenant_id=caller.tenant, role=Role.AGENT)

    async def ask() -> Model:
        async with Database(app.state.settings) as database, reading(database, actor) as tx:
            return await service.model_for(tx, app.state)

    return asyncio.run(ask())


def within(app: Litestar, act: Callable[[Database], Any]) -> None:
    async def run() -> None:
        async with Database(app.state.settings) as database:
            await act(database)

    asyncio.run(run())


def test_a_model_is_tried_before_it_is_kept(admin: Caller, models: Models, settings: Settings) -> None:
    assert admin.ok("GET", PATH)["by"] is None
    kept = admin.ok("PUT", PATH, own(models))
    assert (kept["by"], kept["provider"], kept["model"], kept["key"]) == (
        *("organization", "openai_compatible", "small", "…1234"),
    )
    (asked,) = models.got
    assert asked.headers["authorization"] == "Bearer sk-a-key-of-our-own-1234"
    with psycopg.connect(settings.database_dsn) as connection:
        enter_tenant(connection, admin.tenant, {})
        stored = [
            *connection.execute("SELECT each::text FROM audit_entries AS each"),
            *connection.execute("SELECT each::text, encode(secret, 'escape') FROM assistant_settings AS each"),
        ]
    assert len(stored) > 1
    assert "sk-a-key" not in f"{stored} {admin.ok('GET', PATH)}"
    (told,) = admin.audit(resource_type="assistant_settings")
    assert told["changes"]["model"] == {"old": None, "new": "small"}
    assert "secret" not in told["changes"]
    # What is sent back as it was read changes nothing, and tries nothing.
    assert admin.ok("PUT", PATH, kept) == kept
    assert len(models.got) == 1


@pytest.mark.parametrize(
    ("reply", "field"),
    [(Fail(401, "invalid_api_key"), "key"), (Fail(404, "model_not_found"), "model"), (Fail(400, "x", "bad"), "model")],
)
def test_what_its_provider_refuses_is_not_kept(admin: Caller, models: Models, reply: Fail, field: str) -> None:
    models.answer = lambda _: reply
    data = refused(admin.put(PATH, own(models)), 400, "ASSISTANT_REFUSED")
    assert [each["field"] for each in data["fields"]] == [field]
    assert admin.ok("GET", PATH)["by"] is None


def test_a_provider_that_is_busy_has_accepted_the_key(admin: Caller, models: Models) -> None:
    models.answer = lambda _: Fail(429, "rate_limit_exceeded")
    assert admin.ok("PUT", PATH, own(models))["by"] == "organization"


def test_a_key_never_goes_to_another_address(admin: Caller, models: Models) -> None:
    admin.ok("PUT", PATH, own(models))
    elsewhere = models.base_url("openai_compatible").replace("127.0.0.1", "127.0.0.2")
    for change in ({"base_url": elsewhere}, {"provider": "anthropic", "base_url": elsewhere}, {"provider": "openai"}):
        data = refused(admin.put(PATH, change), 400, "INVALID_REQUEST")
        assert [each["field"] for each in data["fields"]] == ["key"]
    # Its operation is not taken back either.
    operation = admin.audit(resource_type="assistant_settings")[0]["operation_id"]
    refused(admin.post(f"/admin/operations/{operation}/undo", {}), 410, "HISTORY_CUT")
    assert len(models.got) == 1


def test_private_addresses_are_not_called(callers: Callers, tenant: str, models: Models, variant: Variant) -> None:
    careful = callers.person("admin", tenant, client=variant(webhook_allowed_networks=""))
    data = refused(careful.put(PATH, own(models)), 400, "WEBHOOK_URL_REFUSED")
    assert data["fields"][0]["field"] == "base_url"
    assert models.got == []


def test_what_is_missing_is_said(admin: Caller) -> None:
    for body, field in (
        ({"model": "x"}, "provider"),
        ({"provider": "openai"}, "model"),
        ({"provider": "openai", "model": "x"}, "key"),
        ({"provider": "openai_compatible", "model": "x"}, "base_url"),
        ({"provider": "openai", "model": "x", "key": "white space"}, "key"),
        ({"provider": "openai", "model": "x", "key": "…1234"}, "key"),
    ):
        data = refused(admin.put(PATH, body), 400, "INVALID_REQUEST")
        assert [each["field"] for each in data["fields"]] == [field]


def test_without_settings_there_is_the_operators_account_or_none(
    callers: Callers, tenant: str, app: Litestar, models: Models, variant: Variant
) -> None:
    admin = callers.person("admin", tenant)
    admin.ok("GET", PATH)
    with pytest.raises(AppError) as caught:
        asked_for(app, admin)
    assert caught.value.code is Code.ASSISTANT_NOT_CONFIGURED
    house = variant(
        assistant_api_key="sk-house",
        assistant_model="large",
        anthropic_base_url=models.root,
        assistant_monthly_tokens=50,
    )
    model = asked_for(house.app, admin)
    assert (model.name, model.key, model.base_url, model.addresses) == ("large", "sk-house", models.root, None)
    shown = callers.person("admin", tenant, client=house).ok("GET", PATH)
    assert (shown["by"], shown["model"], shown["key"]) == ("operator", None, None)
    # What the operator lets each organization use.
    actor = Actor(user_id="1", tenant_id=tenant, role=Role.AGENT)
    within(app, lambda database: service.count(database, actor, Usage(40, 10)))
    with pytest.raises(AppError) as caught:
        asked_for(house.app, admin)
    assert caught.value.code is Code.ASSISTANT_BUDGET_USED
    # An account of its own is not the operator's.
    admin.ok("PUT", PATH, own(models))
    model = asked_for(house.app, admin)
    assert (model.name, model.key) == ("small", "sk-a-key-of-our-own-1234")
    assert model.addresses is not None
    admin.ok("DELETE", PATH)
    assert admin.ok("GET", PATH)["by"] is None


def test_tokens_are_counted_by_person_and_month(callers: Callers, tenant: str, app: Litestar, models: Models) -> None:
    admin, agent = callers.person("admin", tenant), callers.person("agent", tenant)
    admin.ok("PUT", PATH, own(models, monthly_tokens=1000, monthly_tokens_per_person=100))
    me = Actor(user_id=agent.user_id, tenant_id=tenant, role=Role.AGENT)

    async def spend(database: Database) -> None:
        await asyncio.gather(*(service.count(database, me, Usage(9, 1)) for _ in range(10)))

    assert asked_for(app, agent)
    within(app, spend)
    assert admin.ok("GET", PATH)["used_tokens"] == 100
    with pytest.raises(AppError) as caught:
        asked_for(app, agent)
    assert caught.value.message.startswith("You have used the assistant's tokens of this month: they begin anew on 20")
    assert asked_for(app, admin)
    admin.ok("PUT", PATH, {"monthly_tokens": 100, "monthly_tokens_per_person": None})
    for person in (admin, agent):
        with pytest.raises(AppError) as caught:
            asked_for(app, person)
        assert caught.value.message.startswith("Your organization has used")
    # Last month's are not this month's.
    with psycopg.connect(app.state.settings.database_dsn) as connection:
        enter_tenant(connection, tenant, {})
        connection.execute("UPDATE assistant_usage SET month = month - interval '1 month'")
    assert asked_for(app, agent)


@pytest.mark.parametrize("whose", ["the organization's", "the operator's"])
def test_admins_are_told_that_the_key_is_refused_and_once(
    whose: str, callers: Callers, tenant: str, app: Litestar, models: Models, settings: Settings
) -> None:
    admin, agent = callers.person("admin", tenant), callers.person("agent", tenant)
    if whose == "the organization's":
        admin.ok("PUT", PATH, own(models))
    agent.ok("GET", "/admin/me/notifications")
    no = ProviderError("key_refused", "No.")

    async def fail(database: Database) -> None:
        await service.failed(database, tenant, no)
        await service.failed(database, tenant, no)
        await service.failed(database, tenant, ProviderError("overloaded", "Wait."))

    within(app, fail)
    assert admin.ok("GET", PATH)["failure"] == "key_refused"
    seal(settings)

    async def tell(database: Database) -> None:
        await NotificationWatch(database).catch_up(tenant)

    within(app, tell)
    assert [each["kind"] for each in admin.ok("GET", "/admin/me/notifications")["data"]] == ["assistant_failed"]
    assert agent.ok("GET", "/admin/me/notifications")["data"] == []
    models.answer = lambda _: Say()
    assert admin.ok("PUT", PATH, own(models, key="sk-another-of-our-own-5678"))["failure"] is None


def test_keys_are_replaced_one_after_the_other(
    callers: Callers, tenant: str, models: Models, variant: Variant, settings: Settings
) -> None:
    old, new = (base64.b64encode(secrets.token_bytes(32)).decode() for _ in range(2))
    before = callers.person("admin", tenant, client=variant(encryption_keys=old))
    before.ok("PUT", PATH, own(models))
    server = {"name": "mail", "url": "http://127.0.0.1:9/mcp", "auth": "bearer", "secret": "a-token-of-theirs"}
    made = before.ok("POST", "/admin/assistant/mcp-servers", server)
    configured = {"DATABASE_URL": settings.database_url, "JWT_SECRET": settings.jwt_secret}
    lost = crm_here("keys", "rotate", ENCRYPTION_KEYS=new, **configured)
    assert lost.exit_code == 1
    assert f"{tenant}: no key decrypts the secret of the assistant's settings" in lost.output
    assert f"{tenant}: no key decrypts the secret of MCP server {made['id']}" in lost.output
    done = crm_here("keys", "rotate", ENCRYPTION_KEYS=f"{new},{old}", **configured)
    assert "Encrypted 2 secrets" in done.output
    after = variant(encryption_keys=new)
    assert asked_for(after.app, before).key == "sk-a-key-of-our-own-1234"
    there = callers.person("admin", tenant, client=after)
    shown = there.ok("POST", f"/admin/assistant/mcp-servers/{made['id']}/refresh")
    assert shown["problem"] == "The server does not accept connections"
    assert [entry["action"] for entry in there.audit()] == ["create", "create"]


def test_without_the_libraries_it_says_what_to_install(
    admin: Caller, models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("openai", "anthropic"):
        monkeypatch.delitem(sys.modules, f"app.assistant.providers.{name}", raising=False)
        monkeypatch.setitem(sys.modules, name, None)
    data = refused(admin.put(PATH, own(models)), 400, "ASSISTANT_REFUSED")
    assert "crm-service[assistant]" in data["fields"][0]["message"]
