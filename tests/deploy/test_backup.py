"""The commands of docs/operations.md for backing up and restoring, as they stand there, from one server to another."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from litestar import Litestar
from litestar.testing import TestClient

from app.db.migrations import Migrations
from app.dev.postgres import EmbeddedPostgres
from app.main import create_app
from app.settings import Settings
from tests.callers import Caller, Callers

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
TABLES = "SELECT format('%I', relname) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"


def blocks(heading: str, language: str) -> list[str]:
    """The page's code of one section."""
    section = re.split(r"\n#+ ", PAGE.split(f"# {heading}\n", 1)[1])[0]
    return [block.replace("\n   ", "\n") for block in re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)]


class Server:
    """An installation as the page makes it."""

    def __init__(self, embedded: EmbeddedPostgres) -> None:
        self.embedded = embedded
        self.administrator = embedded.dsn(user="postgres")
        self.settings = Settings(
            database_url=embedded.dsn(user="crm"),
            migration_database_url=embedded.dsn(user="crm_owner"),
            jwt_secret="s" * 32,
        )
        with psycopg.connect(embedded.dsn(user="postgres", database="postgres"), autocommit=True) as connection:
            for statement in ("DROP DATABASE crm", "DROP ROLE crm_owner", "DROP ROLE crm_app"):
                connection.execute(statement)
            for statement in blocks("Install", "sql")[0].split(";"):
                connection.execute(statement)

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
    ):
        yield Server(old), Server(new)
    old.destroy()
    new.destroy()


def run(script: str, tools: Path, folder: Path, **environment: str) -> None:
    path = f"{tools}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    ran = subprocess.run(
        ["bash", "-euc", script],
        cwd=folder,
        env={**os.environ, **environment, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, script + ran.stdout + ran.stderr


def person(client: TestClient[Litestar], settings: Settings) -> Caller:
    return Callers(client, settings).person("admin", "acme", user_id="1")


def test_everything_comes_back_on_another_server(servers: tuple[Server, Server], tmp_path: Path) -> None:
    old, new = servers
    Migrations(old.settings.migration_dsn, old.settings.database_dsn).upgrade()
    with TestClient(create_app(old.settings)) as client:
        admin = person(client, old.settings)
        ada = admin.customer("Ada Lovelace", email="ada@example.com")
        admin.ok("POST", "/admin/deals", {"title": "An engine", "customer_id": ada["id"], "amount": 12.5})
        admin.ok("DELETE", f"/admin/customers/{admin.customer('Somebody else')['id']}")
    before = old.contents()
    assert len(before["audit_entries"]) == 4

    (grants,) = blocks("Back up and restore", "sql")
    with psycopg.connect(old.administrator, autocommit=True) as connection:
        for statement in grants.split(";"):
            connection.execute(statement)
    backup, restore = blocks("Back up and restore", "sh")
    run(backup, old.embedded.programs, tmp_path, BACKUP_URL=old.embedded.dsn(user="crm_backup"))
    urls = {"MIGRATION_DATABASE_URL": new.settings.migration_dsn, "DATABASE_URL": new.settings.database_dsn}
    run(restore, new.embedded.programs, tmp_path, ADMIN_URL=new.administrator, **urls)

    assert new.contents() == before
    with TestClient(create_app(new.settings)) as client:
        admin = person(client, new.settings)
        assert [customer["name"] for customer in admin.ok("GET", "/admin/customers", search="lovel")["data"]] == [
            "Ada Lovelace"
        ]
        admin.ok("PATCH", f"/admin/customers/{ada['id']}", {"status": "active"})
        assert admin.audit(resource_id=ada["id"], resource_type="customer")[0]["action"] == "update"
