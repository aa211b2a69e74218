"""Members: who is expected, what an organization lets each person do, and who was shut out."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import jwt
import psycopg
import pytest
from litestar import Litestar
from litestar.testing import TestClient

from app.access.actor import Actor
from app.access.authenticator import Authenticator
from app.access.permissions import Role
from app.db.roles import SERVICE_ROLE, set_for_transaction
from app.settings import Settings
from tests.callers import Caller, Callers, refused
from tests.processes import wait_until
from tests.streams import listening


def member_of(admin: Caller, person: Caller) -> dict[str, Any]:
    """A person's membership: the person has to be seen first."""
    person.ok("GET", "/admin/me")
    (found,) = [each for each in everybody(admin) if str(each["user_id"]) == person.user_id]
    return found


def counts(member: dict[str, Any]) -> tuple[int, int, int]:
    return member["customers"], member["open_deals"], member["open_activities"]


def everybody(caller: Caller, **filters: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = caller.ok("GET", "/admin/members", page_size=100, **filters)["data"]
    return found


def change(admin: Caller, person: Caller, **values: Any) -> dict[str, Any]:
    changed: dict[str, Any] = admin.ok("PATCH", f"/admin/members/{member_of(admin, person)['id']}", values)
    return changed


@pytest.fixture
def other_admin(callers: Callers, tenant: str) -> Caller:
    return callers.person("admin", tenant)


def test_who_is_shut_out_while_a_body_arrives_writes_nothing(
    admin: Caller, callers: Callers, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    alan = callers.person("manager", tenant)
    alan.customer("Before")
    let_in = Actor(user_id=alan.user_id, tenant_id=tenant, role=Role.MANAGER, issued_at=time.time())

    async def authenticate(*_: object) -> Actor:
        """The guard's answer from before the change."""
        return let_in

    path = f"/admin/members/{member_of(admin, alan)['id']}"
    for change, code in (({"role": "agent"}, "INSUFFICIENT_PERMISSIONS"), ({"is_active": False}, "MEMBER_INACTIVE")):
        admin.ok("PATCH", path, change)
        with monkeypatch.context() as patched:
            patched.setattr(Authenticator, "authenticate", authenticate)
            refused(alan.post("/admin/customers", {"name": "Late", "assigned_to": "somebody"}), 403, code)
    assert [row["name"] for row in admin.ok("GET", "/admin/customers")["data"]] == ["Before"]


# ── who is there ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_who_was_seen_in_a_token_is_a_member(admin: Caller, callers: Callers, tenant: str) -> None:
    alan = callers.person("agent", tenant, name="Alan Agent", email="alan@example.com")
    found = member_of(admin, alan)
    assert (found["name"], found["email"], found["role"], found["token_role"], found["narrowed_to"]) == (
        *("Alan Agent", "alan@example.com", "agent", "agent", None),
    )
    assert (found["is_active"], found["invited_at"], found["version"]) == (True, None, 1)
    assert found["last_seen_at"] is not None
    assert admin.audit(resource_type="member") == []


def test_who_was_expected_is_the_first_with_that_email_and_has_less_from_the_first_request_on(
    admin: Caller, callers: Callers, tenant: str
) -> None:
    invited = admin.ok("POST", "/admin/members", {"email": "ada@MÜLLER.de", "name": "Ada", "role": "agent"})
    assert (invited["user_id"], invited["role"], invited["token_role"]) == (None, "agent", None)
    ada = callers.person("admin", tenant, email="Ada@xn--mller-kva.de", name="Ada L.")
    refused(ada.post("/admin/tags", {"name": "VIP"}), 403, "INSUFFICIENT_PERMISSIONS")
    assert ada.ok("GET", "/admin/me")["user"]["role"] == "agent"
    joined = member_of(admin, ada)
    assert (joined["id"], joined["name"], joined["role"], joined["token_role"], joined["narrowed_to"]) == (
        *(invited["id"], "Ada L.", "agent", "admin", "agent"),
    )
    assert joined["version"] == 1
    # Another person with the same email is another member.
    twin = callers.person("manager", tenant, email="ada@müller.de")
    assert member_of(admin, twin)["id"] != joined["id"]
    wait_until(lambda: twin.ok("GET", "/admin/me")["user"]["role"] == "manager", "the email to be nobody's")


def test_somebody_is_expected_once_and_nobody_who_is_here(admin: Caller, callers: Callers, tenant: str) -> None:
    bob = callers.person("agent", tenant, email="bob@example.com")
    here = member_of(admin, bob)["id"]
    data = refused(admin.post("/admin/members", {"email": "BOB@example.com"}), 409, "EMAIL_EXISTS")
    assert data == {"member_id": here}
    expected = admin.ok("POST", "/admin/members", {"email": "eve@example.com", "role": "admin"})
    data = refused(admin.post("/admin/members", {"email": "Eve@example.com"}), 409, "EMAIL_EXISTS")
    assert data == {"member_id": expected["id"]}
    refused(admin.delete(f"/admin/members/{here}"), 409, "MEMBER_SEEN")
    admin.ok("DELETE", f"/admin/members/{expected['id']}")
    refused(admin.get(f"/admin/members/{expected['id']}"), 404, "MEMBER_NOT_FOUND")
    assert [each["action"] for each in admin.audit(resource_type="member")] == ["delete", "create"]


def test_a_withdrawn_invitation_narrows_nobody(admin: Caller, callers: Callers, tenant: str) -> None:
    invited = admin.ok("POST", "/admin/members", {"email": "ada@example.com", "role": "agent"})
    admin.ok("DELETE", f"/admin/members/{invited['id']}")
    ada = callers.person("admin", tenant, email="ada@example.com")
    assert ada.ok("GET", "/admin/me")["user"]["role"] == "admin"


def test_members_are_found_by_what_counts(admin: Caller, agent: Caller, callers: Callers, tenant: str) -> None:
    ada = callers.person("admin", tenant, name="Ada", email="ada@example.com")
    change(admin, ada, role="manager")
    change(admin, agent, is_active=False)
    admin.ok("POST", "/admin/members", {"email": "zoe@example.com", "role": "manager"})
    assert [each["email"] for each in everybody(admin, role="manager")] == ["ada@example.com", "zoe@example.com"]
    assert [each["user_id"] for each in everybody(admin, is_active="false")] == [agent.user_id]
    assert [each["name"] for each in everybody(admin, search="ada example")] == ["Ada"]
    by_email = everybody(admin, sort_by="email", sort_order="desc")
    emails = ["zoe@example.com", "agent@example.com", "admin@example.com", "ada@example.com"]
    assert [each["email"] for each in by_email] == emails
    walked: list[Any] = []
    cursor: dict[str, Any] = {"sort_by": "last_seen_at"}
    while cursor:
        page = admin.ok("GET", "/admin/members", page_size=1, **cursor)
        walked += [each["id"] for each in page["data"]]
        cursor = {"cursor": page["next_cursor"]} if page["next_cursor"] else {}
    assert sorted(walked) == sorted(each["id"] for each in by_email)


def test_a_member_shows_how_much_is_theirs(admin: Caller, agent: Caller) -> None:
    customer = agent.customer()
    for stage in ("proposal", "closed_lost"):
        deal = agent.ok("POST", "/admin/deals", {"title": "Engine", "customer_id": customer["id"]})
        admin.ok("PATCH", f"/admin/deals/{deal['id']}", {"stage": stage})
    for status in ("scheduled", "completed"):
        agent.ok("POST", "/admin/activities", {"title": "Call", "type": "call", "status": status})
    trashed = agent.customer("Bob")
    admin.ok("DELETE", f"/admin/customers/{trashed['id']}")
    assert counts(member_of(admin, agent)) == (1, 1, 1)


def test_a_members_counts_are_of_what_one_may_see(
    admin: Caller, agent: Caller, callers: Callers, tenant: str, own_scope: TestClient[Litestar], settings: Settings
) -> None:
    there = callers.person("agent", tenant, user_id=agent.user_id, client=own_scope)
    mine, others = agent.customer("Ada"), admin.customer("Bob", assigned_to=admin.user_id)
    for owner, customer in ((admin, mine), (admin, others), (agent, mine), (agent, others)):
        deal = {"title": "Engine", "customer_id": customer["id"], "owner_id": owner.user_id}
        admin.ok("POST", "/admin/deals", deal)
        admin.ok("POST", "/admin/activities", {"title": "X", "type": "call", "assigned_to": owner.user_id})
    with psycopg.connect(settings.database_url, autocommit=True) as connection:
        connection.execute("SET ROLE crm_service")
        for most in (0, 3, 10_000):
            if most:
                connection.execute("SELECT crm_fold_report_changes(%s)", [most])
            assert [counts(member_of(admin, each)) for each in (admin, agent)] == [(1, 2, 2), (1, 2, 2)]
            assert [counts(member_of(there, each)) for each in (admin, there)] == [(0, 1, 0), (1, 2, 2)]


# ── what they may do ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_lower_role_counts_and_me_says_so(admin: Caller, other_admin: Caller) -> None:
    for narrowed, counts in (("manager", "manager"), ("agent", "agent"), ("admin", "admin"), (None, "admin")):
        changed = change(admin, other_admin, role=narrowed)
        assert (changed["role"], changed["token_role"], changed["narrowed_to"]) == (counts, "admin", narrowed)
        me = other_admin.ok("GET", "/admin/me")
        assert me["user"]["role"] == counts
        assert ("configure" in me["permissions"]) is (counts == "admin")
    change(admin, other_admin, role="agent")
    refused(other_admin.post("/admin/tags", {"name": "VIP"}), 403, "INSUFFICIENT_PERMISSIONS")
    customer = other_admin.customer()
    assert customer["assigned_to"] == other_admin.user_id
    assert admin.audit(resource_type="customer")[0]["user_role"] == "agent"
    # What the token says is still known.
    users = {str(each["id"]): each["role"] for each in admin.ok("GET", "/admin/users")["data"]}
    assert users[other_admin.user_id] == "admin"


def test_no_membership_gives_more_than_the_token(admin: Caller, agent: Caller) -> None:
    changed = change(admin, agent, role="admin")
    assert (changed["role"], changed["narrowed_to"]) == ("agent", "admin")
    refused(agent.post("/admin/tags", {"name": "VIP"}), 403, "INSUFFICIENT_PERMISSIONS")


def test_who_is_narrowed_sees_only_their_own_where_agents_do(
    admin: Caller, callers: Callers, tenant: str, own_scope: TestClient[Litestar]
) -> None:
    seen = admin.customer()
    narrowed = callers.person("manager", tenant)
    change(admin, narrowed, role="agent")
    there = callers.person("manager", tenant, user_id=narrowed.user_id, client=own_scope)
    wait_until(lambda: there.get(f"/admin/customers/{seen['id']}").status_code == 404, "the other worker to know it")
    assert there.ok("GET", "/admin/customers")["total"] == 0


def test_who_is_deactivated_gets_in_nowhere(admin: Caller, agent: Caller, callers: Callers) -> None:
    key = {"Idempotency-Key": "once"}
    batch = {"requests": [{"method": "POST", "path": "/admin/customers", "body": {"name": "Ada"}}]}
    agent.post("/admin/customers", {"name": "Ada"}, headers=key)
    change(admin, agent, is_active=False)
    for refusal in (
        agent.get("/admin/me"),
        agent.get("/admin/customers"),
        agent.get("/console/admin/customers"),
        agent.post("/admin/customers", {"name": "Ada"}, headers=key),
        agent.post("/admin/customers", {"name": "Ada"}, headers={"Dry-Run": "true"}),
        agent.post("/admin/batch", batch),
        agent.get("/admin/events/stream"),
        agent.get("/admin/members"),
    ):
        refused(refusal, 403, "MEMBER_INACTIVE")
    # The same person elsewhere, and others here.
    elsewhere = callers.person("agent", f"other-{uuid.uuid4().hex}", user_id=agent.user_id)
    assert elsewhere.get("/admin/customers").status_code == 200
    assert change_by_id(admin, agent, is_active=True)["is_active"] is True
    assert agent.get("/admin/customers").status_code == 200


def change_by_id(admin: Caller, person: Caller, **values: Any) -> dict[str, Any]:
    """As `change`, for who can't get in to be seen."""
    (found,) = [each for each in everybody(admin) if str(each["user_id"]) == person.user_id]
    changed: dict[str, Any] = admin.ok("PATCH", f"/admin/members/{found['id']}", values)
    return changed


def test_a_token_of_several_organizations_has_a_membership_in_each(
    admin: Caller, stranger: Caller, client: TestClient[Litestar], settings: Settings
) -> None:
    user_id = str(uuid.uuid4())
    claims = {"sub": user_id, "role": "admin", "tenant_ids": [admin.tenant, stranger.tenant], "exp": time.time() + 60}
    token = jwt.encode(claims, settings.jwt_secret, algorithm="HS256")
    here, there = (Caller(client, token, user_id=user_id, tenant=tenant) for tenant in (admin.tenant, stranger.tenant))
    for caller in (here, there):
        caller.headers["X-Organization-Id"] = caller.tenant
    change(admin, here, role="agent")
    change(stranger, there, is_active=False)
    assert here.ok("GET", "/admin/me")["user"]["role"] == "agent"
    refused(there.get("/admin/me"), 403, "MEMBER_INACTIVE")


# ── signing out ──────────────────────────────────────────────────────────────────────────────────────────────────────


def issued(person: Caller, settings: Settings, at: float | None, client: TestClient[Litestar] | None = None) -> Caller:
    """The same person with a token that was issued then; with None, one that does not say when."""
    token = person.headers["Authorization"].removeprefix("Bearer ")
    claims = jwt.decode(token, settings.jwt_secret, algorithms=["HS256"], options={"verify_aud": False})
    del claims["iat"]
    token = jwt.encode(claims | ({} if at is None else {"iat": at}), settings.jwt_secret, algorithm="HS256")
    return Caller(client or person.client, token, user_id=person.user_id, tenant=person.tenant)


def test_who_was_signed_out_needs_a_newer_token(admin: Caller, agent: Caller, settings: Settings) -> None:
    me = member_of(admin, agent)
    before = agent.ok("POST", f"/admin/members/{me['id']}/sign-out")
    assert before["version"] == 2
    old, later, unsaid = (issued(agent, settings, at) for at in (time.time() - 5, time.time() + 1, None))
    assert later.get("/admin/me").status_code == 200
    for caller in (agent, old, unsaid):
        refusal = caller.get("/admin/me")
        refused(refusal, 401, "TOKEN_REVOKED")
        assert refusal.headers["WWW-Authenticate"] == "Bearer"
    (entry,) = later.ok("GET", f"/admin/members/{me['id']}/versions")["data"]
    # It can't be taken back: a token that was refused stays refused.
    undone = admin.ok("POST", f"/admin/operations/{entry['operation_id']}/undo", {})
    assert undone["changed"] == 0
    refused(agent.get("/admin/me"), 401, "TOKEN_REVOKED")


def test_only_admins_sign_others_out(admin: Caller, manager: Caller, agent: Caller) -> None:
    theirs = member_of(admin, agent)["id"]
    refused(manager.post(f"/admin/members/{theirs}/sign-out"), 403, "INSUFFICIENT_PERMISSIONS")
    refused(manager.post("/admin/members/1/sign-out"), 404, "MEMBER_NOT_FOUND")
    assert agent.get("/admin/me").status_code == 200
    admin.ok("POST", f"/admin/members/{theirs}/sign-out")
    refused(agent.get("/admin/me"), 401, "TOKEN_REVOKED")


def test_who_has_a_stolen_token_does_not_use_up_the_persons_requests(
    admin: Caller, agent: Caller, variant: Callable[..., TestClient[Litestar]], settings: Settings
) -> None:
    limited = variant(rate_limit_per_minute=200)
    admin.ok("POST", f"/admin/members/{member_of(admin, agent)['id']}/sign-out")
    thief = issued(agent, settings, time.time() - 60, limited)
    wait_until(lambda: thief.get("/admin/me").status_code == 401, "the other worker to know it")
    for _ in range(200):
        refused(thief.get("/admin/me"), 401, "TOKEN_REVOKED")
    owner = issued(agent, settings, time.time() + 1, limited)
    assert owner.get("/admin/me").status_code == 200


# ── somebody stays admin ─────────────────────────────────────────────────────────────────────────────────────────────


def test_nobody_narrows_or_shuts_out_the_last_admin_nor_themselves(
    admin: Caller, other_admin: Caller, manager: Caller, agent: Caller
) -> None:
    mine, others = member_of(admin, admin)["id"], member_of(admin, other_admin)["id"]
    for values in ({"role": "manager"}, {"role": "agent"}, {"is_active": False}):
        refused(admin.patch(f"/admin/members/{mine}", values), 409, "LAST_ADMIN")
    assert change(admin, other_admin, role="manager")["role"] == "manager"
    (entry,) = admin.ok("GET", f"/admin/members/{others}/versions")["data"]
    assert entry["changes"] == {"role": {"old": None, "new": "manager"}}
    # An admin of tokens who is narrowed, a manager and an agent are none.
    for person in (manager, agent):
        change(admin, person, is_active=False)
    batch = {"requests": [{"method": "PATCH", "path": f"/admin/members/{mine}", "body": {"role": "agent"}}]}
    refused(admin.post("/admin/batch", batch), 409, "LAST_ADMIN")
    refused(admin.patch(f"/admin/members/{mine}", {"role": "agent"}, headers={"Dry-Run": "true"}), 409, "LAST_ADMIN")
    assert admin.ok("POST", f"/admin/members/{others}/undo", {"entry_id": entry["id"]})["role"] == "admin"


def test_whoever_has_tokens_of_two_roles_shuts_out_neither_themselves_nor_is_taken_for_nobody(
    admin: Caller, callers: Callers, tenant: str
) -> None:
    mine = member_of(admin, admin)["id"]
    as_agent = callers.person("agent", tenant, user_id=admin.user_id)
    for token in (as_agent, admin, as_agent):
        token.ok("GET", "/admin/me")
    for values in ({"is_active": False}, {"role": "agent"}):
        refused(admin.patch(f"/admin/members/{mine}", values), 409, "LAST_ADMIN")
    other = callers.person("admin", tenant)
    theirs = member_of(admin, other)["id"]
    as_agent.ok("GET", "/admin/me")
    assert admin.ok("PATCH", f"/admin/members/{theirs}", {"role": "agent"})["role"] == "agent"


def test_whoever_invites_their_own_next_address_stays_the_last_admin(
    admin: Caller, callers: Callers, tenant: str
) -> None:
    mine = member_of(admin, admin)["id"]
    for number, values in enumerate(({"role": "agent"}, {"is_active": False})):
        email = f"next-{number}@example.com"
        invited = admin.ok("POST", "/admin/members", {"email": email})
        admin.ok("PATCH", f"/admin/members/{invited['id']}", values)
        moved = callers.person("admin", tenant, user_id=admin.user_id, email=email)
        assert moved.ok("GET", "/admin/me")["user"]["role"] == "admin"
        assert [(each["id"], each["role"]) for each in everybody(moved)] == [(mine, "admin")]
        admin = moved


def test_an_invitation_becomes_that_of_a_person_who_was_here_under_another_email(
    admin: Caller, callers: Callers, tenant: str
) -> None:
    alan = callers.person("manager", tenant, email="alan@example.com")
    theirs = member_of(admin, alan)
    invited = admin.ok("POST", "/admin/members", {"email": "alan@work.example", "role": "agent"})
    moved = callers.person("manager", tenant, user_id=alan.user_id, email="Alan@work.example")
    assert moved.ok("GET", "/admin/me")["user"]["role"] == "agent"
    joined = member_of(admin, alan)
    assert (joined["id"], joined["narrowed_to"]) == (theirs["id"], "agent")
    assert joined["invited_at"] == invited["invited_at"]
    refused(admin.get(f"/admin/members/{invited['id']}"), 404, "MEMBER_NOT_FOUND")
    # Whoever is shut out by an address is shut out by the id, too: jobs, schedules and feeds know no other.
    other = admin.ok("POST", "/admin/members", {"email": "alan@home.example", "role": "admin"})
    admin.ok("PATCH", f"/admin/members/{other['id']}", {"is_active": False})
    home = callers.person("manager", tenant, user_id=alan.user_id, email="alan@home.example")
    refused(home.get("/admin/me"), 403, "MEMBER_INACTIVE")
    assert [(each["id"], each["is_active"], each["narrowed_to"]) for each in everybody(admin, role="agent")] == [
        (theirs["id"], False, "agent")
    ]


def test_an_invitation_does_not_come_back_for_who_is_here(admin: Caller, callers: Callers, tenant: str) -> None:
    invited = admin.ok("POST", "/admin/members", {"email": "ada@example.com", "role": "agent"})["id"]
    withdrawn = admin.call("DELETE", f"/admin/members/{invited}").headers["X-Operation-Id"]
    ada = callers.person("admin", tenant, email="Ada@example.com")
    assert member_of(admin, ada)["role"] == "admin"
    refused(admin.post(f"/admin/operations/{withdrawn}/undo", {}), 409, "CHANGED_SINCE")
    assert ada.ok("GET", "/admin/me")["user"]["role"] == "admin"


def test_who_was_narrowed_takes_no_change_of_members_back(admin: Caller, other_admin: Caller, manager: Caller) -> None:
    theirs = member_of(admin, manager)["id"]
    deactivated = other_admin.patch(f"/admin/members/{theirs}", {"is_active": False}).headers["X-Operation-Id"]
    change(admin, other_admin, role="manager")
    undo = f"/admin/operations/{deactivated}/undo"
    refused(other_admin.post(undo, {}), 403, "INSUFFICIENT_PERMISSIONS")
    refused(manager.get("/admin/me"), 403, "MEMBER_INACTIVE")
    assert admin.ok("POST", undo, {})["changed"] == 1
    assert manager.get("/admin/me").status_code == 200


def test_two_admins_who_narrow_each_other_at_once_leave_one(
    admin: Caller, other_admin: Caller, settings: Settings
) -> None:
    ids = [member_of(admin, admin)["id"], member_of(admin, other_admin)["id"]]
    narrow = "UPDATE members SET role = 'agent' WHERE id = %s"
    with ExitStack() as stack:
        one, two = (stack.enter_context(psycopg.connect(settings.database_dsn)) for _ in range(2))
        for connection, person in ((one, admin), (two, other_admin)):
            connection.execute(
                set_for_transaction({"role": "%s", "crm.tenant": "%s", "crm.user": "%s", "lock_timeout": "'20s'"}),
                [SERVICE_ROLE, admin.tenant, person.user_id],
            )
        one.execute(narrow, [ids[1]])
        with ThreadPoolExecutor() as pool:
            waiting = pool.submit(two.execute, narrow, [ids[0]])
            with psycopg.connect(settings.migration_dsn, autocommit=True) as owner:
                waits = "SELECT FROM pg_locks WHERE pid = %s AND locktype = 'advisory' AND NOT granted"
                wait_until(lambda: owner.execute(waits, [two.info.backend_pid]).fetchone() is not None, "the second")
            one.commit()
            with pytest.raises(psycopg.errors.CheckViolation):
                waiting.result(timeout=20)


def test_who_is_first_seen_and_invited_at_once_is_narrowed(
    admin: Caller, callers: Callers, tenant: str, settings: Settings
) -> None:
    """The invitation is not committed yet when the person's first request comes: that request waits for it."""
    admin.ok("GET", "/admin/me")
    ada = callers.person("admin", tenant, email="ada@example.com")
    with psycopg.connect(settings.database_dsn) as connection:
        begin = set_for_transaction({"role": "%s", "crm.tenant": "%s"})
        connection.execute(begin, [SERVICE_ROLE, tenant])
        connection.execute("SELECT crm_lock_members(%s)", [tenant])
        invited = "INSERT INTO members (tenant_id, email, role) VALUES (%s, 'ada@example.com', 'agent')"
        connection.execute(invited, [tenant])
        with ThreadPoolExecutor() as pool:
            first = [pool.submit(ada.get, "/admin/customers") for _ in range(3)]
            with psycopg.connect(settings.migration_dsn, autocommit=True) as owner:
                waits = "SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
                wait_until(lambda: owner.execute(waits).fetchone() is not None, "the first request")
            connection.commit()
            assert {each.result().status_code for each in first} == {200}
    joined = member_of(admin, ada)
    assert (joined["narrowed_to"], joined["role"]) == ("agent", "agent")
    wait_until(lambda: ada.ok("GET", "/admin/me")["user"]["role"] == "agent", "the worker to know it")


# ── what goes on for a person ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("values", [{"is_active": False}, {"role": "agent"}, None], ids=str)
def test_a_live_stream_ends_when_its_person_may_do_less(
    admin: Caller, manager: Caller, values: dict[str, Any] | None
) -> None:
    with listening(manager) as stream:
        theirs = member_of(admin, manager)["id"]
        if values is None:
            admin.ok("POST", f"/admin/members/{theirs}/sign-out")
        else:
            admin.ok("PATCH", f"/admin/members/{theirs}", values)
        stream.rest()


def test_who_waits_for_events_and_is_shut_out_hears_of_none(admin: Caller, other_admin: Caller) -> None:
    theirs = member_of(admin, other_admin)["id"]
    last = admin.ok("GET", "/admin/events")["last_sequence"]
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(other_admin.get, "/admin/events", after=last + 1000, wait=2)
        admin.ok("PATCH", f"/admin/members/{theirs}", {"is_active": False})
        refused(waiting.result(), 403, "MEMBER_INACTIVE")


def test_all_that_is_open_of_a_person_is_handed_over_and_taken_back(
    admin: Caller, agent: Caller, manager: Caller
) -> None:
    customer = agent.customer()["id"]
    open_, lost = (
        agent.ok("POST", "/admin/deals", {"title": title, "customer_id": customer})["id"] for title in ("Open", "Lost")
    )
    admin.ok("PATCH", f"/admin/deals/{lost}", {"stage": "closed_lost"})
    activity = agent.ok("POST", "/admin/activities", {"title": "Call", "type": "call"})["id"]
    both = [agent.user_id, manager.user_id]
    project = agent.ok("POST", "/admin/projects", {"name": "Kitchen", "assignees": both})["id"]
    helped = admin.ok("POST", "/admin/projects", {"name": "Bath", "assignees": [agent.user_id]})["id"]
    from_, to = member_of(admin, agent)["id"], member_of(admin, manager)["id"]
    given = admin.call("POST", f"/admin/members/{from_}/reassign", json={"to": to})
    assert given.json() == {"customers": 1, "deals": 1, "activities": 1, "projects": 2}
    owners = {
        "customer": admin.ok("GET", f"/admin/customers/{customer}")["assigned_to"],
        "open": admin.ok("GET", f"/admin/deals/{open_}")["owner_id"],
        "lost": admin.ok("GET", f"/admin/deals/{lost}")["owner_id"],
        "activity": admin.ok("GET", f"/admin/activities/{activity}")["assigned_to"],
        "project": admin.ok("GET", f"/admin/projects/{project}")["owner_id"],
    }
    assert owners == {**dict.fromkeys(owners, manager.user_id), "lost": agent.user_id}
    assert admin.ok("GET", f"/admin/projects/{project}")["assignees"] == [manager.user_id]
    assert admin.ok("GET", f"/admin/projects/{helped}")["assignees"] == [manager.user_id]
    undone = admin.ok("POST", f"/admin/operations/{given.headers['X-Operation-Id']}/undo", {})
    assert undone["changed"] == 5
    assert admin.ok("GET", f"/admin/customers/{customer}")["assigned_to"] == agent.user_id


def test_what_is_handed_over_goes_to_somebody_who_can_have_it(admin: Caller, agent: Caller, manager: Caller) -> None:
    path = f"/admin/members/{member_of(admin, agent)['id']}/reassign"
    change(admin, manager, is_active=False)
    expected = admin.ok("POST", "/admin/members", {"email": "eve@example.com"})["id"]
    gone = next(each["id"] for each in everybody(admin) if each["user_id"] == manager.user_id)
    for to, code in ((gone, "INVALID_REQUEST"), (expected, "INVALID_REQUEST"), (2**62, "MEMBER_NOT_FOUND")):
        assert refused(admin.post(path, {"to": to}), 400, code)["fields"][0]["field"] == "to"
    refused(admin.post(path, {"to": member_of(admin, agent)["id"]}), 400, "INVALID_REQUEST")
