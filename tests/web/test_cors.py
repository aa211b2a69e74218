"""Which pages may read the answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest
from litestar import Litestar
from litestar.testing import TestClient
from msgspec.structs import replace

from app.main import create_app
from app.settings import Settings
from app.web.cors import Cors
from tests.callers import refused
from tests.client import InProcess

ALLOWED = "https://console.example.com,https://myapp-*.vercel.app,http://localhost:3000"


@pytest.fixture(scope="module")
def browser(settings: Settings) -> Iterator[TestClient[Litestar]]:
    allowing = replace(settings, cors_allowed_origins=ALLOWED)
    with InProcess(create_app(allowing)) as client:
        yield client


@pytest.mark.parametrize(
    "origin", ["https://console.example.com", "https://myapp-git-x1.vercel.app", "http://localhost:3000"]
)
def test_an_allowed_origin_reads_answers_and_errors(browser: Any, origin: str) -> None:
    for path, status in (("/live", 200), ("/admin/me", 401), ("/nowhere", 404)):
        answer = browser.get(path, headers={"Origin": origin})
        assert answer.status_code == status
        assert answer.headers["Access-Control-Allow-Origin"] == origin
        assert answer.headers["Access-Control-Allow-Credentials"] == "true"
        assert "ETag" in answer.headers["Access-Control-Expose-Headers"]
        assert answer.headers["Vary"] == "Origin"


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example.com",
        "https://console.example.com.evil.com",
        "https://xconsole.example.com",
        "http://console.example.com",
        "https://myapp-x.y.vercel.app",
        "https://myapp-.vercel.app.evil.com",
        "https://other.vercel.app",
        "null",
    ],
)
def test_any_other_origin_is_told_nothing(browser: Any, origin: str) -> None:
    answer = browser.get("/live", headers={"Origin": origin})
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert answer.headers["Vary"] == "Origin"
    preflight = browser.options("/admin/me", headers={"Origin": origin, "Access-Control-Request-Method": "GET"})
    refused(preflight, 403, "ORIGIN_NOT_ALLOWED")
    assert not [name for name in preflight.headers if name.startswith("access-control")]


MATCHES = {
    "two stars in one label": ("https://a*b*c.example", "https://axbxc.example", "https://axbc.example"),
    "the star takes what looks like the text": ("https://*a-*.example", "https://a-a-a.example", "https://a-.example"),
    "a star in each label": ("https://*.a*.example", "https://x.ab.example", "https://x.y.ab.example"),
    "a port": ("http://dev-*:3000", "http://dev-1:3000", "http://dev-1:30001"),
}


@pytest.mark.parametrize(("pattern", "allowed", "refused_origin"), MATCHES.values(), ids=MATCHES)
def test_a_star_is_the_characters_of_one_label(pattern: str, allowed: str, refused_origin: str) -> None:
    cors = Cors(cast("Any", None), [pattern])
    assert len(cors._marks(allowed)) > 1
    assert len(cors._marks(refused_origin)) == 1


def test_a_preflight_is_answered_before_anybody_asks_for_a_token(browser: Any) -> None:
    answer = browser.options(
        "/admin/customers/1",
        headers={
            "Origin": "https://console.example.com",
            "Access-Control-Request-Method": "PATCH",
            "Access-Control-Request-Headers": "authorization,content-type,if-match",
        },
    )
    assert answer.status_code == 204
    assert "PATCH" in answer.headers["Access-Control-Allow-Methods"]
    assert set(answer.headers["Access-Control-Allow-Headers"].split(", ")) == {
        *("Authorization", "Content-Type", "Accept", "Cache-Control", "If-Match", "Idempotency-Key", "Dry-Run"),
        *("X-Request-ID", "X-Organization-Id", "Last-Event-ID", "MCP-Protocol-Version", "Mcp-Method", "Mcp-Name"),
    }
    assert set(answer.headers["Access-Control-Expose-Headers"].split(", ")) == {
        *("ETag", "X-Request-ID", "X-Operation-Id", "Retry-After", "Content-Disposition", "Idempotency-Replayed"),
        *("Dry-Run", "Location", "Age", "WWW-Authenticate"),
    }
