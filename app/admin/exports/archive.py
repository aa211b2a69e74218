"""The archive of an organization: a ZIP of all its records as JSON Lines, and of the bytes of its attachments.

The rows are those of the tables, so that `crm restore-export` can put them back as they were.
"""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import IO, Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

import structlog
from msgspec import to_builtins
from sqlalchemy import Select, Table, TextClause, func, select, text

from app.access.actor import Actor
from app.access.permissions import Permission
from app.admin.exports.copying import JSON_LINES, Copying
from app.admin.exports.schemas import ArchiveResult
from app.admin.exports.service import LOG
from app.admin.jobs import queries as jobs
from app.admin.jobs.schemas import JobKind, JobStarted
from app.db.database import Database
from app.jobs.files import keep_object, reserve_object
from app.jobs.queue import Job, Step, Work, enqueue, note_progress
from app.models import (
    Attachment,
    AuditEntry,
    PipelineStage,
    Record,
    StageMove,
    Tag,
    TenantSettings,
    User,
)
from app.models import Job as JobRow
from app.models.base import Base, table_of
from app.records.calendar import day_of, zone_of
from app.records.resources import RESOURCES
from app.records.transaction import Transaction, reading
from app.storage.objects import ObjectStore, Upload
from app.web import strict_json
from app.web.errors import AppError, Code

log = structlog.get_logger("exports")

KEPT_DAYS = 7
BLOCK = 1024 * 1024
# The rows are read from one snapshot, which takes an hour at most.
SNAPSHOT_SECONDS = 3600
PROGRESS_SECONDS = 2.0
CONTENT_TYPE = "application/zip"
MANIFEST = "manifest.json"
ATTACHMENTS = "attachments/"
# In this order each can be restored: what others refer to comes first.
FIRST: list[type[Base]] = [TenantSettings, User, Tag, PipelineStage]
OTHERS = (resource.model for resource in RESOURCES if resource.model not in FIRST)
MODELS: list[type[Base]] = [*FIRST, *OTHERS, StageMove, AuditEntry]
TYPES = {model.__tablename__: model for model in MODELS}
# The organization is another one where it is restored, and its objects have other keys.
LEFT_OUT = frozenset({"tenant_id", "object_key"})
SEAL = ", (SELECT {0} FROM audit_seals AS seal WHERE seal.entry_id = audit_entries.id) AS {1}"

job_row = JobRow.__table__.c
attachment = Attachment.__table__.c
RUNNING = select(job_row.id).where(job_row.kind == JobKind.EXPORT.value, job_row.finished_at.is_(None)).limit(1)
OBJECTS: Select[Any] = select(func.json_build_array(attachment.id, attachment.object_key, attachment.size)).order_by(
    attachment.id
)


def stored_columns(table: Table) -> list[str]:
    """The columns that an archive has of a table: those that the database does not compute."""
    return [column.name for column in table.columns if column.computed is None and column.name not in LEFT_OUT]


def rows_of(model: type[Base], names: Sequence[str] | None = None) -> TextClause:
    """All rows of a table as JSON with these columns, or all, in an order that does not depend on the server."""
    table = table_of(model)
    columns = ", ".join(f'"{name}"' for name in stored_columns(table) if names is None or name in names)
    if model is AuditEntry:
        columns += SEAL.format("sequence", "sequence") + SEAL.format("hash", "hash")
    order = "id" if issubclass(model, Record | StageMove | AuditEntry) else 'id COLLATE "C"'
    return text(f"SELECT row_to_json(kept) FROM (SELECT {columns} FROM {table.name} ORDER BY {order}) AS kept")  # noqa: S608 -- our own names


async def start(tx: Transaction, store: ObjectStore) -> JobStarted:
    """Let a job make the archive. Raises AppError LIMIT_REACHED while another one is being made, or SERVICE_UNAVAILABLE
    without a store.
    """
    if not store.configured:
        raise AppError(Code.SERVICE_UNAVAILABLE, "This service has no store for archives: S3_BUCKET is not set")
    running = (await tx.connection.execute(RUNNING)).scalar_one_or_none()
    if running is not None:
        message = "An archive is being made already: wait for it, or cancel its job"
        raise AppError(Code.LIMIT_REACHED, message, data={"max": 1, "job_id": running})
    job_id = await enqueue(tx, JobKind.EXPORT, {}, targets=None, total=None)
    return JobStarted(await jobs.get(tx, job_id))


def make_archive(database: Database, store: ObjectStore) -> Work:
    """The work of a job that makes an archive: a step that says where it will be, and one that makes it. Whoever is
    killed in the second begins it again.
    """

    async def step(tx: Transaction, job: Job) -> Step:
        tx.actor.require(Permission.AUDIT)
        if not job.state:
            expires_at = datetime.now(UTC) + timedelta(days=KEPT_DAYS)
            name = f"archive-{day_of(datetime.now(UTC), await zone_of(tx))}.zip"
            key = await reserve_object(tx, job, name, CONTENT_TYPE, expires_at)
            return Step(0, {"key": key, "name": name, "expires_at": f"{expires_at:%Y-%m-%dT%H:%M:%SZ}"})
        key = job.state["key"]
        upload = await store.upload(key, CONTENT_TYPE)
        archive = Archive(database, store, job.actor, upload, partial(note_progress, database, job))
        try:
            await archive.make()
            await asyncio.to_thread(upload.complete)
        except BaseException:
            await asyncio.to_thread(upload.abort)
            raise
        if not await keep_object(tx, job, key, upload.size):
            # Somebody was erased meanwhile, and may be in it.
            return Step(0, {})
        counts = archive.counts
        await tx.connection.execute(LOG, {"kind": "settings", "details": {"format": "zip", "rows": counts}})
        made = ArchiveResult(
            job.state["name"], CONTENT_TYPE, upload.size, job.state["expires_at"], counts, archive.missing
        )
        return Step(archive.done, {}, to_builtins(made))

    return step


class _Entry:
    """A file in the ZIP that is being written."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._hash = hashlib.sha256()

    async def write(self, data: bytes) -> None:
        await asyncio.to_thread(self._store, data)

    def _store(self, data: bytes) -> None:
        self._hash.update(data)
        self._file.write(data)

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()


class Archive:
    """What is written into a ZIP, on its way to a file or to the store. `tell` is told from time to time how many rows
    are done.
    """

    def __init__(
        self,
        database: Database,
        store: ObjectStore,
        actor: Actor,
        file: Upload | IO[bytes],
        tell: Callable[[int], Awaitable[None]],
    ) -> None:
        self._database = database
        self._store = store
        self._actor = actor
        self._tell = tell
        self._zip = ZipFile(file, "w")
        self._told_at = time.monotonic()
        self.counts: dict[str, int] = {}
        self.missing = 0
        self.done = 0

    async def make(self) -> None:
        """Raises AppError, or Superseded."""
        with tempfile.TemporaryFile() as objects, tempfile.TemporaryFile() as manifest:
            head = {"organization": self._actor.tenant_id, "made_at": datetime.now(UTC), "files": []}
            manifest.write(strict_json.encode(head)[:-2])
            async with reading(self._database, self._actor, standby=True) as tx:
                for name, model in TYPES.items():
                    await self._write_rows(tx, name, model, manifest)
                copying = Copying(tx, lambda block: asyncio.to_thread(objects.write, block), SNAPSHOT_SECONDS)
                await copying.copy(OBJECTS, {}, JSON_LINES)
            objects.seek(0)
            for line in objects:
                await self._write_attachment(strict_json.decode_own(line), manifest)
            manifest.write(b"]}")
            manifest.seek(0)
            async with self._entry(MANIFEST) as entry:
                while block := manifest.read(BLOCK):
                    await entry.write(block)
        await asyncio.to_thread(self._zip.close)

    async def _write_rows(self, tx: Transaction, name: str, model: type[Base], manifest: IO[bytes]) -> None:
        async with self._entry(f"{name}.jsonl") as entry:
            copying = Copying(tx, entry.write, SNAPSHOT_SECONDS)
            await copying.copy(rows_of(model), {}, JSON_LINES)
        self.counts[name] = copying.rows
        await self._note(manifest, f"{name}.jsonl", copying.rows, entry.sha256)

    async def _write_attachment(self, stored: tuple[int, str, int], manifest: IO[bytes]) -> None:
        record_id, key, size = stored
        content = await self._store.open(key, 0, size - 1)
        if content is None:
            log.error("an attachment has no object: run crm attachments sweep", attachment=record_id)
            self.missing += 1
            return
        # Most are packed already.
        async with self._entry(f"{ATTACHMENTS}{record_id}", packing=ZIP_STORED) as entry:
            async for chunk in content:
                await entry.write(chunk)
        await self._note(manifest, f"{ATTACHMENTS}{record_id}", 1, entry.sha256)

    @asynccontextmanager
    async def _entry(self, name: str, packing: int = ZIP_DEFLATED) -> AsyncIterator[_Entry]:
        about = ZipInfo(name, datetime.now(UTC).timetuple()[:6])
        about.compress_type = packing
        file = await asyncio.to_thread(self._zip.open, about, "w", force_zip64=True)
        try:
            yield _Entry(file)
        finally:
            await asyncio.to_thread(file.close)

    async def _note(self, manifest: IO[bytes], name: str, count: int, sha256: str) -> None:
        """Put a file into the manifest, and tell from time to time how far the job is."""
        comma = b"," if self.done or len(self.counts) > 1 else b""
        manifest.write(comma + strict_json.encode({"name": name, "count": count, "sha256": sha256}))
        self.done += count
        if time.monotonic() - self._told_at >= PROGRESS_SECONDS:
            await self._tell(self.done)
            self._told_at = time.monotonic()
