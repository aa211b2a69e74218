"""What narrows a list: each filter of a query as a clause that is built once, and the value that goes into it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from sqlalchemy import (
    ColumnElement,
    Text,
    all_,
    and_,
    any_,
    bindparam,
    case,
    cast,
    false,
    func,
    literal_column,
    null,
    or_,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import ARRAY

from app.records.calendar import Bound, lower_bound, upper_bound
from app.web.search import read_search

ONE = "one"
WHOLE_DAYS = "whole days"
# How a search is done: see FoundIn.
IDS, ANY_ID, WALKED, ANY_WALKED = "", "any", "walked", "any walked"
AS_WALKED = {IDS: WALKED, ANY_ID: ANY_WALKED}


class Filter(NamedTuple):
    """How one query field narrows a list: a variant of its clause for each shape, and the clause's parameters.

    `clause(name, variant)` is built once; `read(value, actor's id)` gives the variant and the value of its parameter.
    A filter by time has a `bound` in place of one value. `column` is what has to be one of the values, where the filter
    says no more than that.
    """

    clause: Callable[[str, str], ColumnElement[bool]]
    read: Callable[[Any, str], tuple[str, Any]]
    bound: Callable[[str, ZoneInfo], Bound] | None = None
    column: ColumnElement[Any] | None = None

    def bounded(self, name: str, value: str, zone: ZoneInfo) -> tuple[str, dict[str, Any]]:
        """The variant of a filter by time, and what goes into its clause."""
        assert self.bound is not None  # noqa: S101 -- who calls this asked
        moment, midnight, suffices = self.bound(value, zone)
        if suffices:
            return "", {name: moment}
        return WHOLE_DAYS, {
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

    return Filter(clause, read, column=column)


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

    return Filter(clause, read, column=column)


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

    def clause(name: str, variant: str) -> ColumnElement[bool]:
        moment = bindparam(name, type_=column.type)
        if whole_day is None or variant != WHOLE_DAYS:
            return column >= moment
        day, first = (bindparam(f"{name}_{part}", type_=column.type) for part in ("day", "first"))
        # The first condition follows from the second, and is one that an index can answer.
        return and_(column >= first, column >= case((whole_day, day), else_=moment))

    return Filter(clause, lambda value, _: ("", value), lower_bound)


def until(column: ColumnElement[Any], whole_day: ColumnElement[bool] | None = None) -> Filter:
    """This time or earlier; as `since`."""

    def clause(name: str, variant: str) -> ColumnElement[bool]:
        moment = bindparam(name, type_=column.type)
        if whole_day is None or variant != WHOLE_DAYS:
            return column <= moment
        day, last = (bindparam(f"{name}_{part}", type_=column.type) for part in ("day", "last"))
        return and_(column <= last, column <= case((whole_day, day), else_=moment))

    return Filter(clause, lambda value, _: ("", value), upper_bound)


def through(reference: ColumnElement[Any], key: ColumnElement[Any], of_target: Filter) -> Filter:
    """A filter of the record that `reference` leads to, by that record's key."""

    def clause(name: str, variant: str) -> ColumnElement[bool]:
        return reference.in_(select(key).where(of_target.clause(name, variant)))

    return Filter(clause, of_target.read)


class FoundIn(Filter):
    """A search. By the variants IDS and ANY_ID, the ids that `crm_search` finds by its index; by WALKED and ANY_WALKED,
    each row is looked at as it comes, which is the faster way to what many rows have.
    """

    __slots__ = ()


def found_in(resource: str, document: ColumnElement[str], *, phones: bool = False) -> FoundIn:
    """Words of a document, as `crm_search` knows it for this resource; with `phones`, its lines of digits too."""

    def clause(name: str, variant: str) -> ColumnElement[bool]:
        if variant in {IDS, ANY_ID}:
            return literal_column(f"{resource}.id").in_(select(crm_search(resource, name, variant)))
        # A planner takes half of the rows for the answer to a CASE, and so walks until enough are found.
        return case((holds(document, name, every=variant == WALKED), true()), else_=false())

    def read(value: str, _: str) -> tuple[str, Any]:
        search = read_search(value, phones=phones)
        return (IDS if search.every else ANY_ID), search.fragments

    return FoundIn(clause, read)


def crm_search(resource: str, name: str, variant: str, *, live: bool = False, most: int | None = None) -> Any:
    """The call of the function in the database, for the fragments of this parameter."""
    limit: ColumnElement[Any] = null() if most is None else literal_column(str(most))
    flags: Iterator[ColumnElement[bool]] = (literal_column(str(flag).lower()) for flag in (variant == IDS, live))
    return func.crm_search(literal_column(f"'{resource}'"), bindparam(name, type_=ARRAY(Text)), *flags, limit)


def holds(document: ColumnElement[str], name: str, *, every: bool = True) -> ColumnElement[bool]:
    """Whether a folded text has all fragments of this parameter in it, or any of them."""
    patterns = func.crm_fragment_patterns(bindparam(name, type_=ARRAY(Text)))
    return document.like(all_(patterns) if every else any_(patterns))


def found_among(document: ColumnElement[str]) -> Filter:
    """Words of a folded text, of few rows."""
    return Filter(lambda name, _: holds(document, name), lambda value, _: ("", read_search(value).fragments))


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
