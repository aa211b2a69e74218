"""The whole way, with both programs on one database: from a registration to somebody who is out at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
from litestar import Litestar
from litestar.testing import TestClient

from tests.callers import refused
from tests.identity.conftest import Somebody
from tests.processes import wait_until


def test_somebody_registers_and_invites_somebody_who_works_is_narrowed_and_is_out(
    somebody: Callable[..., Somebody], client: TestClient[Litestar]
) -> None:
    def in_crm(person: Somebody, method: str, path: str, json: Any = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {person.session['token']}"}
        return client.request(method, path, headers=headers, json=json)

    ada, bob = somebody("Ada"), somebody("Bob")
    assert ada.register().status_code == 202
    ada.ok("POST", "/auth/verify-email", {"token": ada.secret("Confirm")})
    # As the console does: the token of POST /admin/login, and then the calls of its pages.
    ada.session = ada.ok("POST", "/admin/login", {"email": ada.email, "password": ada.password})
    assert ada.ok("GET", "/admin/me") == in_crm(ada, "GET", "/admin/me").json()
    made = in_crm(ada, "POST", "/console/admin/customers", {"name": "Marie Curie", "email": ""}).json()

    members = f"/auth/organizations/{ada.organization}/members"
    ada.ok("POST", members, {"email": bob.email, "role": "manager"})
    assert bob.register(None, invitation=bob.secret("invites you")).status_code == 201
    bob.session = bob.ok("POST", "/admin/login", {"email": bob.email, "password": bob.password})
    page = in_crm(bob, "GET", "/console/admin/customers?page=1&limit=10").json()
    assert [each["id"] for each in page["data"]] == [made["id"]]
    customer = f"/admin/customers/{made['id']}"
    assert in_crm(bob, "PATCH", customer, {"phone": "+44 1"}).status_code == 200
    refused(in_crm(bob, "GET", "/admin/audit"), 403, "INSUFFICIENT_PERMISSIONS")
    refused(bob.call("GET", members), 403, "INSUFFICIENT_PERMISSIONS")

    ada.ok("PATCH", f"{members}/{bob.id}", {"role": "agent"})
    wait_until(lambda: in_crm(bob, "GET", "/admin/me").status_code != 200, "the manager's token is refused", at_most=5)
    refused(in_crm(bob, "GET", "/admin/me"), 401, "TOKEN_REVOKED")
    bob.session = bob.refresh().json()
    assert in_crm(bob, "GET", "/admin/me").json()["user"]["role"] == "agent"
    refused(in_crm(bob, "PATCH", customer, {"phone": "+44 2"}), 403, "INSUFFICIENT_PERMISSIONS")

    ada.ok("DELETE", f"{members}/{bob.id}")
    wait_until(lambda: in_crm(bob, "GET", "/admin/me").status_code != 200, "the former member is out", at_most=5)
    refused(bob.refresh(), 403, "ORGANIZATION_FORBIDDEN")
    refused(bob.log_in(), 403, "ORGANIZATION_FORBIDDEN")
    who = in_crm(ada, "GET", "/admin/members").json()["data"]
    assert {each["email"]: each["is_active"] for each in who} == {ada.email: True, bob.email: False}
