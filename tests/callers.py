"""People with tokens who call the service."""

from __future__ import annotations

import uuid
from typing import Any

import httpx
import psycopg
from litestar import Litestar
from litestar.testing import TestClient

from app.db.roles import enter_tenant
from app.dev.token import make_token
from app.settings import Settings


class Caller:
    """One person. `ok` answers the body of a request that must succeed."""

    def __init__(self, client: TestClient[Litestar], token: str, *, user_id: str, tenant: str) -> None:
        self.client = client
        self.user_id = user_id
        self.tenant = tenant
        self.headers = {"Authorization": f"Bearer {token}"}

    def call(self, method: str, path: str, *, headers: dict[str, str] | None = None, **more: Any) -> httpx.Response:
        return self.client.request(method, path, headers={**self.headers, **(headers or {})}, **more)

    def get(self, path: str, **params: Any) -> httpx.Response:
        return self.call("GET", path, params=params)

    def post(self, path: str, json: Any = None, **more: Any) -> httpx.Response:
        return self.call("POST", path, json=json, **more)

    def put(self, path: str, json: Any = None, **more: Any) -> httpx.Response:
        return self.call("PUT", path, json=json, **more)

    def patch(self, path: str, json: Any = None, **more: Any) -> httpx.Response:
        return self.call("PATCH", path, json=json, **more)

    def delete(self, path: str, **more: Any) -> httpx.Response:
        return self.call("DELETE", path, **more)

    def ok(self, method: str, path: str, json: Any = None, **params: Any) -> Any:
        response = self.call(method, path, json=json, params=params)
        assert response.is_success, f"{method} {path}: {response.status_code} {response.text}"
        return response.json()

    def customer(self, name: str = "Ada Lovelace", **fields: Any) -> dict[str, Any]:
        """A new customer."""
        created: dict[str, Any] = self.ok("POST", "/admin/customers", {"name": name, **fields})
        return created

    def attach(
        self, path: str, content: bytes = b"Hello", name: str = "hello.txt", *, headers: dict[str, str] | None = None
    ) -> httpx.Response:
        """Upload a file to the record at this path."""
        return self.call("POST", f"{path}/attachments", files={"file": (name, content)}, headers=headers)

    def tag(self, name: str = "VIP", **fields: Any) -> dict[str, Any]:
        """A new tag."""
        created: dict[str, Any] = self.ok("POST", "/admin/tags", {"name": name, **fields})
        return created

    def audit(self, **filters: Any) -> list[dict[str, Any]]:
        """Audit entries, newest first."""
        entries: list[dict[str, Any]] = self.ok("GET", "/admin/audit", page_size=100, **filters)["data"]
        return entries


class Callers:
    """Makes people."""

    def __init__(self, client: TestClient[Litestar], settings: Settings) -> None:
        self.client = client
        self.settings = settings

    def person(
        self,
        role: str,
        tenant: str,
        *,
        user_id: str | None = None,
        client: TestClient[Litestar] | None = None,
        **more: Any,
    ) -> Caller:
        user_id = user_id or str(uuid.uuid4())
        token = make_token(self.settings, role=role, tenant=tenant, user_id=user_id, **more)
        return Caller(client or self.client, token, user_id=user_id, tenant=tenant)


def refused(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Check a refusal's envelope; answers its data."""
    asked = f"{response.request.method} {response.request.url}"
    if response.request.method == "HEAD":
        assert (response.status_code, response.content) == (status, b""), asked
        return {}
    assert (response.status_code, response.json().get("code")) == (status, code), f"{asked}: {response.text}"
    body = response.json()
    assert set(body) == {"code", "message", "data"}
    assert response.headers["X-Request-ID"]
    return body["data"] or {}


def make_leads(service_dsn: str, tenant: str, count: int) -> None:
    """So many customers at once, of nobody."""
    leads = "INSERT INTO customers (tenant_id, name) SELECT %s, 'Lead ' || n FROM generate_series(1, %s) AS n"
    with psycopg.connect(service_dsn) as connection:
        enter_tenant(connection, tenant, {"user_name": "import"})
        connection.execute(leads, [tenant, count])
