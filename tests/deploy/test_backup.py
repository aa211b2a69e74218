"""The commands of docs/operations.md for backing up and restoring, as they stand there: to another server, and to any
moment.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from litestar import Litestar
from litestar.testing import TestClient
from msgspec.structs import replace

from app.db.migrations import Migrations
from app.dev.object_store import EmbeddedStore
from app.dev.postgres import EmbeddedPostgres
from app.main import create_app
from app.settings import Settings
from tests.callers import Caller, Callers

pytestmark = pytest.mark.slow

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
TABLES = "SELECT format('%I', relname) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"


def blocks(heading: str, language: str) -> list[str]:
    """The page's code of one section."""
    section = re.split(r"\n#+ ", PAGE.split(f"# {heading}\n", 1)[1])[0]
    return [block.replace("\n   ", "\n") for block in re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)]


class Server:
    """An installation as the page makes it."""

    def __init__(self, embedded: EmbeddedPostgres, store: EmbeddedStore, bucket: Path) -> None:
        self.embedded = embedded
        self.bucket = bucket
        self.administrator = embedded.dsn(user="postgres")
        self.settings = store.configured(
            Settings(
                database_url=embedded.dsn(user="crm"),
                migration_database_url=embedded.dsn(user="crm_owner"),
                jwt_secret="s" * 32,
            )
        )
        with psycopg.connect(embedded.dsn(user="postgres", database="postgres"), autocommit=True) as connection:
            for statement in ("DROP DATABASE crm", "DROP ROLE crm_owner", "DROP ROLE crm_app"):
                connection.execute(statement)
            for statement in blocks("Install", "sql")[0].split(";"):
                connection.execute(statement)

    def moved_to(self, embedded: EmbeddedPostgres, store: EmbeddedStore) -> None:
        """The same database is at another server now, and the files in another store."""
        self.embedded = embedded
        self.administrator = embedded.dsn(user="postgres")
        own = replace(
            self.settings,
            database_url=embedded.dsn(user="crm"),
            migration_database_url=embedded.dsn(user="crm_owner"),
        )
        self.settings = store.configured(own)

    def environment(self) -> dict[str, str]:
        """What commands are told."""
        names = ("database_url", "migration_database_url", "jwt_secret", "s3_endpoint_url", "s3_bucket")
        secrets = ("s3_access_key_id", "s3_secret_access_key")
        return {name.upper(): getattr(self.settings, name) for name in (*names, *secrets)}

    def contents(self) -> dict[str, list[tuple[object, ...]]]:
        """Every row of every table."""
        with psycopg.connect(self.administrator) as connection:
            tables = [name for (name,) in connection.execute(TABLES)]
            return {name: connection.execute(f"SELECT t::text FROM {name} t ORDER BY 1").fetchall() for name in tables}


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[tuple[Server, Server]]:
    options = ("fsync=off", "full_page_writes=off")
    with (
        EmbeddedPostgres(tmp_path / "old", options=options) as old,
        EmbeddedPostgres(tmp_path / "new", options=options) as new,
        EmbeddedStore(tmp_path / "old") as old_store,
        EmbeddedStore(tmp_path / "new") as new_store,
    ):
        old_bucket, new_bucket = (tmp_path / name / "objects/crm" for name in ("old", "new"))
        yield Server(old, old_store, old_bucket), Server(new, new_store, new_bucket)
    old.destroy()
    new.destroy()


def run(script: str, tools: Path, folder: Path, account: int | None = None, /, **environment: str) -> str:
    """What it printed. `account` is whose it is, where we may choose."""
    path = f"{tools}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    ran = subprocess.run(
        ["bash", "-euc", script],
        cwd=folder,
        env={**os.environ, **environment, "PATH": path},
        user=account,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, script + ran.stdout + ran.stderr
    return ran.stdout


def person(client: TestClient[Litestar], settings: Settings) -> Caller:
    return Callers(client, settings).person("admin", "acme", user_id="1")


@pytest.mark.usefixtures("bare_servers")
def test_everything_comes_back_on_another_server(servers: tuple[Server, Server], tmp_path: Path) -> None:
    old, new = servers
    Migrations(old.settings.migration_dsn, old.settings.database_dsn).upgrade()
    with TestClient(create_app(old.settings)) as client:
        admin = person(client, old.settings)
        ada = admin.customer("Ada Lovelace", email="ada@example.com")
        admin.ok("POST", "/admin/deals", {"title": "An engine", "customer_id": ada["id"], "amount": 12.5})
        admin.ok("DELETE", f"/admin/customers/{admin.customer('Somebody else')['id']}")
        file = admin.attach(f"/admin/customers/{ada['id']}", b"Notes on the engine").json()
    run("crm audit seal", old.embedded.programs, tmp_path, **old.environment())
    before = old.contents()
    assert len(before["audit_entries"]) == len(before["audit_seals"]) == 5

    (grants,) = blocks("Back up and restore", "sql")
    with psycopg.connect(old.administrator, autocommit=True) as connection:
        for statement in grants.split(";"):
            connection.execute(statement)
    backup, restore = blocks("Back up and restore", "sh")
    run(backup, old.embedded.programs, tmp_path, BACKUP_URL=old.embedded.dsn(user="crm_backup"))
    shutil.copytree(old.bucket, new.bucket, dirs_exist_ok=True)
    said = run(restore, new.embedded.programs, tmp_path, ADMIN_URL=new.administrator, **new.environment())
    assert "5 entries checked, 0 not sealed yet.\nThe audit log is intact." in said
    assert "Found: 0 objects, 0 attachments, 0 uploads." in said

    after = new.contents()
    # That somebody verified it is the one thing that is new.
    assert [name for name, rows in after.items() if rows != before[name]] == ["routines"]
    with TestClient(create_app(new.settings)) as client:
        admin = person(client, new.settings)
        assert [customer["name"] for customer in admin.ok("GET", "/admin/customers", search="lovel")["data"]] == [
            "Ada Lovelace"
        ]
        assert admin.get(f"/admin/attachments/{file['id']}/content").content == b"Notes on the engine"
        admin.ok("PATCH", f"/admin/customers/{ada['id']}", {"status": "active"})
        assert admin.audit(resource_id=ada["id"], resource_type="customer")[0]["action"] == "update"


@pytest.mark.skipif(not os.environ.get("CRM_DRILL"), reason="make drill does this")
@pytest.mark.usefixtures("bare_servers")
def test_the_database_comes_back_as_it_was_before_an_organization_was_erased(tmp_path: Path) -> None:
    archive, copy, restore, check = blocks("To any moment", "sh")
    options = ("fsync=off", "hot_standby=off")
    with EmbeddedPostgres(tmp_path / "old", options=options) as old, EmbeddedStore(tmp_path / "old") as store:
        # The server's account has the folders.
        files = (tmp_path / "old/postgres").resolve()
        account = files.stat().st_uid if os.geteuid() == 0 else None
        place = Path(tempfile.mkdtemp(prefix="crm-backups-"))
        os.chown(place, files.stat().st_uid, files.stat().st_gid)
        given = (old.programs, place, account)
        run(archive, *given, BACKUPS=str(place), ADMIN_URL=old.dsn(user="postgres"))
        old.stop()
        old.start()
        server = Server(old, store, tmp_path / "old/objects/crm")
        Migrations(server.settings.migration_dsn, server.settings.database_dsn).upgrade()
        run(copy, *given, BACKUPS=str(place), ADMIN_URL=server.administrator)

        with TestClient(create_app(server.settings)) as client:
            admin = person(client, server.settings)
            ada = admin.customer("Ada Lovelace")
            file = admin.attach(f"/admin/customers/{ada['id']}", b"Notes on the engine").json()
        run("crm audit seal", old.programs, tmp_path, **server.environment())
        before = server.contents()
        assert len(before["customers"]) == 1
        with psycopg.connect(server.administrator) as connection:
            ((moment,),) = connection.execute("SELECT clock_timestamp()::text").fetchall()
        shutil.copytree(server.bucket, tmp_path / "new/objects/crm")
        run("crm tenant erase acme --yes", old.programs, tmp_path, **server.environment())
        assert server.contents()["customers"] == []
        old.stop()

        new = EmbeddedPostgres(tmp_path / "new", options=options)
        files = (tmp_path / "new/postgres").resolve()
        files.mkdir(mode=0o700, exist_ok=True)
        run(restore, *given, BACKUPS=str(place), NEW=str(files), MOMENT=moment)
        with new, EmbeddedStore(tmp_path / "new") as other:
            server.moved_to(new, other)
            assert server.contents() == before
            said = run(check, new.programs, tmp_path, **server.environment())
            assert "The audit log is intact." in said
            assert "Found: 0 objects, 0 attachments, 0 uploads." in said
            with TestClient(create_app(server.settings)) as client:
                admin = person(client, server.settings)
                assert admin.get(f"/admin/attachments/{file['id']}/content").content == b"Notes on the engine"
                admin.ok("PATCH", f"/admin/customers/{ada['id']}", {"status": "active"})
    old.destroy()
    new.destroy()
    shutil.rmtree(place)
