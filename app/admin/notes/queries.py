"""Notes as the database reads them."""

from __future__ import annotations

from app.admin.nested import customer_of, deal_of, project_of
from app.admin.notes.schemas import Note, NoteQuery
from app.models import Note as Row
from app.records import resources
from app.records.filters import found_in, one_of, user_in
from app.records.json_columns import view_columns
from app.records.listing import Listing
from app.records.trash_repository import TrashRepository
from app.web.paging import SortOrder

c = Row.__table__.c

COLUMNS = view_columns(
    Note,
    Row.__table__,
    customer=customer_of(c.customer_id),
    deal=deal_of(c.deal_id),
    project=project_of(c.project_id),
)
NOTES = TrashRepository(resources.NOTES, Note, COLUMNS)
LISTING = Listing.of(
    NOTES,
    NoteQuery,
    filters={
        "customer_id": one_of(c.customer_id),
        "deal_id": one_of(c.deal_id),
        "activity_id": one_of(c.activity_id),
        "project_id": one_of(c.project_id),
        "author_id": user_in(c.author_id),
        "external_id": one_of(c.external_id),
        "search": found_in("notes", c.content_folded),
    },
    default_sort=("created_at", SortOrder.DESC),
)
