"""`crm doctor`."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from time import sleep
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import click
import psycopg

from app.cli.environment import data_dir_option, environment
from app.db.revisions import SESSION_NAME, revision_of, revisions
from app.db.roles import SERVICE_ROLE
from app.db.standby import PLACE
from app.db.startup import UnsafeRoleError, check_role
from app.jobs.queue import SILENT_SECONDS
from app.settings import Settings

CONNECT_SECONDS = 5
OLDEST_SERVER = 150000
# Tokens are refused when clocks differ by 30 seconds.
CLOCK_WARNING_SECONDS, CLOCK_FAILURE_SECONDS = 2, 25
# A worker that runs takes a job within seconds, if it is not busy with others.
LONGEST_WAIT_SECONDS = 120
# A holder of locks that is still there after so long keeps others waiting for longer than they may.
HELD_SECONDS = 1.0
LEAST_FREE_BYTES = 1024**3
MOST_LAG_BYTES = 64 * 1024**2
SAMPLE = b"crm doctor"
# Rows that do not fit into memory go to temporary files, as long as the statement runs: 16 MB of them.
SPILL = "SELECT count(*) FROM unnest(array_fill(repeat('x', 8000), ARRAY[2000]))"
# Who holds what others wait for, in which transaction, and waits for nobody: whoever waits in between is not to blame.
# What other logins do is hidden from the service's login; their locks are not. A prepared transaction has process 0.
HOLDERS = """
    WITH locks AS MATERIALIZED (SELECT pid, granted, virtualtransaction FROM pg_locks),
    waits AS (
        SELECT pid, unnest(pg_blocking_pids(pid)) AS holder FROM locks JOIN pg_stat_activity USING (pid)
        WHERE NOT granted AND datname = current_database()
    )
    SELECT holder, min(virtualtransaction), usename, application_name, count(DISTINCT waits.pid), state,
           extract(epoch FROM clock_timestamp() - xact_start)::float8,
           left(query, 80)
    FROM waits
    LEFT JOIN locks ON locks.pid = holder
    LEFT JOIN pg_stat_activity AS session ON session.pid = holder
    WHERE NOT EXISTS (SELECT FROM locks WHERE pid = holder AND NOT granted)
    GROUP BY holder, usename, application_name, state, xact_start, query
    ORDER BY count(DISTINCT waits.pid) DESC
"""


class Verdict(StrEnum):
    """How it stands with a part."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    UNUSED = "unused"


COLORS = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.FAILED: "red", Verdict.UNUSED: "bright_black"}


class Finding(NamedTuple):
    """What was found out about one part, and what to do if it is not well."""

    part: str
    verdict: Verdict
    found: str
    advice: str = ""


class Wrong(Exception):
    """A check ends here: what was found, and what to do."""

    def __init__(self, found: str, advice: str, verdict: Verdict = Verdict.FAILED) -> None:
        super().__init__(found)
        self.advice = advice
        self.verdict = verdict


class Away(Wrong):
    """The database can't be reached."""


@click.command()
@data_dir_option
def doctor(data_dir: Path | None) -> None:
    """Look at the settings and at every server that they name, and say what is wrong and what to do.

    It uses the same settings as the service does, so run it where the service runs. It changes nothing; in the object
    store it puts a small object and deletes it. The exit code is 1 if something failed.

    \b
    Example:
      docker compose exec crm-service crm doctor
    """
    with environment(data_dir, with_store=True) as env:
        findings = list(_findings(env.settings))
    width = max(map(len, CHECKS))
    for finding in findings:
        verdict = click.style(f"{finding.verdict:<7}", fg=COLORS[finding.verdict])
        click.echo(f"{verdict}  {finding.part:<{width}}  {finding.found}")
        if finding.advice:
            click.echo(f"{'':7}  {'':<{width}}  {finding.advice}")
    failed = sum(finding.verdict is Verdict.FAILED for finding in findings)
    if failed:
        raise click.ClickException(f"{failed} of {len(findings)} parts failed")


def _findings(settings: Settings) -> Iterator[Finding]:
    away = False
    for part, check in CHECKS.items():
        try:
            found = check(settings)
        except Away as wrong:
            # Said once: all that need it find the same.
            yield Finding(part, Verdict.UNUSED, "needs the database") if away else _failure(part, wrong)
            away = True
        except Wrong as wrong:
            yield _failure(part, wrong)
        else:
            yield Finding(part, Verdict.OK if found else Verdict.UNUSED, found or "not configured")


def _failure(part: str, wrong: Wrong) -> Finding:
    return Finding(part, wrong.verdict, str(wrong), wrong.advice)


# ── what is looked at ────────────────────────────────────────────────────────────────────────────────────────────────


def _settings(settings: Settings) -> str:
    believed = f"X-Forwarded-For is believed from {', '.join(settings.proxies) or 'nobody'}"
    if settings.production:
        missing = [
            f"{name} ({without})"
            for name, value, without in (
                ("AUDIT_KEY", settings.audit_key, "whoever has JWT_SECRET can sign checkpoints of the audit log"),
                ("ENCRYPTION_KEYS", settings.encryption_keys, "no webhooks, and no keys of the assistant"),
                ("PUBLIC_URL", settings.public_url, "no links to files, calendars and mails"),
                ("TRUSTED_PROXIES", settings.trusted_proxies, "behind a proxy, all clients have its address"),
                ("SMTP_URL", settings.smtp_url, "no mail"),
            )
            if not value
        ]
        if missing:
            without = f"production, without {'; '.join(missing)}; {believed}"
            raise Wrong(without, "Set what you need.", Verdict.WARNING)
    return f"{settings.environment}; {believed}"


def _database(settings: Settings) -> str:
    began = time.monotonic()
    with _connected(settings) as connection:
        milliseconds = 1000 * (time.monotonic() - began)
        version, login, encoding, most, used, jit = _row(
            connection,
            "SELECT current_setting('server_version'), session_user, current_setting('server_encoding'),"
            " current_setting('max_connections')::int, (SELECT count(*) FROM pg_stat_activity),"
            " current_setting('jit')",
        )
        if connection.info.server_version < OLDEST_SERVER:
            raise Wrong(f"PostgreSQL {version} is too old", "Use PostgreSQL 15 or newer.")
        if encoding != "UTF8":
            raise Wrong(f"the database's encoding is {encoding}", "Make it anew with ENCODING 'UTF8'.")
        if settings.db_pool_max > most - used:
            raise Wrong(
                f"the server allows {most} connections and has {used}: a worker that is started now may need"
                f" {settings.db_pool_max}",
                "Lower DB_POOL_MAX, raise max_connections, or put a pooler between.",
                Verdict.WARNING,
            )
    is_off = "; JIT is on there, and the service turns it off for itself" if jit == "on" else ""
    return f"PostgreSQL {version}, as {login}, connected in {milliseconds:.0f} ms, {used} of {most} connections{is_off}"


def _rights(settings: Settings) -> str:
    with _connected(settings) as connection:
        try:
            connection.execute("SELECT set_config('role', %s, true)", [SERVICE_ROLE])
        except psycopg.Error:
            raise Wrong(
                f"the login may not act as {SERVICE_ROLE}",
                "Run crm db upgrade with the same DATABASE_URL: it gives the login its rights.",
            ) from None
    try:
        check_role(settings.database_dsn, production=True)
    except UnsafeRoleError as error:
        reason, _, advice = str(error).partition(": tenants would not be apart")
        verdict = Verdict.FAILED if settings.production else Verdict.WARNING
        raise Wrong(f"{reason}: tenants would not be apart", advice.lstrip(". "), verdict) from None
    return f"the login acts as {SERVICE_ROLE}, which row-level security binds"


def _migrations(settings: Settings) -> str:
    known = revisions()
    advice = "Run crm db upgrade."
    with _connected(settings) as connection:
        try:
            current = revision_of(connection) or "none"
        except psycopg.errors.UndefinedTable:
            raise Wrong("the database is empty", advice) from None
        except psycopg.errors.InsufficientPrivilege:
            raise Wrong("the login may not read which migrations were made", advice) from None
    if current not in known:
        raise Wrong(f"the database is at {current}, of a newer release", "Run that release here.", Verdict.WARNING)
    if current != known[0]:
        raise Wrong(f"the database is at {current}, and this release needs {known[0]}", advice)
    return f"at {current}, which is this release's"


def _room(settings: Settings) -> str:
    with _connected(settings) as connection:
        try:
            connection.execute("SELECT set_config('work_mem', '64kB', true)")
            connection.execute(SPILL)
        except psycopg.errors.DiskFull as error:
            advice = "Make room there, and start the server again if it has ended. Reads work meanwhile, writes do not."
            raise Wrong(f"full: {error.diag.message_primary}", advice) from None
        except psycopg.errors.ConfigurationLimitExceeded as error:
            advice = "Raise temp_file_limit: reports and exports of many records write more."
            raise Wrong(f"is not to be used so much: {error.diag.message_primary}", advice, Verdict.WARNING) from None
    return "has room for 16 MB of temporary files"


def _locks(settings: Settings) -> str:
    with _connected(settings) as connection:
        holders = connection.execute(HOLDERS).fetchall()
        if holders:
            sleep(HELD_SECONDS)
            before = {row[:2] for row in holders}
            holders = [row for row in connection.execute(HOLDERS).fetchall() if row[:2] in before]
    if not holders:
        return "nobody waits for long"
    pid, _, login, program, waiting, state, seconds, statement = holders[0]
    wait = f"{waiting} sessions wait for"
    if pid == 0:
        advice = "Look which (pg_prepared_xacts), and end it: ROLLBACK PREPARED 'its gid'."
        raise Wrong(f"{wait} a prepared transaction", advice)
    holder = f"{login}, {program or 'without an application name'}" if login else "one of its own, such as autovacuum"
    if state:
        # Without what would write over the terminal.
        last = " ".join("".join(sign if sign.isprintable() else " " for sign in statement).split())
        begun = "" if seconds is None else f", its transaction open for {seconds:.0f} s"
        holder += f"; {state}{begun}, its last statement: {last}"
    if program == SESSION_NAME:
        advice = "This is crm db upgrade: let it come to its end."
        raise Wrong(f"{wait} process {pid} of the server: {holder}", advice, Verdict.WARNING)
    advice = f"Look what it does (pg_stat_activity), and end it: SELECT pg_terminate_backend({pid})."
    raise Wrong(f"{wait} process {pid} of the server: {holder}", advice)


def _owner(settings: Settings) -> str | None:
    if settings.migration_dsn == settings.database_dsn:
        return None
    with _connected(settings, settings.migration_dsn, "MIGRATION_DATABASE_URL") as connection:
        (login,) = _row(connection, "SELECT session_user")
    return f"{login} logs in"


def _standby(settings: Settings) -> str | None:
    if not settings.read_dsn:
        return None
    unused = "The primary is read meanwhile."
    with _connected(settings) as connection:
        place, primary = _row(connection, PLACE)
    try:
        connection = _connected(settings, settings.read_dsn, "DATABASE_READ_URL")
    except Away as wrong:
        raise Wrong(str(wrong), f"{wrong.advice} {unused}", Verdict.WARNING) from None
    with connection:
        system, follows, feedback, lag = _row(
            connection,
            "SELECT system_identifier, pg_is_in_recovery(), current_setting('hot_standby_feedback'),"
            " greatest(pg_wal_lsn_diff(%s::pg_lsn, pg_last_wal_replay_lsn()), 0) FROM pg_control_system()",
            [place],
        )
    if system != primary:
        raise Wrong("it is not a copy of DATABASE_URL's database", f"Correct DATABASE_READ_URL. {unused}")
    if not follows:
        raise Wrong("it does not follow: it is a primary", f"Correct DATABASE_READ_URL. {unused}", Verdict.WARNING)
    if lag > MOST_LAG_BYTES:
        advice = f"Look at pg_stat_replication on the primary, and at the standby's log. {unused}"
        raise Wrong(f"it is {lag // 1024**2} MiB of the log behind", advice, Verdict.WARNING)
    if feedback != "on":
        advice = "Set hot_standby_feedback = on there, so that what the primary tidies up ends no export."
        raise Wrong("long reads may be ended there", advice, Verdict.WARNING)
    return f"follows, {lag} bytes behind"


def _clock(settings: Settings) -> str:
    with _connected(settings) as connection:
        before = time.time()
        (there,) = _row(connection, "SELECT extract(epoch FROM clock_timestamp())::float8")
        ahead = (before + time.time()) / 2 - there
    seconds = abs(ahead)
    if seconds > CLOCK_WARNING_SECONDS:
        verdict = Verdict.FAILED if seconds > CLOCK_FAILURE_SECONDS else Verdict.WARNING
        advice = "Let both set their clocks by NTP. If it is this machine's, valid tokens are refused as well."
        side = "ahead of" if ahead > 0 else "behind"
        raise Wrong(f"{seconds:.0f} s {side} the database's", advice, verdict)
    return f"within {max(seconds, 0.1):.1f} s of the database's"


def _jobs(settings: Settings) -> str:
    with _connected(settings) as connection:
        try:
            connection.execute("SELECT set_config('role', %s, true)", [SERVICE_ROLE])
            waiting, oldest = _row(connection, "SELECT waiting, oldest FROM crm_tend_jobs(%s)", [SILENT_SECONDS])
        except psycopg.Error:
            raise Wrong("the queue can't be read", "Mend rights and migrations first.") from None
    if oldest > LONGEST_WAIT_SECONDS:
        raise Wrong(
            f"{waiting} jobs wait, the oldest for {oldest:.0f} s", "Start crm worker, or look at its log if it runs."
        )
    return f"{waiting} wait"


def _store(settings: Settings) -> str | None:
    if not settings.s3_bucket:
        return None
    # Inside the function, because boto3 takes its time.
    from app.storage import s3

    where = f"{settings.s3_endpoint_url or 'Amazon S3'}, bucket {settings.s3_bucket}"
    key = f"incoming/doctor-{time.time_ns()}"
    try:
        client = s3.client(settings, settings.s3_endpoint_url, 1)
        client.put_object(Bucket=settings.s3_bucket, Key=key, Body=SAMPLE)
        read = client.get_object(Bucket=settings.s3_bucket, Key=key)["Body"].read()
        client.delete_object(Bucket=settings.s3_bucket, Key=key)
    except Exception as error:
        reason = s3.refusal(error)
        if reason is None:
            raise
        advice = {
            "NoCredentialsError": "Set S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY.",
            "NoSuchBucket": "Make the bucket, if there was none before; else correct S3_BUCKET, or bring the bucket"
            " back from its copy: a new one has no files.",
            "AccessDenied": "The key may not write, read and delete in the bucket: correct its policy.",
            "InvalidAccessKeyId": "Correct S3_ACCESS_KEY_ID.",
            "SignatureDoesNotMatch": "Correct S3_SECRET_ACCESS_KEY; the clocks must be right, too.",
            "RequestTimeTooSkewed": "This machine's clock is wrong: let NTP set it.",
        }.get(reason, "Look whether S3_ENDPOINT_URL is right and the store runs.")
        raise Wrong(f"{where}: {reason}", advice) from None
    if read != SAMPLE:
        raise Wrong(f"{where}: gives back something else than was put there", "Look at what stands between.")
    address = settings.s3_public_endpoint_url or settings.s3_endpoint_url
    if settings.production and urlsplit(address).hostname in {"localhost", "127.0.0.1", "::1"}:
        raise Wrong(
            f"{where}: works, but people's browsers are sent to {address} for files",
            "Set S3_PUBLIC_ENDPOINT_URL to the store's address for browsers.",
            Verdict.WARNING,
        )
    return f"{where}: writes, reads and deletes"


def _mail(settings: Settings) -> str | None:
    if not settings.sends_mail:
        return None
    # Inside the function, because most commands send none.
    from app.mail.transport import ServerAwayError, SmtpTransport, mail_folder

    if not settings.smtp_url:
        return f"kept as files in {mail_folder(settings)}"

    async def greet() -> None:
        transport = SmtpTransport(settings.smtp_url)
        await transport.open()
        await transport.close()

    try:
        asyncio.run(greet())
    except ServerAwayError as error:
        raise Wrong(str(error), "Correct SMTP_URL, or look whether this machine may reach the mail server.") from None
    return f"the server lets in; mails come from {settings.sender[1]}"


def _broker(settings: Settings) -> str | None:
    if not settings.amqp_url:
        return None
    try:
        # Inside the function, because it is an extra.
        from app.events.broker import BrokerError, connected
    except ModuleNotFoundError:
        raise Wrong("aio-pika is not installed", "pip install 'crm-service[broker]'") from None

    async def greet() -> None:
        async with connected(settings.amqp_url, settings.amqp_exchange):
            pass

    try:
        asyncio.run(greet())
    except BrokerError as error:
        raise Wrong(str(error), "Correct AMQP_URL, or look whether the broker runs. Events wait meanwhile.") from None
    return f"exchange {settings.amqp_exchange} is there"


def _redis(settings: Settings) -> str | None:
    if not settings.redis_url:
        return None
    try:
        # Inside the function, because it is an extra.
        from redis import Redis, RedisError
    except ModuleNotFoundError:
        raise Wrong("redis is not installed", "pip install 'crm-service[redis]'") from None
    try:
        with Redis.from_url(settings.redis_url, socket_timeout=2, socket_connect_timeout=2) as client:
            client.ping()
    except (RedisError, OSError, ValueError) as error:
        advice = "Correct REDIS_URL, or look whether it runs. Workers share nothing meanwhile, and go on."
        raise Wrong(str(error) or type(error).__name__, advice, Verdict.WARNING) from None
    return "answers"


def _disk(_: Settings) -> str:
    folder = tempfile.gettempdir()
    try:
        with tempfile.TemporaryFile() as file:
            file.write(SAMPLE)
    except OSError as error:
        advice = "Uploads and exports need a writable folder: mount one, or set TMPDIR."
        raise Wrong(f"{folder}: {error.strerror}", advice) from None
    free = shutil.disk_usage(folder).free
    if free < LEAST_FREE_BYTES:
        advice = "Large uploads and exports need more: make room, or set TMPDIR."
        raise Wrong(f"{folder}: {free // 1024**2} MiB free", advice, Verdict.WARNING)
    return f"{folder}: writable, {free // 1024**3} GiB free"


CHECKS: dict[str, Callable[[Settings], str | None]] = {
    "settings": _settings,
    "database": _database,
    "rights": _rights,
    "database's disk": _room,
    "database's locks": _locks,
    "migrations": _migrations,
    "owner's login": _owner,
    "standby": _standby,
    "clock": _clock,
    "jobs": _jobs,
    "object store": _store,
    "mail": _mail,
    "message broker": _broker,
    "redis": _redis,
    "temporary files": _disk,
}


# ── the database ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _connected(settings: Settings, dsn: str = "", name: str = "DATABASE_URL") -> psycopg.Connection:
    try:
        return psycopg.connect(dsn or settings.database_dsn, connect_timeout=CONNECT_SECONDS)
    except psycopg.Error as error:
        reason = str(error).strip().splitlines()[0]
        advice = f"Try the same {name} with psql; look whether the server runs and lets in, and why in its log."
        raise Away(reason, advice) from None


def _row(connection: psycopg.Connection, statement: Any, values: list[Any] | None = None) -> tuple[Any, ...]:
    row = connection.execute(statement, values).fetchone()
    assert row is not None  # noqa: S101 -- these statements give one row
    return row
