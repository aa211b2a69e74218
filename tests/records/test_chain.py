"""The audit log's chain: who tampers with it, as the tables' owner with all rights, is found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from app.records.audit_chain import BEFORE_THE_FIRST, Head, seal_v1, seal_v2, values_digest
from app.settings import Settings
from tests.callers import Caller
from tests.records.chains import TAMPERED, TAMPERED_V2, breaks, checkpoint, seal, tampered, tampering


@pytest.fixture
def tamper(settings: Settings, admin: Caller) -> Iterator[Callable[[str], None]]:
    """Statements on the log of the admin's tenant."""
    with tampering(settings.migration_dsn) as owner:
        yield lambda statements: tampered(owner, admin.tenant, statements)


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
    assert seal_v1(BEFORE_THE_FIRST, "acme", 1, entry).hex() == expected
    entry["created_at"] = datetime(2026, 11, 21, 15, 0, 0, 5, UTC)
    assert seal_v1(BEFORE_THE_FIRST, "acme", 1, entry).hex() == expected
    entry["old_values"] = {"b": Decimal("0.1"), "a": None}
    assert seal_v1(BEFORE_THE_FIRST, "acme", 1, entry).hex() != expected


def test_what_a_seal_of_version_2_is_over_stays_as_it_is() -> None:
    entry = {
        "id": 7,
        "resource_type": "customer",
        "resource_id": 3,
        "action": "update",
        "version": 2,
        "operation_id": UUID("6f8bb0a3-17b7-4a3c-9d5e-7d6a4a3a2b1c"),
        "via": "api",
        "user_id": "77",
        "user_name": "Zoë",
        "user_role": "admin",
        "ip_address": "203.0.113.9",
        "user_agent": None,
        "request_id": "r-1",
        "created_at": datetime(2026, 11, 21, 16, 0, 0, 5, timezone(timedelta(hours=1))),
        "old_digest": None,
        "new_digest": values_digest(bytes(16), '{"name": "Zoë"}'),
    }
    expected = "be04d19ef374615d1665eb58bb6b92c6a51d334bbd6b810ee190185df85b1fcb"
    assert seal_v2(BEFORE_THE_FIRST, "acme", 1, entry, None).hex() == expected
    expected = "ac89f25719ed08c2a3d171d5ec8518d2be2f93daeb747641ee1bab0fb03be9cd"
    assert seal_v2(BEFORE_THE_FIRST, "acme", 1, entry, bytes(32)).hex() == expected


@pytest.mark.usefixtures("five")
@pytest.mark.parametrize(
    ("statements", "sequence", "what"), (TAMPERED | TAMPERED_V2).values(), ids=TAMPERED | TAMPERED_V2
)
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
