"""/admin/users."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from litestar import Response, Router, get
from litestar.di import NamedDependency
from msgspec import UNSET
from sqlalchemy import ColumnElement, func, or_

from app.access.permissions import Permission, Requires
from app.admin.http import list_page
from app.db.listing import Listing, Sort, matching
from app.db.nested import columns_for
from app.models import User as Row
from app.web.input import CrmRequest
from app.web.paging import ListQuery, Page, Search, SortOrder
from app.web.structs import Maybe, View


class User(View):
    """A person who may be given customers to look after."""

    id: int | str
    name: str | None
    email: str | None
    role: str
    last_seen_at: datetime


class UserSort(StrEnum):
    """What a list of people can be sorted by."""

    NAME = "name"
    EMAIL = "email"
    LAST_SEEN_AT = "last_seen_at"


class UserQuery(ListQuery):
    """Filter and order of a list of people."""

    sort_by: Maybe[UserSort] = UNSET
    search: Maybe[Search] = UNSET


c = Row.__table__.c


def _named_like(fragment: ColumnElement[str]) -> ColumnElement[bool]:
    return or_(*(func.strpos(func.crm_fold(column), func.crm_fold(fragment)) > 0 for column in (c.name, c.email)))


LISTING = Listing(
    "users",
    User,
    columns_for(User, Row.__table__),
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


@get("/", guards=[Requires(Permission.READ)])
async def list_users(request: CrmRequest, filters: NamedDependency[UserQuery]) -> Response[Page[User]]:
    """People by name, for offering them where something can be assigned."""
    return await list_page(request, LISTING, filters)


router = Router("/users", route_handlers=[list_users], tags=["Users"])
