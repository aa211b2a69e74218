"""Receivers of webhooks that fail, hang, lie, lead elsewhere, or are no longer where they were."""

from __future__ import annotations

import asyncio
import statistics
import time
from asyncio import StreamReader, StreamWriter
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread
from typing import Any

import httpx

from tests.processes import Worker
from tests.torture.place import Finding, Place, seconds_until

CUSTOMERS = "/admin/customers"
# Receivers may be here; and nothing may ever come to the other, as to a metadata service or a database.
HERE, INSIDE = "127.0.0.1", "127.0.0.2"
# One that has not moved yet.
MOVE = """
    UPDATE webhooks SET url = %s WHERE (tenant_id, id) = (
        SELECT tenant_id, id FROM webhooks WHERE url LIKE '%%/moves/%%' ORDER BY tenant_id, id LIMIT 1)
"""
ENTRIES = "SELECT count(*) FROM audit_entries WHERE tenant_id = %s AND resource_type = 'customer'"
# What was not delivered at once to receivers that always answer.
TROUBLE = """
    SELECT string_agg(DISTINCT attempt->>'error', '; ')
    FROM webhook_deliveries AS delivery
    JOIN webhooks AS hook ON hook.tenant_id = delivery.tenant_id AND hook.id = webhook_id
    CROSS JOIN LATERAL jsonb_array_elements(attempts) AS attempt
    WHERE url LIKE '%%/good/%%' AND attempt->>'error' IS NOT NULL
"""
SEALED = """
    SELECT sequence, created_at FROM audit_seals AS seal
    JOIN audit_entries AS entry ON entry.tenant_id = seal.tenant_id AND entry.id = seal.entry_id
    WHERE seal.tenant_id = %s
"""
Manner = Callable[[StreamWriter], Awaitable[None]]


async def _say(writer: StreamWriter, text: str) -> None:
    writer.write(text.replace("\n", "\r\n").encode())
    await writer.drain()


async def _answer(writer: StreamWriter) -> None:
    await _say(writer, "HTTP/1.1 204 No Content\n\n")


async def _fail(writer: StreamWriter) -> None:
    await _say(writer, "HTTP/1.1 500 Oh\ncontent-length: 2\n\nno")


async def _hang(_: StreamWriter) -> None:
    await asyncio.sleep(60)


async def _hang_up(writer: StreamWriter) -> None:
    writer.transport.abort()


async def _drip(writer: StreamWriter) -> None:
    await _say(writer, "HTTP/1.1 200 OK\ncontent-length: 100000\n\n")
    while True:
        await _say(writer, ".")
        await asyncio.sleep(0.5)


async def _flood(writer: StreamWriter) -> None:
    await _say(writer, "HTTP/1.1 200 OK\n\n")
    while True:
        await _say(writer, "." * 65536)


async def _lie_about_its_length(writer: StreamWriter) -> None:
    await _say(writer, "HTTP/1.1 200 OK\ncontent-length: 100\n\nshort")


async def _talk_nonsense(writer: StreamWriter) -> None:
    await _say(writer, "220 mail.example.com ESMTP\n")


async def _come_back_tomorrow(writer: StreamWriter) -> None:
    await _say(writer, "HTTP/1.1 503 Busy\nretry-after: 86400\ncontent-length: 0\n\n")


class Zoo:
    """A server for all receivers: the first part of the path says how it behaves, the second which one it is."""

    def __init__(self) -> None:
        self.received: dict[str, list[tuple[float, int]]] = defaultdict(list)
        self.called = 0
        self.trapped = 0
        self.port = self.trap = 0
        self.stop = Event()
        self._started = Event()
        self.manners: dict[str, Manner] = {
            "fails": _fail,
            "hangs": _hang,
            "hangs-up": _hang_up,
            "drips": _drip,
            "floods": _flood,
            "lies": _lie_about_its_length,
            "nonsense": _talk_nonsense,
            "tomorrow": _come_back_tomorrow,
            "redirects": self._redirect,
            # Their addresses are changed once they are there, as a name would resolve to another one.
            "moves": _answer,
        }

    async def _redirect(self, writer: StreamWriter) -> None:
        await _say(writer, f"HTTP/1.1 307 There\nlocation: http://{INSIDE}:{self.trap}/\ncontent-length: 0\n\n")

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        with suppress(OSError, EOFError, asyncio.CancelledError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = next(int(line[15:]) for line in head.split("\r\n") if line.lower().startswith("content-length:"))
            body = await reader.readexactly(length)
            _, manner, which = head.split()[1].split("/")
            self.called += 1
            if manner == "good":
                self.received[which].append((time.time(), httpx.Response(200, content=body).json()["data"]["sequence"]))
            await self.manners.get(manner, _answer)(writer)
        writer.transport.abort()

    async def _trapped(self, _: StreamReader, writer: StreamWriter) -> None:
        self.trapped += 1
        await _answer(writer)
        writer.transport.abort()

    async def _run(self) -> None:
        server = await asyncio.start_server(self._serve, HERE, 0, backlog=1000)
        trap = await asyncio.start_server(self._trapped, INSIDE, 0)
        self.port, self.trap = (each.sockets[0].getsockname()[1] for each in (server, trap))
        self._started.set()
        while not self.stop.is_set():  # noqa: ASYNC110 -- another thread says so
            await asyncio.sleep(0.1)
        server.close()
        trap.close()

    @contextmanager
    def open(self) -> Iterator[Zoo]:
        """As long as the block runs."""
        thread = Thread(target=asyncio.run, args=(self._run(),))
        thread.start()
        self._started.wait()
        try:
            yield self
        finally:
            self.stop.set()
            thread.join()

    def url(self, manner: str, which: str) -> str:
        return f"http://{HERE}:{self.port}/{manner}/{which}"

    def moved(self) -> list[str]:
        """Addresses inside, in forms that look as if they were not."""
        hosts = (INSIDE, "127.2", "0x7f000002", "2130706434", f"[::ffff:{INSIDE}]", f"{INSIDE}.", "169.254.169.254")
        return [f"http://{host}:{self.trap}/" for host in hosts]


def zoo_of_receivers(place: Place) -> Finding:
    """Two hundred bad receivers beside good ones, of the same organizations and of others, while customers are made."""
    crowded, each, seconds = place.times(5, 1), place.times(4, 1), place.times(60, 10)
    tenants = [place.tenant() for _ in range(2 * crowded)]
    tokens = {tenant: place.token(tenant) for tenant in tenants}
    allowed = {"WEBHOOK_ALLOWED_NETWORKS": f"{HERE}/32", "JOBS_IN_SERVICE": "false"}
    # It sends webhooks, too, and may not call the receivers here.
    place.stop_kept()
    zoo = Zoo()
    taken = 0
    made: dict[str, dict[int, float]] = {tenant: {} for tenant in tenants}
    worker = None
    with zoo.open(), place.service(**allowed) as service, httpx.Client(base_url=service.url, timeout=60) as client:

        def call(method: str, path: str, tenant: str, body: Any = None) -> httpx.Response:
            return client.request(method, path, json=body, headers={"Authorization": f"Bearer {tokens[tenant]}"})

        def listen(tenant: str, urls: Iterable[str]) -> None:
            for url in urls:
                answer = call("POST", "/admin/webhooks", tenant, {"url": url, "types": ["customer.*"]})
                assert answer.status_code == 201, answer.text

        for tenant in tenants:
            listen(tenant, [zoo.url("good", tenant)])
        for tenant in tenants[:crowded]:
            listen(tenant, (zoo.url(manner, f"{number}") for manner in zoo.manners for number in range(each)))
        for url in zoo.moved():
            answer = call("POST", "/admin/webhooks", tenants[0], {"url": url, "types": ["*"]})
            taken += answer.status_code != httpx.codes.BAD_REQUEST
        with place.superuser() as connection:
            # Without the log's triggers.
            connection.execute("SET session_replication_role = replica")
            for url in zoo.moved():
                connection.execute(MOVE, [url])
        try:
            worker = Worker(place.data_dir, **allowed)
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                for tenant in tenants:
                    answer = call("POST", CUSTOMERS, tenant, {"name": "Ada"})
                    assert answer.status_code == 201, answer.text
                time.sleep(0.2)
            expected = {tenant: place.look(ENTRIES, tenant) for tenant in tenants}
            seconds_until(lambda: all(len(zoo.received[tenant]) >= expected[tenant] for tenant in tenants), 30)
        finally:
            if worker is not None:
                worker.stop()
        with place.superuser() as connection:
            for tenant in tenants:
                made[tenant] = {at: when.timestamp() for at, when in connection.execute(SEALED, [tenant])}
    late = [at - made[tenant][sequence] for tenant in tenants for at, sequence in zoo.received[tenant]]
    missing = sum(expected[tenant] - len({sequence for _, sequence in zoo.received[tenant]}) for tenant in tenants)
    trouble = place.look(TROUBLE)
    bad = crowded * each * len(zoo.manners)
    p50, longest = statistics.median(late), max(late)
    return Finding(
        f"{len(late):,} events to {len(tenants)} good receivers beside {bad} bad ones, which were called"
        f" {zoo.called - len(late):,} times: after {p50:.1f} s in the middle, {longest:.1f} s at most",
        f"{missing} events not delivered, {zoo.trapped} calls to an address inside, {taken} such addresses accepted"
        f"{f'; {trouble}' if trouble else ''}",
        missing == zoo.trapped == taken == 0 and p50 < place.within(2) and longest < place.within(10),
    )
