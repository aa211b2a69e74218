"""Organizations, invitations, and who is out of the CRM at once."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import psycopg
import pytest
from litestar import Litestar
from litestar.testing import TestClient

from tests.callers import refused
from tests.identity.conftest import Somebody
from tests.processes import wait_until


def invited(ada: Somebody, bob: Somebody, role: str = "agent") -> str:
    """The secret of an invitation into Ada's organization, from the mail."""
    ada.ok("POST", f"/auth/organizations/{ada.organization}/members", {"email": bob.email, "role": role})
    return bob.secret("invites you")


@pytest.fixture
def bob(ada: Somebody, somebody: Callable[..., Somebody]) -> Somebody:
    """A manager whom Ada has invited, and who has registered with that invitation."""
    bob = somebody("Bob")
    answer = bob.register(None, invitation=invited(ada, bob, "manager"))
    assert answer.status_code == 201, answer.text
    bob.session = answer.json()
    return bob


def in_crm(client: TestClient[Litestar], person: Somebody, path: str = "/admin/me") -> httpx.Response:
    return client.get(path, headers={"Authorization": f"Bearer {person.session['token']}"})


def member(ada: Somebody, bob: Somebody) -> str:
    return f"/auth/organizations/{ada.organization}/members/{bob.id}"


def test_who_is_invited_registers_into_the_organization_with_the_role(
    ada: Somebody, bob: Somebody, client: TestClient[Litestar]
) -> None:
    assert (bob.organization, bob.session["user"]["role"]) == (ada.organization, "manager")
    assert in_crm(client, bob).json()["user"]["role"] == "manager"
    members = ada.ok("GET", f"/auth/organizations/{ada.organization}/members")
    assert [(each["email"], each["role"], each["is_owner"]) for each in members["data"]] == [
        (ada.email, "admin", True),
        (bob.email, "manager", False),
    ]
    assert bob.ok("GET", "/auth/me")["is_email_verified"]


def test_who_is_known_accepts_by_logging_in_and_works_in_both(ada: Somebody, somebody: Callable[..., Somebody]) -> None:
    eve = somebody("Eve")
    eve.register("Own")
    eve.log_in()
    own = eve.organization
    secret = invited(ada, eve)
    refused(ada.log_in(invitation=secret), 400, "INVALID_LINK")
    assert eve.log_in(invitation=secret).status_code == 200
    assert [each["role"] for each in eve.session["organizations"]] == ["admin", "agent"]
    assert eve.session["user"]["role"] == "admin"
    refused(eve.log_in(invitation=secret), 400, "INVALID_LINK")
    there = eve.refresh(**{"X-Organization-Id": ada.organization}).json()
    assert there["user"]["role"] == "agent"
    # The session stays there until another organization is named.
    there = eve.refresh(there["refresh_token"]).json()
    assert there["user"]["role"] == "agent"
    assert eve.refresh(there["refresh_token"], **{"X-Organization-Id": own}).json()["user"]["role"] == "admin"


def test_a_session_of_one_organization_gives_nothing_in_another(
    ada: Somebody, bob: Somebody, somebody: Callable[..., Somebody], client: TestClient[Litestar]
) -> None:
    eve = somebody("Eve")
    eve.register("Own")
    eve.log_in()
    refused(eve.refresh(**{"X-Organization-Id": ada.organization}), 403, "ORGANIZATION_FORBIDDEN")
    here = {"X-Organization-Id": ada.organization}
    refused(eve.log_in(headers=here), 403, "ORGANIZATION_FORBIDDEN")
    headers = here | {"Authorization": f"Bearer {eve.session['token']}"}
    refused(client.get("/admin/customers", headers=headers), 403, "ORGANIZATION_FORBIDDEN")
    for method, path, body in (
        ("PATCH", f"/auth/organizations/{ada.organization}", {"name": "Mine"}),
        ("GET", f"/auth/organizations/{ada.organization}/members", None),
        ("POST", f"/auth/organizations/{ada.organization}/members", {"email": eve.email, "role": "admin"}),
        ("PATCH", member(ada, bob), {"role": "agent"}),
        ("DELETE", member(ada, bob), None),
    ):
        unknown = path.replace(ada.organization, "nowhere")
        answer = eve.call(method, path, json=body)
        refused(answer, 404, "ORGANIZATION_NOT_FOUND")
        assert answer.content == eve.call(method, unknown, json=body).content
        refused(bob.call(method, path, json=body), 403, "INSUFFICIENT_PERMISSIONS")


def test_who_is_removed_before_the_first_call_does_not_come_in_and_who_is_invited_again_does(
    ada: Somebody, bob: Somebody, client: TestClient[Litestar]
) -> None:
    ada.ok("DELETE", member(ada, bob))
    wait_until(lambda: in_crm(client, bob).status_code != 200, "the former member is out", at_most=5)
    assert bob.log_in(invitation=invited(ada, bob)).status_code == 200
    wait_until(lambda: in_crm(client, bob).status_code == 200, "the member is in again", at_most=5)


def test_an_organization_keeps_an_admin_and_its_owner(ada: Somebody, bob: Somebody) -> None:
    refused(ada.call("PATCH", member(ada, ada), json={"role": "agent"}), 409, "LAST_ADMIN")
    ada.ok("PATCH", member(ada, bob), {"role": "admin"})
    bob.session = bob.refresh().json()
    refused(bob.call("DELETE", member(ada, ada)), 409, "OWNER_STAYS")
    refused(bob.call("PATCH", member(ada, ada), json={"role": "agent"}), 409, "OWNER_STAYS")
    ada.ok("PATCH", member(ada, ada), {"role": "manager"})
    refused(bob.call("PATCH", member(ada, bob), json={"role": "agent"}), 409, "LAST_ADMIN")


def test_a_member_of_a_large_organization_is_given_another_role(
    ada: Somebody, bob: Somebody, identity_owner: psycopg.Connection
) -> None:
    identity_owner.execute(
        "WITH person AS (INSERT INTO users (email, email_folded, name)"
        " SELECT f, f, 'Somebody' FROM generate_series(1, 1000) AS n, concat(n, '@', %s::text, '.example') AS f"
        " RETURNING id)"
        " INSERT INTO memberships (organization_id, user_id, role, joined_at)"
        " SELECT %s, id, 'agent', now() - interval '1 day' FROM person",
        [ada.organization, ada.organization],
    )
    assert ada.ok("PATCH", member(ada, bob), {"role": "agent"})["email"] == bob.email


def test_an_invitation_is_replaced_or_withdrawn_and_is_not_for_members(ada: Somebody, bob: Somebody) -> None:
    members = f"/auth/organizations/{ada.organization}/members"
    refused(ada.call("POST", members, json={"email": bob.email.upper(), "role": "agent"}), 409, "MEMBER_EXISTS")
    eve = Somebody(ada.identity, ada.settings, "Eve")
    first = invited(ada, eve)
    ada.ok("POST", members, {"email": eve.email, "role": "manager"})
    refused(eve.register(None, invitation=first), 400, "INVALID_LINK")
    (waiting,) = [each for each in ada.ok("GET", members)["data"] if each["user_id"] is None]
    assert (waiting["email"], waiting["role"], waiting["joined_at"]) == (eve.email, "manager", None)
    second = eve.secret("invites you")
    ada.ok("DELETE", f"{members}/{waiting['invitation_id']}")
    refused(eve.register(None, invitation=second), 400, "INVALID_LINK")
    refused(ada.call("DELETE", f"{members}/{waiting['invitation_id']}"), 404, "MEMBER_NOT_FOUND")


def test_without_mail_an_admin_gets_the_invitation_to_hand_it_over(
    ada: Somebody, other_identity: Callable[..., TestClient[Litestar]]
) -> None:
    eve = Somebody(ada.identity, ada.settings, "Eve")
    ada.identity = other_identity(environment="production", registration="invited")
    members = f"/auth/organizations/{ada.organization}/members"
    secret = ada.ok("POST", members, {"email": eve.email, "role": "agent"})["invitation"]
    eve.identity = ada.identity
    assert eve.register(None, invitation=secret).status_code == 201


def test_a_person_makes_another_organization_and_an_admin_renames_it(ada: Somebody) -> None:
    other = ada.ok("POST", "/auth/organizations", {"name": "Looms"})
    assert other["role"] == "admin"
    # This session works elsewhere, although Ada is admin of both.
    for method, path in (("PATCH", ""), ("GET", "/members"), ("POST", "/members")):
        answer = ada.call(method, f"/auth/organizations/{other['id']}{path}", json={"name": "Jacquard"})
        refused(answer, 403, "ORGANIZATION_FORBIDDEN")
    ada.session = ada.refresh(**{"X-Organization-Id": other["id"]}).json()
    assert ada.ok("PATCH", f"/auth/organizations/{other['id']}", {"name": "Jacquard"})["name"] == "Jacquard"
    refused(ada.call("PATCH", f"/auth/organizations/{other['id']}", json={}), 400, "NO_UPDATES")
    mine = ada.ok("GET", "/auth/organizations/me")["data"]
    assert [each["name"] for each in mine] == ["Engines", "Jacquard"]


@pytest.mark.parametrize("then", ["removed", "narrowed", "disabled"])
def test_who_is_no_admin_any_more_has_invited_nobody(
    then: str,
    ada: Somebody,
    bob: Somebody,
    identity_owner: psycopg.Connection,
    other_identity: Callable[..., TestClient[Litestar]],
) -> None:
    ada.ok("PATCH", member(ada, bob), {"role": "admin"})
    bob.session = bob.refresh().json()
    members = f"/auth/organizations/{ada.organization}/members"
    # Where no mail can be sent, the answer has the secret.
    ada.identity = bob.identity = other_identity(environment="production")
    eve = Somebody(ada.identity, ada.settings, "Eve")
    her = {"email": eve.email, "role": "admin"}
    secret = bob.ok("POST", members, her)["invitation"]
    if then == "removed":
        ada.ok("DELETE", member(ada, bob))
    elif then == "narrowed":
        ada.ok("PATCH", member(ada, bob), {"role": "manager"})
    else:
        identity_owner.execute("UPDATE users SET is_active = false WHERE id = %s", [bob.id])
    refused(eve.register(None, invitation=secret), 400, "INVALID_LINK")
    if then == "narrowed":
        ada.ok("PATCH", member(ada, bob), {"role": "admin"})
        refused(eve.register(None, invitation=secret), 400, "INVALID_LINK")
    assert eve.email not in {each["email"] for each in ada.ok("GET", members)["data"]}
    assert eve.register(None, invitation=ada.ok("POST", members, her)["invitation"]).status_code == 201


def test_lists_come_in_pages_and_a_walk_by_cursor_meets_everybody_once(
    ada: Somebody, bob: Somebody, somebody: Callable[..., Somebody]
) -> None:
    members = f"/auth/organizations/{ada.organization}/members"
    guests = [somebody(name) for name in ("Eve", "Dan", "Zoe")]
    for guest in guests:
        ada.ok("POST", members, {"email": guest.email, "role": "agent"})
    everybody = [each.email for each in (ada, bob, *guests)]
    second = ada.ok("GET", f"{members}?page=2&page_size=2")
    assert [each["email"] for each in second["data"]] == everybody[2:4]
    assert (second["total"], second["total_pages"], second["page"], second["page_size"]) == (5, 3, 2, 2)
    walked = []
    page = ada.ok("GET", f"{members}?page_size=2")
    while True:
        walked += [each["email"] for each in page["data"]]
        if page["next_cursor"] is None:
            break
        last, page = page, ada.ok("GET", f"{members}?page_size=2&cursor={page['next_cursor']}")
    assert walked == everybody
    refused(ada.call("GET", f"{members}?page=1&cursor={last['next_cursor']}"), 400, "INVALID_REQUEST")
    refused(ada.call("GET", f"/auth/sessions?cursor={last['next_cursor']}"), 400, "INVALID_CURSOR")
    refused(ada.call("GET", f"{members}?page=0"), 400, "INVALID_REQUEST")
    for _ in range(2):
        ada.log_in()
    first = ada.ok("GET", "/auth/sessions?page_size=2")
    rest = ada.ok("GET", f"/auth/sessions?page_size=2&cursor={first['next_cursor']}")
    assert (len({each["id"] for each in first["data"] + rest["data"]}), first["total"]) == (3, 3)
    assert first["data"][0]["is_current"]


def test_what_is_made_with_a_key_is_made_once(
    ada: Somebody, other_identity: Callable[..., TestClient[Litestar]], identity_owner: psycopg.Connection
) -> None:
    key = {"Idempotency-Key": "one"}
    first, again = (ada.call("POST", "/auth/organizations", json={"name": "Looms"}, headers=key) for _ in range(2))
    assert (first.status_code, again.status_code, again.content) == (201, 201, first.content)
    assert "idempotency-replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert len(ada.ok("GET", "/auth/organizations/me")["data"]) == 2
    other = ada.call("POST", "/auth/organizations", json={"name": "Mills"}, headers=key)
    refused(other, 422, "IDEMPOTENCY_KEY_REUSED")
    ada.identity = other_identity(environment="production")  # where the answer shows the secret
    eve = {"email": f"eve-{ada.email}", "role": "agent"}
    members, key = f"/auth/organizations/{ada.organization}/members", {"Idempotency-Key": "two"}
    shown, hidden = (ada.call("POST", members, json=eve, headers=key) for _ in range(2))
    assert hidden.json() == shown.json() | {"invitation": None}
    assert shown.json()["invitation"] is not None
    identity_owner.execute("UPDATE idempotency_keys SET created_at = created_at - interval '24 hours'")
    assert "idempotency-replayed" not in ada.call("POST", members, json=eve, headers=key).headers


def test_nobody_is_in_organizations_without_end(ada: Somebody, identity_owner: psycopg.Connection) -> None:
    identity_owner.execute(
        "WITH made AS (INSERT INTO organizations (id, name, owner_id)"
        " SELECT gen_random_uuid(), 'One of many', %s FROM generate_series(1, 499) RETURNING id)"
        " INSERT INTO memberships (organization_id, user_id, role) SELECT id, %s, 'admin' FROM made",
        [ada.id, ada.id],
    )
    refused(ada.call("POST", "/auth/organizations", json={"name": "One more"}), 409, "LIMIT_REACHED")
