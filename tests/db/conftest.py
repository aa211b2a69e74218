"""A database of this release, and the migrations of the next one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TypeAlias

import psycopg
import pytest

from app.db.migrations import CRM, Migrations
from app.settings import Settings
from migrations.describe import scratch_database
from tests.next_release import with_next

NextRelease: TypeAlias = Callable[[str], tuple[Migrations, psycopg.Connection]]


@pytest.fixture
def next_release(settings: Settings, tmp_path: Path) -> Iterator[NextRelease]:
    """Answers the migrations of the next release, and the owner's session in the tenant acme."""
    with ExitStack() as databases:

        def make(body: str) -> tuple[Migrations, psycopg.Connection]:
            dsn = databases.enter_context(scratch_database(settings.migration_dsn))
            Migrations(dsn, dsn).upgrade()
            connection = databases.enter_context(psycopg.connect(dsn, autocommit=True))
            connection.execute("SELECT set_config('crm.tenant', 'acme', false)")
            return Migrations(dsn, dsn, line=CRM._replace(folder=with_next(tmp_path, body))), connection

        yield make
