"""`crm keys`: the keys that encrypt secrets in the database."""

from __future__ import annotations

from pathlib import Path

import click
import psycopg

from app.cli.environment import data_dir_option, environment
from app.crypto.cipher import UnreadableError
from app.crypto.keys import Keys
from app.db.roles import enter_tenant
from app.events.webhooks.signing import SECRET

TENANTS = "SELECT crm_tenants_with_secrets() ORDER BY 1"
SECRETS = """
SELECT webhook_id, secret, previous_secret FROM webhook_states WHERE webhook_id > %s
ORDER BY webhook_id LIMIT 100 FOR UPDATE
"""
KEEP = "UPDATE webhook_states SET secret = %s, previous_secret = %s WHERE webhook_id = %s"


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
                last = 0
                while rows := _next(connection, tenant, last):
                    for last, *stored in rows:
                        row = (SECRET, tenant, last)
                        if all(each is None or encryption.is_current(each) for each in stored):
                            continue
                        try:
                            plain = [each and encryption.decrypt(each, *row) for each in stored]
                        except UnreadableError:
                            unreadable += 1
                            click.echo(f"{tenant}: no key decrypts the secret of webhook {last}: rotate it", err=True)
                            continue
                        encrypted = [each and encryption.encrypt(each, *row) for each in plain]
                        connection.execute(KEEP, [*encrypted, last])
                        done += 1
                    connection.commit()
    click.echo(f"Encrypted {done} secrets with the first key.")
    if unreadable:
        raise SystemExit(1)


def _next(connection: psycopg.Connection, tenant: str, after: int) -> list[tuple[int, bytes, bytes | None]]:
    enter_tenant(connection, tenant, {})
    return connection.execute(SECRETS, [after]).fetchall()
