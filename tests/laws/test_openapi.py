"""The OpenAPI document says what the service does."""

from __future__ import annotations

from typing import Any

import pytest

from tests.callers import Callers
from tests.laws.routes import ADMIN, CONSOLE, Operation


@pytest.mark.parametrize(("name", "operations"), [("openapi", ADMIN), ("console", CONSOLE)])
def test_every_route_is_described_with_its_refusals(name: str, operations: list[Operation], callers: Callers) -> None:
    document = callers.client.get(f"/docs/{name}.json").json()
    assert all(path.startswith("/console") is (name == "console") for path in document["paths"])
    for operation in operations:
        described = document["paths"][operation.path][operation.method.lower()]
        assert described["description"], operation
        assert {"400", "401", "403", "429", "500", "503"} <= set(described["responses"]), operation
        assert ("requestBody" in described) == (operation.payload() != {}), operation


def test_the_reference_needs_nothing_from_elsewhere(callers: Callers) -> None:
    page = callers.client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "https://" not in page.text
    for asset in ("swagger-ui-bundle.js", "swagger-ui-standalone-preset.js", "swagger-ui.css"):
        assert callers.client.get(f"/docs/assets/{asset}").status_code == 200
    assert callers.client.get("/docs/openapi.yaml").text.startswith("openapi: 3.1.0")


def test_in_production_there_is_no_reference(variant: Any) -> None:
    assert variant(environment="production").get("/docs").status_code == 404
