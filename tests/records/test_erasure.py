"""Erasing values from the audit log: by an entry that says so, and in no other way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import errors, sql

from app.settings import Settings
from tests.callers import Caller
from tests.records.chains import breaks, erase, seal, tampering, verified

CANARY = "Unmistakable-7f3a"


@pytest.fixture
def session(settings: Settings, admin: Caller) -> Iterator[psycopg.Connection]:
    """A transaction of the tables' owner in the admin's tenant."""
    with psycopg.connect(settings.migration_dsn) as connection:
        enter(connection, admin)
        yield connection


def enter(connection: psycopg.Connection, admin: Caller) -> None:
    actor = '{"user_id": "7", "user_name": "Zoë", "ip_address": "203.0.113.9", "via": "api"}'
    connection.execute(
        "SELECT set_config('crm.tenant', %s, true), set_config('crm.actor', %s, true)", [admin.tenant, actor]
    )


def ids(entries: list[dict[str, Any]]) -> list[int]:
    return sorted(entry["id"] for entry in entries)


def test_erased_values_are_gone_and_the_entry_says_by_whom(
    session: psycopg.Connection, settings: Settings, admin: Caller
) -> None:
    customer = admin.customer(CANARY)
    admin.ok("PATCH", f"/admin/customers/{customer['id']}", {"name": f"{CANARY} again"})
    other = admin.customer("Bob")
    seal(settings)
    named = ids(admin.audit(resource_id=customer["id"], resource_type="customer"))
    erasure = erase(session, named, reason="asked for")
    session.commit()
    found, notes = verified(settings, admin.tenant)
    assert found == []
    assert f"entries {named[0]}, {named[1]} were erased by entry {erasure} ('Zoë', 20" in notes[0]
    assert notes[0].endswith(", which is not sealed yet")
    seal(settings)
    found, (note,) = verified(settings, admin.tenant)
    assert (found, note) == ([], notes[0].removesuffix(", which is not sealed yet"))
    assert CANARY not in str(admin.audit())
    entry = admin.ok("GET", f"/admin/audit/{erasure}")
    assert entry["new_values"] == {"reason": "asked for", "entries": named}
    assert (entry["action"], entry["user_id"], entry["ip_address"], entry["via"]) == ("erase", 7, "203.0.113.9", "api")
    (kept,) = admin.audit(resource_id=other["id"], resource_type="customer")
    assert kept["new_values"]["name"] == "Bob"
    with tampering(settings.migration_dsn) as owner:
        rows = owner.execute("SELECT salt, erased_by FROM audit_entries WHERE id = ANY (%s)", [named]).fetchall()
        assert rows == [(None, erasure)] * 2


def test_what_is_not_sealed_yet_is_erased_too(session: psycopg.Connection, settings: Settings, admin: Caller) -> None:
    admin.customer(CANARY)
    (entry,) = admin.audit()
    erase(session, [entry["id"]])
    session.commit()
    seal(settings)
    assert verified(settings, admin.tenant)[0] == []


def test_what_was_written_by_hand_without_digests_is_erased_too(
    session: psycopg.Connection, settings: Settings, admin: Caller
) -> None:
    admin.customer(CANARY)
    admin.customer(CANARY)
    with tampering(settings.migration_dsn) as owner:
        owner.execute(
            "UPDATE audit_entries SET salt = NULL, old_digest = NULL, new_digest = NULL WHERE tenant_id = %s",
            [admin.tenant],
        )
    first, second = ids(admin.audit())
    erase(session, [first])
    session.commit()
    seal(settings)
    assert breaks(settings, admin.tenant) == []
    with tampering(settings.migration_dsn) as owner:
        digests = owner.execute("SELECT new_digest IS NULL FROM audit_entries WHERE id = %s", [second]).fetchone()
        assert digests == (False,)


def test_an_erasure_names_what_it_erased_and_nothing_else(
    session: psycopg.Connection, settings: Settings, admin: Caller, stranger: Caller
) -> None:
    """Not what belongs to others, what has no values, and what says that something else was erased."""
    stranger.customer()
    admin.customer()
    (mine,), (foreign,) = ids(admin.audit()), ids(stranger.audit())
    first = erase(session, [mine])
    second = erase(session, [mine, foreign, first, 2**62, -1])
    session.commit()
    entries = {entry["id"]: entry["new_values"] for entry in admin.audit()}
    assert entries == {mine: None, first: {"entries": [mine]}, second: {"entries": []}}
    assert stranger.audit()[0]["new_values"]["name"]
    seal(settings)
    assert breaks(settings, admin.tenant) == breaks(settings, stranger.tenant) == []


def test_two_who_erase_the_same_do_not_stumble(session: psycopg.Connection, settings: Settings, admin: Caller) -> None:
    admin.customer()
    (mine,) = ids(admin.audit())
    with psycopg.connect(settings.migration_dsn) as other:
        enter(other, admin)
        first = erase(session, [mine])
        other.execute("SET LOCAL lock_timeout = '100ms'")
        with pytest.raises(errors.LockNotAvailable):
            erase(other, [mine])
        other.rollback()
        session.commit()
        enter(other, admin)
        second = erase(other, [mine])
        other.commit()
    entries = {entry["id"]: entry["new_values"] for entry in admin.audit()}
    assert entries == {mine: None, first: {"entries": [mine]}, second: {"entries": []}}


def test_very_many_at_once_are_refused(session: psycopg.Connection) -> None:
    with pytest.raises(errors.ProgramLimitExceeded):
        erase(session, list(range(10_001)))


@pytest.mark.parametrize(("tenant", "details"), [("", "{}"), ("acme", "[1]"), ("acme", "null"), ("acme", None)])
def test_an_erasure_is_of_a_tenant_and_its_details_are_an_object(
    tenant: str, details: str | None, session: psycopg.Connection
) -> None:
    session.execute("SELECT set_config('crm.tenant', %s, true)", [tenant])
    with pytest.raises(errors.InvalidParameterValue):
        session.execute("SELECT crm_erase_entries('customer', 1, %s, '{}')", [details])


@pytest.mark.parametrize("kind", ["audit_log", "customers", "", None])
def test_an_erasure_is_of_a_kind_of_record(kind: str | None, session: psycopg.Connection) -> None:
    with pytest.raises(errors.InvalidParameterValue):
        session.execute("SELECT crm_erase_entries(%s, 1, '{}', '{}')", [kind])


@pytest.mark.parametrize("removal", ["create", "audit_log", "", "erase "])
def test_a_removal_is_a_purge_or_an_erasure_and_else_a_deletion_with_values(
    removal: str, settings: Settings, admin: Caller
) -> None:
    tag = admin.ok("POST", "/admin/tags", {"name": CANARY})
    with psycopg.connect(settings.database_dsn) as login:
        enter(login, admin)
        login.execute("SET LOCAL ROLE crm_service")
        login.execute("SELECT set_config('crm.actor', %s, true)", [json.dumps({"removal": removal})])
        login.execute("DELETE FROM tags WHERE id = %s", [tag["id"]])
    entry = admin.audit(resource_type="tag", resource_id=tag["id"])[0]
    assert (entry["action"], entry["old_values"]["name"]) == ("delete", CANARY)


def test_an_entry_about_the_log_that_is_no_purge_claims_no_cut(settings: Settings, admin: Caller) -> None:
    with tampering(settings.migration_dsn) as owner:
        owner.execute("SELECT set_config('crm.tenant', %s, false)", [admin.tenant])
        owner.execute(
            "INSERT INTO audit_entries (tenant_id, resource_type, resource_id, action)"
            " VALUES (%s, 'audit_log', 1, 'erase')",
            [admin.tenant],
        )
    assert breaks(settings, admin.tenant) == []
    seal(settings)
    assert breaks(settings, admin.tenant) == []


EMPTY = "old_values = NULL, new_values = NULL, salt = NULL"
REFUSED = {
    "another value": "UPDATE audit_entries SET new_values = '{{}}' WHERE id = {first}",
    "the same number, written in another way": """
        UPDATE audit_entries SET new_values = jsonb_set(new_values, '{{contact_preferences,rate}}', '0.100')
        WHERE id = {first}""",
    "another user": "UPDATE audit_entries SET user_id = 'x' WHERE id = {first}",
    "another key": "UPDATE audit_entries SET id = DEFAULT WHERE id = {first}",
    "another digest": "UPDATE audit_entries SET new_digest = sha256('x') WHERE id = {first}",
    "no digest": "UPDATE audit_entries SET new_digest = NULL WHERE id = {first}",
    "another salt that fits": """
        UPDATE audit_entries SET salt = uuid_send(gen_random_uuid()), new_digest = crm_values_digest(salt, new_values)
        WHERE id = {first}""",
    "values emptied": f"UPDATE audit_entries SET {EMPTY} WHERE id = {{first}}",
    "values emptied, by an entry that says something else": f"""
        UPDATE audit_entries SET {EMPTY}, erased_by = {{first}} WHERE id = {{first}}""",
    "values emptied, by an erasure of another entry": f"""
        UPDATE audit_entries SET {EMPTY}, erased_by = {{erasure}} WHERE id = {{first}}""",
    "an erasure that leaves the salt": """
        UPDATE audit_entries SET old_values = NULL, new_values = NULL, erased_by = {erasure} WHERE id = {named}""",
    "an erasure that takes the digest": f"""
        UPDATE audit_entries SET {EMPTY}, new_digest = NULL, erased_by = {{erasure}} WHERE id = {{named}}""",
    "an erasure that changes the user": f"""
        UPDATE audit_entries SET {EMPTY}, user_id = 'x', erased_by = {{erasure}} WHERE id = {{named}}""",
    "an erasure undone": "UPDATE audit_entries SET erased_by = NULL WHERE id = {erased}",
    "an erasure by another entry": "UPDATE audit_entries SET erased_by = {erasure} WHERE id = {erased}",
}


@pytest.mark.parametrize("statement", REFUSED.values(), ids=REFUSED)
def test_no_entry_is_changed_in_another_way_even_by_the_owner(
    statement: str, session: psycopg.Connection, settings: Settings, admin: Caller
) -> None:
    for name in ("Ada", "Bob", "Cleo"):
        admin.customer(name, contact_preferences={"rate": 0.10})
    first, named, erased = ids(admin.audit())
    erase(session, [erased])
    erasure = erase(session, [named])
    session.commit()
    with psycopg.connect(settings.migration_dsn) as owner:
        enter(owner, admin)
        with tampering(settings.migration_dsn) as other:
            # As if the erasure had only been said.
            other.execute(
                "UPDATE audit_entries SET erased_by = NULL, new_values = '{}', salt = uuid_send(gen_random_uuid())"
                " WHERE id = %s",
                [named],
            )
        with pytest.raises(errors.InsufficientPrivilege, match="an audit entry is not changed"):
            owner.execute(statement.format(first=first, named=named, erased=erased, erasure=erasure))


def test_an_erasure_that_was_only_said_shows(session: psycopg.Connection, settings: Settings, admin: Caller) -> None:
    admin.customer("Ada", contact_preferences={"rate": 0.10})
    (mine,) = ids(admin.audit())
    erasure = erase(session, [mine])
    session.commit()
    for sealed in (False, True):
        if sealed:
            seal(settings)
        assert breaks(settings, admin.tenant) == []
        with tampering(settings.migration_dsn) as owner:
            owner.execute("UPDATE audit_entries SET erased_by = NULL WHERE id = %s", [mine])
            (found,) = breaks(settings, admin.tenant)
            owner.execute("UPDATE audit_entries SET erased_by = %s WHERE id = %s", [erasure, mine])
        assert found.entry_id in (mine, erasure)


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ('UPDATE audit_entries SET new_values = \'{{"name": "Eve"}}\' WHERE id = {mine}', "changed"),
        ("UPDATE audit_entries SET salt = '0123456789abcdef' WHERE id = {mine}", "changed"),
        ("UPDATE audit_entries SET erased_by = {other} WHERE id = {mine}", "does not say so"),
        ("UPDATE audit_entries SET resource_id = 99 WHERE id = {mine}", "changed"),
        ("UPDATE audit_entries SET new_values = '{{\"entries\": [1]}}' WHERE id = {erasure}", "does not say so"),
        ('UPDATE audit_entries SET new_values = \'{{"entries": "x"}}\' WHERE id = {erasure}', "does not say so"),
        ("UPDATE audit_entries SET new_values = '[1]' WHERE id = {erasure}", "does not say so"),
        ("DELETE FROM audit_entries WHERE id = {erasure}", "does not say so"),
        (
            f"""UPDATE audit_entries SET new_values = '{{{{"entries": [{{mine}}, {{other}}]}}}}' WHERE id = {{erasure}};
            UPDATE audit_entries SET {EMPTY}, erased_by = {{erasure}} WHERE id = {{other}}""",
            "changed",
        ),
    ],
)
def test_an_erasure_that_was_tampered_with_shows(
    statement: str, what: str, session: psycopg.Connection, settings: Settings, admin: Caller
) -> None:
    admin.customer("Ada")
    admin.customer("Bob")
    mine, other = ids(admin.audit())
    erasure = erase(session, [mine])
    session.commit()
    seal(settings)
    assert breaks(settings, admin.tenant) == []
    with tampering(settings.migration_dsn) as owner:
        owner.execute(sql.SQL(statement).format(mine=mine, other=other, erasure=erasure))
        (found,) = breaks(settings, admin.tenant)
        assert what in found.what, found
        owner.execute("DELETE FROM audit_seals WHERE tenant_id = %s", [admin.tenant])
