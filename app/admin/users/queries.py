"""People as the database reads them."""

from __future__ import annotations

from sqlalchemy import func, literal_column

from app.admin.users.schemas import User, UserQuery
from app.models import User as Row
from app.records.filters import found_among, user_in
from app.records.json_columns import view_columns
from app.records.listing import Listing
from app.records.sorting import by_column
from app.web.paging import SortOrder

c = Row.__table__.c
COLUMNS = view_columns(User, Row.__table__)


_document = func.crm_fold_search(func.coalesce(c.name, "") + literal_column(r"E'\n'") + func.coalesce(c.email, ""))
LISTING = Listing(
    "users",
    User,
    COLUMNS,
    Row.__table__,
    key=c.id,
    query=UserQuery,
    filters={"id": user_in(c.id), "search": found_among(_document)},
    sorts={
        "name": by_column(func.crm_fold(c.name, type_=c.role.type), nullable=True),
        "email": by_column(func.crm_fold(c.email, type_=c.role.type), nullable=True),
    },
    default_sort=("name", SortOrder.ASC),
)
