"""The embedded PostgreSQL."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import psycopg
import pytest

from app.dev import servers
from app.dev.postgres import OWNER, EmbeddedPostgres


def test_what_a_removed_data_directory_left_behind_goes_with_the_next_server(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path / "removed"), EmbeddedPostgres(tmp_path / "kept"):
        pass
    removed, kept = ((tmp_path / name / "postgres").resolve() for name in ("removed", "kept"))
    shutil.rmtree(tmp_path / "removed")

    following = EmbeddedPostgres(tmp_path / "following")

    assert not removed.exists()
    assert (kept / "PG_VERSION").exists()
    for server in (EmbeddedPostgres(tmp_path / "kept"), following):
        server.destroy()
    assert not kept.exists()


def test_a_server_that_hears_nothing_is_ended_all_the_same_and_the_next_one_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "STOP_SECONDS", 0.1)
    server = EmbeddedPostgres(tmp_path / "data")
    with server, psycopg.connect(server.dsn(user=OWNER), autocommit=True) as connection:
        connection.execute("CREATE TABLE kept ()")
        assert server.pid
        os.kill(server.pid, signal.SIGSTOP)
    with server, psycopg.connect(server.dsn(user=OWNER)) as connection:
        connection.execute("SELECT FROM kept")
    server.destroy()
