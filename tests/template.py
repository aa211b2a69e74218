"""The server that all servers of tests begin as copies of: it is made and migrated once, and not by each of them."""

from __future__ import annotations

import fcntl
import hashlib
from pathlib import Path

import psycopg

from app.db.migrations import Migrations
from app.dev.postgres import DATABASE, OWNER, EmbeddedPostgres
from tests.processes import results_suffix

ROOT = Path(__file__).parents[1]
# A migrated database that nobody connects to: CREATE DATABASE … TEMPLATE makes another one of it in no time.
MIGRATED = "migrated"
# Whatever decides on what is in it.
MADE_BY = (
    "migrations/**/*.py",
    "migrations/**/*.sql",
    "migrations/*.txt",
    "app/db/*.py",
    "app/dev/postgres.py",
    "tests/template.py",
    "uv.lock",
)
# As long as nothing is noted, the upkeep is not late: a copy may be made much later than what it is a copy of.
START_ANEW = "DELETE FROM procrastinate_periodic_defers"


def template() -> Path:
    """Its data directory, which outlives a run, and is made anew when the migrations or the server are others."""
    home = ROOT / ".crm" / f"template{results_suffix()}"
    home.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    for path in sorted(path for pattern in MADE_BY for path in ROOT.glob(pattern)):
        digest.update(path.read_bytes())
    made_from, data = home / "made-from", home / "postgres"
    with (home / "template.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (data / "PG_VERSION").exists() or made_from.read_text() != digest.hexdigest():
            made_from.write_text("")
            EmbeddedPostgres(home).destroy()
            with EmbeddedPostgres(home, options=("fsync=off",)) as server:
                Migrations(server.dsn(user=OWNER), server.dsn()).upgrade()
                with psycopg.connect(server.dsn(user="postgres")) as connection:
                    connection.execute(START_ANEW)
                with psycopg.connect(server.dsn(user=OWNER, database="postgres"), autocommit=True) as connection:
                    connection.execute(f"CREATE DATABASE {MIGRATED} TEMPLATE {DATABASE} STRATEGY file_copy")
            made_from.write_text(digest.hexdigest())
    return data
