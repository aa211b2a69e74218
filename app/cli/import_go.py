"""`crm import-go`: an organization's data from the Go service that this one replaces."""

from __future__ import annotations

import csv
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

import click

from app.cli.environment import TenantName, data_dir_option, environment
from app.go_service import source, target
from app.go_service.mapping import Context, Mapper
from app.go_service.report import Report
from app.go_service.source import TABLES, Source, SourceError
from app.go_service.target import State, Target, TargetError
from app.settings import Settings
from app.web.structs import is_user_id

STEP = 1_000
AGAIN = "If the source has changed since it was begun, run this once more with --restart."


@click.command("import-go")
@click.option(
    "--source", "dsn", envvar="GO_DATABASE_URL", show_envvar=True, required=True, help="The Go service's database."
)
@click.option("--tenant", type=TenantName(), required=True, help="The organization, which has no records yet.")
@click.option(
    "--users", type=click.File("r", encoding="utf-8-sig"), help="A CSV file with two columns, old and new id."
)
@click.option("--restart", is_flag=True, help="Take out what an unfinished run has copied, and begin again.")
@click.option("--dry-run", is_flag=True, help="Only show what would come, and write the report.")
@click.option(
    "--report",
    type=click.File("w", encoding="utf-8"),
    default="import-go.csv",
    show_default=True,
    help="Where to list everything that does not come over as it is.",
)
@data_dir_option
@click.pass_context
def import_go(
    ctx: click.Context,
    dsn: str,
    tenant: str,
    users: TextIO | None,
    restart: bool,
    dry_run: bool,
    report: TextIO,
    data_dir: Path | None,
) -> None:
    """Move an organization's data in from the database of the Go service, with their ids.

    It reads that database at one moment and changes nothing there. First it shows what will come, and what becomes of
    what does not fit; the report lists each such value. Then it copies, while nobody is let into the organization, adds
    up what has arrived, and opens the organization if that is right. Stopped on the way, it goes on where it was when
    it is run again. The exit code is 1 if something differs. It needs the login that owns the tables here.

    \b
    Example:
      crm import-go --source postgresql://reader@old/crm --tenant acme --dry-run
    """
    people = {} if users is None else _read_users(users)
    try:
        with (
            environment(data_dir) as env,
            target.opened(env.settings.migration_dsn, tenant) as here,
            source.opened(dsn, tenant, here.identity()) as there,
        ):
            if restart and not dry_run:
                here.discard()
            ctx.exit(_move(there, here, tenant, people, env.settings, report, dry_run=dry_run))
    except (SourceError, TargetError) as error:
        raise click.ClickException(str(error)) from None


def _move(
    there: Source, here: Target, tenant: str, people: dict[str, str], settings: Settings, file: TextIO, *, dry_run: bool
) -> int:
    """Show what will come, copy it and verify it; answers the exit code."""
    state = here.state()
    if state is None:
        here.require_empty()
    elif state.source != there.identity():
        raise TargetError(f"The data of {tenant} come from another database")
    elif state.opened_at is not None:
        click.echo(f"Nothing to do: these data are in {tenant} since {state.opened_at:%Y-%m-%d %H:%M} UTC.")
        return 0
    context = Context(
        currency=here.currency(settings.default_currency),
        moment=datetime.now(UTC) if state is None else state.closed_at,
        holder_id=0 if state is None else state.holder_id,
        users=people,
        fold=here.fold,
        fold_emails=here.fold_emails,
    )
    report = Report(there, file)
    total = _look(there, Mapper(there, context), report)
    file.flush()
    for line in report.lines():
        click.echo(line)
    click.echo(f"Each value that is different now is listed in {file.name}.")
    if dry_run:
        click.echo("Nothing was written.")
        return 0
    if state is None:
        state = here.close(there.identity(), {table: there.highest_id(table) for table in TABLES}, settings)
        context = context._replace(moment=state.closed_at, holder_id=state.holder_id)
    _wait(here, state)
    with click.progressbar(length=total, label=f"Copying into {tenant}") as bar:
        different = here.copy(Mapper(there, context), state, bar.update)
    if different:
        click.echo("What is here differs from what should be here:", err=True)
        for line in different:
            click.echo(f"  {line}", err=True)
        click.echo(f"{tenant} stays closed. {AGAIN}", err=True)
        return 1
    here.open()
    click.echo(f"Counts and sums are equal. {tenant} is open.")
    return 0


def _look(there: Source, mapper: Mapper, report: Report) -> int:
    """Look at all records; answers how many there are."""
    with click.progressbar(length=sum(there.count(table) for table in TABLES), label="Reading") as bar:
        for table in TABLES:
            for number, record in enumerate(mapper.records(table), 1):
                report.add(record)
                if number % STEP == 0:
                    bar.update(STEP)
    if mapper.needs_holder:
        report.add(mapper.holder())
    return sum(sums.rows for sums in report.sums.values())


def _wait(here: Target, state: State) -> None:
    """Until nobody is at work in the organization who was let in before it was closed.

    Raises TargetError, and opens it again, if somebody has made records meanwhile.
    """
    until = here.quiet_at(state)
    if until is not None:
        click.echo(f"Somebody was in the organization a moment ago: waiting until {until:%H:%M:%S} UTC.")
        while here.quiet_at(state) is not None:
            time.sleep(1)
    if state.copying == TABLES[0]:
        try:
            here.require_empty()
        except TargetError:
            here.discard()
            raise


def _read_users(file: TextIO) -> dict[str, str]:
    """The new id of each old one. Raises click.ClickException."""
    people: dict[str, str] = {}
    for number, row in enumerate(csv.reader(file), 1):
        cells = [cell.strip() for cell in row]
        if not any(cells) or (number == 1 and cells == ["old", "new"]):
            continue
        if len(cells) != 2 or not all(cells) or not is_user_id(cells[1]) or cells[0] in people:
            raise click.ClickException(
                f"Line {number} of {file.name} must be an old and a new id with a comma between, each old one once"
            )
        people[cells[0]] = cells[1]
    return people
