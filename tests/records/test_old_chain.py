"""A log that an older release wrote and sealed: its seals are of version 1, and are over the entries' values."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from msgspec.structs import replace

from app.db.migrations import Migrations
from app.records.audit_chain import Head
from app.settings import Settings
from migrations.describe import scratch_database
from tests.records.chains import TAMPERED, breaks, checkpoint, erase, seal, tampered, tampering, verified

OLD = "0002"
ACTOR = '{"user_id": "77", "user_name": "Zoë", "ip_address": "203.0.113.9"}'
NO_DIGESTS = "UPDATE audit_entries SET salt = NULL, old_digest = NULL, new_digest = NULL"
TENANT_OF = {how: f"tampered{number}" for number, how in enumerate(TAMPERED)}
WRITE = """
    INSERT INTO customers (tenant_id, name, contact_preferences)
    SELECT current_setting('crm.tenant'), name, '{"rate": 0.10, "ünicode": ["\u2028", 1000000000000000000000000000000]}'
    FROM unnest(ARRAY['Ada', 'Bob', 'Cleo', 'Dora']) AS name;
    UPDATE customers SET status = 'active' WHERE name = 'Dora' AND tenant_id = current_setting('crm.tenant');
"""


class Log:
    """A database whose log was sealed by the old function, five entries for each tenant, and then upgraded."""

    def __init__(self, settings: Settings, dsn: str) -> None:
        self.settings = replace(settings, database_url=dsn, migration_database_url=dsn)
        self.dsn = dsn
        self.seen: dict[str, Head] = {}

    def write(self, tenant: str) -> None:
        with psycopg.connect(self.dsn) as owner:
            owner.execute(
                "SELECT set_config('crm.tenant', %s, true), set_config('crm.actor', %s, true)", [tenant, ACTOR]
            )
            owner.execute(WRITE)


@contextmanager
def upgraded(settings: Settings) -> Iterator[Log]:
    with scratch_database(settings.migration_dsn) as dsn:
        log, migrations = Log(settings, dsn), Migrations(dsn, dsn)
        migrations.upgrade(OLD)
        for tenant in (*(TENANT_OF.values()), "switching", "erasing", "seen"):
            log.write(tenant)
        with psycopg.connect(dsn, autocommit=True) as owner:
            # As of before there were digests; those of some tenants have them, as if sealed between two upgrades.
            owner.execute("ALTER TABLE audit_entries NO FORCE ROW LEVEL SECURITY")
            owner.execute(f"{NO_DIGESTS} WHERE tenant_id NOT LIKE 'tampered%%0'")
            owner.execute("ALTER TABLE audit_entries FORCE ROW LEVEL SECURITY")
        seal(log.settings)
        with psycopg.connect(dsn) as owner:
            owner.execute("ALTER TABLE audit_seals NO FORCE ROW LEVEL SECURITY")
            rows = owner.execute("SELECT tenant_id, sequence, hash FROM audit_seals WHERE sequence = 5").fetchall()
            log.seen = {tenant: Head(sequence, hash_, 1) for tenant, sequence, hash_ in rows}
            owner.rollback()
        migrations.upgrade()
        yield log


@pytest.fixture(scope="module", params=["not sealed anew yet", "sealed anew"])
def log(request: pytest.FixtureRequest, settings: Settings) -> Iterator[Log]:
    with upgraded(settings) as log:
        if request.param == "sealed anew":
            seal(log.settings)
        yield log


@pytest.mark.parametrize("how", TAMPERED)
def test_the_first_entry_that_was_tampered_with_is_named(how: str, log: Log) -> None:
    (statements, sequence, what), tenant = TAMPERED[how], TENANT_OF[how]
    assert breaks(log.settings, tenant, log.seen) == []
    with tampering(log.dsn) as owner:
        tampered(owner, tenant, statements, "hash_v1")
    (found,) = breaks(log.settings, tenant, log.seen)
    assert (found.sequence, what in found.what) == (sequence, True), found


@pytest.mark.slow
def test_sealing_anew_hides_nothing(settings: Settings) -> None:
    with upgraded(settings) as log:
        with tampering(log.dsn) as owner:
            for how, (statements, _, _) in TAMPERED.items():
                tampered(owner, TENANT_OF[how], statements, "hash_v1")
        seal(log.settings)
        for how, (_, sequence, _) in TAMPERED.items():
            assert [found.sequence for found in breaks(log.settings, TENANT_OF[how])] == [sequence], how
        assert breaks(log.settings, "seen", log.seen) == []


def test_a_checkpoint_of_the_old_release_still_proves_something(log: Log) -> None:
    assert breaks(log.settings, "seen", log.seen) == []
    (found,) = breaks(log.settings, "seen", log.seen | {"seen": Head(5, bytes(32), 1)})
    assert (found.sequence, "written anew" in found.what) == (5, True)
    (found,) = breaks(log.settings, "seen", log.seen | {"seen": Head(6, bytes(32), 1)})
    assert (found.sequence, "cut" in found.what) == (6, True)


def test_values_are_erased_and_the_log_still_verifies(log: Log) -> None:
    """Whether they have their new seals already or get them afterwards."""
    tenant = "erasing"
    with psycopg.connect(log.dsn) as owner:
        owner.execute("SELECT set_config('crm.tenant', %s, true)", [tenant])
        ids = [row[0] for row in owner.execute("SELECT id FROM audit_entries ORDER BY id")]
        erasure = erase(owner, ids[1:3])
    for _ in range(2):
        found, notes = verified(log.settings, tenant, log.seen)
        assert found == []
        assert [f"entries {ids[1]}, {ids[2]} were erased by entry {erasure} (" in note for note in notes] == [True]
        seal(log.settings)


def test_where_version_2_took_over_is_covered_by_all_later_seals(log: Log) -> None:
    """The old seals can't be taken away, nor can the place of the switch be moved."""
    seal(log.settings)
    log.write("switching")
    seal(log.settings)
    assert breaks(log.settings, "switching", log.seen) == []
    sealed = checkpoint(log.settings)["switching"]
    assert (sealed.sequence, sealed.version) == (10, 2)
    with tampering(log.dsn) as owner:
        for statement, sequence, what in (
            ("SET hash_v1 = NULL WHERE sequence = 5", 5, "changed"),
            ("SET hash_v1 = sha256('x') WHERE sequence = 6", 6, "changed"),
            ("SET hash_v1 = sha256('x') WHERE sequence = 7", 7, "taken over"),
            ("SET hash_v1 = NULL WHERE sequence = 2", 2, "changed"),
            ("SET hash = NULL WHERE sequence = 3", 4, "seals of version 2 were deleted"),
            ("SET hash = NULL WHERE sequence = 8", 8, "changed"),
        ):
            before = owner.execute(
                "SELECT hash_v1, hash, sequence FROM audit_seals WHERE tenant_id = 'switching'"
            ).fetchall()
            owner.execute(f"UPDATE audit_seals {statement} AND tenant_id = 'switching'")
            (found,) = breaks(log.settings, "switching")
            assert (found.sequence, what in found.what) == (sequence, True), (statement, found)
            owner.cursor().executemany(
                "UPDATE audit_seals SET hash_v1 = %s, hash = %s WHERE tenant_id = 'switching' AND sequence = %s", before
            )
    assert breaks(log.settings, "switching") == []
