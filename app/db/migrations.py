"""`crm db`: the tables, the roles and their rights. Every command holds one advisory lock, so that many replicas may
start at once.

An ALTER TABLE that waits for its lock blocks all later statements on the table, reads too. So a migration waits only
for a moment, is rolled back, and is tried again later. Each migration is a transaction of its own.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import NamedTuple

from advanced_alchemy.alembic.commands import AlembicCommands
from advanced_alchemy.config import AlembicSyncConfig, SQLAlchemySyncConfig
from alembic.runtime.migration import MigrationContext
from alembic.util import CommandError
from psycopg import Error, errors, sql
from sqlalchemy import Connection, MetaData, create_engine, pool, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, ProgrammingError

from app.db.revisions import MIGRATIONS, SESSION_NAME, VERSION_TABLE, revisions
from app.db.roles import MAINTENANCE_ROLE, OWN_RECORDS_ROLE, ROLES, SEARCH_ROLE, SERVICE_ROLE
from app.models import Base

# How long requests may have to wait behind a migration that waits; below the service's own lock_timeout.
LOCK_WAIT = "500ms"
# An autovacuum gives way to who has waited for PostgreSQL's deadlock_timeout, a second. Still below the service's own.
VACUUM_WAIT = "1500ms"
COMPARE = text("SELECT compared, wrong FROM crm_compare_report_sums(:tenant)")
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 10.0
LOCK = 4_011_836_271  # any number that nobody else uses as an advisory lock

ENSURE_ROLES = """
DO $$
DECLARE
    role text;
BEGIN
    FOREACH role IN ARRAY string_to_array('{roles}', ', ') LOOP
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
END $$
"""

INHERIT_RIGHTS = f"""
DO $$
BEGIN
    IF NOT pg_has_role('{OWN_RECORDS_ROLE}', '{SERVICE_ROLE}', 'USAGE') THEN
        GRANT {SERVICE_ROLE} TO {OWN_RECORDS_ROLE};
    END IF;
END $$
"""

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

# A login that makes a temporary table may put triggers on it. PostgreSQL 14 and older lets everybody make tables.
RESTRICT = """
DO $$
BEGIN
    EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('REVOKE CREATE ON SCHEMA %I FROM PUBLIC', current_schema());
END $$
"""
UNRESTRICTED = """
SELECT has_database_privilege('public', current_database(), 'TEMPORARY')
    OR has_schema_privilege('public', current_schema(), 'CREATE')
"""

# After a rewrite a table's visibility map is empty, so index-only scans are slow; and a new column has no statistics.
# VACUUM can't help as long as another replica waits for the migrations: the last replica to finish does it.
NEVER_VACUUMED = """
SELECT format('%I.%I', nspname, relname)
FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE nspname = current_schema() AND relkind = 'r' AND relallvisible = 0 AND pg_relation_size(pg_class.oid) > 0
"""


# The sessions that hold a lock that a migration may need, or that run another `crm db`. Only an autovacuum has no user.
BLOCKERS = f"""
SELECT DISTINCT pid, usename IS NULL AS is_vacuum,
       concat_ws(' ', coalesce(usename, 'autovacuum'), nullif(application_name, '')) AS name
FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE granted AND pid <> pg_backend_pid() AND (
    locktype = 'advisory' AND objid = {LOCK}
    OR relation IN (SELECT oid FROM pg_class WHERE relnamespace = current_schema()::regnamespace)
)
ORDER BY is_vacuum DESC, pid LIMIT 5
"""  # noqa: S608 -- our own number


class Line(NamedTuple):
    """The migrations of one program, and the roles that it needs."""

    folder: Path
    metadata: MetaData
    version_table: str
    roles: tuple[str, ...]
    # What the program's login may act as. The first one may read the version.
    acted_as: tuple[str, ...]
    # What the owner must not stay a member of: it needs them only to give functions away.
    left: tuple[str, ...] = ()
    # SQL before the first migration.
    prepare: str = "SELECT"
    # Where its tables are, if not in `public`.
    schema: str | None = None


CRM = Line(
    folder=MIGRATIONS,
    metadata=Base.metadata,
    version_table=VERSION_TABLE,
    roles=ROLES,
    acted_as=(SERVICE_ROLE, OWN_RECORDS_ROLE),
    left=(SEARCH_ROLE, MAINTENANCE_ROLE),
    prepare=INHERIT_RIGHTS,
)


class MigrationError(Exception):
    """The database can't be brought where it should be; the message is for the operator."""


def _to_stderr(line: str) -> None:
    sys.stderr.write(f"{line}\n")


class Migrations:
    """The schema of one database, worked on by its owner's login."""

    def __init__(
        self,
        owner_dsn: str,
        service_dsn: str,
        tell: Callable[[str], object] = _to_stderr,
        *,
        line: Line = CRM,
    ) -> None:
        """`tell` gets lines for the operator: what begins, who is waited for, and what is left to do."""
        self._tell = tell
        self._line = line
        self._revisions = revisions(line.folder)
        path = {"options": f"-csearch_path={line.schema}"} if line.schema else {}
        named = {"application_name": SESSION_NAME}
        self._engine = create_engine(_driver(owner_dsn), poolclass=pool.NullPool, connect_args=named | path)
        self._login = make_url(service_dsn).username or ""
        self._owner = make_url(owner_dsn).username or ""
        self._commands = AlembicCommands(
            SQLAlchemySyncConfig(
                engine_instance=self._engine,
                metadata=line.metadata,
                alembic_config=AlembicSyncConfig(
                    script_location=str(line.folder), version_table_name=line.version_table, render_as_batch=False
                ),
            )
        )
        self._commands.config.attributes["metadata"] = line.metadata

    def upgrade(self, revision: str = "head") -> list[str]:
        """Make the roles, run what is missing, let the service's login in, and vacuum what was written anew.

        Returns a line for each record that a migration had to change, for the operator.
        """
        told: list[str] = []
        self._commands.config.attributes["told"] = told
        with self._locked() as connection:
            is_used = self._know(connection)
            self._patiently(connection, self._ensure_roles)
            with _steps_told(self._tell) if is_used else nullcontext():
                self._patiently(connection, lambda _: self._commands.upgrade(revision))
            self._patiently(connection, self._give_rights)
            self._patiently(connection, self._leave_roles)
            if connection.execute(text(UNRESTRICTED)).scalar_one():
                self._tell(
                    f"The login {self._owner!r} does not own the database: let an administrator run REVOKE TEMPORARY ON"
                    " DATABASE … FROM PUBLIC, and REVOKE CREATE ON SCHEMA public FROM PUBLIC."
                )
            connection.rollback()
            self._vacuum()
        return list(dict.fromkeys(told))  # what is tried again tells it again

    def _know(self, connection: Connection) -> bool:
        """Whether there are tables already. Raises MigrationError where a newer release made them."""
        found = self._revision(connection)
        connection.rollback()
        if found is not None and found not in self._revisions:
            raise MigrationError(
                f"The database is at revision {found}, which this release does not know. A newer release made it, or"
                " one from before the first version: use that release, or an empty database."
            )
        return found is not None

    def _ensure_roles(self, connection: Connection) -> None:
        try:
            connection.execute(text(ENSURE_ROLES.format(roles=", ".join(self._line.roles))))
            connection.execute(text(self._line.prepare))
        except ProgrammingError as error:
            if not isinstance(error.orig, errors.InsufficientPrivilege):
                raise
            raise MigrationError(
                f"The login {self._owner!r} may not make the roles that the service runs as ({error.orig}). "
                f"Let an administrator run: ALTER ROLE {self._owner} CREATEROLE; and where the roles are there "
                f"already, for another database of this server: GRANT {', '.join(self._line.roles)} TO {self._owner} "
                "WITH ADMIN OPTION"
            ) from error

    def _leave_roles(self, connection: Connection) -> None:
        # What the owner needed in order to give functions away: keeping it would show it every tenant.
        if self._line.left:
            connection.execute(text(f"REVOKE {', '.join(self._line.left)} FROM CURRENT_USER"))

    def _give_rights(self, connection: Connection) -> None:
        # For /ready, which compares the release with the database.
        acted_as = self._line.acted_as
        connection.execute(text(f"GRANT SELECT ON {self._line.version_table} TO {acted_as[0]}"))
        connection.execute(text(RESTRICT))
        if self._login and self._login != self._owner:
            login = sql.Literal(self._login).as_string(None)
            admit = ADMIT_LOGIN.format(login=login, roles=", ".join(acted_as))
            connection.execute(text(admit))

    def _vacuum(self) -> None:
        """What migrations wrote anew: else reports would go through it slowly until enough of it has changed."""
        with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("SET statement_timeout = 0"))
            for table in connection.execute(text(NEVER_VACUUMED)).scalars().all():
                vacuum = text(f"VACUUM (ANALYZE) {table}")
                self._patiently(connection, partial(Connection.execute, statement=vacuum))

    def downgrade(self, revision: str) -> None:
        """Undo migrations down to this one."""
        with self._locked() as connection:
            self._patiently(connection, self._ensure_roles)
            self._patiently(connection, lambda _: self._commands.downgrade(revision))
            self._patiently(connection, self._leave_roles)

    def current(self) -> str | None:
        """The revision that the database is at, None for an empty one."""
        with self._engine.connect() as connection:
            return self._revision(connection)

    def _revision(self, connection: Connection) -> str | None:
        opts = {"version_table": self._line.version_table}
        return MigrationContext.configure(connection, opts=opts).get_current_revision()

    def check(self) -> None:
        """Raise MigrationError unless the migrations make exactly the tables that the models describe."""
        with self._locked():
            try:
                self._commands.check()
            except CommandError as error:
                raise MigrationError(str(error)) from error

    def check_sums(self) -> None:
        """Raise MigrationError unless what the CRM's reports add up is, in all organizations, what their rows say."""
        with self._locked() as connection:
            # The owner is given the role for as long as it looks: nothing of this is committed.
            self._ensure_roles(connection)
            connection.execute(text("SET LOCAL ROLE crm_maintenance"))
            tenants = connection.scalars(text("SELECT tenant_id FROM settings ORDER BY 1")).all()
            connection.execute(text("RESET ROLE"))
            for tenant in tenants:
                for compared, wrong in connection.execute(COMPARE, {"tenant": tenant}):
                    raise MigrationError(
                        f"The organization {tenant}: {wrong} rows of {compared} are not what the records say."
                        f" SELECT crm_add_up_reports('{tenant}') adds them up anew"
                    )

    @contextmanager
    def _locked(self) -> Iterator[Connection]:
        with self._engine.connect() as connection:
            lock = text("SELECT pg_advisory_lock(:lock)")
            self._patiently(connection, lambda connection: connection.execute(lock, {"lock": LOCK}))
            self._commands.config.attributes["connection"] = connection
            try:
                yield connection
            finally:
                connection.rollback()
                connection.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": LOCK})

    def _patiently(self, connection: Connection, work: Callable[[Connection], object]) -> None:
        """Do this and commit; where others hold a lock that it needs, undo it, let them go on, and try again."""
        pause, wait = FIRST_PAUSE_SECONDS, LOCK_WAIT
        while True:
            connection.execute(text(f"SET lock_timeout = '{wait}'"))
            connection.commit()
            try:
                work(connection)
                connection.commit()
            except (DBAPIError, Error) as error:
                connection.rollback()
                cause = error.orig if isinstance(error, DBAPIError) else error
                if not isinstance(cause, (errors.LockNotAvailable, errors.DeadlockDetected)):
                    raise
                found = connection.execute(text(BLOCKERS)).all()
                wait = VACUUM_WAIT if any(is_vacuum for _, is_vacuum, _ in found) else LOCK_WAIT
                connection.rollback()
                blockers = [f"{name} (process {pid})" for pid, _, name in found]
                self._tell(
                    f"Waiting for {', '.join(blockers) or 'a lock that is gone by now'};"
                    f" the next try is in {pause:g} s, and the service goes on meanwhile."
                )
                time.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            else:
                return


@contextmanager
def _steps_told(tell: Callable[[str], object]) -> Iterator[None]:
    """Tell of each migration as it begins: `Running upgrade 0064 -> 0065, What it does.`

    Alembic's hook comes after a migration; before it, there is only this line of its log.
    """

    def told(record: logging.LogRecord) -> bool:
        line = record.getMessage().splitlines()[0]
        if line.startswith("Running "):
            tell(line)
        return record.levelno > logging.INFO  # a log that is configured does not say it once more

    logger = logging.getLogger(MigrationContext.__module__)
    level = logger.level
    logger.addFilter(told)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeFilter(told)


def _driver(dsn: str) -> str:
    return dsn.replace("postgresql://", "postgresql+psycopg://", 1)
