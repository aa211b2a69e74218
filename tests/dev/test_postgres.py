"""The embedded PostgreSQL."""

from __future__ import annotations

import shutil
from pathlib import Path

from app.dev.postgres import EmbeddedPostgres


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
