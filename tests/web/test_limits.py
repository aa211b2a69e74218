"""How often somebody may call, and who is told to wait."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from typing import Any

import pytest
from litestar import Litestar
from litestar.datastructures import Headers
from litestar.testing import TestClient

from app.web import limits
from app.web.errors import AppError
from app.web.limits import RELEASE, ConcurrencyLimiter, RateLimiter
from app.web.multipart import FilePart
from tests.callers import Callers, refused

Variant = Callable[..., TestClient[Litestar]]
PROXY = "127.0.0.1"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def spent(limit: RateLimiter, key: str) -> int:
    """How many times it goes well until it does not."""
    for count in range(10_000):
        try:
            limit.acquire(key)
        except AppError:
            return count
    raise AssertionError("there is no end to it")


def test_a_bucket_holds_a_minutes_worth_and_refills_evenly() -> None:
    limit = RateLimiter(60, clock := Clock())
    assert spent(limit, "a") == 60
    assert spent(limit, "b") == 60
    clock.now += 10
    assert spent(limit, "a") == 10
    clock.now += 3600
    assert spent(limit, "a") == 60


def test_retry_after_is_when_the_next_one_is_there() -> None:
    limit = RateLimiter(6, clock := Clock())
    spent(limit, "a")
    clock.now += 1
    with pytest.raises(AppError) as caught:
        limit.acquire("a")
    assert caught.value.headers["Retry-After"] == "9"
    clock.now += 9
    limit.acquire("a")


def test_zero_is_no_limit() -> None:
    limit = RateLimiter(0)
    for _ in range(10_000):
        limit.acquire("a")


def test_however_many_addresses_come_only_the_latest_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_KEYS", 100)
    limit = RateLimiter(1000, Clock())
    for number in range(1000):
        limit.acquire(number)
        limit.acquire("busy")
    assert len(limit._full_at) == 100
    assert spent(limit, "busy") == 0


def test_a_person_over_the_limit_is_told_when_to_come_back_and_nobody_else_is(
    variant: Variant, callers: Callers, tenant: str
) -> None:
    client = variant(rate_limit_per_minute=5)
    eager = callers.person("agent", tenant, client=client)
    for _ in range(5):
        eager.ok("GET", "/admin/me")
    answer = eager.get("/admin/me")
    refused(answer, 429, "RATE_LIMITED")
    assert 1 <= int(answer.headers["Retry-After"]) <= 12
    colleague = callers.person("agent", tenant, client=client)
    namesake = callers.person("agent", f"{tenant}-b", user_id=eager.user_id, client=client)
    assert [person.get("/admin/me").status_code for person in (colleague, namesake)] == [200, 200]


def test_too_often_comes_before_what_the_role_may_not(variant: Variant, callers: Callers, tenant: str) -> None:
    client = variant(rate_limit_per_minute=1)
    for role in ("agent", "guest"):
        person = callers.person(role, tenant, client=client)
        refused(person.get("/admin/audit"), 403, "INSUFFICIENT_PERMISSIONS")
        refused(person.get("/admin/audit"), 429, "RATE_LIMITED")
        refused(person.get("/nowhere"), 404, "NOT_FOUND")
        refused(person.call("PATCH", "/admin/me"), 405, "METHOD_NOT_ALLOWED")


def test_an_address_full_of_failures_waits_but_a_valid_token_behind_it_comes_in(
    variant: Variant, callers: Callers, tenant: str
) -> None:
    client = variant(auth_failures_per_minute=5)
    person = callers.person("agent", tenant, client=client)
    for _ in range(5):
        refused(client.get("/admin/me"), 401, "MISSING_TOKEN")
    answer = client.get("/admin/me", headers={"Authorization": "Bearer x"})
    refused(answer, 429, "RATE_LIMITED")
    assert 1 <= int(answer.headers["Retry-After"]) <= 12
    for _ in range(10):
        person.ok("GET", "/admin/me")


def test_each_address_has_failures_of_its_own_if_the_proxy_is_ours(variant: Variant) -> None:
    forwarded = ("203.0.113.1", "203.0.113.2", "203.0.113.1", "2001:db8::1", "2001:db8::2")
    for trusted, expected in ((PROXY, [401, 401, 429, 401, 429]), ("", [401, 429, 429, 429, 429])):
        client = called_by_proxy(variant(trusted_proxies=trusted, auth_failures_per_minute=1))
        answers = [client.get("/admin/me", headers={"X-Forwarded-For": each}) for each in forwarded]
        assert [answer.status_code for answer in answers] == expected


def test_the_audit_log_knows_the_address_behind_our_proxy(variant: Variant, callers: Callers, tenant: str) -> None:
    for trusted, expected in ((PROXY, "203.0.113.9"), ("", PROXY)):
        client = called_by_proxy(variant(trusted_proxies=trusted))
        person = callers.person("admin", tenant, client=client)
        person.post("/admin/tags", {"name": f"T{trusted}"}, headers={"X-Forwarded-For": "6.6.6.6, 203.0.113.9"})
        assert person.audit()[0]["ip_address"] == expected


def called_by_proxy(client: TestClient[Litestar]) -> TestClient[Litestar]:
    """The test client has no address; now it is the proxy's."""
    service = client.app.asgi_handler

    async def from_proxy(scope: Any, receive: Any, send: Any) -> None:
        await service(scope | {"client": (PROXY, 1)}, receive, send)

    client.app.asgi_handler = from_proxy
    return client


def test_a_person_has_so_many_requests_under_way_and_nobody_else_is_concerned() -> None:
    limit = ConcurrencyLimiter(2)
    scopes: list[Any] = [{"state": {RELEASE: ExitStack()}} for _ in range(3)]
    limit.acquire("a", scopes[0])
    limit.acquire("a", scopes[1])
    with pytest.raises(AppError) as caught:
        limit.acquire("a", scopes[2])
    assert (caught.value.status, caught.value.headers) == (429, {"Retry-After": "1"})
    limit.acquire("b", scopes[2])
    scopes[0]["state"][RELEASE].close()
    limit.acquire("a", scopes[0])


def test_a_request_that_is_over_counts_no_more_however_it_ended(
    variant: Variant, callers: Callers, tenant: str
) -> None:
    client = variant(open_requests_per_person=1)
    agent = callers.person("agent", tenant, client=client)
    answers = [agent.get(path).status_code for path in ("/admin/me", "/admin/audit", "/admin/customers/0", "/admin/me")]
    answers.append(agent.post("/admin/customers", {}).status_code)
    assert answers == [200, 403, 400, 200, 400]


async def never() -> Any:
    await asyncio.Event().wait()


def test_a_body_that_stops_coming_is_a_408_and_hanging_up_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STALLED_SECONDS", 0.01)
    begun: list[Any] = [{"type": "http.request", "body": b"{", "more_body": True}]

    async def receive() -> Any:
        return begun.pop() if begun else await never()

    async def stalled() -> None:
        arriving = limits._receiving_in_time(receive)
        await arriving()
        with pytest.raises(AppError) as caught:
            await arriving()
        assert (caught.value.status, caught.value.headers) == (408, {"Connection": "close"})
        begun.append({"type": "http.request", "body": b"{}", "more_body": False})
        arrived = limits._receiving_in_time(receive)
        await arrived()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await arrived()

    asyncio.run(stalled())


def test_an_answer_that_nobody_fetches_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STALLED_SECONDS", 0.01)
    sending = limits._sending_in_time(lambda _: never())
    with pytest.raises(AppError):
        asyncio.run(sending({"type": "http.response.body", "body": b"x", "more_body": True}))  # type: ignore[arg-type]  # a coroutine


def test_an_upload_lets_go_of_its_request_at_once() -> None:
    """Kept until garbage is collected, it would keep its connection open long after the answer."""

    class Sent:
        headers = Headers({"content-type": "multipart/form-data; boundary=b"})
        part: FilePart | None = None

        async def stream(self) -> AsyncIterator[bytes]:
            yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nHello\r\n--b--\r\n'

    async def write(_: bytes) -> None:
        pass

    sent = Sent()
    sent.part = FilePart(sent, 100)  # type: ignore[arg-type]  # of a request, no more is needed
    gone = weakref.ref(sent)
    gc.disable()
    try:
        assert asyncio.run(sent.part.receive(write)) == "a"
        del sent
        assert gone() is None
    finally:
        gc.enable()
