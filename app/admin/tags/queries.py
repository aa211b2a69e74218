"""Tags as the database reads them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, Text, case, cast, func, literal_column, select
from sqlalchemy.types import BigInteger

from app.admin.tags.schemas import Tag
from app.models import RecordCount
from app.models import Tag as Row
from app.records import resources
from app.records.counts import SEES_OWN_ONLY
from app.records.json_columns import selected, view_columns
from app.records.repository import Repository

c = Row.__table__.c
kept = RecordCount.__table__.c

_kept_count = (
    select(cast(func.coalesce(func.sum(kept.rows), 0), BigInteger))
    .where(kept.counted == literal_column("'customer_tags'"), kept.facet == cast(c.id, Text))
    .scalar_subquery()
)
# The database keeps the counts; who sees only its own customers is told of those.
COLUMNS = view_columns(
    Tag,
    Row.__table__,
    customer_count=case((SEES_OWN_ONLY, func.crm_count_tagged(c.id)), else_=_kept_count),
)
TAGS = Repository(resources.TAGS, Tag, COLUMNS)
ALL: Select[Any] = select(*selected(COLUMNS)).order_by(c.name_folded, c.id)
