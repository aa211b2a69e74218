"""A reader of all tenants' events: which process it is, who has news for it, and up to where it has each tenant's."""

from __future__ import annotations

from typing import NamedTuple
from uuid import uuid4

from prometheus_client import Counter, Gauge
from sqlalchemy import Select, bindparam, func, select, text
from sqlalchemy.dialects.postgresql import insert

from app.db.database import Database
from app.models import FeedPlace
from app.records.transaction import Transaction

BROKER = "amqp"  # the reader that publishes to a message broker
# Each process asks the database for it: the newest answer is right.
BEHIND = Gauge(
    "crm_events_behind", "Events that wait to be published to the message broker", multiprocess_mode="livemostrecent"
)
PUBLISHED = Counter("crm_events_published", "Events that the message broker has confirmed")
LEAD = text("SELECT crm_lead_feed(:name, :process, :seconds)")
NEWS = text("SELECT mark, tenants, behind FROM crm_feed_news(:name, CAST(:since AS bigint))")
c = FeedPlace.__table__.c
PLACE: Select[int] = select(c.sequence).where(c.reader == bindparam("name"))
_new = insert(FeedPlace).values(
    tenant_id=func.current_setting("crm.tenant"), reader=bindparam("name"), sequence=bindparam("sequence")
)
# A process that took long, and is no longer the reader, does not put the place back.
ADVANCE = _new.on_conflict_do_update(
    index_elements=[c.tenant_id, c.reader],
    set_={"sequence": _new.excluded.sequence},
    where=c.sequence < _new.excluded.sequence,
)


class News(NamedTuple):
    """Tenants with events that the reader has not yet, how many these are, and up to where was looked."""

    mark: int
    tenants: list[str]
    behind: int


class Reader:
    """One process of those that may be the reader of this name."""

    def __init__(self, database: Database, name: str) -> None:
        self._database = database
        self._name = name
        self._process = uuid4()

    async def lead(self, seconds: float) -> bool:
        """Whether this process is the reader for so many seconds; with 0 it is no longer. The first one ever begins
        with what happens from now on. Raises AppError.
        """
        given = {"name": self._name, "process": self._process, "seconds": seconds}
        async with self._database.maintenance() as session:
            return bool((await session.execute(LEAD, given)).scalar_one())

    async def news(self, since: int | None = None) -> News:
        """Who has news: of all tenants, which monitors are told; or of those with events after a mark. Raises
        AppError.
        """
        async with self._database.maintenance() as session:
            news = News(*(await session.execute(NEWS, {"name": self._name, "since": since})).one())
        if since is None:
            BEHIND.set(news.behind)
        return news

    async def place(self, tx: Transaction) -> int:
        """The last event of the tenant that the reader has."""
        return (await tx.connection.execute(PLACE, {"name": self._name})).scalar_one_or_none() or 0

    async def advance(self, tenant_id: str, sequence: int) -> None:
        """Store that the reader has all events of the tenant up to this one. Raises AppError."""
        async with self._database.in_tenant(tenant_id) as session:
            await session.execute(ADVANCE, {"name": self._name, "sequence": sequence})
