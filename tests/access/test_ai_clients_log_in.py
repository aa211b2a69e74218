"""An AI client that its person logged in by OAuth: it uses the tools, and is not the person elsewhere."""

from __future__ import annotations

import pytest
from litestar import Litestar
from litestar.testing import TestClient
from msgspec.structs import replace

from app.access.actor import AI_CLIENTS
from app.settings import Settings
from tests.access.test_access_tokens import WRITES, is_for_people
from tests.callers import Caller, Callers, refused
from tests.laws.routes import ADMIN, Operation

RESOURCE = f"https://crm.example.com{AI_CLIENTS}"
READS = [each for each in ADMIN if each.method == "GET"]


@pytest.fixture
def ai_client(client: TestClient[Litestar], settings: Settings, admin: Caller) -> Caller:
    issuer = Callers(client, replace(settings, jwt_audience=f"{RESOURCE},platform-console"))
    return issuer.person("admin", admin.tenant, user_id=admin.user_id)


@pytest.mark.parametrize("operation", [each for each in WRITES if is_for_people(each.handler)] + READS[:3], ids=str)
def test_it_does_nothing_outside_of_the_tools(operation: Operation, ai_client: Caller) -> None:
    answer = ai_client.call(operation.method, operation.url(), **operation.payload())
    refused(answer, 403, "INSUFFICIENT_PERMISSIONS")
    assert AI_CLIENTS in answer.json()["message"]


def test_it_uses_the_tools(ai_client: Caller) -> None:
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    headers = {"Accept": "application/json, text/event-stream", "MCP-Protocol-Version": "2025-11-25"}
    assert ai_client.call("POST", AI_CLIENTS, json=ping, headers=headers).is_success
