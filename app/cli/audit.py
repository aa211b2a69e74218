"""`crm audit`: the audit log's chain of hashes, for all tenants."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TypeVar

import click
from msgspec.structs import replace
from psycopg.errors import InsufficientPrivilege

from app.cli.environment import Duration, TenantName, data_dir_option, environment
from app.cli.routines import note_routine
from app.db.database import Database
from app.records import audit_chain
from app.records.audit_chain import Head, Walk, heads
from app.records.signatures import CHECKPOINT, is_signed, sign
from app.settings import Settings
from app.web import strict_json
from app.web.errors import AppError

T = TypeVar("T")


def with_database(
    data_dir: Path | None, work: Callable[[Database, Settings], Awaitable[T]], *, oversight: bool = False
) -> T:
    """What the work returns. With `oversight`, it may read the logs of all organizations."""

    async def run(settings: Settings) -> T:
        connected = replace(settings, database_url=settings.migration_dsn) if oversight else settings
        try:
            async with Database(connected) as database:
                return await work(database, settings)
        except AppError as error:
            if oversight and isinstance(error.__cause__, InsufficientPrivilege):
                raise click.ClickException(
                    "This login can't read the logs of all organizations:"
                    " set MIGRATION_DATABASE_URL to the login that owns the tables"
                ) from error
            raise

    with environment(data_dir) as env:
        return asyncio.run(run(env.settings))


@click.group()
def audit() -> None:
    """Verify the audit log, which is sealed so that tampering shows.

    `seal` uses the service's login (DATABASE_URL). The other commands read the logs of all organizations and need the
    login that owns the tables (MIGRATION_DATABASE_URL, or else DATABASE_URL).
    """


@audit.command()
@click.option(
    "--wait", type=Duration(), default="60s", show_default=True, help="How long to wait for running transactions."
)
@data_dir_option
def seal(wait: int, data_dir: Path | None) -> None:
    """Seal all committed entries. A running service does this by itself every UPKEEP_SECONDS.

    \b
    Example:
      crm audit seal
    """

    async def work(database: Database, _: Settings) -> tuple[int, bool]:
        count, goal = 0, -1
        until = time.monotonic() + wait
        while time.monotonic() < until:
            progress = await audit_chain.seal(database)
            if progress is not None:
                count += progress.count
                goal = progress.newest if goal < 0 else goal
                if progress.sealed >= goal:
                    return count, True
            if progress is None or not progress.count:
                await asyncio.sleep(0.1)
        return count, False

    count, everything = with_database(data_dir, work)
    click.echo(f"Sealed {count} entries.")
    if not everything:
        raise click.ClickException("The others wait for a running transaction, or another process is sealing")


@audit.command()
@data_dir_option
def checkpoint(data_dir: Path | None) -> None:
    """Print a signed statement of where every chain stands. Keep it where administrators of the database can't write.

    It is signed with AUDIT_KEY, or else with a key derived from JWT_SECRET.

    \b
    Example:
      crm audit checkpoint > audit-2026-11-21.json
    """

    async def work(database: Database, settings: Settings) -> str:
        async with database.oversight() as connection:
            found = await heads(connection)
        body = {
            "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "heads": {
                tenant: {"sequence": head.sequence, "hash": head.hash.hex(), "version": head.version}
                for tenant, head in found.items()
            },
        }
        note_routine(settings, "checkpoint")
        return json.dumps(body | {"signature": sign(settings, CHECKPOINT, body)}, indent=2)

    click.echo(with_database(data_dir, work, oversight=True))


@audit.command()
@click.option("--checkpoint", "file", type=click.File("rb"), help="A file that `crm audit checkpoint` printed.")
@click.option("--tenant", type=TenantName(), help="Only this organization's.  [default: all of them]")
@data_dir_option
@click.pass_context
def verify(ctx: click.Context, file: IO[bytes] | None, tenant: str | None, data_dir: Path | None) -> None:
    """Check every chain, and print the first entry that does not fit, and what was erased or cut off by which entry.

    The exit code is 1 if entries were changed, deleted, inserted or reordered. Only a checkpoint shows that the end was
    cut off, or that all seals were computed again.

    \b
    Examples:
      crm audit verify
      crm audit verify --checkpoint audit-2026-11-21.json
      crm audit verify --tenant acme
    """

    async def work(database: Database, settings: Settings) -> tuple[list[str], list[str]]:
        seen = {} if file is None else _read_checkpoint(file.read(), settings)
        async with database.oversight() as connection:
            walk = Walk(connection, seen, tenant)
            breaks = [str(each) async for each in walk.breaks()]
        if tenant is not None and not (walk.entries or breaks):
            raise click.ClickException(f"The log of {tenant!r} has no sealed entries: is this the organization's name?")
        if tenant is None and not breaks:
            note_routine(settings, "verify")
        more = walk.noted - len(walk.notes)
        return breaks, [
            *walk.notes,
            *([f"… and {more} more erasures and cuts."] if more else []),
            f"{walk.entries} entries checked, {walk.waiting} not sealed yet.",
        ]

    breaks, report = with_database(data_dir, work, oversight=True)
    for line in (*breaks, *report):
        click.echo(line)
    if breaks:
        click.echo(f"TAMPERED WITH: {len(breaks)} of the tenants' logs", err=True)
        ctx.exit(1)
    click.echo("The audit log is intact.")


def _read_checkpoint(raw: bytes, settings: Settings) -> dict[str, Head]:
    try:
        body = strict_json.decode(raw)
        signature = body.pop("signature")
        signed = is_signed(settings, CHECKPOINT, body, signature)
        seen = {
            tenant: Head(head["sequence"], bytes.fromhex(head["hash"]), head.get("version", 1))
            for tenant, head in body["heads"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        raise click.ClickException("The file is not a checkpoint") from None
    if not signed:
        raise click.ClickException("The checkpoint was not signed with AUDIT_KEY or JWT_SECRET: it proves nothing")
    return seen
