"""The filters of lists. Each has a clause that is built once, and reads the value for it from a query."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from enum import Enum, StrEnum
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    Double,
    FromClause,
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
    not_,
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
SET = "set"
# The variants of a search: see FoundIn.
IDS, ANY_ID, WALKED, ANY_WALKED = "", "any", "walked", "any walked"
AS_WALKED = {IDS: WALKED, ANY_ID: ANY_WALKED}


class Filter(NamedTuple):
    """What one field of a query does to a list.

    `read(value, actor's id)` gives a variant of the clause and the value of its parameter; `clause(name, variant)` is
    built once for each variant. A filter by time has a `bound` instead of one value. `column` is the column that must
    have one of the values, if the filter is no more than that. `implied` is what follows from it for another column,
    where that is not null: the index of a list in the order of that column is read from there on.
    """

    clause: Callable[[str, str], ColumnElement[bool]]
    read: Callable[[Any, str], tuple[str, Any]]
    bound: Callable[[str, ZoneInfo], Bound] | None = None
    column: ColumnElement[Any] | None = None
    implied: tuple[ColumnElement[Any], Callable[[str, str], ColumnElement[bool]]] | None = None

    def clauses(self, name: str, variant: str, order: ColumnElement[Any] | None = None) -> list[ColumnElement[bool]]:
        """The clause, and what follows from it in the order of this column."""
        clause = self.clause(name, variant)
        if self.implied is None or self.implied[0] is not order:
            return [clause]
        return [clause, self.implied[1](name, variant)]

    def bounded(self, name: str, value: str, zone: ZoneInfo) -> tuple[str, dict[str, Any]]:
        """The variant of a filter by time, and the parameters of its clause."""
        assert self.bound is not None  # noqa: S101 -- callers check it
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
    """One of the given values. For a single one, by `=`, an index can give the rows in the list's order."""

    def clause(name: str, variant: str) -> ColumnElement[bool]:
        if variant == ONE:
            return column == bindparam(name, type_=column.type)
        return column == any_(bindparam(name, type_=ARRAY(column.type)))

    def read(value: Sequence[Any], _: str) -> tuple[str, Any]:
        plain = [item.value if isinstance(item, Enum) else item for item in value]
        return (ONE, plain[0]) if len(plain) == 1 else ("", plain)

    return Filter(clause, read, column=column)


def ranked(column: ColumnElement[Any], rank: ColumnElement[Any], values: type[StrEnum]) -> Filter:
    """One of the given values, of which `rank` is the place among all of them."""
    plain, order = one_of(column), list(values)
    quoted = ", ".join(f"'{value}'" for value in order)
    places = literal_column(f"ARRAY[{quoted}]", ARRAY(Text))

    def read(value: Sequence[Any], me: str) -> tuple[str, Any]:
        return plain.read(sorted(value, key=order.index), me)

    def within(name: str, variant: str) -> ColumnElement[bool]:
        if variant == ONE:
            return rank == func.array_position(places, bindparam(name, type_=Text))
        # Only what a function returns can have an index in SQL.
        given = func.coalesce(bindparam(name, type_=ARRAY(Text)), type_=ARRAY(Text))
        first, last = given[literal_column("1")], given[func.cardinality(given)]
        return rank.between(func.array_position(places, first), func.array_position(places, last))

    return plain._replace(read=read, implied=(rank, within))


def external_id_in(table: FromClause) -> Filter:
    """One of the given ids of clients; that of a record which was merged into another one finds that one."""
    column, plain = table.c.external_id, one_of(table.c.external_id)
    merged = table.alias("merged").c

    def clause(name: str, variant: str) -> ColumnElement[bool]:
        given = bindparam(name, type_=column.type if variant == ONE else ARRAY(column.type))
        found = merged.external_id == given if variant == ONE else merged.external_id == any_(given)
        into = select(merged.merged_into).where(found, merged.merged_into.is_not(None)).scalar_subquery()
        return or_(plain.clause(name, variant), table.c.id == any_(func.array(into, type_=ARRAY(BigInteger))))

    return Filter(clause, plain.read, column=column)


def named_people(given: Sequence[str], me: str) -> list[str]:
    """The ids in a filter by person, without `none`. A value in quotes is always an id."""
    people = (person for person in given if person != "none")
    return [me if person == "me" else person[1:-1] if person.startswith('"') else person for person in people]


def user_in(column: ColumnElement[Any]) -> Filter:
    """One of the given people; `me` is the person who asks, `none` is nobody."""

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


def own_or_all(user_id: ColumnElement[Any]) -> ColumnElement[bool]:
    """What is a person's own, or, where `all` is true, everybody's: with the parameters of `own_or_all_of`."""
    return or_(bindparam("all", type_=Boolean), user_id == bindparam("me"))


def own_or_all_of(me: str, *, sees_all: bool) -> dict[str, Any]:
    """The parameters of `own_or_all` for this person."""
    return {"all": sees_all, "me": me}


def equals(column: ColumnElement[Any]) -> Filter:
    """Exactly this value."""
    return Filter(lambda name, _: column == bindparam(name, type_=column.type), lambda value, _: ("", value))


def flagged(column: ColumnElement[bool]) -> Filter:
    """Whether this is so. An index of the few rows where it is can answer it."""

    def clause(_: str, variant: str) -> ColumnElement[bool]:
        return column if variant == SET else not_(column)

    return Filter(clause, lambda value, _: (SET if value else "", value))


def at_least(column: ColumnElement[Any], of: Callable[[Any], Any] = lambda value: value) -> Filter:
    """This value or more; `of` gives the column's value for the query's."""
    return Filter(lambda name, _: column >= bindparam(name, type_=column.type), lambda value, _: ("", of(value)))


def at_most(column: ColumnElement[Any], of: Callable[[Any], Any] = lambda value: value) -> Filter:
    """This value or less; `of` gives the column's value for the query's."""
    return Filter(lambda name, _: column <= bindparam(name, type_=column.type), lambda value, _: ("", of(value)))


def since(column: ColumnElement[Any], whole_day: ColumnElement[bool] | None = None) -> Filter:
    """This time or later. Whole days, which are stored as midnight in UTC, are compared as calendar days."""

    def clause(name: str, variant: str) -> ColumnElement[bool]:
        moment = bindparam(name, type_=column.type)
        if whole_day is None or variant != WHOLE_DAYS:
            return column >= moment
        day, first = (bindparam(f"{name}_{part}", type_=column.type) for part in ("day", "first"))
        # The first condition follows from the second, but an index can answer it.
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
    """A filter of the record that `reference` refers to by `key`."""

    def clause(name: str, variant: str) -> ColumnElement[bool]:
        return reference.in_(select(key).where(of_target.clause(name, variant)))

    return Filter(clause, of_target.read)


class FoundIn(Filter):
    """A search. The variants IDS and ANY_ID take the ids that `crm_search` finds by its index. WALKED and ANY_WALKED
    look at each row of the list in turn, which is faster when many rows match.
    """

    __slots__ = ()


def found_in(resource: str, document: ColumnElement[str], *, phones: bool = False) -> FoundIn:
    """Words of a document, the same that `crm_search` looks through for this resource; with `phones`, also digits."""

    def clause(name: str, variant: str) -> ColumnElement[bool]:
        if variant in {IDS, ANY_ID}:
            return literal_column(f"{resource}.id").in_(select(crm_search(resource, name, variant)))
        # The planner expects a CASE to be true for half of the rows, so it walks the list until it has enough of them.
        return case((holds(document, name, every=variant == WALKED), true()), else_=false())

    def read(value: str, _: str) -> tuple[str, Any]:
        search = read_search(value, phones=phones)
        return (IDS if search.every else ANY_ID), search.fragments

    return FoundIn(clause, read)


def crm_search(resource: str, name: str, variant: str, *, live: bool = False, most: int | None = None) -> Any:
    """The call of the database's function for the fragments in this parameter."""
    limit: ColumnElement[Any] = null() if most is None else literal_column(str(most))
    flags: Iterator[ColumnElement[bool]] = (literal_column(str(flag).lower()) for flag in (variant == IDS, live))
    return func.crm_search(literal_column(f"'{resource}'"), bindparam(name, type_=ARRAY(Text)), *flags, limit)


def crm_count_found(resource: str, name: str, variant: str, most: int) -> ColumnElement[int]:
    """The call of the function that counts what that finds, up to a limit, with the parameter `share`."""
    share = bindparam("share", type_=Double)
    every: ColumnElement[bool] = literal_column(str(variant == IDS).lower())
    limit: ColumnElement[int] = literal_column(str(most))
    fragments = bindparam(name, type_=ARRAY(Text))
    return func.crm_count_found(literal_column(f"'{resource}'"), fragments, every, limit, share, type_=BigInteger)


def holds(document: ColumnElement[str], name: str, *, every: bool = True) -> ColumnElement[bool]:
    """Whether a folded text contains all fragments in this parameter, or any of them."""
    patterns = func.crm_fragment_patterns(bindparam(name, type_=ARRAY(Text)))
    return document.like(all_(patterns) if every else any_(patterns))


def found_among(document: ColumnElement[str]) -> Filter:
    """Words of a folded text, for lists with few rows: without an index."""
    return Filter(lambda name, _: holds(document, name), lambda value, _: ("", read_search(value).fragments))


def matching(condition: Callable[[ColumnElement[Any]], ColumnElement[bool]]) -> Filter:
    """Any other condition on the value."""
    return Filter(lambda name, _: condition(bindparam(name)), lambda value, _: ("", value))


def leading_to(reference: ColumnElement[Any], key: ColumnElement[Any], named: ColumnElement[Any]) -> Filter:
    """A reference to a record whose `named` column has one of the given values."""

    def clause(name: str, variant: str) -> ColumnElement[bool]:
        if variant == ONE:
            return reference == select(key).where(named == bindparam(name)).scalar_subquery()
        return reference.in_(select(key).where(named == any_(bindparam(name))))

    return Filter(clause, lambda value, _: (ONE, value[0]) if len(value) == 1 else ("", value))
