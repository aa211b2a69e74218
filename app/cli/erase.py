"""`crm erase`: the receipts of erasures, and erasing again after a restore."""

from __future__ import annotations

import json
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

import click
import msgspec
import psycopg
from psycopg import sql
from sqlalchemy import text

from app.cli.attachments import remove_objects
from app.cli.audit import with_database
from app.cli.environment import TenantName, data_dir_option, environment
from app.db.database import Database
from app.db.roles import SERVICE_ROLE
from app.records.erasure import Receipt, receipt_of
from app.records.resources import WITH_TRASH
from app.settings import Settings
from app.storage.objects import ObjectStore

RECEIPTS = text("""
    SELECT tenant_id, resource_type, resource_id, new_values, id, created_at, user_id, user_name FROM audit_entries
    WHERE action = 'erase' AND new_values ? 'reason' AND tenant_id = coalesce(:tenant, tenant_id) ORDER BY tenant_id, id
""")
TABLES = {resource.kind: resource.table.name for resource in WITH_TRASH}
NO_LIMIT = 2**31 - 1


@click.group()
def erase() -> None:
    """The receipts of erasures, and erasing again what the restore of an older backup brought back.

    `receipts` reads the logs of all organizations and needs the login that owns the tables (MIGRATION_DATABASE_URL, or
    else DATABASE_URL). `replay` uses the service's login.
    """


@erase.command()
@click.option("--tenant", type=TenantName(), help="Only of this organization.")
@data_dir_option
def receipts(tenant: str | None, data_dir: Path | None) -> None:
    """Print the receipts of all erasures in the log. Keep them apart from the backups of the database.

    \b
    Example:
      crm erase receipts > erased-2026-11-26.json
    """

    async def work(database: Database, settings: Settings) -> list[Receipt]:
        async with database.oversight() as connection:
            rows = (await connection.execute(RECEIPTS, {"tenant": tenant})).all()
        return [
            receipt_of(organization, kind, record_id, details, entry).signed(settings)
            for organization, kind, record_id, details, *entry in rows
        ]

    found = with_database(data_dir, work, oversight=True)
    click.echo(json.dumps(msgspec.to_builtins(found), indent=2, ensure_ascii=False))


@erase.command()
@click.argument("file", type=click.File("rb"))
@data_dir_option
@click.pass_context
def replay(ctx: click.Context, file: IO[bytes], data_dir: Path | None) -> None:
    """Erase again what the receipts in FILE say, after the restore of a backup that is older than they are.

    FILE is what `crm erase receipts` printed, or one receipt. What is gone already is left alone, and so is a newer
    record that has the same id. The exit code is 1 if something could not be erased.

    \b
    Example:
      crm erase replay erased-2026-11-26.json
    """
    with environment(data_dir, with_store=True) as env:
        found = _read(file.read(), env.settings)
        store = ObjectStore(env.settings)
        refused = 0
        with psycopg.connect(env.settings.database_dsn, autocommit=True) as connection:
            for receipt in found:
                try:
                    what = _again(connection, receipt)
                except psycopg.Error as error:
                    if connection.closed:
                        raise
                    on_hold = isinstance(error, psycopg.errors.CheckViolation)
                    what = "it is on hold now, and stays" if on_hold else f"not erased: {error.diag.message_primary}"
                    refused += 1
                click.echo(f"{receipt.type} {receipt.id} of {receipt.organization}: {what}")
            if store.configured:
                connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(SERVICE_ROLE)))
                remove_objects(connection, store)
        store.close()
    ctx.exit(1 if refused else 0)


def _read(raw: bytes, settings: Settings) -> list[Receipt]:
    """The receipts in a file, all of them signed."""
    try:
        found: list[Receipt] | Receipt = msgspec.json.decode(raw, type=list[Receipt] | Receipt)
    except msgspec.DecodeError:
        raise click.ClickException("The file holds no receipts") from None
    listed = found if isinstance(found, list) else [found]
    for receipt in listed:
        if receipt.type not in TABLES or not receipt.is_genuine(settings):
            raise click.ClickException(
                f"The receipt of {receipt.type} {receipt.id} was not signed with AUDIT_KEY or JWT_SECRET: nothing was"
                " erased"
            )
    return listed


def _again(connection: psycopg.Connection[Any], receipt: Receipt) -> str:
    """Erase in one transaction what a receipt says, and say what was done."""
    actor = {"user_name": "crm erase replay", "via": "job", "operation_id": str(uuid4())}
    with connection.transaction():
        connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(SERVICE_ROLE)))
        connection.execute(
            "SELECT set_config('crm.tenant', %s, true), set_config('crm.actor', %s, true)",
            [receipt.organization, json.dumps(actor)],
        )
        ((records, entries, erasure),) = connection.execute(
            "SELECT records, entries, erasure FROM crm_erase_record(%s, %s, %s, %s, %s, %s)",
            [TABLES[receipt.type], receipt.id, receipt.created_at, receipt.reason, NO_LIMIT, NO_LIMIT],
        ).fetchall()
        return "nothing to do" if erasure is None else f"erased again, {records} records and {entries} audit entries"
