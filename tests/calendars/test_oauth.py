"""Consent: the way of a person from the login page to tokens, and what becomes of these."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from msgspec.structs import replace

from app.calendars import adapters
from app.calendars.consent import Grant, Service, login_page, new_verifier, service_at
from app.calendars.entries import Adapter
from app.calendars.errors import Away, CalendarError, ReconnectNeeded, Refused, Throttled
from app.settings import SettingsError, load_settings
from tests.calendars.accounts import REDIRECT_URI, WINDOW, Account
from tests.peers.consent import CLIENT_SECRET, Fail


async def look(adapter: Adapter) -> Any:
    return await adapter.changes(None, WINDOW)


def test_without_a_client_there_is_no_service() -> None:
    settings = load_settings({"JWT_SECRET": "x" * 32})
    assert service_at("google", settings) is service_at("microsoft", settings) is None


def test_a_client_has_a_secret_and_a_place_to_come_back_to() -> None:
    both = {"JWT_SECRET": "x" * 32, "GOOGLE_CLIENT_ID": "crm", "GOOGLE_CLIENT_SECRET": "s"}
    for left_out, named in (("GOOGLE_CLIENT_SECRET", "GOOGLE_CLIENT_SECRET"), ("GOOGLE_CLIENT_ID", "GOOGLE_CLIENT_ID")):
        with pytest.raises(SettingsError, match=named):
            load_settings({name: value for name, value in both.items() if name != left_out})
    production = both | {"ENVIRONMENT": "production", "DATABASE_URL": "postgresql://crm:p@db/crm"}
    with pytest.raises(SettingsError, match="PUBLIC_URL"):
        load_settings(production)


def test_at_the_providers_themselves_everything_is_at_their_addresses() -> None:
    settings = load_settings(
        {
            "JWT_SECRET": "x" * 32,
            **{f"{name}_CLIENT_{part}": "crm" for name in ("GOOGLE", "MICROSOFT") for part in ("ID", "SECRET")},
        }
    )
    google, microsoft = service_at("google", settings), service_at("microsoft", settings)
    assert google is not None
    assert microsoft is not None
    assert (google.login_url, google.token_url, google.revoke_url, google.api_url, google.user_url) == (
        "https://accounts.google.com/o/oauth2/v2/auth",
        "https://oauth2.googleapis.com/token",
        "https://oauth2.googleapis.com/revoke",
        "https://www.googleapis.com/calendar/v3",
        "https://openidconnect.googleapis.com/v1/userinfo",
    )
    assert (microsoft.login_url, microsoft.token_url, microsoft.api_url) == (
        "https://login.microsoftonline.com/common/oauth2/v2.0/authorize",
        "https://login.microsoftonline.com/common/oauth2/v2.0/token",
        "https://graph.microsoft.com/v1.0",
    )
    assert microsoft.scope == "offline_access https://graph.microsoft.com/Calendars.ReadWrite"


def test_the_login_page_is_told_a_hash_of_the_verifier_and_not_the_verifier(account: Account) -> None:
    verifier = new_verifier()
    page = login_page(account.service, REDIRECT_URI, "a-state", verifier)
    asked = {name: values[0] for name, values in parse_qs(urlsplit(page).query).items()}
    assert (asked["state"], asked["redirect_uri"], asked["code_challenge_method"]) == ("a-state", REDIRECT_URI, "S256")
    assert verifier not in page
    assert CLIENT_SECRET not in page
    assert len(verifier) >= 43  # RFC 7636, 4.1


@pytest.mark.parametrize(
    "other",
    [{"verifier": "v" * 43}, {"redirect_uri": "https://elsewhere.example.com"}, {"code": "made-up"}],
    ids=str,
)
def test_a_code_is_of_use_only_to_who_asked_for_it(account: Account, other: dict[str, str]) -> None:
    with pytest.raises(ReconnectNeeded):
        asyncio.run(account.consent(**other))


def test_a_code_works_once(account: Account) -> None:
    async def twice() -> Grant:
        verifier = new_verifier()
        page = login_page(account.service, REDIRECT_URI, "s", verifier)
        back = await asyncio.to_thread(account.peer.consented, page)
        await adapters.exchange(account.service, back["code"], verifier, REDIRECT_URI)
        return await adapters.exchange(account.service, back["code"], verifier, REDIRECT_URI)

    with pytest.raises(ReconnectNeeded):
        asyncio.run(twice())


def test_a_consent_without_the_calendar_is_none(account: Account) -> None:
    account.peer.declined = {account.service.scope.split()[-1]}
    with pytest.raises(Refused, match="was not allowed"):
        asyncio.run(account.consent())


def test_a_token_that_has_run_out_is_renewed_once_and_kept(account: Account) -> None:
    old = account.grant
    account.peer.expire_access()
    account.run(look)
    assert [account.grant] == account.kept
    assert account.grant.access_token != old.access_token
    # Microsoft's server changes both.
    assert (account.grant.refresh_token == old.refresh_token) is (account.provider == "google")
    account.run(look)
    assert len(account.kept) == 1


def test_a_token_is_renewed_before_it_runs_out(account: Account) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=30)
    account.grant = replace(account.grant, expires_at=soon)
    asked = len(account.peer.asked)
    account.run(look)
    assert len(account.kept) == 1
    # With the old one, nothing was asked for.
    assert {each.headers["authorization"] for each in account.peer.asked[asked:]} == {
        f"Bearer {account.grant.access_token}"
    }


def test_several_requests_renew_a_token_together(account: Account) -> None:
    account.peer.expire_access()

    async def at_once(adapter: Adapter) -> None:
        await asyncio.gather(*(adapter.get(f"none{number}") for number in range(5)))

    account.run(at_once)
    assert len(account.kept) == 1


def test_a_withdrawn_consent_has_to_be_given_again(account: Account) -> None:
    account.peer.withdraw()
    with pytest.raises(ReconnectNeeded, match="connect the calendar again"):
        account.run(look)
    assert account.kept == []
    account.grant = asyncio.run(account.consent())
    account.run(look)


@pytest.mark.parametrize(
    ("fail", "kind"),
    [
        (Fail(400, "invalid_grant"), ReconnectNeeded),
        (Fail(400, "interaction_required"), ReconnectNeeded),
        # The operator's secret has run out: nobody has to consent anew.
        (Fail(401, "invalid_client"), Away),
        (Fail(400, "unauthorized_client"), Away),
        (Fail(400, "temporarily_unavailable"), Away),
        (Fail(500, "server_error"), Away),
        (Fail(429, "slow_down"), Throttled),
    ],
    ids=str,
)
def test_failures_of_the_login_are_told_apart(account: Account, fail: Fail, kind: type[CalendarError]) -> None:
    account.peer.expire_access()
    account.peer.token_failure = fail
    with pytest.raises(kind) as caught:
        account.run(look)
    assert CLIENT_SECRET not in str(caught.value)
    account.peer.token_failure = None
    account.run(look)


def test_a_consent_is_given_back_where_that_is_possible(account: Account) -> None:
    asyncio.run(adapters.revoke(account.service, account.grant))
    if account.provider == "google":
        assert account.peer.tokens == set()
        # Once more is fine.
        asyncio.run(adapters.revoke(account.service, account.grant))
    else:
        account.run(look)


def test_a_server_that_is_away_is_said_to_be(account: Account) -> None:
    nowhere = {"token_url": "http://127.0.0.1:9/token", "api_url": "http://127.0.0.1:9/v1"}
    service: Service = replace(account.service, **nowhere)

    async def keep(_: Grant) -> None:
        raise AssertionError

    async def ask(grant: Grant) -> None:
        async with adapters.consented(service, grant, keep) as adapter:
            await adapter.changes(None, WINDOW)

    for grant in (account.grant, replace(account.grant, expires_at=datetime.now(UTC))):
        with pytest.raises(Away) as caught:
            asyncio.run(ask(grant))
        assert grant.access_token not in repr(caught.value)
        # What it was raised from holds the request.
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__


def test_secrets_are_not_shown(account: Account) -> None:
    shown = f"{account.service!r} {account.grant!r} {account.grant}"
    assert not any(secret in shown for secret in (*account.peer.tokens, CLIENT_SECRET))


def test_the_login_page_refuses_what_is_not_registered(account: Account) -> None:
    page = login_page(account.service, "https://elsewhere.example.com/callback", "s", new_verifier())
    assert httpx.get(page).status_code == 400
