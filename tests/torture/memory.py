"""What a worker holds: it must not grow with what clients ask for, nor with how much their answers are."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from pathlib import Path
from typing import Any

from tests.processes import Service
from tests.torture.place import Finding, Place, resident_mb
from tests.torture.wire import at_once, raw, send_all

CUSTOMERS = "/admin/customers"
LARGEST_GROWTH_MB = 100
MOST_BY_SHAPES_MB = 40
# Four bytes of UTF-8, and what JSON writes as six characters.
LONG = "\U0001f600" * 16_000 + "\x01" * 4_000


def large_answers(place: Place) -> Finding:
    """Twenty of each of the largest answers at once, and some thousand ways to filter."""
    token = place.token(place.tenant())
    notes, shapes, crowd = place.times(400, 40), place.times(5_000, 150), place.times(20, 4)
    # Large reads take turns, and on a machine that does other things too, some wait for longer than they may.
    expected = {200, 503} if place.quick else {200}
    service = place.single
    paths = _records(service, token, notes)
    with place.superuser() as connection:
        connection.execute("ANALYZE")  # as the server does by itself within a minute
    grown = {path: _growth(service, [raw("GET", path, token)] * crowd, expected) for path in paths}
    asyncio.run(send_all(service.url, [raw("GET", path, token) for path in _shapes(place.times(300, 50))], 4))
    before = resident_mb(service)
    statuses = set(asyncio.run(send_all(service.url, [raw("GET", path, token) for path in _shapes(shapes)], 4)))
    by_shapes = resident_mb(service) - before
    sizes = {path: len(service.call("GET", path, token).content) / 2**20 for path in paths}
    told = ", ".join(f"{path.split('?')[0]} {sizes[path]:.1f} MiB +{grown[path]:.0f} MB" for path in paths)
    return Finding(
        f"{crowd} at once: {told}; {shapes} ways to filter: +{by_shapes:.0f} MB",
        f"{sum(each > LARGEST_GROWTH_MB for each in grown.values())} answers took more than {LARGEST_GROWTH_MB} MB",
        max(grown.values()) < LARGEST_GROWTH_MB and by_shapes < MOST_BY_SHAPES_MB and statuses == {200},
    )


def _records(service: Service, token: str, notes: int) -> list[str]:
    """A customer and a deal with that many long notes, and as many activities; the answers that show them."""
    customer = service.call("POST", CUSTOMERS, token, json={"name": "Ada", "notes": LONG[:10_000]}).json()["id"]
    deal = service.call("POST", "/admin/deals", token, json={"title": "Large", "customer_id": customer}).json()["id"]
    note = {"content": LONG, "deal_id": deal, "customer_id": customer}
    call: dict[str, Any] = {"title": "Call", "type": "call", "deal_id": deal, "customer_id": customer}
    call |= {"description": LONG[-10_000:], "outcome": LONG[-10_000:]}
    written = [raw("POST", "/admin/notes", token, json=note)] * notes
    written += [raw("POST", "/admin/activities", token, json=call)] * notes
    statuses = set(asyncio.run(send_all(service.url, written, 4)))
    assert statuses == {201}, statuses
    return [
        f"/admin/deals/{deal}",
        f"{CUSTOMERS}/{customer}",
        "/admin/notes?page_size=100",
        "/admin/activities?page_size=100",
        "/admin/audit?page_size=100",
        f"/admin/deals/{deal}/timeline?page_size=100",
        f"/console/admin/deals/{deal}/notes?limit=1000",
        "/console/admin/activities?limit=1000",
    ]


def _growth(service: Service, requests: list[bytes], expected: set[int]) -> float:
    """By how much a worker grows at most while it answers these at once; once before, so that nothing is new to it."""
    asyncio.run(at_once(service.url, requests[:1]))
    (pid,) = service.workers
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak is from now on
    before = _peak_mb(pid)
    answers = asyncio.run(at_once(service.url, requests))
    statuses = Counter(answer.status for answer in answers)
    assert 200 in statuses, requests[0][:60]
    assert statuses.keys() <= expected, [requests[0][:60], statuses]
    return _peak_mb(pid) - before


def _peak_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1000


def _shapes(count: int) -> list[str]:
    """Different ways to filter, sort and page a list."""
    filters = ("status=lead", "contacted=true", "created_from=2020-01-01", "follow_up_to=2030-01-01", "assigned_to=me")
    chosen = [each for size in range(6) for each in itertools.combinations(filters, size)]
    sorts = ("created_at", "updated_at", "name", "email", "status", "company", "next_follow_up_at")
    ways = itertools.product(range(1, 101), ("asc", "desc"), sorts, chosen)
    return [
        f"{CUSTOMERS}?page_size={size}&sort_order={order}&sort_by={sort}&{'&'.join(some)}".rstrip("&")
        for size, order, sort, some in itertools.islice(ways, count)
    ]
