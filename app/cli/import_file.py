"""`crm import`: make records of a file's rows, from the command line."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import click
from msgspec import to_builtins
from sqlalchemy import func, select

from app.access.actor import Actor
from app.access.permissions import Role
from app.admin.imports import queries, service, work
from app.admin.imports.found import PROBLEMS, why
from app.admin.imports.plans import ImportPlan, ImportRun
from app.admin.imports.schemas import Import, ImportKind
from app.background import job_kinds
from app.cli.environment import TenantName, data_dir_option, environment
from app.db.database import Database, Origin
from app.files.unpack import unpacked
from app.jobs.worker import JobWorker
from app.models import Job, User
from app.records.transaction import Transaction, reading, writing
from app.settings import Settings
from app.storage.objects import ObjectStore, new_key
from app.tasks import beside
from app.web.input import read_again

POLL_SECONDS = 0.2
MOST_SHOWN = 10
user, job = User.__table__.c, Job.__table__.c
PERSON = select(user.id, user.name, user.email, user.role)
JOB = select(job.status, job.done, job.error)
# By option of the command: the name that the plan has for it.
OPTIONS = {
    "match_on": ["external_id", "email", "id", "none"],
    "on_match": ["update", "fill_empty", "skip"],
    "on_error": ["stop", "skip"],
    "date_order": ["ymd", "dmy", "mdy"],
}


def _choices(function: Any) -> Any:
    for name, choices in reversed(OPTIONS.items()):
        function = click.option(f"--{name.replace('_', '-')}", type=click.Choice(choices))(function)
    return function


@click.command("import")
@click.argument("kind", type=click.Choice([kind.value for kind in ImportKind]))
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--tenant", type=TenantName(), required=True, help="Into this organization.")
@click.option("--as", "email", required=True, metavar="EMAIL", help="As this person, who was here before.")
@click.option(
    "--map", "mapped", multiple=True, metavar="COLUMN=FIELD", help="What a column is; nothing after = skips it."
)
@_choices
@click.option("--timezone", help="Of times without an offset.")
@click.option("--country", help="Of phone numbers without one.")
@click.option("--create-customers", is_flag=True, help="Make customers that there are not yet.")
@click.option("--create-tags", is_flag=True, help="Make tags that there are not yet.")
@click.option("--take-overdue", is_flag=True, help="Take tasks that are overdue already.")
@click.option("--dry-run", is_flag=True, help="Only check every row.")
@data_dir_option
def import_file(
    kind: str,
    file: Path,
    tenant: str,
    email: str,
    mapped: tuple[str, ...],
    dry_run: bool,
    data_dir: Path | None,
    **options: Any,
) -> None:
    """Import the rows of FILE (CSV, XLSX, JSON Lines or vCard): first each row is checked, then all are stored.

    What the columns are is guessed from their names, and said. The operation that it prints takes the import back. The
    exit code is 1 if a row is wrong, or was not imported.

    \b
    Examples:
      crm import customers leads.csv --tenant acme --as ada@example.com --dry-run
      crm import customers leads.csv --tenant acme --as ada@example.com --match-on email --map Firma=company
    """
    mapping = dict(_column_and_field(pair) for pair in mapped)
    wanted = {name: value for name, value in options.items() if value}

    async def run(settings: Settings) -> bool:
        store = ObjectStore(settings)
        try:
            async with Database(settings) as database:
                actor = await _person(database, tenant, email)
                command = Command(settings, database, store, actor)
                with file.open("rb") as opened:
                    sent = await command.send(ImportKind(kind), file.name, opened)
                return await command.do(sent, mapping, wanted, dry_run=dry_run)
        finally:
            store.close()

    with environment(data_dir, with_store=True) as env:
        click.get_current_context().exit(0 if asyncio.run(run(env.settings)) else 1)


def _column_and_field(pair: str) -> tuple[str, str | None]:
    column, found, name = pair.rpartition("=")
    if not found:
        raise click.BadParameter(f"{pair!r} is not of the form COLUMN=FIELD", param_hint="--map")
    return column, name or None


async def _person(database: Database, tenant: str, email: str) -> Actor:
    async with database.in_tenant(tenant) as session:
        found = (await session.execute(PERSON.where(func.lower(user.email) == email.lower()))).all()
    if len(found) != 1:
        many = f"{len(found)} people with the e-mail" if found else "nobody with the e-mail"
        raise click.ClickException(f"{tenant} knows {many} {email}: whoever imports has used this service before")
    ((person, name, address, role),) = found
    return Actor(user_id=str(person), tenant_id=tenant, role=Role(role), name=name, email=address)


class Command:
    """One import, by the functions that requests call."""

    def __init__(self, settings: Settings, database: Database, store: ObjectStore, actor: Actor) -> None:
        self._settings = settings
        self._database = database
        self._store = store
        self._actor = actor

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[Transaction]:
        async with writing(self._database, self._actor, Origin(operation_id=uuid4(), via="import")) as tx:
            yield tx

    async def send(self, kind: ImportKind, name: str, file: Any) -> Import:
        """Unpack the file, and keep its rows. Raises AppError."""
        async with unpacked(file) as (found, rows):
            key = new_key(self._actor.tenant_id)
            await self._store.put(key, rows, rows.seek(0, 2), service.ROWS_TYPE)
            async with self._writing() as tx:
                return await service.create(tx, kind, name, found, key)

    async def do(
        self, sent: Import, mapping: Mapping[str, str | None], options: Mapping[str, Any], *, dry_run: bool
    ) -> bool:
        """Check it and run it; returns whether all went well. Raises AppError."""
        chosen = {column.name: column.field for column in sent.columns} | dict(mapping)
        for column in sent.columns:
            click.echo(f"{column.name}: {chosen[column.name] or 'not imported'}")
        for remark in sent.remarks:
            click.echo(remark)
        plan = read_again({"mapping": chosen, "options": dict(options)}, ImportPlan)
        kinds = job_kinds(self._settings, self._database, self._store)
        async with beside(JobWorker(self._database, self._settings, kinds).run()):
            async with self._writing() as tx:
                started = await work.start_check(tx, sent.id, plan)
            await self._until_done(started.job.id, sent.rows, "Checking")
            summary = await self._summary(sent.id)
            await self._show_problems(sent.id)
            stopped = summary["error"] and options.get("on_error") != "skip"
            if dry_run or stopped:
                return not summary["error"]
            async with self._writing() as tx:
                started = await work.start_run(tx, sent.id, ImportRun())
            await self._until_done(started.job.id, summary["create"] + summary["update"], "Importing")
        click.echo(f"Operation {started.job.operation_id}: undo it to take the import back")
        return not summary["error"]

    async def _until_done(self, job_id: int, total: int, label: str) -> None:
        """Show how far the job is. Raises AppError for the reason of its failure."""
        with click.progressbar(length=total, label=label) as bar:
            while True:
                async with reading(self._database, self._actor, one_statement=True) as tx:
                    found = await tx.connection.execute(JOB.where(job.id == job_id))
                    status, done, error = found.one()
                bar.update(done - bar.pos)
                if status in {"done", "failed", "cancelled"}:
                    break
                await asyncio.sleep(POLL_SECONDS)
        if status != "done":
            raise click.ClickException(error["message"] if error else "The job was cancelled")

    async def _summary(self, import_id: int) -> dict[str, int]:
        async with reading(self._database, self._actor) as tx:
            summary = (await queries.get(tx, import_id)).summary
        counts: dict[str, int] = to_builtins(summary)
        click.echo(", ".join(f"{count} {name}" for name, count in counts.items()))
        return counts

    async def _show_problems(self, import_id: int) -> None:
        async with reading(self._database, self._actor) as tx:
            found = (await tx.connection.execute(PROBLEMS, {"import_id": import_id, "most": MOST_SHOWN + 1})).all()
        for number, problems in found[:MOST_SHOWN]:
            click.echo(f"row {number}: {why(problems)}", err=True)
        if len(found) > MOST_SHOWN:
            click.echo("…", err=True)
