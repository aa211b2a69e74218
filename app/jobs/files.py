"""Files that jobs make, and links to them that need no token for some minutes."""

from __future__ import annotations

import binascii
import hashlib
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime
from uuid import uuid4

from msgspec import DecodeError, Struct, json, to_builtins
from sqlalchemy import DateTime, LargeBinary, Text, and_, bindparam, func, insert, not_, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert

from app.access.actor import Actor
from app.db.database import Database
from app.jobs.queue import STATEMENT_SECONDS, Job
from app.models import JobFile as Row
from app.models import Member
from app.records.signatures import FILE, is_signed, sign
from app.records.transaction import Transaction
from app.settings import Settings
from app.web.errors import AppError, Code

MOST_BYTES = 16 * 1024 * 1024
LINK_SECONDS = 300

c = Row.__table__.c
GIVEN = ("tenant_id", "job_id", "name", "content_type", "content", "document")
MENTIONS = func.crm_mentioned(bindparam("says", type_=LargeBinary))
KEEP = insert(Row).values({name: bindparam(name) for name in GIVEN} | {"mentions": MENTIONS})
member = Member.__table__.c
# Whoever was narrowed since asks for a new link, with the role that counts now.
_shut_out = (
    select(member.id)
    .where(
        member.user_id == bindparam("user_id", type_=Text),
        or_(
            not_(member.is_active),
            and_(member.version > 1, member.updated_at >= bindparam("made_at", type_=DateTime(timezone=True))),
        ),
    )
    .exists()
)
FIND = select(c.name, c.content_type, c.content, c.object_key, c.size, c.expires_at, _shut_out).where(
    c.job_id == bindparam("job_id")
)


AFTER_ERASURES = text(
    "SELECT pg_advisory_xact_lock(hashtextextended('crm_erase_record ' || current_setting('crm.tenant'), 0))"
)
# A transaction that waits for another connection's statements may be idle for as long as they may take.
BEFORE_ERASURES = text(f"""
    SELECT set_config('idle_in_transaction_session_timeout', '{STATEMENT_SECONDS + 10}s', true),
           pg_advisory_xact_lock_shared(hashtextextended('crm_erase_record ' || current_setting('crm.tenant'), 0))
""")
RESERVED = ("tenant_id", "job_id", "name", "content_type", "object_key", "expires_at")
_reserve = upsert(Row).values({name: bindparam(name) for name in RESERVED} | {"mentions": []})
RESERVE = _reserve.on_conflict_do_update(
    index_elements=["tenant_id", "job_id"], set_={"object_key": _reserve.excluded.object_key}
)
KEEP_OBJECT = (
    update(Row)
    .where(c.job_id == bindparam("id"), c.object_key == bindparam("key"))
    .values(size=bindparam("bytes"))
    .returning(c.job_id)
)
DROP_OLD = text("SELECT crm_drop_old_archives(:most)")
DROPPED_AT_ONCE = 100


class File(Struct, frozen=True):
    """A file as it is sent."""

    name: str
    content_type: str
    content: bytes


class StoredFile(Struct, frozen=True):
    """A file whose content is in the object store."""

    name: str
    content_type: str
    key: str
    size: int


class Link(Struct, frozen=True):
    """What a link says: which file it is for, until when it is valid (seconds since 1970), and who was given it."""

    tenant: str
    job: int
    until: int
    user: str


async def keep_file(tx: Transaction, job: Job, file: File, document: bytes, *, with_document: bool = False) -> None:
    """Keep the file that a job has made, in the job's transaction. `document` is what it holds as JSON: an erasure of a
    record that this mentions empties the file. It can be kept beside the file, until then.

    Raises AppError TOO_MANY_RECORDS where it is too large.
    """
    if len(file.content) > MOST_BYTES:
        text = f"The file would have more than {MOST_BYTES // 1024**2} MiB: choose a smaller part"
        raise AppError(Code.TOO_MANY_RECORDS, text)
    given = {"tenant_id": job.actor.tenant_id, "job_id": job.id, **to_builtins(file, builtin_types=[bytes])}
    kept = document if with_document and file.content != document else None
    await tx.connection.execute(KEEP, given | {"says": document, "document": kept})


async def hold_erasures(tx: Transaction) -> None:
    """Let erasures wait until a job's step is committed: so they find the file that it makes of what it reads now."""
    await tx.connection.execute(BEFORE_ERASURES)


async def reserve_object(tx: Transaction, job: Job, name: str, content_type: str, expires_at: datetime) -> str:
    """The key of a new object in the store that the job may make until an erasure: what is erased by then is not in it,
    since a running erasure is waited for. Whatever becomes of the job, the object is deleted in the end.
    """
    tenant = job.actor.tenant_id
    await tx.connection.execute(AFTER_ERASURES)
    key = f"exports/{hashlib.sha256(tenant.encode()).hexdigest()}/{uuid4()}"
    given = {"tenant_id": tenant, "job_id": job.id, "name": name, "content_type": content_type}
    await tx.connection.execute(RESERVE, given | {"object_key": key, "expires_at": expires_at})
    return key


async def keep_object(tx: Transaction, job: Job, key: str, size: int) -> bool:
    """Make an object the job's file, in the job's transaction; False if something was erased since it was reserved."""
    kept = await tx.connection.execute(KEEP_OBJECT, {"id": job.id, "key": key, "bytes": size})
    return kept.first() is not None


async def drop_old_archives(database: Database) -> int:
    """Let some objects be deleted that were kept long enough; returns how many. Raises AppError."""
    async with database.maintenance() as session:
        return int((await session.execute(DROP_OLD, {"most": DROPPED_AT_ONCE})).scalar_one())


def require_links(settings: Settings) -> None:
    """Raises AppError SERVICE_UNAVAILABLE where this service has no links, so that nobody could fetch a file."""
    if not settings.has_public_links:
        raise AppError(Code.SERVICE_UNAVAILABLE, "This service has no address for downloads: PUBLIC_URL is not set")


def link_to_file(settings: Settings, actor: Actor, job_id: int) -> str:
    """A link to a job's file for this person, as a segment of a path: valid for five minutes, whoever has it."""
    link = Link(actor.tenant_id, job_id, int(time.time()) + LINK_SECONDS, actor.user_id)
    encoded = urlsafe_b64encode(json.encode(link)).decode().rstrip("=")
    return f"{encoded}.{sign(settings, FILE, to_builtins(link))}"


def read_link(settings: Settings, segment: str) -> Link:
    """What a link says that this service has signed. Raises AppError NOT_FOUND, or LINK_EXPIRED."""
    encoded, _, signature = segment.partition(".")
    try:
        link = json.decode(urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)), type=Link)
    except (ValueError, binascii.Error, DecodeError):
        raise AppError(Code.NOT_FOUND) from None
    if not is_signed(settings, FILE, to_builtins(link), signature):
        raise AppError(Code.NOT_FOUND)
    if link.until < time.time():
        raise AppError(Code.LINK_EXPIRED)
    return link


async def find_file(database: Database, link: Link) -> File | StoredFile:
    """The file that a link is for.

    Raises AppError NOT_FOUND where it is not kept any more, LINK_EXPIRED where the person who was given the link was
    deactivated, narrowed or signed out since, or ANSWER_ERASED.
    """
    made_at = datetime.fromtimestamp(link.until - LINK_SECONDS, UTC)
    given = {"job_id": link.job, "user_id": link.user, "made_at": made_at}
    async with database.in_tenant(link.tenant) as session:
        row = (await session.execute(FIND, given)).one_or_none()
    if row is None:
        raise AppError(Code.NOT_FOUND)
    name, content_type, content, key, size, expires_at, is_shut_out = row
    if is_shut_out:
        raise AppError(Code.LINK_EXPIRED)
    if expires_at is not None and expires_at <= datetime.now(UTC):
        raise AppError(Code.NOT_FOUND)
    if key is not None and size is not None:
        return StoredFile(name, content_type, key, size)
    if content is None:
        raise AppError(Code.ANSWER_ERASED, "It named somebody who was erased since: make it again")
    return File(name, content_type, content)
