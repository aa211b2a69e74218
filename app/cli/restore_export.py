"""`crm restore-export`: an organization's archive, put back into an empty organization."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import click
import msgspec
import psycopg
from msgspec import Struct

from app.admin.exports.archive import ATTACHMENTS, MANIFEST, TYPES, rows_of, stored_columns
from app.admin.exports.copying import JSON_LINES
from app.cli.environment import TenantName, data_dir_option, environment
from app.models import Attachment, AuditEntry, Record, ReportSchedule, Webhook
from app.models.base import Base, table_of
from app.storage.objects import ObjectStore, new_key

AT_ONCE = 2_000
BLOCK = 1024 * 1024
# These would begin to send things to other systems and people.
NOT_RESTORED = (Webhook, ReportSchedule)
# An entry of the log has a new id and a new seal in its new organization.
ANEW = frozenset({"id", "sequence", "hash", "erased_by", "salt", "old_digest", "new_digest"})
SEALED = ("sequence", "hash")
# Every archive has these. What came later may be missing in one that an earlier release made.
ALWAYS = (
    *("settings", "users", "tags", "pipeline_stages", "customers", "contacts", "deals", "activities", "notes"),
    *("attachments", "stage_history", "audit_entries"),
)
# What some entries say about others, by their ids.
ABOUT_OTHERS = frozenset({"action", "new_values"})
# A note that the old log was cut would be false in the new one, which has no cut: there it is an update of the log.
STORE_LOG = """
WITH renamed AS MATERIALIZED (
    SELECT n, (line ->> 'id')::bigint AS old, nextval(pg_get_serial_sequence('audit_entries', 'id')) AS new
    FROM (SELECT n, line FROM incoming ORDER BY n) AS ordered
), entries AS (
    SELECT n, renamed.new, entry.*, coalesce(entry.salt, uuid_send(gen_random_uuid())) AS new_salt, CASE
        WHEN action = 'erase' THEN new_values || jsonb_strip_nulls(jsonb_build_object(
            'entries', (
                SELECT coalesce(jsonb_agg(named.new ORDER BY named.new), '[]')
                FROM jsonb_array_elements_text(new_values -> 'entries') AS each
                    JOIN renamed AS named ON named.old = each::bigint
            ),
            'continues', (SELECT named.new FROM renamed AS named WHERE named.old = (new_values ->> 'continues')::bigint)
        ))
        ELSE new_values END AS told
    FROM incoming JOIN renamed USING (n) CROSS JOIN LATERAL jsonb_populate_record(NULL::audit_entries, line) AS entry
)
INSERT INTO audit_entries (tenant_id, id, resource_type, resource_id, action, user_id, user_name, user_role,
    ip_address, user_agent, request_id, created_at, version, operation_id, via,
    old_values, new_values, salt, old_digest, new_digest, erased_by)
OVERRIDING SYSTEM VALUE
SELECT %s, new, resource_type, resource_id,
    CASE WHEN resource_type = 'audit_log' AND action = 'purge' THEN 'update' ELSE action END,
    user_id, user_name, user_role, ip_address, user_agent, request_id, created_at, version, operation_id, via,
    old_values, told, CASE WHEN erased_by IS NULL THEN new_salt END,
    CASE WHEN erased_by IS NULL THEN crm_values_digest(new_salt, old_values) ELSE old_digest END,
    CASE WHEN erased_by IS NULL THEN crm_values_digest(new_salt, told) ELSE new_digest END,
    (SELECT named.new FROM renamed AS named WHERE named.old = erased_by)
FROM entries ORDER BY n
"""
ACTOR = json.dumps({"user_name": "crm restore-export"})


class ArchivedFile(Struct):
    """A file of an archive, as its manifest lists it."""

    name: str
    count: int
    sha256: str


class Manifest(Struct):
    """What is in an archive."""

    organization: str
    files: list[ArchivedFile]


@click.command("restore-export")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--tenant", type=TenantName(), required=True, help="The organization, which must be empty.")
@data_dir_option
@click.pass_context
def restore_export(ctx: click.Context, file: Path, tenant: str, data_dir: Path | None) -> None:
    """Put the archive FILE of an organization into another one, which is empty: all records with their ids, the trash,
    the history and the files. What an archive of an earlier release does not have is as it is at first, and is said.

    It needs the login that owns the tables, and the S3 settings where the archive has files. Broken off, it goes on
    when it is run again. Other writers wait for fractions of a second while it works. In the end it compares what is
    there with the archive; the exit code is 1 if anything differs.

    \b
    Example:
      crm restore-export archive-2026-11-26.zip --tenant acme-copy
    """
    with environment(data_dir, with_store=True) as env, _opened(file) as archive:
        manifest = _manifest(archive)
        _check(archive, manifest)
        store = ObjectStore(env.settings)
        with psycopg.connect(env.settings.migration_dsn, autocommit=True) as connection:
            restore = Restore(archive, manifest, tenant, connection, store)
            restore.begin()
            restore.put_back()
            same = restore.compare()
        store.close()
    ctx.exit(0 if same else 1)


class Restore:
    """Puts an archive back into an organization, over a connection of the tables' owner."""

    def __init__(
        self, archive: ZipFile, manifest: Manifest, tenant: str, connection: psycopg.Connection[Any], store: ObjectStore
    ) -> None:
        self._archive = archive
        self._counts = {each.name: each.count for each in manifest.files}
        self._hashes = {each.name: each.sha256 for each in manifest.files}
        # By type the columns that the archive has.
        self._columns = {name: self._columns_of(name) for name in TYPES if f"{name}.jsonl" in self._counts}
        self._tenant = tenant
        self._connection = connection
        self._store = store

    def _columns_of(self, name: str) -> list[str]:
        """Raises ClickException for one that is not known here."""
        known = stored_columns(table_of(TYPES[name]))
        first = next(self._lines(name), None)
        columns = known if first is None else [column for column in json.loads(first) if column not in SEALED]
        if unknown := [column for column in columns if column not in known]:
            raise click.ClickException(f"{name}.jsonl has {', '.join(unknown)}: a later release made the archive")
        return columns

    def _lacks(self, name: str) -> list[str]:
        """The columns that the archive does not have."""
        return [column for column in stored_columns(table_of(TYPES[name])) if column not in self._columns[name]]

    def begin(self) -> None:
        """Take away what the organization's first request made. Raises ClickException if it has anything else."""
        with self._entered():
            if self._one("SELECT EXISTS (SELECT FROM audit_entries)"):
                raise click.ClickException(f"The organization {self._tenant} is not empty: its log has entries")
            if self._one("SELECT EXISTS (SELECT FROM customers) OR EXISTS (SELECT FROM tags)"):
                return  # It was broken off before.
            for table in ("pipeline_stages", "settings", "members"):
                with self._quietly(table):
                    self._connection.execute(f"DELETE FROM {table}")  # noqa: S608 -- our own names
            self._connection.execute("DELETE FROM users")

    def put_back(self) -> None:
        """All records and files, and in the end the history."""
        with click.progressbar(length=sum(self._counts.values()), label=f"Restoring {self._tenant}") as bar:
            for name, model in TYPES.items():
                if model in NOT_RESTORED or name not in self._columns:
                    continue
                if model is AuditEntry:
                    with self._entered():
                        self._store_log(name)
                    bar.update(self._counts[f"{name}.jsonl"])
                    continue
                for lines in _batches(self._lines(name)):
                    rows = [self._with_object(line) for line in lines] if model is Attachment else lines
                    with self._entered(), self._quietly(name):
                        self._store_rows(name, model, rows)
                    bar.update(len(lines))
                if issubclass(model, Record) or name == "stage_history":
                    self._go_past(name)
        # The history of the stages came without triggers.
        self._connection.execute("SELECT crm_add_up_reports(%s)", [self._tenant])

    def compare(self) -> bool:
        """Print what is in the archive and what is here; answers whether all is equal."""
        same = True
        click.echo(f"{'':18}{'archive':>12}{'here':>12}")
        with self._entered():
            for name, model in TYPES.items():
                if name not in self._columns:
                    click.echo(f"{name:18}{'-':>12}{'-':>12}  an earlier release made the archive")
                    continue
                if model in NOT_RESTORED:
                    click.echo(f"{name:18}{self._counts[f'{name}.jsonl']:12}{'-':>12}  not restored")
                    continue
                if model is AuditEntry:
                    lacks = frozenset(self._lacks(name))
                    there, here = (_log_content(lines, lacks) for lines in (self._lines(name), self._rows(name)))
                else:
                    there = self._counts[f"{name}.jsonl"], self._hashes[f"{name}.jsonl"]
                    here = _content(self._rows(name))
                equal = there == here
                same = same and equal
                said = ("equal" if equal else "DIFFERENT") + (
                    f"; the archive has no {', '.join(missing)}" if (missing := self._lacks(name)) else ""
                )
                click.echo(f"{name:18}{there[0]:12}{here[0]:12}  {said}")
            sums = self._connection.execute("SELECT currency, sum(amount) FROM deals GROUP BY 1 ORDER BY 1")
            for currency, total in sums.fetchall():
                click.echo(f"deals of {currency}: {total}")
        return same

    def _store_rows(self, name: str, model: type[Base], lines: list[bytes]) -> None:
        columns = [*self._columns[name], *(["object_key"] if model is Attachment else [])]
        self._copy(lines)
        listed = ", ".join(f'"{column}"' for column in columns)
        self._connection.execute(
            f"INSERT INTO {name} (tenant_id, {listed}) OVERRIDING SYSTEM VALUE SELECT %s, {listed}"  # noqa: S608 -- our own names
            f" FROM incoming CROSS JOIN LATERAL jsonb_populate_record(NULL::{name}, line) ORDER BY n"
            " ON CONFLICT (tenant_id, id) DO NOTHING",
            [self._tenant],
        )

    def _store_log(self, name: str) -> None:
        """The entries in their order, under new ids. What one says of others by their ids, it says by the new ones."""
        lines = self._lines(name)
        self._copy(lines)
        self._connection.execute(STORE_LOG, [self._tenant])

    def _copy(self, lines: Iterator[bytes] | list[bytes]) -> None:
        self._connection.execute(
            "CREATE TEMP TABLE incoming (n bigint GENERATED ALWAYS AS IDENTITY, line jsonb) ON COMMIT DROP"
        )
        with self._connection.cursor().copy("COPY incoming (line) FROM STDIN") as copy:
            for line in lines:
                copy.write_row([line.decode()])

    def _with_object(self, line: bytes) -> bytes:
        """The row of an attachment whose bytes are in the store now. If they were missing, they stay so."""
        row = json.loads(line)
        key = new_key(self._tenant)
        with suppress(KeyError), self._archive.open(f"{ATTACHMENTS}{row['id']}") as content:
            asyncio.run(self._store.put(key, content, row["size"], row["content_type"]))
        return json.dumps(row | {"object_key": key}).encode()

    def _go_past(self, table: str) -> None:
        """Let new records have ids that the restored ones do not have. The leap is so wide that no id is given twice
        to those who take one at this moment.
        """
        with self._entered():
            self._connection.execute(
                "SELECT setval(sequence, newest + 1000) FROM (SELECT pg_get_serial_sequence(%s, 'id') AS sequence,"  # noqa: S608 -- our own names
                f" (SELECT max(id) FROM {table}) AS newest) AS found"
                " WHERE newest > (SELECT last_value FROM pg_sequences"
                "   WHERE format('%%I.%%I', schemaname, sequencename) = sequence)",
                [table],
            )

    @contextmanager
    def _entered(self) -> Iterator[None]:
        with self._connection.transaction():
            self._connection.execute(
                "SELECT set_config('crm.tenant', %s, true), set_config('crm.actor', %s, true),"
                " set_config('timezone', 'UTC', true), set_config('jit', 'off', true)",
                [self._tenant, ACTOR],
            )
            yield

    @contextmanager
    def _quietly(self, table: str) -> Iterator[None]:
        """Inside, changes of a table are only counted and added up: they are no news, and their history comes from the
        archive.
        """
        self._connection.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        # Without members in the archive, people become members as they did when these came.
        names = ["count_insert", "sum_insert", "tags_insert", *([] if "members" in self._columns else ["join_member"])]
        kept = "SELECT tgname FROM pg_trigger WHERE tgrelid = %s::regclass AND tgname = ANY(%s)"
        for (trigger,) in self._connection.execute(kept, [table, names]).fetchall():
            self._connection.execute(f"ALTER TABLE {table} ENABLE TRIGGER {trigger}")
        yield
        self._connection.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")

    def _lines(self, name: str) -> Iterator[bytes]:
        with self._archive.open(f"{name}.jsonl") as file:
            yield from file

    def _rows(self, name: str) -> Iterator[bytes]:
        copy_out = f"COPY ({rows_of(TYPES[name], self._columns[name]).text}) TO STDOUT ({JSON_LINES})"
        with self._connection.cursor().copy(copy_out.encode()) as rows:
            for row in rows:
                yield bytes(row)

    def _one(self, query: str) -> Any:
        row = self._connection.execute(query.encode()).fetchone()
        assert row is not None  # noqa: S101 -- of an expression
        return row[0]


def _content(lines: Iterator[bytes]) -> tuple[int, str]:
    """How many lines there are, and their hash."""
    count, hashed = 0, hashlib.sha256()
    for line in lines:
        count += 1
        hashed.update(line)
    return count, hashed.hexdigest()


def _log_content(lines: Iterator[bytes], lacks: frozenset[str]) -> tuple[int, str]:
    """The same of entries of the log, without what is different in another organization, or is not in the archive."""
    return _content(_without(line, lacks) for line in lines)


def _without(line: bytes, lacks: frozenset[str]) -> bytes:
    entry = json.loads(line, parse_float=str)
    names_others = entry["action"] == "erase" or entry["resource_type"] == "audit_log"
    left_out = ANEW | lacks | (ABOUT_OTHERS if names_others else frozenset())
    return json.dumps({name: value for name, value in entry.items() if name not in left_out}, sort_keys=True).encode()


def _batches(lines: Iterator[bytes]) -> Iterator[list[bytes]]:
    while batch := list(islice(lines, AT_ONCE)):
        yield batch


@contextmanager
def _opened(file: Path) -> Iterator[ZipFile]:
    try:
        with ZipFile(file) as archive:
            yield archive
    except BadZipFile:
        raise click.ClickException(f"{file} is not a ZIP, or only a part of one") from None


def _manifest(archive: ZipFile) -> Manifest:
    """What the archive says that is in it. Raises ClickException."""
    try:
        manifest = msgspec.json.decode(archive.read(MANIFEST), type=Manifest)
    except (KeyError, msgspec.DecodeError):
        raise click.ClickException(
            f"This is no archive of an organization: its {MANIFEST} is missing or not ours"
        ) from None
    listed = {each.name for each in manifest.files}
    if missing := [name for name in ALWAYS if f"{name}.jsonl" not in listed]:
        raise click.ClickException(f"This is no archive of an organization: it lacks {', '.join(missing)}")
    if unknown := [name for name in listed if name.endswith(".jsonl") and name.removesuffix(".jsonl") not in TYPES]:
        raise click.ClickException(f"The archive has {', '.join(sorted(unknown))}: a later release made it")
    return manifest


def _check(archive: ZipFile, manifest: Manifest) -> None:
    """Raise ClickException unless each file is as the manifest says."""
    with click.progressbar(manifest.files, label="Checking the archive") as files:
        for each in files:
            hashed = hashlib.sha256()
            try:
                with archive.open(each.name) as file:
                    while block := file.read(BLOCK):
                        hashed.update(block)
            except KeyError:
                raise click.ClickException(f"The archive lacks {each.name}, which its manifest lists") from None
            if hashed.hexdigest() != each.sha256:
                raise click.ClickException(
                    f"{each.name} is not as the manifest says: the archive was changed or damaged"
                )
