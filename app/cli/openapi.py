"""`crm openapi`."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec
import yaml

from app.main import create_app
from app.settings import Settings

FOLDER = Path("openapi")
# The document depends on the routes alone; the app is never started.
SETTINGS = Settings(jwt_secret="only-for-the-document" * 2, database_url="postgresql://localhost/none")


def documents() -> dict[Path, str]:
    """Each file's text."""
    schema = create_app(SETTINGS).openapi_schema.to_schema()
    text = msgspec.json.format(msgspec.json.encode(schema), indent=2).decode()
    plain = msgspec.json.decode(text)
    return {
        FOLDER / "openapi.json": text + "\n",
        FOLDER / "openapi.yaml": yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=120),
    }


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; fail unless the files are up to date.")
def openapi(check: bool) -> None:
    """Write openapi/openapi.json and openapi/openapi.yaml, as the service serves them at /docs."""
    stale = [path for path, text in documents().items() if not path.exists() or path.read_text() != text]
    if check:
        if stale:
            raise click.ClickException(f"{', '.join(map(str, stale))}: not what the routes say; run crm openapi")
        click.echo("The OpenAPI document is up to date.")
        return
    FOLDER.mkdir(exist_ok=True)
    for path, text in documents().items():
        path.write_text(text)
        click.echo(path)
