"""Whose own a record is: the persons whom the columns of `Resource.owned_by` lead to.

What the database lets a limited person read, its policies `own` decide. This says the same of one record for all
persons at once, so that an event need not be looked at once for each person.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, FromClause, Select, Text, and_, any_, bindparam, cast, func, select
from sqlalchemy.dialects.postgresql import ARRAY, array
from sqlalchemy.types import BigInteger

from app.models import UserReferences
from app.records.resources import RESOURCES, Resource, references

Column = Callable[[str], ColumnElement[Any]]


class Below(NamedTuple):
    """Records of this kind, which are a person's own because a record above them is. `ids` finds those below some."""

    child: Resource
    column: str
    # The kinds between the two, from above.
    between: tuple[tuple[Resource, str], ...] = ()


def holders(resource: Resource, column: Column) -> ColumnElement[list[str]]:
    """The persons whose own a record is, as an array that may have nulls. `column` says what its columns hold."""
    persons: list[Any] = [*_persons(resource, column)]
    found: ColumnElement[Any] = array([one for one in persons if not isinstance(one.type, ARRAY)])
    for several in persons:
        if isinstance(several.type, ARRAY):
            found = func.array_cat(found, several, type_=ARRAY(Text))
    return found


def _persons(resource: Resource, column: Column) -> Iterator[ColumnElement[Any]]:
    targets = dict(references(resource))
    for name in resource.owned_by:
        if name not in targets:
            several = isinstance(resource.table.c[name].type, UserReferences)
            yield cast(column(name), ARRAY(Text) if several else Text)
            continue
        above = targets[name].table.alias()
        for person in _persons(targets[name], above.c.__getitem__):
            found = select(person).where(above.c.id == cast(column(name), BigInteger))
            yield found.correlate_except(above).scalar_subquery()


def below(resource: Resource) -> Iterator[Below]:
    """What is a person's own because a record of this kind is."""
    for child in RESOURCES:
        for column, target in references(child):
            if target is resource and column in child.owned_by:
                yield Below(child, column)
                for further in below(child):
                    yield Below(further.child, further.column, ((child, column), *further.between))


def records_below(path: Below) -> Select[Any]:
    """The live records on this path below the records `ids`, `most` at most: below which one each is, its id, its
    version and its holders.
    """
    record = path.child.table.alias()
    joined: FromClause = record
    above = record.c[path.column]
    for resource, column in reversed(path.between):
        between = resource.table.alias()
        joined = joined.join(between, and_(between.c.tenant_id == record.c.tenant_id, between.c.id == above))
        above = between.c[column]
    return (
        select(above, record.c.id, record.c.version, holders(path.child, record.c.__getitem__))
        .select_from(joined)
        .where(above == any_(bindparam("ids", type_=ARRAY(BigInteger))), record.c.deleted_at.is_(None))
        .limit(bindparam("most", type_=BigInteger))
    )
