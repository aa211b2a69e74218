"""Walks over many rows, while others arrive."""

from __future__ import annotations

import asyncio
from urllib.parse import urlencode

from app.admin.customers.schemas import CustomerSort
from app.web.paging import SortOrder
from tests.processes import crm_here
from tests.torture.place import Finding, Place
from tests.torture.wire import Wire, raw, wire

CUSTOMERS = "/admin/customers"


def over_many_rows(place: Place) -> Finding:
    """By cursor under every sort, with inserts going on; and by page when all is quiet."""
    tenant, rows = place.tenant(), place.times(10_000, 300)
    token = place.token(tenant)
    seeded = crm_here("seed", "--customers", str(rows), "--tenant", tenant, "--data-dir", str(place.data_dir))
    assert seeded.exit_code == 0, seeded.stderr
    with place.superuser() as connection:
        old = {row[0] for row in connection.execute("SELECT id FROM customers WHERE tenant_id = %s", [tenant])}
    orders = [(sort.value, order.value) for sort in CustomerSort for order in SortOrder]
    wrong: list[str] = []
    inserted = 0

    async def pages(line: Wire, query: dict[str, object], *, by_cursor: bool) -> list[int]:
        seen: list[int] = []
        number = 1
        while True:
            page = (await line.ask(raw("GET", f"{CUSTOMERS}?{urlencode(query)}", token))).json()
            seen += [row["id"] for row in page["data"]]
            if by_cursor and page["next_cursor"]:
                query = {"cursor": page["next_cursor"], "page_size": 100}
            elif not by_cursor and number < page["total_pages"]:
                number += 1
                query = query | {"page": number}
            else:
                return seen

    async def walk(line: Wire, sort: str, order: str, *, by_cursor: bool) -> None:
        seen = await pages(line, {"sort_by": sort, "sort_order": order, "page_size": 100}, by_cursor=by_cursor)
        twice, missed = len(seen) - len(set(seen)), len(old - set(seen))
        if twice or missed:
            wrong.append(f"{sort} {order}: {twice} twice, {missed} missed")

    async def insert(url: str, stop: asyncio.Event) -> None:
        nonlocal inserted
        async with wire(url) as line:
            while not stop.is_set():
                body = {"name": f"{'AMZ'[inserted % 3]} {inserted}", "company": None if inserted % 2 else "Arrived"}
                inserted += (await line.ask(raw("POST", CUSTOMERS, token, json=body))).status == 201
                await asyncio.sleep(0.01)

    async def all_walks(url: str) -> None:
        stop = asyncio.Event()
        inserting = asyncio.create_task(insert(url, stop))
        async with wire(url) as line:
            for sort, order in orders:
                await walk(line, sort, order, by_cursor=True)
            stop.set()
            await inserting
            for sort, order in orders:
                await walk(line, sort, order, by_cursor=False)

    asyncio.run(all_walks(place.kept.url))
    return Finding(
        f"{2 * len(orders)} walks over {rows:,} rows, under {len(orders)} orders, while {inserted} rows arrived",
        f"{len(wrong)} walks with rows repeated or missed {wrong[:2] or ''}".strip(),
        not wrong and len(old) == rows and inserted > 10,
    )
