"""Which settings and which database a command works with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import click
from msgspec.structs import replace

from app.db.embedded import OWNER, EmbeddedError, EmbeddedPostgres
from app.settings import Settings, SettingsError, load_settings

F = TypeVar("F", bound=Callable[..., Any])

data_dir_option: Callable[[F], F] = click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Use the embedded database in this folder, whatever else is configured.",
)


class Workplace(NamedTuple):
    """Settings whose database answers, and the embedded server where it is one."""

    settings: Settings
    embedded: EmbeddedPostgres | None


def read_settings(data_dir: Path | None = None) -> Settings:
    """The settings; an error in them ends the command with one line."""
    try:
        folder = None if data_dir is None else str(data_dir)
        return load_settings(data_dir=folder, ignore_database=data_dir is not None)
    except SettingsError as error:
        raise click.ClickException(str(error)) from None


@contextmanager
def workplace(data_dir: Path | None) -> Iterator[Workplace]:
    """The configured database, or else the embedded one, running for as long as the block."""
    settings = read_settings(data_dir)
    if settings.database_dsn:
        yield Workplace(settings, None)
        return
    try:
        with EmbeddedPostgres(Path(settings.crm_data_dir)) as embedded:
            yield Workplace(
                replace(settings, database_url=embedded.dsn(), migration_database_url=embedded.dsn(user=OWNER)),
                embedded,
            )
    except EmbeddedError as error:
        raise click.ClickException(str(error)) from None
