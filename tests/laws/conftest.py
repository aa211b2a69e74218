from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from app.settings import Settings


@pytest.fixture
def catalog(settings: Settings) -> Iterator[psycopg.Connection]:
    """A session as the owner of the tables, to read their definitions."""
    with psycopg.connect(settings.migration_dsn, autocommit=True) as connection:
        yield connection
