"""A database as the Go service left it: GORM's tables, and data that nobody had checked."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import psycopg

from tests.conftest import renamed

TABLES = """
CREATE TABLE customers (
    id serial PRIMARY KEY, name text, email text, phone text, company text, role text, status text,
    assigned_to integer, contacted boolean, next_follow_up_at timestamptz, contact_preferences jsonb, notes text,
    created_at timestamptz, updated_at timestamptz, deleted_at timestamptz
);
CREATE TABLE contacts (
    id serial PRIMARY KEY, customer_id integer, first_name text, last_name text, email text, phone text, position text,
    is_primary boolean, notes text, created_at timestamptz, updated_at timestamptz, deleted_at timestamptz
);
CREATE TABLE pipeline_stages (
    id serial PRIMARY KEY, name text, display_name text, "order" integer, color text, is_active boolean,
    created_at timestamptz, updated_at timestamptz, deleted_at timestamptz
);
CREATE TABLE deals (
    id serial PRIMARY KEY, title text, description text, customer_id integer, contact_id integer, stage text,
    amount double precision, currency text, probability integer, expected_close_date timestamptz,
    actual_close_date timestamptz, owner_id integer, lost_reason text,
    created_at timestamptz, updated_at timestamptz, deleted_at timestamptz
);
CREATE TABLE activities (
    id serial PRIMARY KEY, title text, type text, description text, status text, customer_id integer, deal_id integer,
    contact_id integer, assigned_to integer, due_date timestamptz, completed_at timestamptz, duration integer,
    outcome text, priority text, created_at timestamptz, updated_at timestamptz, deleted_at timestamptz
);
CREATE TABLE notes (
    id serial PRIMARY KEY, content text, customer_id integer, deal_id integer, activity_id integer, author_id integer,
    author_name text, created_at timestamptz, updated_at timestamptz, deleted_at timestamptz
);
CREATE TABLE tags (
    id serial PRIMARY KEY, name text, color text,
    created_at timestamptz, updated_at timestamptz, deleted_at timestamptz
);
CREATE TABLE customer_tags (customer_id integer, tag_id integer, PRIMARY KEY (customer_id, tag_id));
CREATE TABLE audit_logs (id serial PRIMARY KEY, action text);
-- The CMS's own, in the same database.
CREATE TABLE users (id serial PRIMARY KEY, email text, password_hash text);
"""
MADE = datetime(2024, 3, 1, 9, 30, tzinfo=UTC)
CHANGED = datetime(2024, 5, 2, 10, 0, 0, 123456, tzinfo=UTC)
GONE = datetime(2024, 6, 3, 11, 0, 0, 654321, tzinfo=UTC)


class GoService:
    """Its database. Rows are made and changed a minute before they were deleted, unless something else is said."""

    def __init__(self, dsn: str, connection: psycopg.Connection[Any]) -> None:
        self.dsn = dsn
        self._connection = connection

    def add(self, table: str, row_id: int, /, **values: Any) -> int:
        """A row; a value that is text may be a literal of SQL's types, such as a time BC."""
        row = {"id": row_id, "created_at": MADE, "updated_at": CHANGED} | values
        columns = ", ".join(f'"{name}"' for name in row)
        self._connection.execute(
            f"INSERT INTO {table} ({columns}) VALUES ({', '.join('%s' for _ in row)})", [*row.values()]
        )
        return row_id

    def execute(self, statement: str, *parameters: Any) -> None:
        """Any statement."""
        self._connection.execute(statement, parameters or None)

    def columns(self, table: str) -> dict[str, str]:
        """A table's columns and their types."""
        columns = "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = %s"
        return dict(self._connection.execute(columns, [table]).fetchall())

    def stages(self) -> None:
        """The six stages that each Go service had."""
        names = "prospecting qualification proposal negotiation closed_won closed_lost".split()
        for place, name in enumerate(names, 1):
            self.add("pipeline_stages", place + 10, name=name, display_name=name.title(), order=place, is_active=True)


@contextmanager
def go_service(server_dsn: str) -> Iterator[GoService]:
    """An empty one on this server, gone afterwards."""
    name = f"go_{secrets.token_hex(4)}"
    with psycopg.connect(server_dsn, autocommit=True) as server:
        server.execute(f'CREATE DATABASE "{name}"')
        try:
            dsn = renamed(server_dsn, name)
            with psycopg.connect(dsn, autocommit=True) as connection:
                connection.execute(TABLES)
                yield GoService(dsn, connection)
        finally:
            server.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
