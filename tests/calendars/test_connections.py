"""Connecting calendars: with a password at a real CalDAV server, by consent at the local servers of Google and
Microsoft; and the first syncs with them.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest
from litestar import Litestar
from litestar.testing import TestClient
from msgspec.structs import replace

from app.admin.connections.opening import Calendars
from app.calendars.errors import ReconnectNeeded
from app.crypto.keys import Keys
from app.dev.calendar_server import CalendarServer
from app.settings import Settings
from app.web.addresses import Addresses
from tests.admin.calendars import DAY, HOUR, NOON, PATH, Connected
from tests.calendars.accounts import settings_for
from tests.callers import Caller, Callers, refused
from tests.peers.google_calendar import Google
from tests.peers.graph import Graph
from tests.peers.memory_calendar import MemoryCalendar
from tests.peers.phone import LOCAL, Phone
from tests.processes import crm_on

Variant = Callable[..., TestClient[Litestar]]
CONSOLE = "https://console.example.com/calendars"


def connected(settings: Settings, caller: Caller, connection: dict[str, Any]) -> Connected:
    """What a worker does with a connection that was made by requests."""

    def open_with(database: Any) -> Any:
        return Calendars(database, settings, Keys(settings), Addresses(LOCAL)).open

    return Connected(settings, caller, open_with, connection["id"])


def everything(settings: Settings) -> str:
    """All that the database has, as text, with bytes as they are."""
    found: list[str] = []
    with psycopg.connect(settings.migration_dsn) as owner:
        for (table,) in owner.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall():
            owner.execute(f'ALTER TABLE "{table}" NO FORCE ROW LEVEL SECURITY')
            found += [str(row) for row in owner.execute(f'SELECT to_jsonb(each) FROM "{table}" AS each')]
        for query in ("SELECT secret FROM calendar_connections", "SELECT body FROM idempotency_keys"):
            found += [str(bytes(row[0] or b"")) for row in owner.execute(query)]
        owner.rollback()
    return "\n".join(found)


# ── with a password ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_meeting_goes_to_a_caldav_calendar_and_comes_back_moved(
    agent: Caller, phone: Phone, settings: Settings
) -> None:
    asked = {"url": phone.url, "username": phone.username, "password": phone.password}
    made = agent.call("POST", f"{PATH}/caldav", json=asked, headers={"Idempotency-Key": "once"})
    assert made.status_code == 201, made.text
    shown = made.json()
    assert (shown["provider"], shown["calendar_name"], shown["status"]) == ("caldav", "Work", "active")
    assert agent.call("POST", f"{PATH}/caldav", json=asked, headers={"Idempotency-Key": "once"}).json() == shown
    # The same calendar again is the same connection.
    assert agent.ok("POST", f"{PATH}/caldav", asked)["id"] == shown["id"]
    calendar = connected(settings, agent, shown)
    meeting = calendar.activity("Meet Ada", description="Bring the offer")
    assert calendar.sync()["last_error"] is None
    ((name, event),) = [(name, phone.event(name)) for name in phone.names()]
    assert (event["SUMMARY"], event.start) == ("Meet Ada", NOON)
    moved = NOON + DAY
    times = f"DTSTART:{moved:%Y%m%dT%H%M%SZ}"
    phone.change(name, r"DTSTART[^\n]*", times)
    phone.change(name, r"DTEND[^\n]*", f"DTEND:{moved + 2 * HOUR:%Y%m%dT%H%M%SZ}")
    assert calendar.sync()["last_error"] is None
    found = agent.ok("GET", f"/admin/activities/{meeting['id']}")
    assert (found["due_date"], found["duration"]) == (f"{moved:%Y-%m-%dT%H:%M:%SZ}", 120)
    agent.ok("PATCH", f"/admin/activities/{meeting['id']}", {"status": "cancelled"})
    calendar.sync()
    assert phone.names() == []
    agent.ok("DELETE", f"{PATH}/{shown['id']}")
    refused(agent.delete(f"{PATH}/{shown['id']}"), 404, "CONNECTION_NOT_FOUND")


def test_a_connection_is_tried_and_refused_in_words(agent: Caller, phone: Phone, variant: Variant) -> None:
    asked = {"url": phone.url, "username": phone.username, "password": "a wrong one"}
    wrong = refused(agent.post(f"{PATH}/caldav", asked), 400, "CALENDAR_REFUSED")
    assert wrong["fields"][0]["field"] == "password"
    nobody = refused(agent.post(f"{PATH}/caldav", asked | {"url": "http://127.0.0.1:9/"}), 400, "CALENDAR_REFUSED")
    assert nobody["fields"][0]["field"] == "url"
    careful = Callers(variant(webhook_allowed_networks=""), agent.client.app.state.settings)
    inside = careful.person("agent", agent.tenant).post(f"{PATH}/caldav", asked)
    refused(inside, 400, "WEBHOOK_URL_REFUSED")
    tried = agent.call("POST", f"{PATH}/caldav", json=asked | {"password": phone.password}, headers={"Dry-Run": "true"})
    assert (tried.status_code, tried.json()["result"]["calendar_name"]) == (201, "Work")
    assert agent.ok("GET", PATH)["data"] == []


def test_who_connects_again_while_a_sync_is_refused_is_not_asked_once_more(
    agent: Caller, phone: Phone, settings: Settings
) -> None:
    asked = {"url": phone.url, "username": phone.username, "password": phone.password}
    made = agent.ok("POST", f"{PATH}/caldav", asked)
    refusing = MemoryCalendar()
    refusing.before = [ReconnectNeeded("The password from before is not accepted")]

    @asynccontextmanager
    async def opened(*_: object) -> AsyncIterator[Any]:
        await asyncio.to_thread(agent.ok, "POST", f"{PATH}/caldav", asked)
        yield refusing

    assert Connected(settings, agent, lambda _: opened, made["id"]).sync()["status"] == "active"
    assert connected(settings, agent, made).sync()["last_error"] is None


def test_a_connection_is_its_persons_own_and_its_secret_is_nowhere_in_clear(
    agent: Caller, admin: Caller, settings: Settings, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    word = secrets.token_hex(12)
    with CalendarServer(tmp_path, {"ada": word}) as server:
        asked = {"url": server.make_calendar("ada", "work", "Work"), "username": "ada", "password": word}
        answer = agent.call("POST", f"{PATH}/caldav", json=asked, headers={"Idempotency-Key": "canary"})
        assert answer.status_code == 201, answer.text
        made = answer.json()
        connected(settings, agent, made).sync()
        assert admin.ok("GET", PATH)["data"] == []
        refused(admin.delete(f"{PATH}/{made['id']}"), 404, "CONNECTION_NOT_FOUND")
        # With a new key before the old one, it is encrypted anew. Then the old one is not needed any more.
        new = base64.b64encode(secrets.token_bytes(32)).decode()
        old = base64.b64encode(settings.encryption_key_bytes[0]).decode()
        assert "Encrypted" in crm_on(settings, "keys", "rotate", ENCRYPTION_KEYS=f"{new},{old}").output
        assert connected(replace(settings, encryption_keys=new), agent, made).sync()["last_error"] is None
        crm_on(settings, "keys", "rotate", ENCRYPTION_KEYS=f"{old},{new}")
        assert connected(settings, agent, made).sync()["last_error"] is None
    output = capfd.readouterr()
    assert word not in everything(settings) + answer.text + output.out + output.err


# ── by consent ───────────────────────────────────────────────────────────────────────────────────────────────────────


class Provider:
    """Google or Microsoft, on this machine, and the service of an operator who has registered it there."""

    def __init__(self, peer: Google | Graph, variant: Variant, callers: Callers, tenant: str) -> None:
        peer.clear()
        peer.redirect_uris.add("https://crm.example.com/public/connections/callback")
        self.peer = peer
        self.name = "google" if isinstance(peer, Google) else "microsoft"
        wanted = settings_for(peer)
        names = [name for name in Settings.__struct_fields__ if name.startswith(self.name)]
        changes = {name: getattr(wanted, name) for name in names}
        self.client = variant(**changes, public_url="https://crm.example.com", console_url=CONSOLE)
        self.settings: Settings = self.client.app.state.settings
        self.person = Callers(self.client, callers.settings).person("agent", tenant)
        self.other = Callers(self.client, callers.settings).person("admin", tenant)

    def consent(self) -> dict[str, str]:
        """The way of a person to the login page, and back to the console."""
        page = self.person.ok("POST", f"{PATH}/{self.name}")["authorize_url"]
        back = self.peer.consented(page)
        sent = self.client.get("/public/connections/callback", params=back, follow_redirects=False)
        assert (sent.status_code, sent.headers["cache-control"]) == (302, "no-store")
        console, _, query = sent.headers["location"].partition("?")
        assert console == CONSOLE
        return {name: values[0] for name, values in parse_qs(query).items()}


@pytest.fixture(params=["google", "microsoft"])
def provider(
    request: pytest.FixtureRequest, google_server: Google, graph_server: Graph, variant: Variant, callers: Callers,
    tenant: str,
) -> Provider:  # fmt: skip
    return Provider(google_server if request.param == "google" else graph_server, variant, callers, tenant)


def test_a_consent_connects_the_calendar_of_whoever_began_it_once(provider: Provider) -> None:
    finish = f"{PATH}/finish"
    back = provider.consent()
    refused(provider.other.post(finish, back), 400, "INVALID_STATE")
    made = provider.person.ok("POST", finish, back)
    assert (made["provider"], made["account"], made["status"]) == (provider.name, "ada@example.com", "active")
    refused(provider.person.post(finish, back), 400, "INVALID_STATE")
    late = provider.consent()
    calendar = connected(provider.settings, provider.person, made)
    calendar.sql("SELECT 1")
    with psycopg.connect(provider.settings.migration_dsn) as owner:
        owner.execute("ALTER TABLE oauth_states NO FORCE ROW LEVEL SECURITY")
        owner.execute("UPDATE oauth_states SET expires_at = now() - interval '1 second'")
        owner.execute("ALTER TABLE oauth_states FORCE ROW LEVEL SECURITY")
    refused(provider.person.post(finish, late), 400, "INVALID_STATE")
    assert not any(token in everything(provider.settings) for token in provider.peer.tokens)


def test_what_is_planned_goes_to_the_provider_and_a_withdrawn_consent_is_told(provider: Provider) -> None:
    made = provider.person.ok("POST", f"{PATH}/finish", provider.consent())
    calendar = connected(provider.settings, provider.person, made)
    meeting = calendar.activity("Meet Ada")
    # The tokens run out, and the new ones are kept.
    provider.peer.expire_access()
    assert calendar.sync()["last_error"] is None
    provider.peer.expire_access()
    assert calendar.sync()["last_error"] is None
    assert "Meet Ada" in str(provider.peer.events())
    provider.person.ok("PATCH", f"/admin/activities/{meeting['id']}", {"due_date": (NOON + timedelta(1)).isoformat()})
    assert calendar.sync()["last_error"] is None
    assert f"{NOON + timedelta(1):%Y-%m-%d}" in str(provider.peer.events())
    # An operator who forgets the client's id for a while need not ask everybody to consent anew.
    without = replace(provider.settings, **{f"{provider.name}_client_id": ""})
    waits = connected(without, provider.person, made).sync()
    assert (waits["status"], "not registered" in waits["last_error"]) == ("active", True)
    provider.peer.withdraw()
    assert calendar.sync()["status"] == "needs_reconnect"
    told = provider.person.ok("GET", "/admin/me/notifications")["data"][0]
    assert (told["kind"], told["record"]["id"]) == ("connection", made["id"])
    again = provider.person.ok("POST", f"{PATH}/finish", provider.consent())
    assert (again["id"], again["status"]) == (made["id"], "active")
    assert calendar.sync()["last_error"] is None
    assert len(provider.peer.events()) == 1
    before = provider.peer.tokens
    provider.person.ok("DELETE", f"{PATH}/{made['id']}")
    # Microsoft has no way to give a single consent back.
    assert (provider.peer.tokens < before) == (provider.name == "google")


def test_without_a_client_at_the_provider_or_a_console_it_says_so(agent: Caller, variant: Variant) -> None:
    for name in ("google", "microsoft"):
        refused(agent.post(f"{PATH}/{name}"), 404, "NOT_CONFIGURED")
    answer = agent.client.get("/public/connections/callback", params={"code": "c", "state": "s"})
    refused(answer, 404, "NOT_CONFIGURED")
    to_console = variant(console_url=CONSOLE)
    long = to_console.get("/public/connections/callback", params={"code": "c" * 5000}, follow_redirects=False)
    refused(long, 400, "INVALID_REQUEST")
    other = to_console.get(
        "/public/connections/callback", params={"code": "a&b", "x": "https://evil.example"}, follow_redirects=False
    )
    assert urlsplit(other.headers["location"])[:3] == ("https", "console.example.com", "/calendars")
    assert "evil" not in other.headers["location"]
