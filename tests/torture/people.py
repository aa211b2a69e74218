"""People who are shut out while they work."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import httpx

from tests.torture.place import Finding, Place

MEMBERS = "/admin/members"
ALLOWED_SECONDS = 5.0
# So many ask at the same time, each over new connections: all workers are asked.
ASKING = 6


def shut_out_of_two_workers(place: Place) -> Finding:
    """Deactivated, narrowed or signed out, while one holds streams open and asks all the time."""
    service, tenant = place.kept, place.tenant()
    admin = {"Authorization": f"Bearer {place.token(tenant)}"}
    late: list[float] = []
    answers: Counter[int] = Counter()
    ends: list[float] = []

    async def one(number: int) -> None:
        user_id = f"person-{number}"
        headers = {"Authorization": f"Bearer {place.token(tenant, 'manager', user_id)}"}
        done = asyncio.Event()
        at = float("inf")

        async def ask(client: httpx.AsyncClient, expected: int, method: str, path: str) -> None:
            while not done.is_set():
                answer = await client.request(method, path, headers=headers | {"Connection": "close"})
                answers[answer.status_code] += 1
                if answer.status_code == expected:
                    late.append(time.monotonic() - at)
                await asyncio.sleep(0.02)

        async def listen(client: httpx.AsyncClient) -> None:
            async with client.stream("GET", "/admin/events/stream", headers=headers) as stream:
                async for _ in stream.aiter_raw():
                    pass
            ends.append(time.monotonic() - at)

        async with httpx.AsyncClient(base_url=service.url, timeout=30) as client:
            (await client.get("/admin/me", headers=headers)).raise_for_status()
            found = await client.get(MEMBERS, headers=admin, params={"page_size": 100})
            theirs = next(each["id"] for each in found.json()["data"] if each["user_id"] == user_id)
            listening = [asyncio.create_task(listen(client)) for _ in range(4)]
            asking = [asyncio.create_task(ask(client, 200, "GET", "/admin/customers")) for _ in range(ASKING)]
            await asyncio.sleep(0.5)
            path, body = (
                (f"{MEMBERS}/{theirs}", {"is_active": False}) if number % 2 else (f"{MEMBERS}/{theirs}/sign-out", None)
            )
            answer = await client.request("POST" if body is None else "PATCH", path, headers=admin, json=body)
            answer.raise_for_status()
            at = time.monotonic()
            await asyncio.sleep(ALLOWED_SECONDS + 2)
            done.set()
            await asyncio.gather(*asking)
            async with asyncio.timeout(20):
                await asyncio.gather(*listening)

    async def everybody() -> None:
        for number in range(place.times(10, 2)):
            await one(number)

    asyncio.run(everybody())
    last, ended = max(late), max(ends)
    refused = answers[401] + answers[403]
    return Finding(
        f"{place.times(10, 2)} people shut out of two workers while they asked: {answers[200]} answers",
        f"the last answer came {last:.1f} s after, the last stream ended {ended:.1f} s after; {refused} refused",
        last <= ALLOWED_SECONDS and ended <= ALLOWED_SECONDS and refused > 0 and set(answers) <= {200, 401, 403},
    )
