"""Personal access tokens: what gets in, as whom, with which scope, and when no longer."""

from __future__ import annotations

import asyncio
import re
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import psycopg
import pytest
from litestar.handlers import HTTPRouteHandler

from app.access.access_tokens import KNOWN_SECONDS, AccessTokens, Found, hashed, make_access_token
from app.access.permissions import by_a_person
from app.db.roles import SERVICE_ROLE, set_for_transaction
from app.main import create_app
from app.settings import Settings
from app.web.errors import AppError
from tests.callers import Caller, refused
from tests.laws.routes import ADMIN, Operation, member_id
from tests.mcp.serving import served

TOKENS = "/admin/me/access-tokens"


def token_of(person: Caller, scope: str = "write", **more: object) -> tuple[int, str]:
    made = person.ok("POST", TOKENS, {"name": "My client", "scope": scope, **more})
    return made["id"], made["token"]


def program(person: Caller, scope: str = "write") -> Caller:
    """A program with an access token of this person's."""
    return Caller(person.client, token_of(person, scope)[1], user_id=person.user_id, tenant=person.tenant)


def test_a_token_is_shown_once_and_listed_with_its_last_use_until_it_is_revoked(agent: Caller, manager: Caller) -> None:
    made = agent.ok("POST", TOKENS, {"name": "Claude", "scope": "read", "expires_in_days": 7})
    assert made["token"].startswith("crm_pat_")
    lasts = datetime.fromisoformat(made["expires_at"]) - datetime.fromisoformat(made["created_at"])
    assert lasts == timedelta(days=7)
    with_it = Caller(agent.client, made["token"], user_id=agent.user_id, tenant=agent.tenant)
    assert with_it.ok("GET", "/admin/me")["user"]["id"] == agent.user_id
    (listed,) = agent.ok("GET", TOKENS)["data"]
    assert (listed["token"], listed["name"], listed["scope"]) == (None, "Claude", "read")
    assert listed["last_used_at"] is not None
    assert manager.ok("GET", TOKENS)["data"] == []
    refused(manager.delete(f"{TOKENS}/{made['id']}"), 404, "ACCESS_TOKEN_NOT_FOUND")
    agent.ok("DELETE", f"{TOKENS}/{made['id']}")
    refused(with_it.get("/admin/me"), 401, "TOKEN_REVOKED")
    refused(agent.delete(f"{TOKENS}/{made['id']}"), 404, "ACCESS_TOKEN_NOT_FOUND")
    assert agent.ok("GET", TOKENS)["data"] == []


def test_a_program_acts_as_its_person_with_the_role_that_counts(admin: Caller, agent: Caller) -> None:
    mine = program(agent)
    made = mine.customer("Ada")
    assert (made["assigned_to"], admin.audit()[0]["user_id"]) == (agent.user_id, agent.user_id)
    refused(mine.get("/admin/audit"), 403, "INSUFFICIENT_PERMISSIONS")
    boss = program(admin)
    assert boss.get("/admin/audit").is_success
    refused(boss.call("GET", "/admin/me", headers={"X-Organization-Id": "elsewhere"}), 403, "ORGANIZATION_FORBIDDEN")


def test_what_only_reads_writes_nothing_and_what_proposes_may_only_try(admin: Caller) -> None:
    reads, proposes = program(admin, "read"), program(admin, "propose")
    ada = admin.customer("Ada")["id"]
    for each in (reads, proposes):
        assert each.ok("GET", f"/admin/customers/{ada}")["name"] == "Ada"
        for method, path, body in (
            ("PATCH", f"/admin/customers/{ada}", {"name": "Eve"}),
            ("DELETE", f"/admin/customers/{ada}", None),
            ("POST", "/admin/customers", {"name": "Eve"}),
            ("POST", "/admin/batch", {"requests": [{"method": "DELETE", "path": f"/admin/customers/{ada}"}]}),
        ):
            refused(each.call(method, path, json=body), 403, "INSUFFICIENT_PERMISSIONS")
    tried = {"json": {"name": "Eve"}, "headers": {"Dry-Run": "true"}}
    assert proposes.call("PATCH", f"/admin/customers/{ada}", **tried).headers["Dry-Run"] == "true"
    refused(reads.call("PATCH", f"/admin/customers/{ada}", **tried), 403, "INSUFFICIENT_PERMISSIONS")
    assert admin.ok("GET", f"/admin/customers/{ada}")["name"] == "Ada"


# What a program may never do, whatever the token's scope: make another way in, send data elsewhere, approve itself,
# decide who may do what, take everything out, or erase it for good.
FOR_PEOPLE = re.compile(
    "/(access-tokens|feeds|webhooks|connections|proposals|mcp-servers|assistant/settings|members|exports|erase)(/|$)"
)
WRITES = [each for each in ADMIN if each.method not in {"GET", "HEAD"}]


def is_for_people(handler: HTTPRouteHandler) -> bool:
    return by_a_person in handler.resolve_guards()


def test_what_a_program_may_never_do_says_so_on_its_route() -> None:
    saying_so = {str(operation) for operation in WRITES if is_for_people(operation.handler)}
    assert saying_so == {str(operation) for operation in WRITES if FOR_PEOPLE.search(operation.path)}


def test_a_program_reads_what_its_person_reads() -> None:
    """Exports of lists and dossiers, too: the audit log has who took them."""
    assert not [str(each) for each in ADMIN if each not in WRITES and is_for_people(each.handler)]


@pytest.mark.parametrize("operation", [each for each in WRITES if is_for_people(each.handler)], ids=str)
def test_a_program_may_never_do_it(operation: Operation, admin: Caller) -> None:
    answer = program(admin).call(operation.method, operation.url(), **operation.payload())
    refused(answer, 403, "INSUFFICIENT_PERMISSIONS")


def test_a_token_ends_with_a_sign_out_and_does_not_come_back(admin: Caller, agent: Caller) -> None:
    mine = program(agent)
    admin.ok("POST", f"/admin/members/{member_id(agent)}/sign-out")
    refused(mine.get("/admin/me"), 401, "TOKEN_REVOKED")


def test_whose_person_is_deactivated_is_revoked_not_forbidden(admin: Caller, agent: Caller) -> None:
    mine, person = program(agent), f"/admin/members/{member_id(agent)}"
    assert mine.get("/admin/me").is_success
    shut_out = admin.patch(person, {"is_active": False}).headers["X-Operation-Id"]
    refused(mine.get("/admin/me"), 401, "TOKEN_REVOKED")
    # Nor does it come back with its person, who makes another one.
    for let_in in (("POST", f"/admin/operations/{shut_out}/undo", {}), ("PATCH", person, {"is_active": True})):
        admin.ok(*let_in)
        agent.ok("GET", "/admin/me")
        mine.client.app.state.access_tokens.forget()
        refused(mine.get("/admin/me"), 401, "TOKEN_REVOKED")
    assert program(agent).get("/admin/me").is_success


def test_making_and_ending_a_token_is_audited_without_its_secret(admin: Caller, agent: Caller) -> None:
    token_id, _ = token_of(agent, "propose")
    agent.ok("DELETE", f"{TOKENS}/{token_id}")
    ended, made = admin.audit(resource_type="access_token")
    assert (made["action"], made["user_id"], made["resource_id"]) == ("create", agent.user_id, token_id)
    assert (made["changes"]["name"]["new"], made["changes"]["scope"]["new"]) == ("My client", "propose")
    assert (ended["action"], ended["changes"].keys()) == ("update", {"revoked_at"})
    assert "secret_hash" not in made["changes"]
    member = f"/admin/members/{member_id(agent)}"
    token_of(agent)
    admin.ok("PATCH", member, {"is_active": False})
    assert admin.audit(resource_type="access_token")[0]["changes"].keys() == {"revoked_at"}


def test_a_role_that_is_narrowed_counts_for_programs_too(admin: Caller, manager: Caller) -> None:
    mine = program(manager)
    admin.ok("PATCH", f"/admin/members/{member_id(manager)}", {"role": "agent"})
    assert mine.ok("GET", "/admin/me")["user"]["role"] == "agent"


def _as_service(settings: Settings, person: Caller, statement: str) -> None:
    with psycopg.connect(settings.database_dsn) as connection:
        begin = set_for_transaction({"role": "%s", "crm.tenant": "%s", "crm.user": "%s"})
        connection.execute(begin, [SERVICE_ROLE, person.tenant, person.user_id])
        assert connection.execute(statement).rowcount == 1


def test_thirty_days_after_the_person_was_here_last_a_token_is_revoked(agent: Caller, settings: Settings) -> None:
    mine = program(agent)
    _as_service(
        settings, agent, f"UPDATE users SET last_seen_at = now() - interval '31 days' WHERE id = '{agent.user_id}'"
    )
    refused(mine.get("/admin/me"), 401, "TOKEN_REVOKED")


def test_that_a_program_asks_does_not_say_that_its_person_was_here(
    agent: Caller, settings: Settings, variant: Any
) -> None:
    _, token = token_of(agent)
    _as_service(
        settings, agent, f"UPDATE users SET last_seen_at = now() - interval '9 days' WHERE id = '{agent.user_id}'"
    )
    # A worker that does not know the person yet.
    other = Caller(variant(), token, user_id=agent.user_id, tenant=agent.tenant)
    assert other.get("/admin/customers").is_success
    (person,) = other.ok("GET", "/admin/users")["data"]
    assert datetime.now(UTC) - datetime.fromisoformat(person["last_seen_at"]) > timedelta(days=8)


def test_a_role_is_the_one_of_the_last_real_token(agent: Caller, settings: Settings) -> None:
    mine = program(agent)
    _as_service(settings, agent, f"UPDATE users SET role = 'manager' WHERE id = '{agent.user_id}'")
    assert mine.ok("GET", "/admin/me")["user"]["role"] == "manager"
    assert mine.ok("GET", "/admin/members")["data"][0]["token_role"] == "manager"


def test_a_token_is_in_no_row_answer_or_log_but_the_one_that_shows_it(
    admin: Caller, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    _, token = token_of(admin)
    with psycopg.connect(settings.migration_dsn) as owner:
        owner.execute("ALTER TABLE access_tokens NO FORCE ROW LEVEL SECURITY")
        kept = owner.execute("SELECT each::text FROM access_tokens AS each").fetchall()
        owner.rollback()
    assert kept
    assert not [row for row in kept if token[8:40] in row[0]]
    mine = Caller(admin.client, token, user_id=admin.user_id, tenant=admin.tenant)
    told = [mine.get("/admin/me"), mine.get("/admin/customers/0"), mine.post(TOKENS), mine.get("/admin/audit")]
    assert not [answer for answer in told if token[8:40] in answer.text]
    logged = capsys.readouterr().out
    assert "/admin/me" in logged
    assert token[8:40] not in logged
    answer = admin.post(TOKENS, {"name": "Again", "scope": "read"}, headers={"Idempotency-Key": "once"})
    again = admin.post(TOKENS, {"name": "Again", "scope": "read"}, headers={"Idempotency-Key": "once"})
    assert (answer.json()["token"] is None, again.json()["token"]) == (False, None)


def test_a_made_up_token_is_refused(admin: Caller) -> None:
    _, token = token_of(admin)
    for made_up in (token[:-1], token[:-1] + ("a" if token[-1] != "a" else "b"), make_access_token(), "crm_pat_"):
        other = Caller(admin.client, made_up, user_id="", tenant="")
        refused(other.get("/admin/me"), 401, "INVALID_TOKEN")


@pytest.mark.slow
def test_a_stream_ends_soon_after_its_token_is_revoked(agent: Caller, settings: Settings) -> None:
    token_id, token = token_of(agent)
    with served(create_app(settings)) as address:
        events = httpx.stream(
            "GET", f"{address}/admin/events/stream", headers={"Authorization": f"Bearer {token}"}, timeout=30
        )
        with events as stream:
            assert stream.status_code == 200
            lines = stream.iter_lines()
            next(lines)
            agent.ok("DELETE", f"{TOKENS}/{token_id}")
            # Until it ends: long before it says that it is there.
            for line in lines:
                assert not line.startswith(":")


def test_there_are_at_most_twenty(agent: Caller) -> None:
    made = [token_of(agent)[0] for _ in range(20)]
    refused(agent.post(TOKENS, {"name": "One more", "scope": "read"}), 409, "LIMIT_REACHED")
    agent.ok("DELETE", f"{TOKENS}/{made[0]}")
    token_of(agent)


# ── what a worker knows ──────────────────────────────────────────────────────────────────────────────────────────────


class Kept:
    """A database of one token, which counts how often it is asked."""

    def __init__(self) -> None:
        self.token = make_access_token()
        self.asked = 0
        now = datetime.now(UTC)
        self.found: Found | None = Found(
            "acme", 1, "7", "read", now, now + timedelta(days=1), is_revoked=False, role="agent", name=None, email=None
        )

    async def find(self, hash_: bytes) -> Found | None:
        self.asked += 1
        return self.found if hash_ == hashed(self.token) else None


def test_a_wrong_checksum_costs_no_connection_and_a_known_token_one_in_two_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept, now = Kept(), [1000.0]
    known = AccessTokens(kept.find)

    async def ask(token: str) -> str:
        try:
            return (await known.bearer(token)).user_id
        except AppError as refusal:
            return refusal.code.name

    async def asks() -> None:
        assert await ask(kept.token[:-1] + "!") == "INVALID_TOKEN"
        assert await ask("crm_pat_" + "0" * 49) == "INVALID_TOKEN"
        assert kept.asked == 0
        monkeypatch.setattr(time, "monotonic", lambda: now[0])
        assert await asyncio.gather(*(ask(kept.token) for _ in range(20))) == ["7"] * 20
        assert kept.asked == 1
        now[0] += KNOWN_SECONDS
        assert (await ask(kept.token), kept.asked) == ("7", 1)
        now[0] += 0.1
        assert (await ask(kept.token), kept.asked) == ("7", 2)
        known.forget()
        now[0] += 0.1
        assert kept.found is not None
        kept.found = kept.found._replace(is_revoked=True)
        assert await ask(kept.token) == "TOKEN_REVOKED"
        kept.found = kept.found._replace(is_revoked=False, expires_at=datetime.now(UTC))
        assert await ask(kept.token) == "INVALID_TOKEN"
        kept.found = None
        assert await ask(kept.token) == "INVALID_TOKEN"

    asyncio.run(asks())


@pytest.mark.parametrize("scope", ["read", "propose", "write"])
def test_what_is_for_people_only_tells_every_program_so(admin: Caller, scope: str) -> None:
    mine = program(admin, scope)
    for path, body in ((TOKENS, {"name": "Another", "scope": "write"}), ("/admin/proposals/1/approve", None)):
        answer = mine.post(path, body)
        refused(answer, 403, "INSUFFICIENT_PERMISSIONS")
        assert "log in and do it yourself" in answer.json()["message"]
