"""The audit log's chain: who tampers with it, as the tables' owner with all rights, is found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from app.records.audit_chain import BEFORE_THE_FIRST, Head, seal_hash
from app.settings import Settings
from tests.callers import Caller
from tests.records.chains import breaks, checkpoint, seal

TABLES = ("audit_entries", "audit_seals", "record_counts")


@pytest.fixture
def tamper(settings: Settings, admin: Caller) -> Iterator[Callable[[str], None]]:
    """Statements on the log of the admin's tenant, by the owner, with row-level security switched off.

    They may say {tenant}, and {first} to {fifth} for the ids of its entries.
    """
    with psycopg.connect(settings.migration_dsn, autocommit=True) as owner:
        for table in TABLES:
            owner.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")

        def run(statements: str) -> None:
            ids = sorted(entry["id"] for entry in admin.audit())
            names = dict(zip(("first", "second", "third", "fourth", "fifth"), ids, strict=False))
            owner.execute(statements.format(tenant=admin.tenant, **names))

        yield run
        for table in TABLES:
            owner.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")


def test_a_sealed_entry_shows_its_place_and_hash(five: list[dict[str, Any]], admin: Caller) -> None:
    assert [entry["sequence"] for entry in five] == [1, 2, 3, 4, 5]
    assert len({entry["hash"] for entry in five}) == 5
    assert all(len(bytes.fromhex(entry["hash"])) == 32 for entry in five)
    assert admin.ok("GET", f"/admin/audit/{five[2]['id']}") == five[2]


def test_an_entry_that_is_not_sealed_yet_shows_none(admin: Caller) -> None:
    admin.customer()
    (entry,) = admin.audit()
    assert (entry["sequence"], entry["hash"]) == (None, None)


def test_what_a_seal_is_over_stays_as_it_is() -> None:
    """Were this to change, no older seal would fit any more."""
    entry = {
        "id": 7,
        "resource_type": "customer",
        "resource_id": 3,
        "action": "update",
        "user_id": "77",
        "user_name": "Zoë",
        "user_role": "admin",
        "old_values": {"b": Decimal("0.10"), "a": None},
        "new_values": {"b": [1, {"z": True, "y": "\u2028"}], "a": 10**30},
        "ip_address": "203.0.113.9",
        "user_agent": None,
        "request_id": "r-1",
        "created_at": datetime(2026, 11, 21, 16, 0, 0, 5, timezone(timedelta(hours=1))),
    }
    expected = "e4dc00b57e40cba03265b432719371e201bfe10e75a9d1d5c298f3eb3d83b3ce"
    assert seal_hash(BEFORE_THE_FIRST, "acme", 1, entry).hex() == expected
    entry["created_at"] = datetime(2026, 11, 21, 15, 0, 0, 5, UTC)
    assert seal_hash(BEFORE_THE_FIRST, "acme", 1, entry).hex() == expected
    entry["old_values"] = {"b": Decimal("0.1"), "a": None}
    assert seal_hash(BEFORE_THE_FIRST, "acme", 1, entry).hex() != expected


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
        INSERT + "INSERT INTO audit_seals VALUES ('{tenant}', 99, -1, sha256('x'));",
        1,
        "the seal says 99",
    ),
    "a seal without an entry": (
        "INSERT INTO audit_seals VALUES ('{tenant}', 6, {fifth} + 1000000, sha256('x'));",
        6,
        "deleted",
    ),
    "a seal changed": ("UPDATE audit_seals SET hash = sha256('x') WHERE entry_id = {fourth}", 4, "changed"),
    "a seal deleted": ("DELETE FROM audit_seals WHERE entry_id = {second}", 2, "no seal"),
}


@pytest.mark.usefixtures("five")
@pytest.mark.parametrize(("statements", "sequence", "what"), TAMPERED.values(), ids=TAMPERED)
def test_the_first_entry_that_was_tampered_with_is_named(
    statements: str,
    sequence: int,
    what: str,
    tamper: Callable[[str], None],
    settings: Settings,
    admin: Caller,
) -> None:
    assert breaks(settings, admin.tenant) == []
    tamper(statements)
    (found,) = breaks(settings, admin.tenant)
    assert (found.sequence, what in found.what) == (sequence, True), found
    tamper("DELETE FROM audit_seals WHERE tenant_id = '{tenant}'")  # or sealing would go on after what was made up


CUT = """
    DELETE FROM audit_entries WHERE tenant_id = '{tenant}' AND id >= {fourth};
    DELETE FROM audit_seals WHERE tenant_id = '{tenant}' AND entry_id >= {fourth};
"""


def test_a_tail_that_was_cut_off_shows_against_a_checkpoint(
    five: list[dict[str, Any]], tamper: Callable[[str], None], settings: Settings, admin: Caller
) -> None:
    seen = checkpoint(settings)
    assert seen[admin.tenant] == Head(5, bytes.fromhex(five[4]["hash"]))
    assert breaks(settings, admin.tenant, seen) == []
    tamper(CUT)
    assert breaks(settings, admin.tenant) == []
    (found,) = breaks(settings, admin.tenant, seen)
    assert (found.sequence, "cut" in found.what) == (4, True)
    # What was cut can't be made up for.
    admin.customer("Eve")
    admin.customer("Eve")
    seal(settings)
    (found,) = breaks(settings, admin.tenant, seen)
    assert (found.sequence, "written anew" in found.what) == (5, True)


@pytest.mark.usefixtures("five")
def test_a_log_that_was_emptied_shows_against_a_checkpoint(
    tamper: Callable[[str], None], settings: Settings, admin: Caller
) -> None:
    seen = checkpoint(settings)
    tamper(CUT.replace("{fourth}", "{first}"))
    (found,) = breaks(settings, admin.tenant, seen)
    assert (found.sequence, "cut" in found.what) == (1, True)


@pytest.mark.usefixtures("five")
def test_a_chain_that_was_computed_anew_shows_against_a_checkpoint(
    tamper: Callable[[str], None], settings: Settings, admin: Caller
) -> None:
    seen = checkpoint(settings)
    tamper("""
        UPDATE audit_entries SET user_name = 'Somebody else' WHERE id = {second};
        DELETE FROM audit_seals WHERE entry_id >= {second};
    """)
    seal(settings)
    assert breaks(settings, admin.tenant) == []
    (found,) = breaks(settings, admin.tenant, seen)
    assert (found.sequence, "written anew" in found.what) == (5, True)


@pytest.mark.usefixtures("five")
def test_what_comes_after_a_checkpoint_is_no_break(settings: Settings, admin: Caller) -> None:
    seen = checkpoint(settings)
    admin.customer("Later")
    seal(settings)
    assert breaks(settings, admin.tenant, seen) == []
