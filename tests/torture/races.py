"""Many at the same moment: one key, one version, two organizations."""

from __future__ import annotations

import asyncio
from collections import Counter

from tests.torture.place import Finding, Place
from tests.torture.wire import Answer, at_once, raw, send_all

CUSTOMERS, DEALS, STAGES = "/admin/customers", "/admin/deals", "/admin/pipeline-stages"
# What each request may be told while others change the stages.
STAGE_ANSWERS = {
    "create": {(201, "")},
    "order": {(200, ""), (400, "INVALID_REQUEST")},
    "delete": {(200, ""), (409, "STAGE_IN_USE")},
    "move": {(200, ""), (400, "INVALID_STAGE")},
}


def one_key_fifty_times(place: Place) -> Finding:
    """Fifty requests under one Idempotency-Key; then another body, another person, another organization."""
    rounds = place.times(20, 3)
    statuses: Counter[int] = Counter()
    wrong: list[str] = []
    service = place.kept
    for number in range(rounds):
        tenant, key = place.tenant(), {"Idempotency-Key": f"key-{number}"}
        token = place.token(tenant)
        service.call("GET", CUSTOMERS, token)
        request = raw("POST", CUSTOMERS, token, json={"name": "Ada"}, headers=key)
        answers = asyncio.run(at_once(service.url, [request] * 50))
        statuses.update(answer.status for answer in answers)
        made = {answer.body for answer in answers if answer.status == 201}
        rows = place.look("SELECT count(*) FROM customers WHERE tenant_id = %s", tenant)
        wrong += [f"{rows} rows"] * (rows != 1) + [f"{len(made)} answers"] * (len(made) != 1)

        others = [
            raw("POST", CUSTOMERS, token, json={"name": "Bob"}, headers=key),
            raw("POST", CUSTOMERS, place.token(tenant, user_id="another"), json={"name": "Ada"}, headers=key),
            raw("POST", CUSTOMERS, place.token(place.tenant()), json={"name": "Ada"}, headers=key),
        ]
        told = [answer.status for answer in asyncio.run(at_once(service.url, others))]
        wrong += [f"others got {told}"] * (told != [422, 201, 201])
    return Finding(
        f"{rounds} keys, 50 requests at once each: {dict(statuses)}; another body, user, tenant",
        f"{len(wrong)} wrong {wrong[:3] or ''}".strip(),
        not wrong and set(statuses) <= {201, 409},
    )


def one_version_fifty_times(place: Place) -> Finding:
    """Fifty changes of one customer, all of the version that they read."""
    rounds = place.times(20, 3)
    wrong: list[Counter[int]] = []
    service = place.kept
    token = place.token(place.tenant())
    for _ in range(rounds):
        made = service.call("POST", CUSTOMERS, token, json={"name": "Ada"})
        path, match = f"{CUSTOMERS}/{made.json()['id']}", {"If-Match": made.headers["ETag"]}
        racers = [raw("PATCH", path, token, json={"name": f"Ada {n}"}, headers=match) for n in range(50)]
        statuses = Counter(answer.status for answer in asyncio.run(at_once(service.url, racers)))
        if statuses != {200: 1, 412: 49}:
            wrong.append(statuses)
    return Finding(
        f"{rounds} records, 50 changes at once each under one If-Match",
        f"{len(wrong)} rounds other than one 200 and 49 412s {wrong[:2] or ''}".strip(),
        not wrong,
    )


def two_tenants_on_two_connections(place: Place) -> Finding:
    """Requests of two organizations in turn, on a pool of 2; and the service's role without any organization."""
    count = place.times(10_000, 400)
    tenants = {mark: place.tenant() for mark in ("alpha", "omega")}
    tokens = {mark: place.token(tenant) for mark, tenant in tenants.items()}
    leaks: list[str] = []

    service = place.narrow
    ids = {
        mark: [service.call("POST", CUSTOMERS, token, json={"name": f"{mark} {n}"}).json()["id"] for n in range(10)]
        for mark, token in tokens.items()
    }
    marks = {token.encode(): mark for mark, token in tokens.items()}

    def asked(number: int) -> bytes:
        mark, other = (("alpha", "omega"), ("omega", "alpha"))[number % 2]
        what = number // 2 % 4
        if what == 0:
            return raw("GET", CUSTOMERS, tokens[mark])
        if what == 1:
            return raw("GET", f"{CUSTOMERS}/{ids[mark][number % 10]}", tokens[mark])
        if what == 2:  # the other's record, which must not be there
            return raw("GET", f"{CUSTOMERS}/{ids[other][number % 10]}", tokens[mark])
        return raw("PATCH", f"{CUSTOMERS}/{ids[mark][number % 10]}", tokens[mark], json={"name": f"{mark} {number}"})

    def check(request: bytes, answer: Answer) -> None:
        mark = next(mark for token, mark in marks.items() if token in request)
        other = b"omega" if mark == "alpha" else b"alpha"
        if other in answer.body:
            leaks.append(answer.body[:200].decode())

    statuses = Counter(asyncio.run(send_all(service.url, map(asked, range(count)), 16, check)))
    with place.superuser() as connection:
        tables = [
            row[0]
            for row in connection.execute(
                "SELECT relname FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid"
                " WHERE attname = 'tenant_id' AND relkind = 'r' AND relrowsecurity"
            )
        ]
        connection.execute("SET ROLE crm_service")
        seen = 0
        for table in tables:
            if connection.execute("SELECT has_table_privilege(%s, 'SELECT')", [table]).fetchone() == (True,):
                found = connection.execute(f'SELECT count(*) FROM "{table}"').fetchone()
                seen += found[0] if found else 0
    return Finding(
        f"{count:,} requests of two tenants in turn on a pool of 2: {dict(statuses)}; {len(tables)} tables without one",
        f"{len(leaks)} leaks, {seen} rows seen without a tenant",
        not leaks and seen == 0 and len(tables) > 5 and statuses == {200: count * 3 // 4, 404: count // 4},
    )


def twelve_at_the_stages(place: Place) -> Finding:
    """Stages created, ordered, deleted and moved into at the same moment; then a move against its stage's deletion."""
    rounds = place.times(20, 4)
    wrong: list[str] = []
    statuses: Counter[tuple[int, str]] = Counter()
    service = place.kept
    for number in range(rounds):
        tenant = place.tenant()
        token = place.token(tenant)
        customer = service.call("POST", CUSTOMERS, token, json={"name": "Ada"}).json()["id"]
        stages = service.call("GET", STAGES, token).json()["data"]
        deals = [
            service.call("POST", DEALS, token, json={"title": "Engine", "customer_id": customer}).json()["id"]
            for _ in range(3)
        ]
        passing = [
            service.call("POST", STAGES, token, json={"name": f"passing-{n}", "display_name": "Passing"}).json()
            for n in range(3)
        ]
        ids = [stage["id"] for stage in (*stages, *passing)]
        burst = [
            *(
                raw("POST", STAGES, token, json={"name": f"new-{number}-{n}", "display_name": "New", "order": 1 + n})
                for n in range(3)
            ),
            *(raw("PUT", f"{STAGES}/order", token, json={"ids": order}) for order in (ids, ids[::-1], ids)),
            *(raw("DELETE", f"{STAGES}/{stage['id']}", token) for stage in passing),
            *(
                raw("PATCH", f"{DEALS}/{deal}", token, json={"stage": stage["name"]})
                for deal, stage in zip(deals, passing, strict=True)
            ),
        ]
        answers = asyncio.run(at_once(service.url, burst))
        kinds = ("create",) * 3 + ("order",) * 3 + ("delete",) * 3 + ("move",) * 3
        for kind, answer in zip(kinds, answers, strict=True):
            said = (answer.status, "" if answer.status < 300 else answer.json()["code"])
            statuses[said] += 1
            if said not in STAGE_ANSWERS[kind]:
                wrong.append(f"{kind}: {said}")
        after = service.call("GET", STAGES, token).json()["data"]
        orders = [stage["order"] for stage in after]
        wrong += [f"orders {orders}"] * (orders != list(range(1, len(after) + 1)))
        made = [stage["version"] for stage in after if stage["name"].startswith("new-")]
        entries = place.look(
            "SELECT count(*) FROM audit_entries WHERE tenant_id = %s AND action = 'create' AND resource_id = ANY (%s)"
            " AND resource_type = 'pipeline_stage'",
            tenant,
            [stage["id"] for stage in after if stage["name"].startswith("new-")],
        )
        wrong += [f"{entries} entries"] * (len(made) != 3 or entries != 3)
    return Finding(
        f"{rounds} times twelve at once: {dict(statuses)}",
        f"{len(wrong)} wrong {wrong[:3] or ''}".strip(),
        not wrong,
    )
