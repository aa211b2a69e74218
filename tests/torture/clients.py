"""What clients do: ask badly, hang up, and send secrets."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter

from tests.processes import Service, fetch
from tests.torture.limits import locked
from tests.torture.place import Finding, Place, resident_mb, seconds_until
from tests.torture.wire import Wire, raw, send_all
from tests.web.test_bad_input import BODIES, CUSTOMERS, DEALS, JSON, QUERIES, REQUESTS

LARGEST_GROWTH_MB = 50
IDLE_OR_BUSY = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'crm_app' AND state <> 'idle'"


def bad_requests(place: Place) -> Finding:
    """The corpus of bad input over and over, and made-up paths, tokens, names and methods among it."""
    count = place.times(100_000, 1_000)
    token = place.token(place.tenant())
    dice = random.Random(7)
    corpus = [
        *(raw("POST", CUSTOMERS, token, content=body, headers=JSON) for body, *_ in BODIES.values()),
        *(
            raw("POST", "/admin/deals", token, content=f'{{"title":"A","customer_id":1,{member}}}', headers=JSON)
            for member, _ in DEALS.values()
        ),
        *(raw("GET", f"{CUSTOMERS}?{query.replace(' ', '%20')}", token) for query, *_ in QUERIES.values()),
        # A body of two mebibytes each time would measure the loopback interface.
        *(
            raw(method, path, token, **more)
            for name, (method, path, more, *_) in REQUESTS.items()
            if name != "two mebibytes"
        ),
    ]

    def made_up() -> bytes:
        text = "".join(dice.choices("abcdefghijklmnopqrstuvwxyz0123456789-_", k=20))
        return dice.choice(
            (
                raw("GET", f"/admin/{text}", token),
                raw("GET", f"/{text}/{text}", token),
                raw(text[:8].upper().replace("-", "X").replace("_", "Y"), CUSTOMERS, token),
                raw("GET", CUSTOMERS, f"{token[:-20]}{text}"),
                raw("GET", f"{CUSTOMERS}?{text}=1", token),
                raw("POST", CUSTOMERS, token, json={text: 1}, headers={"X-Request-ID": text, "User-Agent": text}),
            )
        )

    requests = (corpus[number % len(corpus)] if number % 2 else made_up() for number in itertools.count())
    service = place.kept
    asyncio.run(send_all(service.url, itertools.islice(requests, 2_000), 16))
    _series(service)  # all that is kept is there now, this one included
    before, series = resident_mb(service), _series(service)
    statuses = Counter(asyncio.run(send_all(service.url, itertools.islice(requests, count), 16)))
    grown, more_series = resident_mb(service) - before, _series(service) - series
    faults = sum(number for status, number in statuses.items() if status >= 500 or status in {0, 200, 201})
    return Finding(
        f"{count:,} bad requests: {dict(sorted(statuses.items()))}; two workers grew by {grown:.1f} MB together",
        f"{faults} answers of 5xx, 2xx or none; {more_series} new metric series",
        faults == 0 and grown < LARGEST_GROWTH_MB and more_series == 0,
    )


def _series(service: Service) -> int:
    return sum(line.startswith("crm_") for line in fetch(f"{service.url}/metrics").text.splitlines())


def hanging_up(place: Place) -> Finding:
    """Clients that hang up at every stage: in the middle of a head, of a body, of waiting for a lock."""
    tenant, count = place.tenant(), place.times(200, 200)
    token = place.token(tenant)
    whole = raw("POST", CUSTOMERS, token, json={"name": "Ada" * 50})
    reading = raw("GET", CUSTOMERS, token)

    async def hang_up(url: str, number: int) -> None:
        request = whole if number % 2 else reading
        line = Wire(url)
        _, writer = await asyncio.open_connection(line.address.host, line.address.port)
        writer.write((request, request, request[:-60], request[:40])[number % 4])
        await asyncio.sleep(0.01 * (number % 50))
        writer.transport.abort()

    async def all_of_them(url: str) -> None:
        await asyncio.gather(*(hang_up(url, number) for number in range(count)))

    service = place.kept
    service.call("GET", CUSTOMERS, token)
    with locked(place):
        asyncio.run(all_of_them(service.url))
    asyncio.run(all_of_them(service.url))
    settled = seconds_until(lambda: place.look(IDLE_OR_BUSY) == 0 and _checked_out(service) == 0, 15)
    # Looked at once more, it could be the service's own upkeep that is busy for a moment.
    busy, out = (0, 0) if settled < 10 else (place.look(IDLE_OR_BUSY), _checked_out(service))
    answered = service.call("GET", CUSTOMERS, token).status_code
    rows, entries = place.unaudited(tenant)
    return Finding(
        f"{2 * count} clients hung up, half of them while a lock was held; all was quiet after {settled:.1f} s",
        f"{out} connections checked out, {busy} busy or idle in transaction, {rows + entries} rows unaudited",
        (out, busy, rows, entries, answered) == (0, 0, 0, 0, 200) and settled < 10,
    )


def _checked_out(service: Service) -> int:
    page = fetch(f"{service.url}/metrics").text
    return int(float(next(line.split()[1] for line in page.splitlines() if line.startswith("crm_db_pool_used"))))


def secrets_on_their_way(place: Place) -> Finding:
    """Canaries in every part of a request, well-formed and not; then a search for them in logs and audit log."""
    token = place.token(place.tenant())
    secret = "canary-of-a-secret"
    named = {"name": "canary-of-a-body", "notes": secret}
    service = place.narrow
    before = len(service.log.read_text())
    sent = [
        *(raw(method, CUSTOMERS, token, json=named) for method in ("POST", "PUT", "GET")),
        raw("POST", CUSTOMERS, token, json=named | {"canary-of-a-field": secret}),
        raw("POST", CUSTOMERS, token, content=b'{"name": "canary-of-a-body"', headers=JSON),
        raw("GET", f"{CUSTOMERS}?search=canary-of-a-query&canary=canary-of-a-query", token),
        raw("GET", f"{CUSTOMERS}?search=canary-of-a-query", token),
        raw("GET", CUSTOMERS, "canary-of-a-token"),
        raw("GET", CUSTOMERS, f"{token}canary-of-a-token"),
        raw("GET", CUSTOMERS, token, headers={"Cookie": "session=canary-of-a-cookie", "X-Api-Key": secret}),
        raw("POST", CUSTOMERS, token, json=named, headers={"Idempotency-Key": "canary-of-a-key"}),
        raw("POST", "/admin/notes", token, json={"content": "canary-of-a-body", "customer_id": 1}),
    ]
    statuses = Counter(asyncio.run(send_all(service.url, sent * 3, 2)))
    with locked(place):  # a failure on our side
        asyncio.run(send_all(service.url, sent[:1], 1))
    log = service.log.read_text()[before:]
    words = {"the token": token, "its signature": token.rsplit(".", 1)[1], "JWT_SECRET": place.settings.jwt_secret}
    audited = place.look("SELECT string_agg(e::text, ' ') FROM audit_entries e")
    in_log = [name for name, word in words.items() if word in log] + ["a canary"] * ("canary" in log)
    # What a record says stands in the audit log on purpose; how somebody came in does not.
    carried = ("canary-of-a-token", "canary-of-a-cookie", "canary-of-a-key", "canary-of-a-field", "canary-of-a-query")
    in_audit = [name for name, word in (words | dict(zip(carried, carried, strict=True))).items() if word in audited]
    lines = log.count('"event":"request"')
    return Finding(
        f"{3 * len(sent)} requests with canaries: {dict(statuses)}; {lines} log lines, {len(audited):,} bytes of audit",
        f"{in_log or 'nothing'} found in logs, {in_audit or 'nothing'} in the audit log",
        not in_log and not in_audit and lines >= 3 * len(sent) and "canary-of-a-body" in audited,
    )
