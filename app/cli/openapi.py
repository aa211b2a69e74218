"""`crm openapi`."""

from __future__ import annotations

from pathlib import Path

import click

from app.docs import document_as_json, document_as_yaml
from app.identity.main import create_identity
from app.main import create_app
from app.openapi import CONSOLES, LOGGING_IN
from app.settings import Settings

FOLDER = Path("openapi")
# The document depends only on the routes; the app is never started.
SETTINGS = Settings(jwt_secret="only-for-the-document", database_url="postgresql://localhost/none")  # noqa: S106 -- signs nothing


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; fail unless the files are up to date.")
@click.option("--yaml", is_flag=True, help="Write no file: print the document of /admin as YAML.")
@click.option("--data-dir", hidden=True, help="Accepted as by all commands; no database is needed.")
def openapi(check: bool, yaml: bool, data_dir: str | None) -> None:  # noqa: ARG001 -- every command takes it
    """Write the OpenAPI document, openapi/openapi.json, as the service serves it at /docs.

    The calls of the Platform Console are an API of their own, and have theirs: openapi/console.json. So has what lets
    people log in: openapi/identity.json.

    \b
    Examples:
      crm openapi --check
      crm openapi --yaml > crm.yaml
    """
    app = create_app(SETTINGS)
    if yaml:
        click.echo(document_as_yaml(app), nl=False)
        return
    files = {
        FOLDER / "openapi.json": document_as_json(app),
        FOLDER / "console.json": document_as_json(app, CONSOLES),
        FOLDER / "identity.json": document_as_json(create_identity(SETTINGS), LOGGING_IN),
    }
    if check:
        stale = [str(path) for path, text in files.items() if not path.exists() or path.read_text() != text]
        if stale:
            raise click.ClickException(f"{', '.join(stale)}: not up to date: run crm openapi")
        click.echo("The OpenAPI documents are up to date.")
        return
    FOLDER.mkdir(exist_ok=True)
    for path, text in files.items():
        path.write_text(text)
        click.echo(path)
