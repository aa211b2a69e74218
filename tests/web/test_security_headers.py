"""Headers on every answer, and whom a request is from."""

from __future__ import annotations

from typing import Any, cast

import pytest
from litestar import Litestar
from litestar.testing import TestClient
from litestar.types import HTTPScope
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from app.web import proxies
from app.web.proxies import Proxies, rate_limit_key
from tests.callers import Caller

OURS = ("10.0.0.0/8", "192.168.1.1", "fd00::/8")


def applied(peer: str | None, *forwarded: str, scheme: str | None = None, ours: tuple[str, ...] = OURS) -> Any:
    """The client and the scheme that the service goes by."""
    headers = [(b"x-forwarded-for", each.encode()) for each in forwarded]
    headers += [(b"x-forwarded-proto", scheme.encode())] if scheme else []
    scope = {"client": (peer, 1) if peer else None, "headers": headers, "scheme": "http"}
    Proxies(ours).apply_forwarded_headers(cast("HTTPScope", scope))
    return cast("Any", scope["client"] or [None])[0], scope["scheme"]


CLIENTS: dict[str, tuple[str | None, tuple[str, ...], str | None]] = {
    "nobody in between": ("203.0.113.5", (), "203.0.113.5"),
    "a stranger may say what it likes": ("203.0.113.5", ("198.51.100.7",), "203.0.113.5"),
    "one proxy": ("10.0.0.1", ("198.51.100.7",), "198.51.100.7"),
    "two proxies": ("10.0.0.1", ("198.51.100.7, 10.2.2.2",), "198.51.100.7"),
    "two headers": ("10.0.0.1", ("198.51.100.7", "10.2.2.2"), "198.51.100.7"),
    "what the client made up": ("10.0.0.1", ("6.6.6.6, 198.51.100.7",), "198.51.100.7"),
    "one of our addresses that the client made up": ("10.0.0.1", ("10.9.9.9, 198.51.100.7",), "198.51.100.7"),
    "only proxies": ("10.0.0.1", ("10.2.2.2",), "10.2.2.2"),
    "no header": ("10.0.0.1", (), "10.0.0.1"),
    "an empty header": ("10.0.0.1", ("",), "10.0.0.1"),
    "no address": ("10.0.0.1", ("unknown",), "10.0.0.1"),
    "no address behind an address": ("10.0.0.1", ("<script>, 10.2.2.2",), "10.2.2.2"),
    "with a port": ("10.0.0.1", ("198.51.100.7:1234",), "198.51.100.7"),
    "IPv6": ("fd00::1", ("2001:db8::7",), "2001:db8::7"),
    "IPv6 with a port": ("fd00::1", ("[2001:db8::7]:1234",), "2001:db8::7"),
    "IPv4 inside IPv6": ("::ffff:10.0.0.1", ("::ffff:198.51.100.7",), "198.51.100.7"),
    "a socket": (None, ("198.51.100.7",), None),
}


@pytest.mark.parametrize(("peer", "forwarded", "client"), CLIENTS.values(), ids=CLIENTS)
def test_the_client_is_the_first_stranger(peer: str | None, forwarded: tuple[str, ...], client: str | None) -> None:
    assert applied(peer, *forwarded)[0] == client


def test_without_trusted_proxies_nothing_is_believed() -> None:
    assert applied("10.0.0.1", "198.51.100.7", scheme="https", ours=()) == ("10.0.0.1", "http")


@pytest.mark.parametrize("ours", [(), ("10.0.0.0/8",)])
def test_a_proxy_that_is_not_trusted_is_told_of_once_and_counted(
    ours: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proxies, "_told", set())
    before = counted()
    with capture_logs() as said:
        applied("203.0.113.5", ours=ours)
        assert counted() == before
        for number in range(20):
            applied("203.0.113.5", "198.51.100.7", ours=ours)
            applied(f"203.0.113.{100 + number}", "198.51.100.7", ours=ours)
    assert counted() == before + 40
    assert [line["peer"] for line in said].count("203.0.113.5") == 1
    assert len(said) == proxies.MAX_TOLD
    assert "TRUSTED_PROXIES" in said[0]["event"]


def counted() -> float:
    """Requests whose header was not believed."""
    return REGISTRY.get_sample_value("crm_forwarded_not_believed_total") or 0.0


def test_tls_is_what_our_own_proxy_says() -> None:
    assert applied("10.0.0.1", scheme="https")[1] == "https"
    assert applied("10.0.0.1", scheme="https, http")[1] == "http"
    assert applied("203.0.113.5", scheme="https")[1] == "http"


def test_an_ipv6_network_is_one_client() -> None:
    assert (
        rate_limit_key("2001:db8:1:2:3::4")
        == rate_limit_key("2001:db8:1:2:ffff::")
        != rate_limit_key("2001:db8:1:3::4")
    )
    assert rate_limit_key("198.51.100.7") == "198.51.100.7"
    assert rate_limit_key("testclient") == "testclient"


def test_every_answer_is_protected(admin: Caller) -> None:
    client = admin.client
    oversized = {"Content-Type": "application/json", **admin.headers}
    answers = [
        *(client.get(path) for path in ("/live", "/health", "/metrics", "/docs", "/nowhere", "/admin/me")),
        admin.get("/admin/customers"),
        admin.get("/admin/reports/overview"),
        admin.post("/admin/customers", {}),
        client.post("/admin/customers", content=b" " * 2_000_000, headers=oversized),
        client.request("BREW", "/admin/me"),
        client.options("/admin/me", headers={"Origin": "https://a.example", "Access-Control-Request-Method": "GET"}),
    ]
    assert {answer.status_code for answer in answers} == {200, 400, 401, 403, 404, 405, 413}
    for answer in answers:
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Server"] == "crm"
        public = answer.request.url.path.startswith("/docs")
        assert answer.headers.get("Cache-Control") == (None if public else "no-store"), answer.request.url
        assert "Strict-Transport-Security" not in answer.headers


@pytest.mark.parametrize("path", ["//admin/me", "/admin//me", "/%61dmin/me", "/admin/me/", "///console/admin/tags"])
def test_no_way_of_writing_a_path_lets_an_answer_be_stored(path: str, admin: Caller) -> None:
    assert admin.get(f"http://testserver.local{path}").headers["Cache-Control"] == "no-store"


def test_a_list_of_proxies_is_not_followed_for_ever() -> None:
    assert applied("10.0.0.1", "198.51.100.7," + "10.0.0.2," * 5_000 + "10.0.0.3") == ("10.0.0.2", "http")
    assert applied("10.0.0.1", "1" * 10_000) == ("10.0.0.1", "http")


def test_over_tls_browsers_are_told_to_stay_there(client: TestClient[Litestar]) -> None:
    for path in ("/live", "/nowhere", "/admin/me"):
        answer = client.get(f"https://testserver.local{path}")
        assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
