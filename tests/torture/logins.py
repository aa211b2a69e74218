"""`crm identity` as a real process beside the service: stolen refresh tokens, and more logins than it can hash."""

from __future__ import annotations

import asyncio
import statistics
from collections import Counter
from typing import Any

import httpx

from tests.processes import crm_here
from tests.torture.place import Finding, Place
from tests.torture.wire import Answer, at_once, raw, wire

PASSWORD = "correct horse battery staple"
AT_ONCE = 50
FLOOD = 200
CUSTOMERS = "/admin/customers?page_size=20"


def person(place: Place) -> str:
    """The email of somebody who can log in, as admin of an organization of their own."""
    tenant = place.tenant()
    email = f"{tenant}@example.com"
    added = crm_here(
        *("identity", "user", "add", email, "--name", "Ada", "--organization", tenant, "--organization-id", tenant),
        *("--data-dir", str(place.data_dir)),
        typed=PASSWORD,
    )
    assert added.exit_code == 0, added.output
    return email


def network(number: int) -> dict[str, str]:
    """Everybody has a network of their own, so that no limit of guessing is what is looked at."""
    return {"X-Forwarded-For": f"10.{number // 65536}.{number // 256 % 256}.{number % 256}"}


def log_in(url: str, email: str, number: int) -> dict[str, Any]:
    answer = httpx.post(
        f"{url}/auth/login", json={"email": email, "password": PASSWORD}, headers=network(number), timeout=60
    )
    found: dict[str, Any] = answer.raise_for_status().json()
    return found


def refresh_tokens_used_again(place: Place) -> Finding:
    """Each token fifty times at once: first within the moment in which the answer is the same, and then after it."""
    rounds = place.times(20, 2)
    first: Counter[int] = Counter()
    again: Counter[tuple[int, str]] = Counter()
    wrong = 0
    service = place.identity
    email = person(place)
    for number in range(rounds):
        spent = log_in(service.url, email, number)["refresh_token"]
        racing = [raw("POST", "/auth/refresh", json={"refresh_token": spent})] * AT_ONCE
        answers = asyncio.run(at_once(service.url, racing))
        first.update(answer.status for answer in answers)
        pairs = {(each.json()["refresh_token"], each.json()["token"]) for each in answers if each.status == 200}
        with place.superuser() as connection:
            connection.execute("UPDATE identity.refresh_tokens SET spent_at = spent_at - interval '11 seconds'")
        stolen = asyncio.run(at_once(service.url, racing))
        again.update((answer.status, str(answer.json()["code"])) for answer in stolen)
        ((newest, access),) = pairs or {("", "")}
        ended = httpx.post(f"{service.url}/auth/refresh", json={"refresh_token": newest}).status_code
        me = httpx.get(f"{service.url}/auth/me", headers={"Authorization": f"Bearer {access}"}).status_code
        wrong += (len(pairs), ended, me) != (1, 401, 401)
    told = place.look("SELECT count(*) FROM identity.auth_events WHERE kind = 'token_reused'")
    return Finding(
        f"{rounds} sessions, each refresh token {AT_ONCE} times at once: {dict(first)}; once more after the moment:"
        f" {dict(again)}",
        f"{wrong} sessions with more than one pair, or that went on; {told} of {rounds} were noted",
        wrong == 0 and set(first) == {200} and set(again) == {(401, "TOKEN_REUSED")} and told == rounds,
    )


def two_hundred_at_once(place: Place) -> Finding:
    """Two hundred logins at the same moment, with the settings' own hashes, while somebody works in the CRM."""
    token = place.token(place.tenant())
    before: list[Answer] = []
    asked: list[Answer] = []
    flood: list[Answer] = []

    async def alone(crm: str) -> None:
        async with wire(crm) as line:
            for _ in range(place.times(300, 50)):
                before.append(await line.ask(raw("GET", CUSTOMERS, token)))
                await asyncio.sleep(0.02)

    async def crowd(url: str, crm: str, email: str) -> None:
        bodies = [{"email": email, "password": PASSWORD}, {"email": "nobody@example.com", "password": "wrong password"}]
        requests = [
            raw("POST", "/auth/login", json=bodies[number % 2], headers=network(1000 + number))
            for number in range(FLOOD)
        ]
        logins = asyncio.create_task(at_once(url, requests))
        async with wire(crm) as line:
            while not logins.done():
                asked.append(await line.ask(raw("GET", CUSTOMERS, token)))
                await asyncio.sleep(0.02)
        flood.extend(await logins)

    service = place.kept
    service.call("GET", CUSTOMERS, token)
    logins = place.identity
    email = person(place)
    log_in(logins.url, email, 1)
    asyncio.run(alone(service.url))
    for _ in range(place.times(3, 1)):
        asyncio.run(crowd(logins.url, service.url, email))
    log_in(logins.url, email, 2)
    statuses = Counter(answer.status for answer in flood)
    polite = all(b"retry-after" in answer.head.lower() for answer in flood if answer.status == 429)
    # What else this machine does is in both.
    (usual, worst), (middle, slowest) = (_middle_and_slowest(answers) for answers in (before, asked))
    refused = sum(answer.status != 200 for answer in asked)
    return Finding(
        f"{len(flood)} logins, {FLOOD} at once: {dict(sorted(statuses.items()))}, slowest"
        f" {max(answer.seconds for answer in flood):.1f} s; meanwhile {len(asked)} lists of the CRM,"
        f" {1000 * middle:.0f} ms (median; worst {1000 * slowest:.0f}), before: {1000 * usual:.0f}"
        f" (worst {1000 * worst:.0f})",
        f"{refused} lists refused, Retry-After {'always' if polite else 'MISSING'}",
        refused == 0 and polite and set(statuses) == {200, 401, 429} and slowest < worst + place.within(1),
    )


def _middle_and_slowest(answers: list[Answer]) -> tuple[float, float]:
    return statistics.median(answer.seconds for answer in answers), max(answer.seconds for answer in answers)
