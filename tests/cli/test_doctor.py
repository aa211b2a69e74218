"""`crm doctor`: what is wrong, and what to do."""

from __future__ import annotations

import threading
import time

import psycopg
import pytest

from app.settings import Settings
from tests.callers import Caller
from tests.conftest import renamed
from tests.processes import crm_on, wait_until

NOWHERE = "localhost:1"


def diagnosis(settings: Settings, **environment: str) -> tuple[int, dict[str, str], str]:
    """The exit code, each part's verdict, and all that was said."""
    told = crm_on(settings, "doctor", **environment)
    verdicts = ("ok", "warning", "failed", "unused")
    lines = [line.split(maxsplit=1) for line in told.stdout.splitlines() if line.startswith(verdicts)]
    return told.exit_code, {part[: part.index("  ")]: verdict for verdict, part in lines}, told.output


@pytest.fixture(autouse=True)
def _what_others_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests before these share the server: no worker takes the jobs that they left there, and none does the upkeep."""
    monkeypatch.setattr("app.cli.doctor.LONGEST_WAIT_SECONDS", 24 * 3600)


def test_what_is_well_is_said(settings: Settings) -> None:
    code, verdicts, output = diagnosis(settings)
    assert code == 0, output
    assert {part for part, verdict in verdicts.items() if verdict == "unused"} == {"message broker", "redis", "standby"}
    assert "failed" not in verdicts.values()
    assert "writes, reads and deletes" in output


@pytest.mark.parametrize(
    ("part", "environment", "said"),
    [
        ("database", {"DATABASE_URL": f"postgresql://crm@{NOWHERE}/crm"}, "Connection refused"),
        (
            "object store",
            {"S3_BUCKET": "not-there"},
            "Correct S3_BUCKET, or bring the bucket back from its copy; a new one has no files.",
        ),
        ("object store", {"S3_ENDPOINT_URL": f"http://{NOWHERE}"}, "Look whether S3_ENDPOINT_URL is right"),
        ("object store", {"S3_SECRET_ACCESS_KEY": "wrong"}, "Correct S3_SECRET_ACCESS_KEY"),
        ("mail", {"SMTP_URL": f"smtp://{NOWHERE}", "MAIL_FROM": "crm@example.com"}, "Correct SMTP_URL"),
        ("message broker", {"AMQP_URL": f"amqp://a:b@{NOWHERE}/"}, "Correct AMQP_URL"),
        ("temporary files", {"TMPDIR": "/proc"}, "Uploads and exports need a writable folder"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_what_fails_is_named_with_what_to_do(
    settings: Settings,
    part: str,
    environment: dict[str, str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tempfile.tempdir", environment.get("TMPDIR"))
    code, verdicts, output = diagnosis(settings, **environment)
    assert (code, verdicts[part]) == (1, "failed"), output
    assert list(verdicts.values()).count("failed") == 1
    assert said in output
    assert "Traceback" not in output


def test_a_login_that_passes_row_level_security_is_no_login_for_production(settings: Settings) -> None:
    superuser = settings.database_dsn.replace("//crm_app@", "//postgres@")
    code, verdicts, output = diagnosis(settings, DATABASE_URL=superuser)
    assert (code, verdicts["rights"]) == (0, "warning"), output
    code, verdicts, output = diagnosis(settings, DATABASE_URL=superuser, ENVIRONMENT="production")
    assert (code, verdicts["rights"], verdicts["settings"]) == (1, "failed", "warning"), output
    assert "tenants would not be apart" in output


def test_a_database_without_migrations_needs_them(settings: Settings) -> None:
    code, verdicts, output = diagnosis(settings, DATABASE_URL=renamed(settings.database_dsn, "postgres"))
    assert (code, verdicts["migrations"], verdicts["jobs"]) == (1, "failed", "failed")
    assert "Run crm db upgrade." in output


def test_a_clock_that_is_off_is_noticed(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time
    for seconds, verdict in ((5, "warning"), (60, "failed")):
        monkeypatch.setattr("app.cli.doctor.time.time", lambda ahead=seconds: now() + ahead)
        _, verdicts, output = diagnosis(settings)
        assert verdicts["clock"] == verdict
        assert "NTP" in output


def test_jobs_that_nobody_takes_are_noticed(settings: Settings, admin: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    admin.ok("POST", "/admin/report-runs", {"report": "summary", "format": "csv"})
    monkeypatch.setattr("app.cli.doctor.LONGEST_WAIT_SECONDS", 0)
    code, verdicts, output = diagnosis(settings)
    assert (code, verdicts["jobs"]) == (1, "failed")
    assert "Start crm worker" in output


def test_whoever_holds_what_others_wait_for_is_named(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.cli.doctor.HELD_SECONDS", 0)
    with (
        psycopg.connect(settings.migration_dsn, application_name="quarterly") as holder,
        psycopg.connect(settings.migration_dsn, autocommit=True) as looker,
        psycopg.connect(settings.database_dsn) as waiter,
    ):
        holder.execute("LOCK TABLE customers IN ACCESS EXCLUSIVE MODE")
        holding = holder.info.backend_pid
        waiting = threading.Thread(
            target=waiter.execute,
            args=("SELECT set_config('role', 'crm_service', true); SELECT FROM customers LIMIT 1",),
        )
        waiting.start()
        try:
            held = "SELECT cardinality(pg_blocking_pids(%s)) > 0"
            wait_until(lambda: looker.execute(held, [waiter.info.backend_pid]).fetchone() == (True,), "it waits")
            code, verdicts, output = diagnosis(settings)
        finally:
            holder.rollback()
            waiting.join()
    assert (code, verdicts["database's locks"]) == (1, "failed")
    assert f"process {holding} of the server" in output
    assert "quarterly" in output


def test_a_full_disk_of_the_database_is_noticed(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    full = "DO $$ BEGIN RAISE 'could not write to file: No space left on device' USING ERRCODE = 'disk_full'; END $$"
    monkeypatch.setattr("app.cli.doctor.SPILL", full)
    code, verdicts, output = diagnosis(settings)
    assert (code, verdicts["database's disk"]) == (1, "failed")
    assert "Make room there" in output


def test_room_is_looked_for_on_the_databases_disk(settings: Settings) -> None:
    """Not in its memory: the statement has to write temporary files, or a full disk would not be noticed."""
    written = "SELECT temp_bytes FROM pg_stat_database WHERE datname = current_database()"
    with psycopg.connect(settings.migration_dsn, autocommit=True) as connection:

        def bytes_written() -> int:
            row = connection.execute(written).fetchone()
            assert row is not None
            return int(row[0])

        before = bytes_written()
        diagnosis(settings)
        wait_until(lambda: bytes_written() >= before + 16_000_000, "the server counts what was written")
