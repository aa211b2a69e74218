"""What narrows a list: each filter of a query as a clause that is built once, and the value that goes into it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from sqlalchemy import ColumnElement, Text, and_, any_, bindparam, case, cast, func, literal_column, or_, select
from sqlalchemy.dialects.postgresql import ARRAY

from app.db.calendar import Bound, lower_bound, upper_bound

ONE = "one"


class Filter(NamedTuple):
    """How one query field narrows a list: a variant of its clause for each shape, and the clause's parameters.

    `clause(name, variant)` is built once; `read(value, actor's id)` gives the variant and the value of its parameter.
    A filter by time has a `bound` in place of one value.
    """

    clause: Callable[[str, str], ColumnElement[bool]]
    read: Callable[[Any, str], tuple[str, Any]]
    bound: Callable[[str, ZoneInfo], Bound] | None = None

    def parameters(self, name: str, value: Any, zone: ZoneInfo | None) -> dict[str, Any]:
        """What goes into the clause for a value that was read."""
        if self.bound is None or zone is None:
            return {name: value}
        moment, midnight = self.bound(value, zone)
        return {
            name: moment,
            f"{name}_day": midnight,
            f"{name}_first": min(moment, midnight),
            f"{name}_last": max(moment, midnight),
        }


def one_of(column: ColumnElement[Any]) -> Filter:
    """Any of the given values. One alone is compared by itself, so that an index may go on by the list's order."""

    def clause(name: str, variant: str) -> ColumnElement[bool]:
        if variant == ONE:
            return column == bindparam(name, type_=column.type)
        return column == any_(bindparam(name, type_=ARRAY(column.type)))

    def read(value: Sequence[Any], _: str) -> tuple[str, Any]:
        plain = [item.value if isinstance(item, Enum) else item for item in value]
        return (ONE, plain[0]) if len(plain) == 1 else ("", plain)

    return Filter(clause, read)


def named_people(given: Sequence[str], me: str) -> list[str]:
    """The ids in a filter by person, `none` left out. What was given in quotes is an id, whatever it says."""
    people = (person for person in given if person != "none")
    return [me if person == "me" else person[1:-1] if person.startswith('"') else person for person in people]


def user_in(column: ColumnElement[Any]) -> Filter:
    """Any of the given people; `me` is the one who asks, `none` is nobody."""

    def clause(name: str, variant: str) -> ColumnElement[bool]:
        if variant == ONE:
            return cast(column, Text) == bindparam(name, type_=Text)
        named = cast(column, Text) == any_(bindparam(name, type_=ARRAY(Text)))
        return or_(named, column.is_(None)) if variant == "none" else named

    def read(value: Sequence[str], me: str) -> tuple[str, Any]:
        people = named_people(value, me)
        if len(people) == len(value) == 1:
            return ONE, people[0]
        return ("none" if "none" in value else "", people)

    return Filter(clause, read)


def equals(column: ColumnElement[Any]) -> Filter:
    """Exactly this value."""
    return Filter(lambda name, _: column == bindparam(name, type_=column.type), lambda value, _: ("", value))


def at_least(column: ColumnElement[Any], of: Callable[[Any], Any] = lambda value: value) -> Filter:
    """This value or more; `of` gives the column's value for the query's."""
    return Filter(lambda name, _: column >= bindparam(name, type_=column.type), lambda value, _: ("", of(value)))


def at_most(column: ColumnElement[Any], of: Callable[[Any], Any] = lambda value: value) -> Filter:
    """This value or less; `of` gives the column's value for the query's."""
    return Filter(lambda name, _: column <= bindparam(name, type_=column.type), lambda value, _: ("", of(value)))


def since(column: ColumnElement[Any], whole_day: ColumnElement[bool] | None = None) -> Filter:
    """This time or later. Of a whole day, which is stored as its midnight in UTC, the calendar days are compared."""

    def clause(name: str, _: str) -> ColumnElement[bool]:
        moment = bindparam(name, type_=column.type)
        if whole_day is None:
            return column >= moment
        day, first = (bindparam(f"{name}_{part}", type_=column.type) for part in ("day", "first"))
        # The first condition follows from the second, and is one that an index can answer.
        return and_(column >= first, column >= case((whole_day, day), else_=moment))

    return Filter(clause, lambda value, _: ("", value), lower_bound)


def until(column: ColumnElement[Any], whole_day: ColumnElement[bool] | None = None) -> Filter:
    """This time or earlier; as `since`."""

    def clause(name: str, _: str) -> ColumnElement[bool]:
        moment = bindparam(name, type_=column.type)
        if whole_day is None:
            return column <= moment
        day, last = (bindparam(f"{name}_{part}", type_=column.type) for part in ("day", "last"))
        return and_(column <= last, column <= case((whole_day, day), else_=moment))

    return Filter(clause, lambda value, _: ("", value), upper_bound)


def through(reference: ColumnElement[Any], key: ColumnElement[Any], of_target: Filter) -> Filter:
    """A filter of the record that `reference` leads to, by that record's key."""

    def clause(name: str, variant: str) -> ColumnElement[bool]:
        return reference.in_(select(key).where(of_target.clause(name, variant)))

    return Filter(clause, of_target.read)


def found_in(table: str, folded: str) -> Filter:
    """A fragment of the text that `crm_search` looks through."""
    record_table: ColumnElement[str] = literal_column(f"'{table}'::regclass")
    expression: ColumnElement[str] = literal_column(f"'{folded}'")

    def clause(name: str, _: str) -> ColumnElement[bool]:
        return literal_column(f"{table}.id").in_(select(func.crm_search(record_table, expression, bindparam(name))))

    return Filter(clause, lambda value, _: ("", value))


def matching(condition: Callable[[ColumnElement[Any]], ColumnElement[bool]]) -> Filter:
    """A condition of the resource's own on the value."""
    return Filter(lambda name, _: condition(bindparam(name)), lambda value, _: ("", value))


def leading_to(reference: ColumnElement[Any], key: ColumnElement[Any], named: ColumnElement[Any]) -> Filter:
    """A reference to any of the records whose `named` column has one of the given values."""

    def clause(name: str, variant: str) -> ColumnElement[bool]:
        if variant == ONE:
            return reference == select(key).where(named == bindparam(name)).scalar_subquery()
        return reference.in_(select(key).where(named == any_(bindparam(name))))

    return Filter(clause, lambda value, _: (ONE, value[0]) if len(value) == 1 else ("", value))
