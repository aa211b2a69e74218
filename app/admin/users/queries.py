"""People as the database reads them."""

from __future__ import annotations

from sqlalchemy import ColumnElement, any_, bindparam, func, or_, select
from sqlalchemy.dialects.postgresql import ARRAY

from app.admin.users.schemas import User
from app.db.filters import matching
from app.db.listing import Listing, Sort
from app.db.nested import columns_for, selected
from app.models import User as Row
from app.web.paging import SortOrder

c = Row.__table__.c
COLUMNS = columns_for(User, Row.__table__)


def _named_like(fragment: ColumnElement[str]) -> ColumnElement[bool]:
    return or_(*(func.strpos(func.crm_fold(column), func.crm_fold(fragment)) > 0 for column in (c.name, c.email)))


LISTING = Listing(
    "users",
    User,
    COLUMNS,
    Row.__table__,
    key=c.id,
    filters={"search": matching(_named_like)},
    sorts={
        "name": Sort(func.crm_fold(c.name, type_=c.role.type), nullable=True),
        "email": Sort(func.crm_fold(c.email, type_=c.role.type), nullable=True),
        "last_seen_at": Sort(c.last_seen_at),
    },
    default_sort=("name", SortOrder.ASC),
)
# As text, which is how ids are stored, so that the key's index is used.
SOME = select(*selected(COLUMNS)).where(c.id == any_(bindparam("ids", type_=ARRAY(c.id.type))))
