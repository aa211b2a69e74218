"""The `crm` command."""

from __future__ import annotations

import click
import jwt
import psycopg
from alembic.util import CommandError
from sqlalchemy.exc import SQLAlchemyError

from app.cli.attachments import attachments
from app.cli.audit import audit
from app.cli.database import db
from app.cli.issuer import issuer
from app.cli.openapi import openapi
from app.cli.seed import seed
from app.cli.serve import serve
from app.cli.token import token
from app.web.errors import AppError


class OneLineErrors(click.Group):
    """Whatever a command runs into outside of itself is one line, never a traceback."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except (OSError, ValueError, CommandError, SQLAlchemyError, psycopg.Error, jwt.PyJWTError, AppError) as error:
            reason = str(getattr(error, "orig", None) or error).strip().split("\n")[0]
            raise click.ClickException(reason or type(error).__name__) from error


@click.group(cls=OneLineErrors, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="crm-service")
def crm() -> None:
    """A headless CRM: serve it, migrate its database, and try it out.

    \b
    Examples:
      crm serve --demo              serve on port 3000, with a database of its own and something to see in it
      crm db upgrade                bring the configured database up to this release
      crm token --role admin        a token for trying out requests
    """


for command in (serve, db, audit, attachments, token, issuer, seed, openapi):
    crm.add_command(command)
