"""Every statement of `crm identity` that somebody waits for finds its rows by an index."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import psycopg
import pytest
from sqlalchemy import Executable, Select, TextClause
from sqlalchemy.sql.dml import UpdateBase

from app.db.statements import compile_once
from app.identity.database import MIGRATIONS
from app.identity.pages import Listing

# What commands of operators ask, of everything there is.
OF_OPERATORS = {"users.queries.LIST", "organizations.queries.LIST", "organizations.queries.FIND_BY_NAME"}
OF_OPERATORS |= {"commands.EVENTS"}
OF_THE_CRM = {"organizations.queries.SHUT_OUT", "organizations.queries.LET_IN"}
DEAREST = 2_000  # of 5,000 people: as much as to read one organization of a thousand
STATEMENT = (Select, UpdateBase, TextClause)
FILL = """
    INSERT INTO users (email, email_folded, name)
        SELECT f, f, 'Somebody' FROM generate_series(1, 5000) AS n, concat(n, '@plans.example') AS f;
    CREATE TEMP TABLE people ON COMMIT DROP AS
        SELECT id, row_number() OVER () AS n FROM users WHERE email_folded LIKE '%@plans.example';
    INSERT INTO credentials (user_id, password_hash) SELECT id, '$argon2id$v=19$m=64,t=1,p=1$salt$hash' FROM people;
    INSERT INTO organizations (id, name, owner_id) SELECT 'plans-' || n, 'Engines', id FROM people;
    INSERT INTO memberships (organization_id, user_id, role) SELECT 'plans-' || n, id, 'admin' FROM people;
    INSERT INTO memberships (organization_id, user_id, role) SELECT 'plans-1', id, 'agent' FROM people WHERE n <= 1000
        ON CONFLICT DO NOTHING;
    INSERT INTO invitations (organization_id, email, email_folded, role, invited_by, secret_hash, expires_at)
        SELECT 'plans-' || n, 'a@b.example', 'a@b.example', 'agent', id, sha256(id::text::bytea),
            now() + interval '1 day' FROM people;
    INSERT INTO one_time_links (purpose, user_id, secret_hash, expires_at)
        SELECT 'verify_email', id, sha256(id::text::bytea), now() + interval '1 day' FROM people;
    INSERT INTO sessions (user_id, organization_id, expires_at)
        SELECT id, 'plans-' || n, now() + interval '1 day' FROM people, generate_series(1, 3);
    INSERT INTO refresh_tokens (session_id, token_hash)
        SELECT id, sha256(concat(id, n)::bytea) FROM sessions, generate_series(1, 3) AS n;
    INSERT INTO auth_events (kind, user_id, email, email_folded, network)
        SELECT 'logged_in', id, f, f, '10.0.0.' || n FROM people, concat(n, '@plans.example') AS f;
    INSERT INTO idempotency_keys (user_id, key, fingerprint, body) SELECT id, 'one', sha256(''), '{}' FROM people;
    INSERT INTO mails (kind, address, locale, status, finished_at)
        SELECT 'registered', n || '@plans.example', 'en', 'sent', now() FROM people;
    INSERT INTO refused_addresses (address_folded, answer) SELECT n || '@plans.example', 'no' FROM people;
    ANALYZE users, credentials, organizations, memberships, invitations, one_time_links, sessions, refresh_tokens,
        auth_events, idempotency_keys, mails, refused_addresses;
"""


def statements() -> Iterator[tuple[str, Executable]]:
    root = MIGRATIONS.parent
    for path in sorted(root.rglob("*.py")):
        if MIGRATIONS not in path.parents and path.name not in {"__init__.py", "models.py"}:
            yield from within(importlib.import_module(".".join(("app", "identity", *_parts(path, root)))))


def _parts(path: Path, root: Path) -> tuple[str, ...]:
    return path.relative_to(root).with_suffix("").parts


def within(module: ModuleType) -> Iterator[tuple[str, Executable]]:
    """The statements that this module has names for."""
    for name, value in vars(module).items():
        place = f"{module.__name__.removeprefix('app.identity.')}.{name}"
        if isinstance(value, Listing):
            yield from ((f"{place}.{each}", getattr(value, each)) for each in ("count", "by_page", "by_cursor"))
        elif isinstance(value, dict):
            yield from ((f"{place}.{key}", each) for key, each in value.items() if isinstance(each, STATEMENT))
        elif isinstance(value, STATEMENT) and name.isupper() and place not in OF_OPERATORS | OF_THE_CRM:
            yield place, value


STATEMENTS = dict(statements())


@pytest.fixture(scope="module")
def filled(identity_settings: Any) -> Iterator[psycopg.Connection]:
    """Five thousand people, who are gone afterwards."""
    with psycopg.connect(identity_settings.migration_dsn, options="-csearch_path=identity,pg_temp") as connection:
        connection.execute(FILL)
        connection.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        yield connection
        connection.rollback()


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from nodes(part)


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_statement_goes_through_no_table(name: str, filled: psycopg.Connection) -> None:
    text = compile_once(STATEMENTS[name]).sql
    count = max(map(int, re.findall(r"\$(\d+)", text)), default=0)
    given = f"({', '.join(['NULL'] * count)})" if count else ""
    with filled.transaction():
        filled.execute(f'PREPARE "{name}" AS {text}'.encode())
        ((plan,),) = filled.execute(f'EXPLAIN (FORMAT JSON) EXECUTE "{name}"{given}'.encode()).fetchone() or ((),)
    tables = [node["Relation Name"] for node in nodes(plan["Plan"]) if node["Node Type"] == "Seq Scan"]
    assert (tables, plan["Plan"]["Total Cost"] < DEAREST) == ([], True), plan


def test_they_are_all_looked_at() -> None:
    assert len(STATEMENTS) > 50
