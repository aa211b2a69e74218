"""Records that may be the same, and merging them, as JSON."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from msgspec import UNSET, Meta, Struct, field

from app.web.paging import ListQuery
from app.web.structs import Body, Maybe, RecordId, View
from app.web.text import EXACT

# As many as can be merged at once.
MOST_MEMBERS = 21


class DuplicateKind(StrEnum):
    """The kinds of record that are compared with each other."""

    CUSTOMERS = "customers"
    CONTACTS = "contacts"


class DuplicateSort(StrEnum):
    """The best first, or the worst."""

    SCORE = "score"


Score = Annotated[int, Meta(ge=0, le=100, description="How sure it is, out of 100")]
Reasons = Annotated[list[str], Meta(examples=[["same phone", "similar name, same domain"]])]


class DuplicateRecord(Struct):
    """What tells a record from those that are like it. A contact has the name of its customer as `company`."""

    id: int
    name: str
    email: str | None
    phone: str | None
    company: str | None
    website: str | None
    customer_id: int | None
    created_at: datetime
    updated_at: datetime


class DuplicateGroup(View):
    """Records that may be the same, the oldest first."""

    id: int
    kind: DuplicateKind
    score: Score
    reasons: Reasons
    records: list[DuplicateRecord]


class Duplicate(Struct):
    """A record that may be the same as this one."""

    score: Score
    reasons: Reasons
    record: DuplicateRecord


class DuplicateQuery(ListQuery):
    """Which kinds of record; both unless given."""

    sort_by: Maybe[DuplicateSort] = UNSET
    kind: Maybe[list[DuplicateKind]] = UNSET


class Dismissal(Body, kw_only=True):
    """Records that are different from each other; customers unless `kind` says otherwise."""

    ids: Annotated[list[RecordId], Meta(min_length=2, max_length=MOST_MEMBERS, examples=[[12, 17]])]
    kind: Maybe[DuplicateKind] = UNSET


Choice = Annotated[str, Meta(pattern=r"^from:[1-9][0-9]{0,18}$", **EXACT)]


class Merge(Body, kw_only=True):
    """Which records are merged into this one, and which fields take the value of one of them. Of the other fields, the
    empty ones take the first value that there is, in the order of `from`.
    """

    from_: Annotated[
        list[RecordId],
        Meta(min_length=1, max_length=MOST_MEMBERS - 1, description="They go to the trash", examples=[[17]]),
    ] = field(name="from")
    fields: Maybe[Annotated[dict[str, Choice], Meta(max_length=100, examples=[{"name": "from:17"}])]] = UNSET
