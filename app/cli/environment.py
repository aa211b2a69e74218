"""Which settings and which database a command works with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import click
from msgspec.structs import replace

from app.access.tokens import LONGEST_ID, is_tenant_id
from app.db.embedded import OWNER, EmbeddedPostgres
from app.embedded import EmbeddedError
from app.settings import Settings, SettingsError, load_settings
from app.storage.embedded import EmbeddedStore

F = TypeVar("F", bound=Callable[..., Any])

data_dir_option: Callable[[F], F] = click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Use the embedded servers in this folder, whatever else is configured.",
)


class TenantName(click.ParamType[str]):
    """What a token may name."""

    name = "name"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The name as it is."""
        if not is_tenant_id(value):
            self.fail(f"must have 1 to {LONGEST_ID} visible characters, with blanks only between them", param, ctx)
        return str(value)


class Workplace(NamedTuple):
    """Settings whose servers answer, and those of them that are embedded."""

    settings: Settings
    embedded: EmbeddedPostgres | None
    store: EmbeddedStore | None = None


def read_settings(data_dir: Path | None = None) -> Settings:
    """The settings; an error in them ends the command with one line."""
    try:
        folder = None if data_dir is None else str(data_dir)
        return load_settings(data_dir=folder, ignore_servers=data_dir is not None)
    except SettingsError as error:
        raise click.ClickException(str(error)) from None


@contextmanager
def workplace(data_dir: Path | None, *, with_store: bool = False) -> Iterator[Workplace]:
    """The configured database, or else the embedded one, running for as long as the block; so the object store."""
    settings = read_settings(data_dir)
    with ExitStack() as servers:
        try:
            postgres = None
            if not settings.database_dsn:
                postgres = servers.enter_context(EmbeddedPostgres(Path(settings.crm_data_dir)))
                owner = postgres.dsn(user=OWNER)
                settings = replace(settings, database_url=postgres.dsn(), migration_database_url=owner)
            store = _embedded_store(settings, needed=postgres is not None) if with_store else None
            if store is not None:
                settings = servers.enter_context(store).configured(settings)
        except EmbeddedError as error:
            raise click.ClickException(str(error)) from None
        yield Workplace(settings, postgres, store)


def _embedded_store(settings: Settings, *, needed: bool) -> EmbeddedStore | None:
    if settings.s3_bucket or settings.production:
        return None
    try:
        return EmbeddedStore(Path(settings.crm_data_dir))
    except EmbeddedError:
        if needed:
            raise
        return None  # whoever brings a database may do without attachments
