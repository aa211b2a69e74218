"""What happens to the service's processes: killed, told to stop, counted together."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import threading
import time
from collections import Counter

from tests.processes import Service, fetch
from tests.torture.place import Finding, Place, seconds_until
from tests.torture.wire import raw, send_all, wire

CUSTOMERS = "/admin/customers"
ENOUGH = 50  # customers, so that all clients are in the middle of something
COUNTED = re.compile(r'crm_http_requests_total{endpoint="(.+?)",method="(\w+)",status="(\d+)"} ([\d.]+)')


def killed_in_the_middle_of_writing(place: Place) -> Finding:
    """`kill -9` the service, workers first, while eight clients create and change customers."""
    tenant, kills = place.tenant(), place.times(20, 1)
    token = place.token(tenant)
    acknowledged: set[int] = set()
    broken = 0

    async def write(url: str, stop: threading.Event) -> None:
        nonlocal broken
        async with wire(url) as line:
            while not stop.is_set():
                made = await line.ask(raw("POST", CUSTOMERS, token, json={"name": "Ada"}))
                if made.status != 201:
                    broken += 1
                    return
                acknowledged.add(made.json()["id"])
                path = f"{CUSTOMERS}/{made.json()['id']}"
                broken += (await line.ask(raw("PATCH", path, token, json={"status": "active"}))).status == 0

    async def write_all(url: str, stop: threading.Event) -> None:
        await asyncio.gather(*(write(url, stop) for _ in range(8)))

    for _ in range(kills):
        with place.service() as service:
            stop = threading.Event()
            writers = threading.Thread(
                target=lambda url, stop: asyncio.run(write_all(url, stop)), args=(service.url, stop)
            )
            writers.start()
            already = len(acknowledged)
            seconds_until(lambda already=already: len(acknowledged) > already + ENOUGH)  # type: ignore[misc]  # mypy knows no defaults of lambdas
            for pid in (*service.workers, service.process.pid):
                os.kill(pid, signal.SIGKILL)
            stop.set()
            writers.join()
            service.stop(signal.SIGKILL)
    busy = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'crm_app' AND state <> 'idle'"
    seconds_until(lambda: place.look(busy) == 0)
    rows, entries = place.unaudited(tenant)
    with place.superuser() as connection:
        stored = {row[0] for row in connection.execute("SELECT id FROM customers WHERE tenant_id = %s", [tenant])}
    lost = len(acknowledged - stored)
    return Finding(
        f"killed {kills} times, {broken} requests cut off, {len(stored)} customers stored",
        f"{rows} rows without their entries, {entries} entries without their row, {lost} acknowledged writes",
        rows == entries == lost == 0 and broken > 0 and len(stored) > kills,
    )


def told_to_stop_under_load(place: Place) -> Finding:
    """SIGTERM while eight clients write: /ready says no first, every answer arrives, and it is over in 30 s."""
    tenant = place.tenant()
    token = place.token(tenant)
    statuses: Counter[int] = Counter()

    async def write(url: str, stop: threading.Event) -> None:
        async with wire(url) as line:
            while not stop.is_set():
                statuses[(await line.ask(raw("POST", CUSTOMERS, token, json={"name": "Ada"}))).status] += 1

    async def write_all(url: str, stop: threading.Event) -> None:
        await asyncio.gather(*(write(url, stop) for _ in range(8)))

    service = place.kept
    stop = threading.Event()
    writers = threading.Thread(target=asyncio.run, args=(write_all(service.url, stop),))
    writers.start()
    time.sleep(1)
    began = time.monotonic()
    service.process.send_signal(signal.SIGTERM)
    until_not_ready = seconds_until(lambda: fetch(f"{service.url}/ready").status_code == 503, 5)
    still_served = fetch(f"{service.url}/live").status_code == 200
    time.sleep(0.5)
    stop.set()  # as a load balancer does that saw /ready
    writers.join()
    code = service.process.wait(40)
    took = time.monotonic() - began
    service.stop()
    stored = place.look("SELECT count(*) FROM customers WHERE tenant_id = %s", tenant)
    return Finding(
        f"SIGTERM under load: {dict(statuses)}; /ready 503 in {until_not_ready:.2f} s, exit {code} in {took:.1f} s",
        f"{statuses[201] - stored} acknowledged writes, {sum(statuses.values()) - statuses[201]} requests",
        set(statuses) == {201} and stored == statuses[201] and still_served and code == 0 and took < 30,
    )


def counted_by_two_workers(place: Place) -> Finding:
    """The metrics of two workers against the client's own count."""
    token, count = place.token(place.tenant()), place.times(5_000, 500)
    kinds = {
        ("/admin/customers", "GET", "200"): raw("GET", CUSTOMERS, token),
        ("/admin/customers", "POST", "201"): raw("POST", CUSTOMERS, token, json={"name": "Ada"}),
        ("/admin/customers/{customer_id}", "GET", "404"): raw("GET", f"{CUSTOMERS}/999999999", token),
        ("/admin/customers/{customer_id}", "PATCH", "400"): raw("PATCH", f"{CUSTOMERS}/1", token, json={}),
        ("/admin/me", "GET", "401"): raw("GET", "/admin/me"),
        ("unknown", "GET", "404"): raw("GET", "/nowhere"),
        ("unknown", "OTHER", "404"): raw("BREW", "/nowhere"),
    }
    requests = [(kind, kinds[kind]) for number in range(count) for kind in [list(kinds)[number % len(kinds)]]]
    service = place.kept
    before = _counted(service)
    asyncio.run(send_all(service.url, (request for _, request in requests), 20))
    told = _counted(service) - before
    told.pop(("/metrics", "GET", "200"))  # the look before
    workers = fetch(f"{service.url}/metrics").text.count("process_resident_memory_bytes{pid=")
    sent = Counter(kind for kind, _ in requests)
    wrong = {kind: (told[kind], number) for kind, number in sent.items() if told[kind] != number}
    return Finding(
        f"{count:,} requests of {len(kinds)} kinds to {workers} workers",
        f"{len(wrong)} kinds counted otherwise {wrong or ''}".strip(),
        not wrong and workers == 2 and set(told) == set(sent),
    )


def _counted(service: Service) -> Counter[tuple[str, ...]]:
    """Requests by address, method and status."""
    page = fetch(f"{service.url}/metrics").text
    return Counter({(found[1], found[2], found[3]): int(float(found[4])) for found in COUNTED.finditer(page)})
