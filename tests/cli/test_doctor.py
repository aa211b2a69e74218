"""`crm doctor`: what is wrong, and what to do."""

from __future__ import annotations

import re
import threading
import time
from contextlib import ExitStack
from typing import Any, Self

import psycopg
import pytest
from sqlalchemy import Engine, event, make_url

from app.cli import doctor
from app.db.migrations import Migrations
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


def test_what_is_well_is_said(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    code, verdicts, output = diagnosis(settings)
    assert code == 0, output
    assert {part for part, verdict in verdicts.items() if verdict == "unused"} == {"message broker", "redis", "standby"}
    assert "failed" not in verdicts.values()
    assert "writes, reads and deletes" in output
    assert "X-Forwarded-For is believed from nobody" in output
    monkeypatch.setattr("app.cli.doctor.CHECKS", {"settings": doctor.CHECKS["settings"]})
    for environment in ("development", "production"):
        output = diagnosis(settings, ENVIRONMENT=environment, TRUSTED_PROXIES="10.0.0.0/8, 127.0.0.1")[2]
        assert "X-Forwarded-For is believed from 10.0.0.0/8, 127.0.0.1" in output


@pytest.mark.parametrize(
    ("part", "environment", "said"),
    [
        ("database", {"DATABASE_URL": f"postgresql://crm@{NOWHERE}/crm"}, "Connection refused"),
        (
            "object store",
            {"S3_BUCKET": "not-there"},
            "Make the bucket, if there was none before; else correct S3_BUCKET, or bring the bucket back from its copy",
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


def test_a_store_that_browsers_do_not_reach_is_noticed(settings: Settings) -> None:
    _, verdicts, output = diagnosis(settings, ENVIRONMENT="production")
    assert verdicts["object store"] == "warning"
    assert "Set S3_PUBLIC_ENDPOINT_URL to the store's address for browsers." in output
    elsewhere = {"ENVIRONMENT": "production", "S3_PUBLIC_ENDPOINT_URL": "https://files.example.com"}
    assert diagnosis(settings, **elsewhere)[1]["object store"] == "ok"


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


class Held:
    """One session that holds a lock, and another one that waits for it."""

    LOCK = "SELECT\n  pg_advisory_xact_lock(22)"

    def __init__(self, settings: Settings, holders_name: str) -> None:
        with ExitStack() as opened:
            self._holder = opened.enter_context(psycopg.connect(settings.migration_dsn, application_name=holders_name))
            self._waiter = opened.enter_context(psycopg.connect(settings.database_dsn, autocommit=True))
            self._looker = opened.enter_context(psycopg.connect(settings.migration_dsn, autocommit=True))
            self._opened = opened.pop_all()
        self.pid = self._holder.info.backend_pid

    def __enter__(self) -> Self:
        self._hold()
        return self

    def __exit__(self, *_: object) -> None:
        self._release()
        self._opened.close()

    def hold_anew(self) -> None:
        """Another short transaction of the same session, and another wait for it."""
        self._release()
        self._hold()

    def _hold(self) -> None:
        self._holder.execute(self.LOCK)
        self._waiting = threading.Thread(target=self._waiter.execute, args=(self.LOCK,), daemon=True)
        self._waiting.start()
        held, waiter = "SELECT cardinality(pg_blocking_pids(%s)) > 0", self._waiter.info.backend_pid
        wait_until(lambda: self._looker.execute(held, [waiter]).fetchone() == (True,), "it waits")

    def _release(self) -> None:
        self._holder.rollback()
        self._waiting.join(60)
        assert not self._waiting.is_alive()


def test_whoever_holds_what_others_wait_for_is_named(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.cli.doctor.HELD_SECONDS", 0)
    with Held(settings, "quarterly") as held:
        code, verdicts, output = diagnosis(settings)
        superuser = settings.database_dsn.replace("//crm_app@", "//postgres@")
        sees_more = diagnosis(settings, DATABASE_URL=superuser)[2]
    assert (code, verdicts["database's locks"]) == (1, "failed")
    assert f"process {held.pid} of the server" in output
    assert "quarterly\n" in output  # what another login does is hidden
    doing = r"quarterly; idle in transaction, its transaction open for \d+ s, its last statement: "
    assert re.search(doing + re.escape("SELECT pg_advisory_xact_lock(22)") + "\n", sees_more), sees_more


def test_a_migration_that_others_wait_for_is_not_to_be_ended(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.cli.doctor.HELD_SECONDS", 0)
    names: list[str] = []

    def note(connection: Any, _: object) -> None:
        names.append(connection.info.get_parameters()["application_name"])

    event.listen(Engine, "connect", note)
    Migrations(settings.migration_dsn, settings.database_dsn).current()
    event.remove(Engine, "connect", note)
    with Held(settings, names[0]):
        code, verdicts, output = diagnosis(settings)
    assert (code, verdicts["database's locks"]) == (0, "warning"), output
    assert "This is crm db upgrade: let it come to its end." in output
    assert "pg_terminate_backend" not in output


def test_a_session_whose_transactions_are_short_is_not_to_blame(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds what others wait for at both looks, but it gave it back in between."""
    with Held(settings, "crm-service") as held:
        monkeypatch.setattr("app.cli.doctor.HELD_SECONDS", held)
        monkeypatch.setattr("app.cli.doctor.sleep", Held.hold_anew)
        code, _, output = diagnosis(settings)
    assert (code, "nobody waits for long" in output) == (0, True), output


@pytest.mark.parametrize(
    ("holder", "said"),
    [
        ("0, '-1/7', NULL, NULL", "wait for a prepared transaction"),
        ("7, '3/7', NULL, ''", "process 7 of the server: one of its own, such as autovacuum"),
        ("7, '3/7', 'bob', ''", "process 7 of the server: bob, without an application name"),
    ],
)
def test_a_holder_without_a_name_is_told_of_in_words(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, holder: str, said: str
) -> None:
    """What the server answers then: to get there takes settings that the tests' server does not have."""
    monkeypatch.setattr("app.cli.doctor.HELD_SECONDS", 0)
    monkeypatch.setattr("app.cli.doctor.HOLDERS", f"SELECT {holder}, 2, NULL, NULL, '<insufficient privilege>'")
    monkeypatch.setattr("app.cli.doctor.CHECKS", {"database's locks": doctor.CHECKS["database's locks"]})
    assert said in diagnosis(settings)[2]


def test_a_full_disk_of_the_database_is_noticed(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    full = "DO $$ BEGIN RAISE 'could not write to file: No space left on device' USING ERRCODE = 'disk_full'; END $$"
    monkeypatch.setattr("app.cli.doctor.SPILL", full)
    code, verdicts, output = diagnosis(settings)
    assert (code, verdicts["database's disk"]) == (1, "failed")
    assert "Make room there" in output


def test_a_limit_of_temporary_files_is_not_taken_for_a_full_disk(settings: Settings) -> None:
    superuser = make_url(settings.database_dsn).set(username="postgres")
    limited = superuser.update_query_dict({"options": "-ctemp_file_limit=1MB"})
    code, verdicts, output = diagnosis(settings, DATABASE_URL=limited.render_as_string(hide_password=False))
    assert (code, verdicts["database's disk"]) == (0, "warning"), output
    assert "Raise temp_file_limit" in output
    assert "has room for 16 MB of temporary files" in diagnosis(settings)[2]


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
