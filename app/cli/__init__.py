"""The `crm` command."""

from __future__ import annotations

from importlib.util import find_spec

import click


# Each command is loaded when it is called, so that `crm serve` does not wait for the modules of the others.
def _serve() -> click.Command:
    from app.cli.serve import serve

    return serve


def _worker() -> click.Command:
    from app.cli.worker import worker

    return worker


def _db() -> click.Command:
    from app.cli.database import db

    return db


def _audit() -> click.Command:
    from app.cli.audit import audit

    return audit


def _attachments() -> click.Command:
    from app.cli.attachments import attachments

    return attachments


def _erase() -> click.Command:
    from app.cli.erase import erase

    return erase


def _import_go() -> click.Command:
    from app.cli.import_go import import_go

    return import_go


def _import() -> click.Command:
    from app.cli.import_file import import_file

    return import_file


def _restore_export() -> click.Command:
    from app.cli.restore_export import restore_export

    return restore_export


def _keys() -> click.Command:
    from app.cli.keys import keys

    return keys


def _doctor() -> click.Command:
    from app.cli.doctor import doctor

    return doctor


def _tenant() -> click.Command:
    from app.cli.tenant import tenant

    return tenant


def _openapi() -> click.Command:
    from app.cli.openapi import openapi

    return openapi


def _identity() -> click.Command:
    from app.cli.identity import identity

    return identity


def _token() -> click.Command:
    from app.dev.token import token

    return token


def _demo_calendar() -> click.Command:
    from app.dev.demo_calendar import demo_calendar

    return demo_calendar


def _seed() -> click.Command:
    from app.dev.seed import seed

    return seed


COMMANDS = {
    "serve": _serve,
    "worker": _worker,
    "db": _db,
    "doctor": _doctor,
    "audit": _audit,
    "attachments": _attachments,
    "erase": _erase,
    "import-go": _import_go,
    "import": _import,
    "restore-export": _restore_export,
    "keys": _keys,
    "tenant": _tenant,
    "identity": _identity,
    "openapi": _openapi,
}
# A production image does not contain these.
DEVELOPMENT = {"token": _token, "seed": _seed, "demo-calendar": _demo_calendar}
if find_spec("app.dev") is not None:
    COMMANDS |= DEVELOPMENT
# Errors with a cause outside the program, by name, since importing their modules would slow down every start.
EXPECTED_ERRORS = {
    "alembic.util.exc.CommandError",
    "app.web.errors.AppError",
    "builtins.OSError",
    "builtins.ValueError",
    "jwt.exceptions.PyJWTError",
    "psycopg.Error",
    "sqlalchemy.exc.SQLAlchemyError",
}


class Commands(click.Group):
    """The commands. An error with a cause outside the program is shown as one line, not as a traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 -- click's form
        """The names, in the order in which help shows them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 -- click's form
        """The command of this name."""
        if cmd_name in DEVELOPMENT.keys() - COMMANDS.keys():
            raise click.ClickException(
                f"crm {cmd_name} is for development, and a production image does not contain it: run it in a checkout"
            )
        if cmd_name not in COMMANDS:
            return None
        return COMMANDS[cmd_name]()

    def invoke(self, ctx: click.Context) -> object:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except click.ClickException:
            raise
        except Exception as error:
            if EXPECTED_ERRORS.isdisjoint(f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__):
                raise
            reason = str(getattr(error, "orig", None) or error).strip().split("\n")[0]
            raise click.ClickException(reason or type(error).__name__) from error


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="crm-service")
def crm() -> None:
    """A headless CRM: serve it, migrate its database, and try it out.

    \b
    Examples:
      crm serve --demo              serve on port 3000, with a database of its own and demo data
      crm worker                    run jobs, in production
      crm db upgrade                bring the configured database up to this release
      crm token --role admin        a token for trying out requests
    """
