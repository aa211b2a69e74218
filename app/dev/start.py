"""Start embedded servers in place of those that are not configured."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from msgspec.structs import replace

from app.dev.object_store import EmbeddedStore
from app.dev.postgres import OWNER, EmbeddedPostgres
from app.dev.servers import EmbeddedError, EmbeddedServer
from app.settings import Settings


@contextmanager
def embedded_servers(settings: Settings, *, with_store: bool) -> Iterator[tuple[Settings, tuple[EmbeddedServer, ...]]]:
    """The settings that point to the servers, and the servers, which run until the block ends.

    Raises EmbeddedError.
    """
    folder = Path(settings.crm_data_dir)
    needs_database = not settings.database_dsn
    servers: list[EmbeddedServer] = []
    with ExitStack() as running:
        if needs_database:
            postgres = running.enter_context(EmbeddedPostgres(folder))
            servers.append(postgres)
            owner = postgres.dsn(user=OWNER)
            settings = replace(settings, database_url=postgres.dsn(), migration_database_url=owner)
        if with_store and not settings.s3_bucket and not settings.production:
            store = _store(folder, needed=needs_database)
            if store is not None:
                settings = running.enter_context(store).configured(settings)
                servers.append(store)
        yield settings, tuple(servers)


def _store(folder: Path, *, needed: bool) -> EmbeddedStore | None:
    try:
        return EmbeddedStore(folder)
    except EmbeddedError:
        if needed:
            raise
        return None  # with a configured database, attachments are optional
