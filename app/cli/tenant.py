"""`crm tenant`: the organizations of this installation."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import click
import psycopg
from psycopg import sql

from app.access.actor import Actor
from app.access.permissions import Role
from app.admin.exports.archive import Archive
from app.admin.exports.service import LOG
from app.cli.environment import TenantName, data_dir_option, environment
from app.db.database import Database, Origin
from app.db.roles import SERVICE_ROLE, enter_tenant
from app.models import Base
from app.records.transaction import writing
from app.settings import Settings
from app.storage.objects import INCOMING, ObjectStore, new_key
from app.web.errors import AppError

NO_LIMIT = 2**31 - 1
LIST = "SELECT tenant_id, records, bytes FROM crm_measure_tenants(%s)"
IS_THERE = "SELECT FROM settings"
# Whoever adds up the reports' sums meanwhile would wait for these rows while this waits for theirs.
NOBODY_ADDS_UP = "SELECT pg_advisory_xact_lock(hashtextextended('crm_report_sums', 0))"
SHOWN = {
    "members": "SELECT count(*) FROM members WHERE is_active",
    "last seen": "SELECT to_char(max(last_seen_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI') FROM users",
    "records": "SELECT sum(rows) FROM record_counts WHERE crm_is_record(counted)",
    "bytes of files": "SELECT sum(rows) FROM record_counts WHERE counted = 'attachment_bytes'",
    "audit entries": "SELECT sum(rows) FROM record_counts WHERE counted = 'audit_entries'",
    "webhooks": "SELECT count(*) FROM webhooks",
    "jobs that wait": "SELECT count(*) FROM jobs WHERE finished_at IS NULL",
}
# Deleting writes counts and audit entries, which the next round deletes.
MOST_ROUNDS = 5
ACTOR = {"user_name": "crm tenant"}
tenant_argument = click.argument("name", type=TenantName())


@click.group()
def tenant() -> None:
    """The organizations of this installation.

    `erase` needs the login that owns the tables: MIGRATION_DATABASE_URL, or else DATABASE_URL. The others use the
    service's login.
    """


@tenant.command("list")
@data_dir_option
def list_tenants(data_dir: Path | None) -> None:
    """Print all organizations, the largest first: live records, bytes of files, name.

    \b
    Example:
      crm tenant list
    """
    with environment(data_dir) as env, psycopg.connect(env.settings.database_dsn) as connection:
        connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(SERVICE_ROLE)))
        for name, records, stored in connection.execute(LIST, [NO_LIMIT]):
            click.echo(f"{records:>12,}  {stored:>16,}  {name}")


@tenant.command()
@tenant_argument
@data_dir_option
def show(name: str, data_dir: Path | None) -> None:
    """Print what an organization has, and its limits.

    \b
    Example:
      crm tenant show acme
    """
    with environment(data_dir) as env, psycopg.connect(env.settings.database_dsn) as connection:
        enter_tenant(connection, name, ACTOR)
        _require(connection, name)
        limits = {"members": "members", "records": "records", "bytes of files": "bytes"}
        for what, query in SHOWN.items():
            ((value,),) = connection.execute(query).fetchall()
            most = env.settings.quotas.get(limits.get(what, ""))
            shown = value if isinstance(value, str) else f"{int(value or 0):,}"
            click.echo(f"{what:<16}{shown}" + (f" of {most:,}" if most else ""))


@tenant.command()
@tenant_argument
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@data_dir_option
def export(name: str, file: Path, data_dir: Path | None) -> None:
    """Write the archive of an organization into FILE: all its records, and the bytes of its attachments.

    It is the archive that an admin gets by POST /admin/exports, and `crm restore-export` puts it back.

    \b
    Example:
      crm tenant export acme acme.zip
    """
    with environment(data_dir, with_store=True) as env:
        with psycopg.connect(env.settings.database_dsn) as connection:
            enter_tenant(connection, name, ACTOR)
            _require(connection, name)
        unfinished = file.with_name(f"{file.name}.part")
        try:
            archive = asyncio.run(_export(env.settings, name, unfinished))
            unfinished.replace(file)
        finally:
            unfinished.unlink(missing_ok=True)
    click.echo(f"Wrote {file}: {archive.done} rows and files, {archive.missing} files were missing.")


async def _export(settings: Settings, name: str, file: Path) -> Archive:
    actor = Actor(user_id="crm tenant export", tenant_id=name, role=Role.ADMIN, name="crm tenant export")
    store = ObjectStore(settings)

    async def tell(_: int) -> None:
        """Nobody waits for news."""

    try:
        async with Database(settings) as database:
            with file.open("wb") as opened:
                archive = Archive(database, store, actor, opened, tell)
                await archive.make()
            async with writing(database, actor, Origin()) as tx:
                details = {"format": "zip", "rows": archive.counts}
                await tx.connection.execute(LOG, {"kind": "settings", "details": details})
    finally:
        store.close()
    return archive


@tenant.command()
@tenant_argument
@click.option("--yes", is_flag=True, help="Erase it, instead of only printing what would be erased.")
@data_dir_option
def erase(name: str, yes: bool, data_dir: Path | None) -> None:
    """Delete everything of an organization for good: its records, files, people and audit log.

    Let the CMS give out no more tokens for it first: its next request would make it anew. While one of its customers is
    on hold, nothing is deleted. Backups still have it: erase it again after the restore of one.

    \b
    Examples:
      crm tenant erase acme          # prints how many rows it has
      crm tenant erase acme --yes
    """
    with environment(data_dir, with_store=True) as env:
        with psycopg.connect(env.settings.migration_dsn) as connection:
            connection.execute(
                "SELECT set_config('crm.tenant', %s, false), set_config('crm.actor', %s, false)",
                [name, json.dumps(ACTOR)],
            )
            rows = _delete_all(connection, name)
            if not yes:
                connection.rollback()
        if not yes:
            click.echo(f"{name} has {rows} rows. Nothing was changed; --yes erases them, and its files.")
            return
        files = _remove_files(env.settings, name)
    click.echo(f"Erased {name}: {rows} rows and {files} files. Take a new checkpoint of the audit log.")


def _delete_all(connection: psycopg.Connection[Any], name: str) -> int:
    """Delete in one transaction; returns how many rows there were."""
    _require(connection, name)
    connection.execute(NOBODY_ADDS_UP)
    first = 0
    for number in range(MOST_ROUNDS):
        deleted = 0
        for table in reversed(Base.metadata.sorted_tables):
            statement = sql.SQL("DELETE FROM {} WHERE tenant_id = %s").format(sql.Identifier(table.name))
            try:
                deleted += connection.execute(statement, [name]).rowcount
            except psycopg.errors.CheckViolation as error:
                if error.diag.constraint_name != "held":
                    raise
                raise click.ClickException("One of its customers is on hold: nothing was erased") from None
        if number == 0:
            first = deleted
        if not deleted:
            return first
    raise click.ClickException("Something writes for it at this moment: nothing was erased")


def _remove_files(settings: Settings, name: str) -> int:
    store = ObjectStore(settings)
    if not store.configured:
        return 0
    folder = new_key(name).rpartition("/")[0]
    count = 0
    try:
        for stored in store.every_object():
            if stored.key.startswith((f"{folder}/", f"{INCOMING}/{folder}/")):
                store.remove(stored.key)
                count += 1
    except AppError as error:
        raise click.ClickException(
            f"Its rows are erased, and not all of its files ({error}): crm attachments sweep --delete does the rest"
        ) from None
    finally:
        store.close()
    return count


def _require(connection: psycopg.Connection[Any], name: str) -> None:
    if connection.execute(IS_THERE).fetchone() is None:
        raise click.ClickException(f"There is no organization {name!r}: crm tenant list names all")
