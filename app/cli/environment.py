"""The settings and servers that a command works with."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from app.access.tenants import MAX_ID_LENGTH, is_tenant_id
from app.settings import Settings, SettingsError, load_settings

if TYPE_CHECKING:
    from app.dev.servers import EmbeddedServer

SECONDS_OF = {"s": 1, "m": 60, "h": 3600, "d": 86400}
F = TypeVar("F", bound=Callable[..., Any])

data_dir_option: Callable[[F], F] = click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Use the embedded servers in this folder, and ignore the configured ones.",
)


class TenantName(click.ParamType[str]):
    """The name of an organization."""

    name = "name"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check the name and return it."""
        if not is_tenant_id(value):
            self.fail(f"must have 1 to {MAX_ID_LENGTH} visible characters, with blanks only between them", param, ctx)
        return str(value)


class Duration(click.ParamType[int]):
    """A duration such as 90s, 15m, 12h or 30d, in seconds."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Seconds."""
        match = re.fullmatch(r"([1-9][0-9]{0,8})([smhd])", str(value))
        if not match:
            self.fail(f"{value!r} is not of the form 90s, 15m, 12h or 30d", param, ctx)
        return int(match[1]) * SECONDS_OF[match[2]]


class Environment(NamedTuple):
    """Settings whose servers are running, and the embedded ones of these servers."""

    settings: Settings
    servers: tuple[EmbeddedServer, ...] = ()
    has_embedded_database: bool = False


def read_settings(data_dir: Path | None = None) -> Settings:
    """The settings. A wrong one ends the command with one line."""
    try:
        folder = None if data_dir is None else str(data_dir)
        return load_settings(data_dir=folder, ignore_servers=data_dir is not None)
    except SettingsError as error:
        raise click.ClickException(str(error)) from None


@contextmanager
def environment(data_dir: Path | None, *, with_store: bool = False) -> Iterator[Environment]:
    """The configured servers, or else embedded ones that run until the block ends."""
    settings = read_settings(data_dir)
    if settings.database_dsn and (settings.s3_bucket or settings.production or not with_store):
        yield Environment(settings)
        return
    try:
        # Inside the function, because a production image does not contain it.
        from app.dev.servers import EmbeddedError
        from app.dev.start import embedded_servers
    except ModuleNotFoundError:
        if settings.database_dsn:
            yield Environment(settings)
            return
        raise click.ClickException("No database is configured: set DATABASE_URL, or DB_HOST and DB_NAME") from None
    try:
        with embedded_servers(settings, with_store=with_store) as (configured, servers):
            yield Environment(configured, servers, has_embedded_database=not settings.database_dsn)
    except EmbeddedError as error:
        raise click.ClickException(str(error)) from None
