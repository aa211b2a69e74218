"""Reminders, and what else people are told, while the workers are killed."""

from __future__ import annotations

import asyncio
import random

import psycopg

from app.db.roles import enter_tenant
from tests.processes import Worker
from tests.torture.background import two_workers
from tests.torture.place import Finding, Place, seconds_until

PERSON, OTHER = "reminded", "torturer"
# At any moment of so many seconds, after the first few.
MADE = """
    INSERT INTO activities (tenant_id, title, type, assigned_to, remind_at)
    SELECT %s, 'Call ' || n, 'call', %s, now() + interval '8 seconds' + random() * %s * interval '1 second'
    FROM generate_series(1, %s) AS n
"""
AHEAD = "remind_at > now() + interval '1 second'"
# What is changed before its moment.
CHANGED = (
    f"UPDATE activities SET status = 'completed', completed_at = now() WHERE id %% 10 = 0 AND {AHEAD} RETURNING id",
    f"UPDATE activities SET deleted_at = now() WHERE id %% 10 = 1 AND {AHEAD} RETURNING id",
    f"UPDATE activities SET remind_at = remind_at + %s * interval '1 second' WHERE id %% 10 = 2 AND {AHEAD}",
)
WANTED = """
    SELECT count(*) FROM activities WHERE tenant_id = %s AND deleted_at IS NULL AND status = 'scheduled'
"""
TOLD = "SELECT count(*) FROM notifications WHERE tenant_id = %s AND kind = 'reminder'"
# Of each that is still to be done, one at its time; of the others, one if their time had come before.
NOT_ONCE = """
    SELECT count(*) FROM (
        SELECT id, deleted_at IS NULL AND status = 'scheduled' AS wanted, remind_at, (
            SELECT array_agg(key) FROM notifications
            WHERE tenant_id = activity.tenant_id AND resource_id = activity.id AND kind = 'reminder'
        ) AS keys FROM activities AS activity WHERE tenant_id = %s
    ) AS each WHERE CASE
        WHEN id = ANY (%s) THEN keys IS NOT NULL
        ELSE keys IS DISTINCT FROM ARRAY['reminder/activity/' || id || '/' || extract(epoch FROM remind_at)]
    END
"""
LATEST = """
    SELECT max(extract(epoch FROM at - remind_at))::float8 FROM notifications JOIN activities
        ON activities.tenant_id = notifications.tenant_id AND activities.id = resource_id
    WHERE notifications.tenant_id = %s AND notifications.kind = 'reminder'
"""
ASSIGNED = """
    SELECT count(*) FROM notifications WHERE tenant_id = %s AND kind = 'assigned' AND data ->> 'count' = '1'
"""


def reminded_while_workers_are_killed(place: Place) -> Finding:
    """`kill -9` one of two workers again and again, while reminders become due, and somebody changes what they are
    about, and hands over other work.
    """
    reminders, seconds, kills = place.times(2000, 200), place.times(60, 10), place.times(20, 3)
    tenant = place.tenant()
    handed = 0
    gone: list[int] = []

    def write(statement: str, *values: object, user: str = OTHER, action: int = 0) -> list[int]:
        with psycopg.connect(place.postgres.dsn()) as connection:
            actor = {"user_id": user, "operation_id": f"00000000-0000-0000-0000-{action:012}"}
            enter_tenant(connection, tenant, actor)
            ran = connection.execute(statement, values)
            return [row[0] for row in ran.fetchall()] if ran.description else []

    async def kill(workers: list[Worker]) -> None:
        for turn in range(kills):
            await asyncio.sleep(random.uniform(0.2, 2.5))
            await asyncio.to_thread(workers[turn % 2].kill)
            workers[turn % 2] = await asyncio.to_thread(Worker, place.data_dir)

    async def change(killing: asyncio.Task[None]) -> None:
        nonlocal handed
        await asyncio.sleep(seconds / 2)
        done, trashed, moved = CHANGED
        gone.extend(await asyncio.to_thread(write, done))
        gone.extend(await asyncio.to_thread(write, trashed))
        await asyncio.to_thread(write, moved, seconds / 2)
        while not killing.done():
            handed += 1
            hand = "INSERT INTO customers (tenant_id, name, assigned_to) VALUES (%s, 'Handed over', %s)"
            await asyncio.to_thread(lambda: write(hand, tenant, PERSON, action=handed))  # noqa: B023 -- it runs at once
            await asyncio.sleep(random.uniform(0, 0.2))

    async def all_of_it(workers: list[Worker]) -> None:
        killing = asyncio.create_task(kill(workers))
        await asyncio.gather(killing, change(killing))

    with place.service(JOBS_IN_SERVICE="false"), two_workers(place) as workers:
        place.look("SELECT 1")
        write("INSERT INTO settings (tenant_id, default_currency, timezone) VALUES (%s, 'USD', 'UTC')", tenant)
        write(MADE, tenant, PERSON, seconds, reminders, user=PERSON)
        asyncio.run(all_of_it(workers))

        def all_are_told() -> bool:
            all_are_reminded = place.look(TOLD, tenant) >= place.look(WANTED, tenant)
            return bool(all_are_reminded and place.look(ASSIGNED, tenant) >= handed)

        seconds_until(all_are_told, seconds + 60)
    wrong = place.look(NOT_ONCE, tenant, gone)
    assigned = place.look(ASSIGNED, tenant)
    return Finding(
        f"{kills} workers killed while {reminders:,} reminders became due, {len(gone)} of what was done or trashed"
        f" before, and {handed} customers were handed over; the latest came after {place.look(LATEST, tenant):.1f} s",
        f"{wrong} reminders not made exactly once, {abs(assigned - handed)} people not told exactly once",
        wrong == 0 and assigned == handed and bool(gone),
    )
