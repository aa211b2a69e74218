"""`crm db`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from sqlalchemy.exc import OperationalError

from app.cli.environment import data_dir_option, environment
from app.db.migrations import MigrationError, Migrations
from app.db.revisions import MIGRATIONS

SCHEMA = MIGRATIONS / "schema.sql"


@contextmanager
def migrations(data_dir: Path | None) -> Iterator[Migrations]:
    """The migrations of the configured database. An error becomes one line."""
    with environment(data_dir) as env:
        try:
            yield Migrations(env.settings.migration_dsn, env.settings.database_dsn)
        except MigrationError as error:
            raise click.ClickException(str(error)) from None
        except OperationalError as error:
            raise click.ClickException(f"The database can't be reached: {error.orig}") from None


@click.group()
def db() -> None:
    """Create and upgrade the database's tables, roles and rights.

    They need the login that owns the tables: MIGRATION_DATABASE_URL, or else DATABASE_URL. Commands wait for one
    another, so that many replicas may start at once.
    """


@db.command()
@click.argument("revision", default="head")
@data_dir_option
def upgrade(revision: str, data_dir: Path | None) -> None:
    """Bring the database up to this release, or to one REVISION.

    \b
    Example:
      MIGRATION_DATABASE_URL=postgresql://owner@db/crm DATABASE_URL=postgresql://crm@db/crm crm db upgrade
    """
    with migrations(data_dir) as work:
        for line in work.upgrade(revision):
            click.echo(line)
        click.echo(f"The database is at revision {work.current()}.")


@db.command()
@click.argument("revision")
@data_dir_option
def downgrade(revision: str, data_dir: Path | None) -> None:
    """Go back to REVISION, or to `base` for an empty database. What newer tables hold is lost."""
    with migrations(data_dir) as work:
        work.downgrade(revision)
        click.echo(f"The database is at revision {work.current() or 'base'}.")


@db.command()
@data_dir_option
def current(data_dir: Path | None) -> None:
    """Print the revision that the database is at."""
    with migrations(data_dir) as work:
        click.echo(work.current() or "base")


@db.command()
@click.option("--check", is_flag=True, help="Only compare it with migrations/schema.sql, and the tables with the code.")
@data_dir_option
def schema(check: bool, data_dir: Path | None) -> None:
    """Write migrations/schema.sql: what the migrations make of an empty database, for people to read.

    It makes a database beside the configured one, for a moment, so the login must have the right CREATEDB.
    """
    try:
        # Inside the function, because a production image does not contain it.
        from migrations.describe import describe, scratch_database
    except ModuleNotFoundError:
        raise click.ClickException("crm db schema writes a file of the repository: run it in a checkout") from None
    with environment(data_dir) as env, scratch_database(env.settings.migration_dsn) as dsn:
        work = Migrations(dsn, dsn)
        work.upgrade()
        found = describe(dsn)
        if not check:
            SCHEMA.write_text(found)
            click.echo(f"Wrote {SCHEMA.name}.")
            return
        try:
            work.check()
        except MigrationError as error:
            raise click.ClickException(str(error)) from None
    if not SCHEMA.exists() or SCHEMA.read_text() != found:
        raise click.ClickException("migrations/schema.sql is not what the migrations make: run crm db schema")
    click.echo("migrations/schema.sql is up to date.")


@db.command()
@data_dir_option
def check(data_dir: Path | None) -> None:
    """Fail unless the migrations make exactly the tables that the code expects, and what reports add up is right."""
    with migrations(data_dir) as work:
        work.check()
        work.check_sums()
        click.echo("Models and migrations agree, and the reports' sums are those of the rows.")
