"""What the tests of the audit log's chain have in common."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import psycopg
from msgspec.structs import replace
from psycopg.types.json import Jsonb

from app.db.database import Database
from app.records import audit_chain
from app.records.audit_chain import Break, Head, Walk, heads
from app.settings import Settings

T = TypeVar("T")
TABLES = ("audit_entries", "audit_seals", "audit_cuts", "record_counts")

SWAP_ENTRIES = """
    UPDATE audit_entries AS one SET resource_id = other.resource_id, new_values = other.new_values
    FROM audit_entries AS other WHERE (one.id, other.id) IN (({second}, {third}), ({third}, {second}));
"""
SWAP_SEALS = """
    UPDATE audit_seals SET sequence = 99 WHERE entry_id = {second};
    UPDATE audit_seals SET sequence = 2 WHERE entry_id = {third};
    UPDATE audit_seals SET sequence = 3 WHERE entry_id = {second};
"""
REMOVE = "DELETE FROM audit_entries WHERE id = {third}; DELETE FROM audit_seals WHERE entry_id = {third};"
CLOSE_UP = "UPDATE audit_seals SET sequence = sequence - 1 WHERE tenant_id = '{tenant}' AND entry_id > {third};"
INSERT = """
    INSERT INTO audit_entries (tenant_id, id, resource_type, resource_id, action) OVERRIDING SYSTEM VALUE
    VALUES ('{tenant}', -1, 'customer', 1, 'create');
"""
# What somebody with all rights might do to a tenant's first five entries, which are sealed, the sequence where the
# chain then breaks, and a word of what is said. `hash` is the column of the seals.
TAMPERED: dict[str, tuple[str, int, str]] = {
    "another user": ("UPDATE audit_entries SET user_id = 'x' WHERE id = {third}", 3, "changed"),
    "another value": (
        "UPDATE audit_entries SET new_values = jsonb_set(new_values, '{{name}}', '\"Eve\"') WHERE id = {second}",
        2,
        "changed",
    ),
    "another number of the same value": (
        """UPDATE audit_entries SET new_values = jsonb_set(new_values, '{{contact_preferences,rate}}', '0.100')
           WHERE id = {second}""",
        2,
        "changed",
    ),
    "the last of thirty-one digits": (
        """UPDATE audit_entries SET new_values = jsonb_set(new_values, '{{contact_preferences,ünicode,1}}',
           '1000000000000000000000000000001') WHERE id = {second}""",
        2,
        "changed",
    ),
    "no values any more": ("UPDATE audit_entries SET new_values = NULL WHERE id = {third}", 3, "changed"),
    "values and salt emptied": (
        "UPDATE audit_entries SET old_values = NULL, new_values = NULL, salt = NULL WHERE id = {third}",
        3,
        "changed",
    ),
    "values emptied as if by an erasure that is not there": (
        """UPDATE audit_entries SET old_values = NULL, new_values = NULL, salt = NULL, erased_by = {fifth} + 1000000
           WHERE id = {third}""",
        3,
        "does not say so",
    ),
    "values emptied as if by an entry that says something else": (
        """UPDATE audit_entries SET old_values = NULL, new_values = NULL, salt = NULL, erased_by = {fifth}
           WHERE id = {third}""",
        3,
        "does not say so",
    ),
    "a microsecond later": (
        "UPDATE audit_entries SET created_at = created_at + interval '1 microsecond' WHERE id = {first}",
        1,
        "changed",
    ),
    "nobody's address": ("UPDATE audit_entries SET ip_address = NULL WHERE id = {fifth}", 5, "changed"),
    "an entry given to another tenant": (
        "UPDATE audit_entries SET tenant_id = 'elsewhere' WHERE id = {third}",
        3,
        "deleted",
    ),
    "an entry deleted": ("DELETE FROM audit_entries WHERE id = {third}", 3, "deleted"),
    "an entry deleted with its seal": (REMOVE, 3, "the seal says 4"),
    "an entry deleted and the gap closed": (REMOVE + CLOSE_UP, 3, "changed"),
    "the first one deleted with its seal": (
        "DELETE FROM audit_entries WHERE id = {first}; DELETE FROM audit_seals WHERE entry_id = {first};",
        1,
        "the seal says 2",
    ),
    "two entries in each other's place": (SWAP_ENTRIES, 2, "changed"),
    "two seals in each other's place": (SWAP_SEALS, 2, "the seal says 3"),
    "an entry inserted": (INSERT, 1, "no seal"),
    "an entry inserted with a seal": (
        INSERT
        + "INSERT INTO audit_seals (tenant_id, sequence, entry_id, {hash}) VALUES ('{tenant}', 99, -1, sha256('x'));",
        1,
        "the seal says 99",
    ),
    "a seal changed": ("UPDATE audit_seals SET {hash} = sha256('x') WHERE entry_id = {fourth}", 4, "changed"),
    "a seal deleted": ("DELETE FROM audit_seals WHERE entry_id = {second}", 2, "no seal"),
}
# Of seals of version 2 alone.
TAMPERED_V2: dict[str, tuple[str, int, str]] = {
    "another version": ("UPDATE audit_entries SET version = 7 WHERE id = {third}", 3, "changed"),
    "another operation": ("UPDATE audit_entries SET operation_id = gen_random_uuid() WHERE id = {third}", 3, "changed"),
    "another way": ("UPDATE audit_entries SET via = 'import' WHERE id = {third}", 3, "changed"),
    "values with a digest that fits": (
        """UPDATE audit_entries SET new_values = '{{"name": "Eve"}}',
           new_digest = crm_values_digest(salt, '{{"name": "Eve"}}') WHERE id = {third}""",
        3,
        "changed",
    ),
    "no digest": ("UPDATE audit_entries SET new_values = NULL, new_digest = NULL WHERE id = {third}", 3, "changed"),
    "a salt of one's own": ("UPDATE audit_entries SET salt = decode('00', 'hex') WHERE id = {third}", 3, "changed"),
    "a seal emptied": ("UPDATE audit_seals SET hash = NULL WHERE entry_id = {third}", 3, "changed"),
    "a seal of version 1 after the switch": (
        "UPDATE audit_seals SET hash_v1 = sha256('x') WHERE entry_id = {third}",
        3,
        "version 2 had taken over",
    ),
    "a seal of version 1 added": (
        "UPDATE audit_seals SET hash_v1 = sha256('x') WHERE entry_id = {first}",
        1,
        "changed",
    ),
}


def with_database(settings: Settings, work: Callable[[Database], Awaitable[T]]) -> T:
    async def run() -> T:
        async with Database(settings) as database:
            return await work(database)

    return asyncio.run(run())


def seal(settings: Settings) -> None:
    """Everything that is there, also where a transaction of somebody else still keeps entries from being sealed."""

    async def work(database: Database) -> None:
        async with asyncio.timeout(60):
            while (progress := await audit_chain.seal(database)) is None or progress.sealed < progress.newest:
                pass

    with_database(settings, work)


def checkpoint(settings: Settings) -> dict[str, Head]:
    async def work(database: Database) -> dict[str, Head]:
        async with database.oversight() as connection:
            return await heads(connection)

    return with_database(_owner(settings), work)


def verified(settings: Settings, tenant: str, seen: dict[str, Head] | None = None) -> tuple[list[Break], list[str]]:
    """The breaks and the notes of this tenant."""

    async def work(database: Database) -> tuple[list[Break], list[str]]:
        async with database.oversight() as connection:
            walk = Walk(connection, seen or {}, tenant)
            return [each async for each in walk.breaks()], walk.notes

    return with_database(_owner(settings), work)


def breaks(settings: Settings, tenant: str, seen: dict[str, Head] | None = None) -> list[Break]:
    return verified(settings, tenant, seen)[0]


@contextmanager
def tampering(dsn: str) -> Iterator[psycopg.Connection]:
    """The owner of the tables, with all that protects the log switched off."""
    with psycopg.connect(dsn, autocommit=True) as owner:
        for table in TABLES:
            owner.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")
        owner.execute("ALTER TABLE audit_entries DISABLE TRIGGER guard")
        yield owner
        owner.execute("ALTER TABLE audit_entries ENABLE TRIGGER guard")
        for table in TABLES:
            owner.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")


def tampered(owner: psycopg.Connection, tenant: str, statements: str, column: str = "hash") -> None:
    """Statements may say {tenant}, and {first} to {fifth} for the ids of its entries."""
    rows = owner.execute("SELECT id FROM audit_entries WHERE tenant_id = %s ORDER BY id LIMIT 5", [tenant]).fetchall()
    names = dict(zip(("first", "second", "third", "fourth", "fifth"), (row[0] for row in rows), strict=False))
    owner.execute(statements.format(tenant=tenant, hash=column, **names))


def erase(connection: psycopg.Connection, entries: list[int], **details: str) -> int:
    """Erase the values of these entries of the connection's tenant, as the owner; returns the erasure's entry."""
    row = connection.execute("SELECT crm_erase_entries('customer', 1, %s, %s)", [Jsonb(details), entries]).fetchone()
    assert row is not None
    return int(row[0])


def _owner(settings: Settings) -> Settings:
    return replace(settings, database_url=settings.migration_dsn)


def forget_turns(settings: Settings, since: str = "2 minutes") -> None:
    """As if the upkeep was done last so long ago, and not by another test in this minute."""
    with psycopg.connect(settings.migration_dsn) as owner:
        then = "extract(epoch FROM now() - %s::interval)"
        owner.execute(f"UPDATE procrastinate_periodic_defers SET defer_timestamp = {then}", [since])
