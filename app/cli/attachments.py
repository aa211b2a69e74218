"""`crm attachments`: comparing the object store with the database, for all tenants."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import click
import psycopg

from app.cli.environment import Duration, data_dir_option, environment
from app.cli.routines import NOTE
from app.storage.objects import ObjectStore

# The keys of our objects; other objects in the bucket are left alone.
OURS = re.compile(r"(incoming/)?(~[0-9a-f]{64}|[A-Za-z0-9_-]{1,64})/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

TABLES = """
CREATE TEMP TABLE listed (key text PRIMARY KEY, size bigint, modified timestamptz);
CREATE TEMP TABLE kept (kind text, tenant text, record_id bigint, key text, since timestamptz, live boolean);
"""
ORPHANS = """
SELECT key, size FROM listed WHERE modified < %s AND NOT EXISTS (SELECT FROM kept WHERE kept.key = listed.key)
ORDER BY key
"""
# Only live attachments: what is in the trash may be purged already.
MISSING = """
SELECT tenant, record_id FROM kept
WHERE kind = 'attachment' AND live AND since < %s AND NOT EXISTS (SELECT FROM listed WHERE listed.key = kept.key)
ORDER BY tenant, record_id
"""
STALE = "SELECT tenant, record_id, key FROM kept WHERE kind = 'upload' AND since < %s ORDER BY tenant, record_id"


class Work(NamedTuple):
    """A connection as the tables' owner, and the object store."""

    connection: psycopg.Connection[Any]
    store: ObjectStore


@contextmanager
def _work(data_dir: Path | None, name: str) -> Iterator[Work]:
    with environment(data_dir, with_store=True) as env:
        store = ObjectStore(env.settings)
        with psycopg.connect(env.settings.migration_dsn, autocommit=True) as connection:
            actor = json.dumps({"user_name": f"crm attachments {name}"})
            connection.execute("SELECT set_config('crm.actor', %s, false)", [actor])
            yield Work(connection, store)


@click.group()
def attachments() -> None:
    """Compare the object store with the database, and clean up.

    They need the login that owns the tables: MIGRATION_DATABASE_URL, or else DATABASE_URL; and the S3 settings.
    """


@attachments.command()
@click.option("--older-than", "age", type=Duration(), default="1h", show_default=True, help="Ignore what is younger.")
@click.option("--delete", is_flag=True, help="Clean up, instead of only printing what was found.")
@data_dir_option
def sweep(age: int, delete: bool, data_dir: Path | None) -> None:
    """Find what interrupted uploads and lost files left behind.

    With --delete, objects without a row and uploads that were never completed are deleted. An attachment whose object
    is missing goes into the trash, from where it can be restored if the object is found again.

    \b
    Example:
      crm attachments sweep
      crm attachments sweep --delete
    """
    with _work(data_dir, "sweep") as work:
        before = datetime.now(UTC) - timedelta(seconds=age)
        _compare(work)
        orphans, missing, stale = (
            work.connection.execute(query, [before]).fetchall() for query in (ORPHANS, MISSING, STALE)
        )
        for key, size in orphans:
            click.echo(f"object without a row: {key} ({size} bytes)")
        for tenant, record_id in missing:
            click.echo(f"attachment without its object: {record_id} of {tenant}")
        for tenant, record_id, _ in stale:
            click.echo(f"upload never completed: {record_id} of {tenant}")
        if delete:
            for key, _ in orphans:
                work.store.remove(key)
            for row in missing:
                work.connection.execute("SELECT crm_trash_attachment(%s, %s)", row)
            for tenant, record_id, key in stale:
                work.connection.execute("SELECT crm_delete_upload(%s, %s)", [tenant, record_id])
                work.store.remove(key)
            work.connection.execute(NOTE, ["sweep"])
        what = f"{len(orphans)} objects, {len(missing)} attachments, {len(stale)} uploads"
        click.echo(f"Cleaned up: {what}." if delete else f"Found: {what}. Nothing was changed; --delete does it.")


@attachments.command()
@click.option("--older-than", "age", type=Duration(), required=True, help="How long it was in the trash, such as 30d.")
@data_dir_option
def purge(age: int, data_dir: Path | None) -> None:
    """Delete what is in the trash, for good.

    \b
    Example:
      crm attachments purge --older-than 30d
    """
    with _work(data_dir, "purge") as work:
        before = datetime.now(UTC) - timedelta(seconds=age)
        ((count,),) = work.connection.execute("SELECT crm_purge_attachments(%s)", [before]).fetchall()
        remove_objects(work.connection, work.store)
        work.connection.execute(NOTE, ["purge"])
        click.echo(f"Deleted for good: {count} attachments.")


def remove_objects(connection: psycopg.Connection[Any], store: ObjectStore) -> None:
    """Delete the objects in the store whose rows are gone."""
    while True:
        keys = [key for (key,) in connection.execute("SELECT crm_list_removed_objects(1000)")]
        for key in keys:
            store.remove(key)
        ((forgotten,),) = connection.execute("SELECT crm_forget_removed_objects(%s)", [keys]).fetchall()
        if not forgotten:
            return


def _compare(work: Work) -> None:
    """Load both lists. The store's comes first, so that files that arrive meanwhile have their rows in the other."""
    work.connection.execute(TABLES)
    with work.connection.cursor() as cursor, cursor.copy("COPY listed FROM STDIN") as rows:
        for stored in work.store.every_object():
            if OURS.fullmatch(stored.key):
                rows.write_row(stored)
    work.connection.execute("INSERT INTO kept SELECT * FROM crm_list_stored_files()")
