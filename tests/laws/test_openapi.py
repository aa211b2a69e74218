"""The OpenAPI document says what the service does."""

from __future__ import annotations

from typing import Any

import pytest
from litestar import Litestar
from litestar.testing import TestClient

from tests.callers import Caller, Callers, refused
from tests.laws.routes import ADMIN, CONSOLE, OUTSIDE, Operation, of_each_kind, ready


@pytest.fixture(scope="module")
def documents(client: TestClient[Litestar]) -> dict[str, Any]:
    """By name; read once, since each has some megabytes."""
    return {name: client.get(f"/docs/{name}.json").json() for name in ("openapi", "console")}


@pytest.mark.parametrize(("name", "operations"), [("openapi", ADMIN), ("console", CONSOLE)])
def test_every_route_is_described_with_its_refusals(
    name: str, operations: list[Operation], documents: dict[str, Any]
) -> None:
    document = documents[name]
    assert all(path.startswith("/console") is (name == "console") for path in document["paths"])
    for operation in operations:
        described = document["paths"][operation.path][operation.method.lower()]
        assert described["description"], operation
        assert {"400", "401", "403", "429", "500", "503"} <= set(described["responses"]), operation
        assert ("requestBody" in described) == (operation.payload() != {}), operation


# To complete an upload, a file must have been put into the store, and to run an import, a job must have checked it.
LATER = ("/complete", "/imports/{import_id}/run", *OUTSIDE)
ANSWERED_AT_ONCE = [
    operation for operation in ADMIN + CONSOLE if not (operation.path.endswith(LATER) or operation.never_ends)
]


@of_each_kind(ANSWERED_AT_ONCE)
def test_the_headers_of_an_answer_are_those_that_are_described(
    operations: list[Operation], admin: Caller, documents: dict[str, Any]
) -> None:
    for operation in operations:
        url, body = ready(admin, operation)
        headers = {"Idempotency-Key": str(operation).replace(" ", "-")}
        answer = admin.call(operation.method, url, **body, headers=headers)
        assert answer.is_success, f"{operation}: {answer.text}"
        document = documents["console" if operation in CONSOLE else "openapi"]
        described = document["paths"][operation.path][operation.method.lower()]["responses"][str(answer.status_code)]
        assert ("ETag" in answer.headers) == ("ETag" in described["headers"]), operation
        again = admin.call(operation.method, url, **body, headers=headers)
        replayed = "Idempotency-Replayed" in described["headers"]
        assert ("Idempotency-Replayed" in again.headers) == replayed, operation


@pytest.mark.parametrize("name", ["openapi", "console"])
def test_every_answer_has_an_example_and_every_call_a_group_that_is_described(
    name: str, documents: dict[str, Any]
) -> None:
    document = documents[name]
    groups = [group["name"] for group in document["tags"]]
    assert all(group["description"] for group in document["tags"])
    assert groups[:3] == ["Customers", "Contacts", "Deals"]
    for path, operations in document["paths"].items():
        for method, described in operations.items():
            assert described["tags"][0] in groups, f"{method} {path}"
            for status, answer in described["responses"].items():
                schema = answer.get("content", {}).get("application/json", {}).get("schema")
                if status.startswith("2") and schema:
                    shown = schema if "$ref" in schema else schema["items"]
                    assert document["components"]["schemas"][shown["$ref"].rsplit("/", 1)[1]]["examples"], path
    for status, refusal in document["components"]["responses"].items():
        assert refusal["content"]["application/json"]["example"]["code"], status


def test_the_reference_needs_nothing_from_elsewhere(callers: Callers) -> None:
    page = callers.client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "https://" not in page.text
    assert callers.client.get("/docs?urls.primaryName=CRM").text == page.text
    for asset in ("swagger-ui-bundle.js", "swagger-ui-standalone-preset.js", "swagger-ui.css"):
        assert callers.client.get(f"/docs/assets/{asset}").status_code == 200
    assert callers.client.get("/docs/openapi.yaml").text.startswith("openapi: 3.1.0")


def test_in_production_there_is_no_reference(variant: Any) -> None:
    assert variant(environment="production").get("/docs").status_code == 404


def test_the_root_leads_a_browser_to_the_api_reference_and_nobody_else(callers: Callers, variant: Any) -> None:
    browser = {"Accept": "text/html,application/xhtml+xml"}
    answer = callers.client.get("/", headers=browser, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (302, "/docs")
    refused(callers.client.get("/"), 404, "NOT_FOUND")
    refused(variant(environment="production").get("/", headers=browser), 404, "NOT_FOUND")


def test_an_answer_of_the_assistant_is_described_as_its_own_events_and_as_json(documents: dict[str, Any]) -> None:
    document = documents["openapi"]
    described = document["paths"]["/admin/assistant/conversations/{conversation_id}/messages"]["post"]
    content = described["responses"]["200"]["content"]
    assert "event: text" in content["text/event-stream"]["example"]
    assert content["application/json"]["schema"]["$ref"].endswith("/BegunAnswer")
    assert document["components"]["schemas"]["AnswerEvent"]["properties"].keys() >= {"type", "text", "status", "code"}
    assert "Last-Event-ID" not in [each["name"] for each in described["parameters"]]
