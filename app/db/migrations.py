"""`crm db`: the tables, the roles and their rights. Every command holds one advisory lock, so that many replicas may
start at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from advanced_alchemy.alembic.commands import AlembicCommands
from advanced_alchemy.config import AlembicSyncConfig, SQLAlchemySyncConfig
from alembic.runtime.migration import MigrationContext
from alembic.util import CommandError
from psycopg import errors, sql
from sqlalchemy import Connection, create_engine, pool, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ProgrammingError

from app.db.schema import (
    KEEPER_ROLE,
    MIGRATIONS,
    OWN_RECORDS_ROLE,
    SEARCH_ROLE,
    SERVICE_ROLE,
    UPKEEP_ROLE,
    VERSION_TABLE,
)
from app.models import Base

LOCK = 4_011_836_271  # any number that nobody else uses as an advisory lock

ROLES = (SERVICE_ROLE, OWN_RECORDS_ROLE, SEARCH_ROLE, KEEPER_ROLE, UPKEEP_ROLE)
# What the service's login may act as.
ACTED_AS = (SERVICE_ROLE, OWN_RECORDS_ROLE, UPKEEP_ROLE)
NAMES = ", ".join(f"'{role}'" for role in ROLES)

ENSURE_ROLES = f"""
DO $$
DECLARE
    role text;
BEGIN
    FOREACH role IN ARRAY ARRAY[{NAMES}] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', role);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL;  -- another database of this server makes it at the same moment
            END;
        END IF;
        -- From PostgreSQL 16 on, making a role does not yet mean that one may act as it.
        IF NOT pg_has_role(role, 'MEMBER') THEN
            EXECUTE format('GRANT %I TO CURRENT_USER', role);
        ELSIF current_setting('server_version_num')::int >= 160000 THEN
            IF NOT pg_has_role(role, 'SET') THEN
                EXECUTE format('GRANT %I TO CURRENT_USER WITH INHERIT FALSE, SET TRUE', role);
            END IF;
        END IF;
    END LOOP;
    IF NOT pg_has_role('{OWN_RECORDS_ROLE}', '{SERVICE_ROLE}', 'USAGE') THEN
        GRANT {SERVICE_ROLE} TO {OWN_RECORDS_ROLE};
    END IF;
END $$
"""  # noqa: S608 -- our own names

REVOKE_OWNERS = f"REVOKE {SEARCH_ROLE}, {KEEPER_ROLE} FROM CURRENT_USER"

ADMIT_LOGIN = """
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = {login}) AND EXISTS (
        SELECT FROM unnest(string_to_array('{roles}', ', ')) AS role WHERE NOT pg_has_role({login}, role, 'MEMBER')
    ) THEN
        EXECUTE format('GRANT {roles} TO %I', {login});
    END IF;
END $$
"""

# Of a table that was written anew nothing counts as visible to all, which index-only scans need; of a new column there
# are no statistics. A replica that waits for another's migrations keeps it so: the last one to be done finds it.
NEVER_VACUUMED = """
SELECT format('%I.%I', nspname, relname)
FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE nspname = current_schema() AND relkind = 'r' AND relallvisible = 0 AND pg_relation_size(pg_class.oid) > 0
"""


class MigrationError(Exception):
    """The database can't be brought where it should be; the message is for the operator."""


class Migrations:
    """The schema of one database, worked on by its owner's login."""

    def __init__(self, owner_dsn: str, service_dsn: str) -> None:
        self._engine = create_engine(_driver(owner_dsn), poolclass=pool.NullPool)
        self._login = make_url(service_dsn).username or ""
        self._owner = make_url(owner_dsn).username or ""
        self._commands = AlembicCommands(
            SQLAlchemySyncConfig(
                engine_instance=self._engine,
                metadata=Base.metadata,
                alembic_config=AlembicSyncConfig(
                    script_location=str(MIGRATIONS), version_table_name=VERSION_TABLE, render_as_batch=False
                ),
            )
        )
        self._commands.config.attributes["metadata"] = Base.metadata

    def upgrade(self, revision: str = "head") -> list[str]:
        """Make the roles, run what is missing, let the service's login in, and vacuum what was written anew.

        Returns a line for each record that a migration had to change, for the operator.
        """
        told: list[str] = []
        self._commands.config.attributes["told"] = told
        with self._locked() as connection:
            try:
                connection.execute(text(ENSURE_ROLES))
                connection.commit()
            except ProgrammingError as error:
                connection.rollback()
                if not isinstance(error.orig, errors.InsufficientPrivilege):
                    raise
                raise MigrationError(
                    f"The login {self._owner!r} may not make the roles that the service runs as ({error.orig}). "
                    f"Let an administrator run: ALTER ROLE {self._owner} CREATEROLE; and where the roles are there "
                    f"already, for another database of this server: GRANT {', '.join(ROLES)} TO {self._owner} "
                    "WITH ADMIN OPTION"
                ) from error
            self._commands.upgrade(revision)
            # For /ready, which compares the release with the database.
            connection.execute(text(f"GRANT SELECT ON {VERSION_TABLE} TO {SERVICE_ROLE}"))
            connection.commit()
            # What the owner needed in order to give functions away: keeping it would show it every tenant.
            connection.execute(text(REVOKE_OWNERS))
            connection.commit()
            if self._login and self._login != self._owner:
                login = sql.Literal(self._login).as_string(None)
                connection.execute(text(ADMIT_LOGIN.format(login=login, roles=", ".join(ACTED_AS))))
                connection.commit()
            self._vacuum()
        return told

    def _vacuum(self) -> None:
        """What migrations wrote anew: else reports would go through it slowly until enough of it has changed."""
        with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("SET statement_timeout = 0"))
            for table in connection.execute(text(NEVER_VACUUMED)).scalars().all():
                connection.execute(text(f"VACUUM (ANALYZE) {table}"))

    def downgrade(self, revision: str) -> None:
        """Undo migrations down to this one."""
        with self._locked() as connection:
            connection.execute(text(ENSURE_ROLES))
            connection.commit()
            self._commands.downgrade(revision)
            connection.execute(text(REVOKE_OWNERS))
            connection.commit()

    def current(self) -> str | None:
        """The revision that the database is at, None for an empty one."""
        with self._engine.connect() as connection:
            return MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE}).get_current_revision()

    def check(self) -> None:
        """Raise MigrationError unless the migrations make exactly the tables that the models describe."""
        with self._locked():
            try:
                self._commands.check()
            except CommandError as error:
                raise MigrationError(str(error)) from error

    @contextmanager
    def _locked(self) -> Iterator[Connection]:
        with self._engine.connect() as connection:
            connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": LOCK})
            connection.commit()
            self._commands.config.attributes["connection"] = connection
            try:
                yield connection
            finally:
                connection.rollback()
                connection.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": LOCK})


def _driver(dsn: str) -> str:
    return dsn.replace("postgresql://", "postgresql+psycopg://", 1)
