"""Notes of operators' regular work, which monitors look at."""

from __future__ import annotations

import psycopg

from app.settings import Settings

NOTE = "SELECT crm_note_routine(%s)"


def note_routine(settings: Settings, name: str) -> None:
    """Note that a piece of regular work is done, as the login that owns the tables."""
    with psycopg.connect(settings.migration_dsn) as connection:
        connection.execute(NOTE, [name])
