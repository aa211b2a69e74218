"""Deleting the oldest part of the audit log, for who does not want to keep it."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
import pytest

from app.db.database import Database
from app.records import audit_chain
from app.records.audit_chain import Head
from app.records.maintenance import Attempts, Sealing, Step, Upkeep
from app.settings import Settings
from tests.callers import Caller
from tests.processes import wait_until
from tests.records.chains import breaks, checkpoint, erase, forget_turns, seal, tampering, verified, with_database

FIVE = ("Ada", "Bob", "Cleo", "Dora", "Emil")


@pytest.fixture
def old(settings: Settings, admin: Caller) -> list[dict[str, Any]]:
    """Five sealed entries, oldest first: the first three are older than they are kept."""
    seal(settings)
    cut(settings)  # what other tests left
    for name in FIVE:
        admin.customer(name)
    admin.ok("PUT", "/admin/settings", {"audit_days": 365})
    grow_old(settings, [entry["id"] for entry in admin.audit(resource_type="customer")[2:]])
    seal(settings)
    return admin.audit(resource_type="customer")[::-1]


def grow_old(settings: Settings, entries: list[int]) -> None:
    with tampering(settings.migration_dsn) as owner:
        owner.execute(
            "UPDATE audit_entries SET created_at = now() - interval '366 days' WHERE id = ANY (%s)", [entries]
        )


def cut(settings: Settings) -> int:
    """Everything that is due; returns how many entries."""
    total = 0
    while deleted := with_database(settings, audit_chain.cut):
        total += deleted
    return total


def sequences(admin: Caller) -> list[int | None]:
    return [entry["sequence"] for entry in admin.audit()[::-1]]


@pytest.mark.slow
def test_what_is_older_than_it_is_kept_is_cut_off_and_the_log_says_so(
    old: list[dict[str, Any]], settings: Settings, admin: Caller, stranger: Caller
) -> None:
    stranger.customer()
    grow_old(settings, [stranger.audit()[0]["id"]])
    seal(settings)
    assert cut(settings) == 3
    assert cut(settings) == 0
    assert sequences(admin) == [4, 5, 6, None]
    assert len(stranger.audit()) == 1
    entry = admin.audit()[0]
    assert (entry["resource_type"], entry["action"], entry["via"]) == ("audit_log", "purge", "job")
    assert entry["resource_id"] == entry["new_values"]["entry_id"] == old[2]["id"]
    assert (entry["new_values"]["sequence"], entry["new_values"]["hash"]) == (3, old[2]["hash"])
    found, (note,) = verified(settings, admin.tenant)
    assert found == []
    line = f"{admin.tenant}: entries up to {old[2]['id']} (sequence 3) were cut off by entry {entry['id']} (20"
    assert note.startswith(line)
    assert note.endswith(", which is not sealed yet")
    seal(settings)
    found, (sealed_note,) = verified(settings, admin.tenant)
    assert (found, sealed_note) == ([], note.removesuffix(", which is not sealed yet"))
    assert admin.ok("GET", "/admin/audit", resource_type="customer,audit_log")["total"] == 3


def test_the_chain_goes_on_after_everything_was_cut(settings: Settings, admin: Caller) -> None:
    admin.customer()
    admin.ok("PUT", "/admin/settings", {"audit_days": 365})
    grow_old(settings, [entry["id"] for entry in admin.audit()])
    seal(settings)
    seen = checkpoint(settings)
    assert cut(settings) == 2
    assert breaks(settings, admin.tenant, seen) == []
    seal(settings)
    assert sequences(admin) == [3]
    assert breaks(settings, admin.tenant, seen) == []
    # Of a log in which nothing happens, only the entry about the last cut is left.
    grow_old(settings, [entry["id"] for entry in admin.audit()])
    assert cut(settings) == 0


def test_a_second_cut_takes_the_place_of_the_first(
    old: list[dict[str, Any]], settings: Settings, admin: Caller
) -> None:
    cut(settings)
    seal(settings)
    grow_old(settings, [old[3]["id"]])
    with tampering(settings.migration_dsn) as owner:
        owner.execute("DELETE FROM audit_seals WHERE tenant_id = %s AND sequence > 3", [admin.tenant])
    seal(settings)
    assert cut(settings) == 1
    seal(settings)
    found, (note,) = verified(settings, admin.tenant)
    assert found == []
    assert f"up to {old[3]['id']} (sequence 4)" in note


@pytest.mark.usefixtures("old")
def test_the_service_cuts_by_itself(settings: Settings, admin: Caller) -> None:
    async def work(database: Database) -> None:
        running = [asyncio.ensure_future(each.run()) for each in (Upkeep(database), Sealing(database, 0.01))]
        await asyncio.to_thread(wait_until, lambda: sequences(admin) == [4, 5, 6, 7], "the cut, sealed")
        for each in running:
            each.cancel()

    forget_turns(settings)
    with_database(settings, work)


def test_what_is_not_sealed_is_not_cut(settings: Settings, admin: Caller) -> None:
    admin.ok("PUT", "/admin/settings", {"audit_days": 365})
    admin.customer()
    grow_old(settings, [entry["id"] for entry in admin.audit()])
    assert cut(settings) == 0
    assert len(admin.audit()) == 2


def test_a_cut_is_made_over_several_calls_and_holds_from_the_first(
    old: list[dict[str, Any]], service_connection: psycopg.Connection, settings: Settings, admin: Caller
) -> None:
    for _ in range(3):
        assert service_connection.execute("SELECT crm_cut_audit(1)").fetchone() == (1,)
        assert breaks(settings, admin.tenant) == []
        service_connection.execute("SELECT set_config('crm.tenant', %s, false)", [admin.tenant])
        cut_at = service_connection.execute("SELECT entry_id, sequence FROM audit_cuts").fetchall()
        assert cut_at == [(old[2]["id"], 3)]
        seal(settings)
        assert breaks(settings, admin.tenant) == []
    assert service_connection.execute("SELECT crm_cut_audit(1)").fetchone() == (0,)


def write(settings: Settings, tenant: str, count: int, age: str) -> None:
    """So many entries of this age, sealed."""
    with tampering(settings.migration_dsn) as owner:
        owner.execute(
            """INSERT INTO audit_entries (tenant_id, resource_type, resource_id, action, created_at)
               SELECT %s, 'customer', n, 'update', now() - %s::interval FROM generate_series(1, %s) AS n""",
            [tenant, age, count],
        )
    seal(settings)


def cut_reading(service: psycopg.Connection, most: int) -> tuple[int, int]:
    """How many entries one call deletes, and how many entries of the log's indexes it comes across."""
    with service.transaction():
        (before,) = service.execute(READ).fetchone() or (0,)
        (deleted,) = service.execute("SELECT crm_cut_audit(%s)", [most]).fetchone() or (0,)
        (after,) = service.execute(READ).fetchone() or (0,)
    return deleted, int(after - before)


READ = """
    SELECT sum(pg_stat_get_xact_tuples_returned(indexrelid)) FROM pg_index
    WHERE indrelid IN ('audit_entries'::regclass, 'audit_seals'::regclass)
"""


def test_a_cut_reads_no_more_of_the_log_than_it_may_delete(
    service_connection: psycopg.Connection, settings: Settings, admin: Caller
) -> None:
    admin.ok("PUT", "/admin/settings", {"audit_days": 365})
    write(settings, admin.tenant, 2_000, "1 day")
    # What an earlier cut left, which alone is not worth another one.
    with tampering(settings.migration_dsn) as owner:
        owner.execute(
            """UPDATE audit_entries SET resource_type = 'audit_log', created_at = now() - interval '400 days'
               WHERE id = (SELECT min(id) FROM audit_entries WHERE tenant_id = %s)""",
            [admin.tenant],
        )
    cut(settings)
    deleted, read = cut_reading(service_connection, 5_000)
    assert deleted == 0
    assert read < 1_000


def test_a_cut_goes_on_where_it_stopped_though_what_is_deleted_may_still_be_seen(
    service_connection: psycopg.Connection, settings: Settings, admin: Caller
) -> None:
    write(settings, admin.tenant, 1_000, "400 days")
    admin.ok("PUT", "/admin/settings", {"audit_days": 365})
    seal(settings)
    with psycopg.connect(settings.migration_dsn) as reader:
        reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        reader.execute("SELECT")
        assert cut_reading(service_connection, 900)[0] == 900
        deleted, read = cut_reading(service_connection, 10)
    assert deleted == 10
    assert read < 500
    cut(settings)
    assert breaks(settings, admin.tenant) == []


def test_who_seals_does_not_wait_for_a_cut_and_two_do_not_cut_at_once(
    service_connection: psycopg.Connection, settings: Settings, admin: Caller
) -> None:
    """A cut of everything, so that the next seal is the first one after it."""
    seal(settings)
    cut(settings)  # what other tests left
    write(settings, admin.tenant, 3, "400 days")
    admin.ok("PUT", "/admin/settings", {"audit_days": 365})
    seal(settings)
    grow_old(settings, [entry["id"] for entry in admin.audit()])
    admin.customer()
    with psycopg.connect(settings.database_url, autocommit=True) as other:
        # The entry is complete, and not sealed yet.
        for _ in range(2):
            other.execute("SELECT crm_seal_audit(0)")
        with service_connection.transaction():
            assert service_connection.execute("SELECT crm_cut_audit(1000)").fetchone() == (4,)
            assert other.execute("SELECT crm_cut_audit(1000)").fetchone() == (0,)
            assert other.execute("SELECT count FROM crm_seal_audit(1000)").fetchone() == (1,)
    assert sequences(admin) == [5, None]
    seal(settings)
    assert sequences(admin) == [5, 6]
    assert breaks(settings, admin.tenant) == []


def test_a_step_of_the_upkeep_that_has_more_to_do_leaves_the_others_their_turn() -> None:
    done: list[int] = []

    async def work() -> int:
        done.append(1)
        return 1

    assert asyncio.run(Attempts(longest=0).make("endless", Step(work, 1)))
    assert len(done) == 1


def test_erased_entries_and_their_erasure_may_be_cut(
    old: list[dict[str, Any]], settings: Settings, admin: Caller
) -> None:
    with psycopg.connect(settings.migration_dsn) as owner:
        owner.execute("SELECT set_config('crm.tenant', %s, true)", [admin.tenant])
        erasure = erase(owner, [old[0]["id"], old[4]["id"]])
    seal(settings)
    assert cut(settings) == 3
    seal(settings)
    found, notes = verified(settings, admin.tenant)
    assert found == []
    assert any(f"entries {old[0]['id']}, {old[4]['id']} were erased by entry {erasure}" in note for note in notes)


def test_a_checkpoint_knows_the_seal_at_the_cut_and_refuses_one_that_goes_further(
    old: list[dict[str, Any]], settings: Settings, admin: Caller
) -> None:
    cut(settings)
    seal(settings)
    at_the_cut = Head(3, bytes.fromhex(old[2]["hash"]))
    assert breaks(settings, admin.tenant, {admin.tenant: at_the_cut}) == []
    (found,) = breaks(settings, admin.tenant, {admin.tenant: Head(3, bytes(32))})
    assert "written anew" in found.what
    (found,) = breaks(settings, admin.tenant, {admin.tenant: Head(2, bytes.fromhex(old[1]["hash"]))})
    assert "take a newer checkpoint" in found.what


CUT_BY_HAND = """
    DELETE FROM audit_entries WHERE tenant_id = '{tenant}' AND id <= {fourth};
    INSERT INTO audit_cuts (tenant_id, sequence, entry_id, hash, hash_v1, until)
    SELECT tenant_id, sequence, entry_id, hash, hash_v1, now() FROM audit_seals WHERE entry_id = {fourth}
    ON CONFLICT (tenant_id) DO UPDATE SET (sequence, entry_id, hash) = (
        EXCLUDED.sequence, EXCLUDED.entry_id, EXCLUDED.hash);
    DELETE FROM audit_seals WHERE tenant_id = '{tenant}' AND entry_id <= {fourth};
"""


@pytest.mark.parametrize("before", [False, True], ids=["no cut", "a cut"])
def test_a_cut_by_hand_shows(before: bool, old: list[dict[str, Any]], settings: Settings, admin: Caller) -> None:
    if before:
        cut(settings)
        seal(settings)
    assert breaks(settings, admin.tenant) == []
    with tampering(settings.migration_dsn) as owner:
        owner.execute(CUT_BY_HAND.format(tenant=admin.tenant, fourth=old[3]["id"]))
    (found,) = breaks(settings, admin.tenant)
    assert (found.sequence, found.what) == (4, "the beginning of the log was cut off, and no entry says so")


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("UPDATE audit_cuts SET hash = sha256('x')", "changed"),
        ("UPDATE audit_cuts SET hash_v1 = sha256('x')", "another place"),
        ("UPDATE audit_cuts SET sequence = 2", "the seal says 4"),
        ("UPDATE audit_cuts SET entry_id = entry_id - 1", "another place"),
        ("UPDATE audit_cuts SET sequence = 4, entry_id = {fourth}", "changed"),
        ("DELETE FROM audit_cuts", "the seal says 4"),
        ("DELETE FROM audit_entries WHERE id = {fourth}; DELETE FROM audit_seals WHERE entry_id = {fourth}", "says 5"),
        ("UPDATE audit_entries SET user_id = 'x' WHERE id = {fourth}", "changed"),
    ],
)
def test_a_cut_that_was_tampered_with_shows(
    statement: str, what: str, old: list[dict[str, Any]], settings: Settings, admin: Caller
) -> None:
    cut(settings)
    seal(settings)
    assert breaks(settings, admin.tenant) == []
    changes, where = statement.format(fourth=old[3]["id"]), f" WHERE tenant_id = '{admin.tenant}'"
    with tampering(settings.migration_dsn) as owner:
        owner.execute(changes if " WHERE " in changes else changes + where)
        (found,) = breaks(settings, admin.tenant)
        owner.execute("DELETE FROM audit_seals WHERE tenant_id = %s", [admin.tenant])
    assert what in found.what, found


@pytest.mark.usefixtures("old")
def test_a_log_that_is_verified_while_it_is_cut_is_intact(
    settings: Settings, admin: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Entries vanish under the walk."""
    first_break = audit_chain.Walk._first_break

    async def meanwhile(self: Any, *arguments: Any) -> Any:
        if arguments[0] == admin.tenant and arguments[2].sequence == 0:
            await asyncio.to_thread(cut, settings)
        return await first_break(self, *arguments)

    monkeypatch.setattr(audit_chain.Walk, "_first_break", meanwhile)
    assert breaks(settings, admin.tenant) == []
    assert sequences(admin) == [4, 5, 6, None]
