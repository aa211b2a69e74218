"""`crm keys`: the keys that encrypt secrets in the database."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, LiteralString, NamedTuple

import click
import psycopg

from app.admin.assistant.mcp_servers.service import SECRET as OF_SERVERS
from app.admin.assistant.settings.service import SECRET as OF_ASSISTANT
from app.admin.connections.opening import SECRET as OF_CALENDARS
from app.cli.environment import data_dir_option, environment
from app.crypto.cipher import UnreadableError
from app.crypto.keys import Keys
from app.db.roles import enter_tenant
from app.events.webhooks.signing import SECRET as OF_WEBHOOKS

TENANTS = "SELECT crm_tenants_with_secrets() ORDER BY 1"


class Kind(NamedTuple):
    """A table with secrets, and what they are bound to. `following` are some rows after an id, locked."""

    name: str
    following: LiteralString
    keep: LiteralString
    place: Callable[[str, int], tuple[object, ...]]


KINDS = (
    Kind(
        "webhook",
        """
            SELECT webhook_id, secret, previous_secret FROM webhook_states WHERE webhook_id > %s
            ORDER BY webhook_id LIMIT 100 FOR UPDATE
        """,
        "UPDATE webhook_states SET secret = %s, previous_secret = %s WHERE webhook_id = %s",
        lambda tenant, webhook: (OF_WEBHOOKS, tenant, webhook),
    ),
    Kind(
        "the assistant's settings",
        "SELECT id, secret FROM assistant_settings WHERE id > %s ORDER BY id LIMIT 100 FOR UPDATE",
        "UPDATE assistant_settings SET secret = %s WHERE id = %s",
        lambda tenant, _: (OF_ASSISTANT, tenant),
    ),
    Kind(
        "MCP server",
        """
            SELECT id, secret FROM mcp_servers WHERE id > %s AND secret IS NOT NULL
            ORDER BY id LIMIT 100 FOR UPDATE
        """,
        "UPDATE mcp_servers SET secret = %s WHERE id = %s",
        lambda tenant, server: (OF_SERVERS, tenant, server),
    ),
    Kind(
        "calendar",
        "SELECT id, secret FROM calendar_connections WHERE id > %s ORDER BY id LIMIT 100 FOR UPDATE",
        "UPDATE calendar_connections SET secret = %s WHERE id = %s",
        lambda tenant, connection: (OF_CALENDARS, tenant, connection),
    ),
)


@click.group()
def keys() -> None:
    """Look after the keys that encrypt secrets in the database (ENCRYPTION_KEYS)."""


@keys.command()
@data_dir_option
def rotate(data_dir: Path | None) -> None:
    """Encrypt every secret with the first of ENCRYPTION_KEYS.

    To replace a key: put the new one before it and restart the service and its workers, run this command, and then take
    the old one away. It can be run again at any time.

    \b
    Example:
      ENCRYPTION_KEYS=<new>,<old> crm keys rotate
    """
    done, unreadable = 0, 0
    with environment(data_dir) as env:
        encryption = Keys(env.settings)
        if not env.settings.encryption_key_bytes:
            raise click.ClickException("ENCRYPTION_KEYS is not set")
        with psycopg.connect(env.settings.database_dsn) as connection:
            connection.execute("SET ROLE crm_service")
            tenants = [tenant for (tenant,) in connection.execute(TENANTS)]
            connection.commit()
            for tenant in tenants:
                for kind in KINDS:
                    rotated, failed = _rotate(connection, encryption, tenant, kind)
                    done, unreadable = done + rotated, unreadable + failed
    click.echo(f"Encrypted {done} secrets with the first key.")
    if unreadable:
        raise SystemExit(1)


def _rotate(connection: psycopg.Connection, encryption: Keys, tenant: str, kind: Kind) -> tuple[int, int]:
    """How many rows of a tenant got new secrets, and of how many no key decrypts them."""
    done, unreadable, last = 0, 0, 0
    while rows := _next(connection, tenant, kind, last):
        for last, *stored in rows:
            row = kind.place(tenant, last)
            if all(not each or encryption.is_current(each) for each in stored):
                continue
            try:
                plain = [each and encryption.decrypt(each, *row) for each in stored]
            except UnreadableError:
                unreadable += 1
                click.echo(f"{tenant}: no key decrypts the secret of {kind.name} {last}: set a new one", err=True)
                continue
            connection.execute(kind.keep, [*(each and encryption.encrypt(each, *row) for each in plain), last])
            done += 1
        connection.commit()
    return done, unreadable


def _next(connection: psycopg.Connection, tenant: str, kind: Kind, after: int) -> list[tuple[Any, ...]]:
    enter_tenant(connection, tenant, {})
    return connection.execute(kind.following, [after]).fetchall()
