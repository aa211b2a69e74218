"""Databases of earlier releases."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TypeAlias

import psycopg
import pytest

from app.db.migrations import Migrations
from app.settings import Settings
from tests.conftest import renamed

AtRevision: TypeAlias = Callable[[str], tuple[Migrations, psycopg.Connection]]


@pytest.fixture
def at_revision(settings: Settings) -> Iterator[AtRevision]:
    """Makes a database of this revision; answers its migrations and its owner's session in the tenant acme."""
    with ExitStack() as databases:

        def make(revision: str) -> tuple[Migrations, psycopg.Connection]:
            name = f"crm_test_{secrets.token_hex(4)}"
            server = databases.enter_context(psycopg.connect(settings.migration_dsn, autocommit=True))
            server.execute(f'CREATE DATABASE "{name}"'.encode())
            databases.callback(server.execute, f'DROP DATABASE "{name}" WITH (FORCE)'.encode())
            dsn = renamed(settings.migration_dsn, name)
            migrations = Migrations(dsn, dsn)
            migrations.upgrade(revision)
            connection = databases.enter_context(psycopg.connect(dsn, autocommit=True))
            connection.execute("SELECT set_config('crm.tenant', 'acme', false)")
            return migrations, connection

        yield make
