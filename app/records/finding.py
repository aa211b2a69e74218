"""The search over everything: the best of each kind of record, found and put in order by one statement.

However many records match, no more are read than the limits below say: docs/lists.md#the-search-over-everything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    CTE,
    BigInteger,
    Boolean,
    ColumnElement,
    CompoundSelect,
    Select,
    Subquery,
    Text,
    all_,
    and_,
    any_,
    bindparam,
    case,
    cast,
    func,
    literal_column,
    select,
    true,
    union,
    union_all,
)
from sqlalchemy.dialects.postgresql import ARRAY

from app.records.list_statements import MOST_KEPT
from app.records.resources import Resource
from app.web.search import read_search

# Of each kind, so many of the most recent records are looked at first. If enough of them match, the words are frequent.
SAMPLE, FREQUENT = 100, 2
# Frequent words are looked for in so many recent records, until enough match, and in names that begin with them.
RECENT, MOST_RECENT, MOST_NAMED = 1_000, 100, 50
# Rare words are looked for in the search's index, which gives so many ids.
MOST_INDEXED = 500
# Of the records that belong to one that was found. If they are fewer than ENOUGH, also of those that belong to one
# with some of the words, so many for each word.
MOST_BELONGING, ENOUGH, MOST_BY_WORD = 500, 20, 100
# For people who see only their own records, so many of these are looked at, until so many match.
OWN, MOST_OWN = 5_000, 500
# The rank looks at so many words, and at so many letters of a text.
RANKED_WORDS, RANKED_LETTERS = 5, 2_000
# What stands between words: white space, punctuation, and what a phone number begins with (app/web/search.py).
SEPARATOR = r"[\u0001-\u002F\u003A-\u0040\u005B-\u0060\u007B-\u00BF\u2000-\u206F\u3000-\u303F\uE00A]"
BEGINNING, END = f"(?:^|{SEPARATOR})", f"(?:{SEPARATOR}|$)"


@dataclass(frozen=True, eq=False, kw_only=True)
class Findable:
    """How records of one kind are found and shown.

    `fields` are its searched texts, folded, by the names that clients know; the first is that of the title.
    """

    resource: Resource
    # For a long text, a snippet of it.
    title: ColumnElement[Any]
    is_long: bool = False
    subtitle: ColumnElement[Any]
    fields: Mapping[str, ColumnElement[str]]
    # What is searched, and what `crm_search` calls its index, if not as the table.
    document: ColumnElement[str]
    index: str = ""
    # What it belongs to, and the reference to it, if that one's name is a part of what is searched.
    owner: tuple[Findable, ColumnElement[Any]] | None = None
    # Digits find phone numbers in it.
    phones: bool = False
    is_open: ColumnElement[bool] | None = None
    # How recent a record is, by an index.
    recent: ColumnElement[Any]
    # The folded name, if it has an index.
    name: ColumnElement[str] | None = None
    # What makes a record a person's own, and an order that has an index with it; what makes its records one's own, too,
    # and the reference to it.
    own: tuple[ColumnElement[bool], ColumnElement[Any]] | None = None
    own_by: tuple[Findable, ColumnElement[Any]] | None = None


def parameters_of(text: str) -> tuple[dict[str, Any], bool]:
    """What `best` takes to find this text, and whether it is a phone number."""
    parameters: dict[str, Any] = {"typed": text}
    for name, phones in (("words", False), ("digits", True)):
        search = read_search(text, phones=phones)
        parameters |= {name: search.fragments, f"{name}_ranked": search.fragments[:RANKED_WORDS]}
    return parameters, not search.every


@lru_cache(MOST_KEPT)
def best(kinds: tuple[Findable, ...], limit: int, *, phone: bool, own: bool) -> Select[Any]:
    """The best records of these kinds: kind, id, title, subtitle, what matched, updated_at.

    With `phone`, digits are looked for as a phone number; `own` says that the person sees only own records.
    """
    search = _Search(phone=phone, own=own)
    found = union_all(*(search.ranked(kind, place) for place, kind in enumerate(kinds))).subquery("found")
    order = (found.c.rank, found.c.updated_at.desc(), found.c.place, found.c.id.desc())
    number = func.row_number().over(order_by=order).label("number")
    first = select(found, number).order_by(*order).limit(_literal(limit)).subquery("first")
    shown = union_all(*(search.shown(kind, first, place) for place, kind in enumerate(kinds))).lateral("shown")
    return (
        select(shown.c.kind, first.c.id, shown.c.title, shown.c.subtitle, shown.c.matched, first.c.updated_at)
        .select_from(first.join(shown, true()))
        .order_by(first.c.number)
    )


class _Terms:
    """What is looked for: all of the fragments in a parameter, or any of them."""

    def __init__(self, name: str, *, every: bool) -> None:
        self.fragments: ColumnElement[Any] = bindparam(name, type_=ARRAY(Text))
        self.every = every
        self._ranked: ColumnElement[Any] = bindparam(f"{name}_ranked", type_=ARRAY(Text))
        begins = func.crm_fold(bindparam("typed", type_=Text))
        # Worked out once, and not for each record. The planner can't see the values, so that it keeps one plan for all:
        # to plan takes longer than to find.
        self._folded = select(
            func.crm_fragment_patterns(self.fragments).label("patterns"),
            _regexes(self._ranked, "").label("beginnings"),
            _regexes(self._ranked, END).label("whole"),
            (func.cardinality(self.fragments) > _literal(1)).label("are_several"),
            begins.label("first_name"),
            (begins + literal_column(r"U&'\+10FFFF'", Text)).label("last_name"),
        ).cte(f"folded_{name}")

    @property
    def first_name(self) -> ColumnElement[str]:
        """The first name that begins with what was typed."""
        return select(self._folded.c.first_name).scalar_subquery()

    @property
    def last_name(self) -> ColumnElement[str]:
        """What is after the last one."""
        return select(self._folded.c.last_name).scalar_subquery()

    def held_by(self, text: ColumnElement[str]) -> ColumnElement[bool]:
        """Whether a folded text contains them."""
        return text.like((all_ if self.every else any_)(self._array("patterns")))

    def partly_held_by(self, text: ColumnElement[str]) -> ColumnElement[bool]:
        """Whether a folded text contains any of them."""
        return text.like(any_(self._array("patterns")))

    def rank_in(self, text: ColumnElement[str]) -> ColumnElement[int]:
        """0 if they are whole words of a folded text, 1 if words begin with them, else 2."""
        start = func.left(text, _literal(RANKED_LETTERS))
        each = all_ if self.every else any_
        return case(
            (start.op("~")(each(self._array("whole"))), _literal(0)),
            (start.op("~")(each(self._array("beginnings"))), _literal(1)),
            else_=_literal(2),
        )

    def found_by(self, index: str, most: int, *, each: bool = False) -> Select[Any]:
        """The ids of the live records that have them, by an index of `crm_search`: at most so many; with `each`, of
        those that have any of the first words, so many for each.
        """
        fragments, every = (self._ranked, False) if each else (self.fragments, self.every)
        all_or_any, live = (literal_column(str(flag).lower(), Boolean) for flag in (every, True))
        call = func.crm_search(_literal(index), fragments, all_or_any, live, _literal(most))
        ids = select(call.column_valued("indexed"))
        return ids.where(select(self._folded.c.are_several).scalar_subquery()) if each else ids

    def _array(self, name: str) -> ColumnElement[Any]:
        # With a cast: a bare subselect would be taken for rows.
        return cast(select(self._folded.c[name]).scalar_subquery(), ARRAY(Text))


def _regexes(fragments: ColumnElement[Any], after: str) -> ColumnElement[Any]:
    """Regular expressions for words that begin with these fragments."""
    fragment = func.unnest(fragments).column_valued("fragment")
    special, escaped, every = map(_literal, (r"([!-/:-@\[-`{-~])", r"\\\1", "g"))
    folded = func.regexp_replace(func.crm_fold_fragment(fragment), special, escaped, every, type_=Text)
    return func.array(select(_literal(BEGINNING) + folded + _literal(after)).scalar_subquery())


def _literal(value: str | int) -> ColumnElement[Any]:
    """A constant in the statement itself, so that the server knows its type and the planner its value."""
    return literal_column(str(value), BigInteger) if isinstance(value, int) else literal_column(f"'{value}'", Text)


class _Search:
    """The parts of one statement."""

    def __init__(self, *, phone: bool, own: bool) -> None:
        self._words = _Terms("words", every=True)
        self._digits = _Terms("digits", every=False) if phone else self._words
        self._own = own
        self._found: dict[Findable, CTE] = {}

    def ranked(self, kind: Findable, place: int) -> Select[Any]:
        """The records of a kind that match, with their ranks."""
        terms, c = self._terms(kind), kind.resource.table.c
        title, *_ = kind.fields.values()
        is_open = literal_column("true") if kind.is_open is None else kind.is_open
        ids = self._candidates(kind)
        # With an offset, which keeps the planner from going through the whole table, and from working out a column each
        # time that it is used.
        candidate = (
            select(c.id, c.updated_at, kind.document.label("document"), title.label("title"), is_open.label("is_open"))
            .where(c.deleted_at.is_(None), c.id == ids.c.id)
            .offset(_literal(0))
            .correlate(ids)
            .lateral("candidate")
        )
        of = candidate.c
        rank = (
            terms.rank_in(of.document) * _literal(4)
            + case((terms.held_by(of.title), _literal(0)), else_=_literal(2))
            + case((of.is_open, _literal(0)), else_=_literal(1))
        )
        return (
            select(of.id, of.updated_at, rank.label("rank"), _literal(place).label("place"))
            .select_from(ids.join(candidate, true()))
            .where(terms.held_by(of.document))
        )

    def shown(self, kind: Findable, first: Subquery, place: int) -> Select[Any]:
        """What is shown of a record that was found."""
        terms, (folded, *others) = self._terms(kind), kind.fields.values()
        *tests, (_, last) = [
            (holds(text), _literal(name))
            for holds in (terms.held_by, *([terms.partly_held_by] if others else []))
            for name, text in kind.fields.items()
        ]
        matched = case(*tests, else_=last) if tests else last
        title = func.crm_snippet(kind.title, folded, terms.fragments) if kind.is_long else kind.title
        return select(
            _literal(kind.resource.kind).label("kind"),
            title.label("title"),
            kind.subtitle.label("subtitle"),
            matched.label("matched"),
        ).where(first.c.place == _literal(place), kind.resource.table.c.id == first.c.id)

    def _terms(self, kind: Findable) -> _Terms:
        return self._digits if kind.phones else self._words

    def _candidates(self, kind: Findable) -> CTE:
        """The ids of live records of a kind that may match: some if they are many, all if they are few."""
        if kind not in self._found:
            is_owned = kind.own is not None or kind.own_by is not None
            ids = self._own_candidates(kind) if self._own and is_owned else self._some_candidates(kind)
            self._found[kind] = _all_of(ids).cte(f"found_{kind.resource.table.name}")
        return self._found[kind]

    def _own_candidates(self, kind: Findable) -> list[Select[Any]]:
        """Those that match of the person's own, the newest first; and of what belongs to these."""
        terms, c = self._terms(kind), kind.resource.table.c
        holds = terms.held_by(kind.document).label("holds")
        ids = []
        if kind.own is not None:
            rows = _own(kind, holds).subquery("own")
            ids.append(select(rows.c.id).where(rows.c.holds).limit(_literal(MOST_OWN)))
        if kind.own_by is not None:
            owner, reference = kind.own_by
            # With an offset, which keeps the planner from going through the whole table.
            its = select(c.id, holds).where(c.deleted_at.is_(None)).offset(_literal(0))
            mine = _own(owner).subquery("mine")
            its_own = its.where(reference == mine.c.id).correlate(mine).lateral("its")
            rows = select(its_own).select_from(mine.join(its_own, true())).limit(_literal(OWN)).subquery("own")
            ids.append(select(rows.c.id).where(rows.c.holds).limit(_literal(MOST_OWN)))
        return ids

    def _some_candidates(self, kind: Findable) -> list[Select[Any]]:
        terms, name, c = self._terms(kind), str(kind.resource.table.name), kind.resource.table.c
        live = c.deleted_at.is_(None)
        newest = (
            select(c.id, terms.held_by(kind.document).label("holds"))
            .where(live)
            .order_by(kind.recent.desc(), c.id.desc())
        )
        sample = newest.limit(_literal(SAMPLE)).cte(f"newest_{name}")
        counts = select(func.count().label("seen"), func.count().filter(sample.c.holds).label("match")).cte(
            f"counts_{name}"
        )
        is_frequent = select(counts.c.match >= _literal(FREQUENT)).scalar_subquery()
        # All that match are known already, if the sample has all records.
        is_rare = select(and_(counts.c.match < _literal(FREQUENT), counts.c.seen == _literal(SAMPLE))).scalar_subquery()
        recent = newest.limit(_literal(RECENT)).subquery("recent")
        ids = [
            select(sample.c.id).where(sample.c.holds),
            select(recent.c.id).where(recent.c.holds, is_frequent).limit(_literal(MOST_RECENT)),
            terms.found_by(kind.index or name, MOST_INDEXED).where(is_rare),
        ]
        if kind.name is not None:
            named = select(c.id).where(live, kind.name >= terms.first_name, kind.name < terms.last_name, is_frequent)
            ids.append(named.order_by(kind.name, c.id).limit(_literal(MOST_NAMED)))
        if kind.owner is not None:
            owner, reference = kind.owner
            belonging = select(c.id).where(live, is_rare).limit(_literal(MOST_BELONGING))
            ids.append(belonging.where(reference.in_(select(self._candidates(owner).c.id))))
            whole = _all_of(ids).cte(f"whole_{name}")
            are_few = select(func.count() < _literal(ENOUGH)).select_from(whole).scalar_subquery()
            by_word = terms.found_by(str(owner.resource.table.name), MOST_BY_WORD, each=True).where(is_rare, are_few)
            ids = [select(whole.c.id), belonging.where(are_few, reference.in_(by_word))]
        return ids


def _own(kind: Findable, *columns: ColumnElement[Any]) -> Select[Any]:
    """The newest records of a kind that are the person's own."""
    assert kind.own is not None  # noqa: S101 -- callers check it
    c, (condition, order) = kind.resource.table.c, kind.own
    rows = select(c.id, *columns).where(c.deleted_at.is_(None), condition)
    return rows.order_by(order.desc(), c.id.desc()).limit(_literal(OWN))


def _all_of(ids: Sequence[Select[Any]]) -> CompoundSelect[Any]:
    # As subqueries, since each may have a limit.
    return union(*(select(each.subquery()) for each in ids))
