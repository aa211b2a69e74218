"""What follows from two sides of an entry: laws that hold for whatever was changed on either of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as some
from msgspec.structs import replace

from app.admin.calendar_sync.reconcile import (
    OURS,
    SHARED,
    Content,
    Link,
    Local,
    asks,
    content_of,
    match,
    merge,
    outgoing,
    times_there,
)
from app.calendars.entries import Changes, Entry, EntryStatus, Field, Times, Window

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
WINDOW = Window(NOON - 30 * DAY, NOON + 400 * DAY, NOON + 90 * DAY)

contents = some.builds(
    Content,
    title=some.sampled_from(["Call", "Meet", "Ask"]),
    description=some.sampled_from([None, "Plan", "Offer"]),
    times=some.sampled_from(
        [Times(NOON, NOON + HOUR, False), Times(NOON + DAY, NOON + DAY + HOUR, False), Times(NOON, NOON + DAY, True)]
    ),
    completed=some.booleans(),
)


def entry(content: Content, remote_id: str = "r1", **more: object) -> Entry:
    given_: dict[str, object] = {
        "remote_id": remote_id,
        "etag": "t1",
        "uid": f"u-{remote_id}",
        "title": content.title,
        "description": content.description,
        "times": content.times,
        "status": EntryStatus.CONFIRMED,
        "busy": True,
        "completed": content.completed,
        **more,
    }
    return Entry(**given_)  # type: ignore[arg-type]  # the fields are as above


def link(here: Content, there: Content, mine: Content | None, number: int = 1, **more: object) -> Link:
    local = None if mine is None else Local(number, 1, mine.digests, not mine.completed)
    kept = Link(
        number,
        number,
        f"r{number}",
        f"k{number}",
        None,
        f"u-r{number}",
        "t0",
        here.digests,
        there.digests,
        None,
        False,
        there.times,
        local,
    )
    return replace(kept, **more)


def field_of(content: Content, field: Field) -> object:
    return getattr(content, field.value)


def with_field(content: Content, field: Field, other: Content) -> Content:
    return replace(content, **{field.value: field_of(other, field)})


# `kept` is how the server had it when both agreed: it need not be what it was given.
@given(agreed=contents, kept=contents, mine=contents, theirs=contents)
def test_a_field_changed_on_one_side_takes_its_value_and_on_both_ours(
    agreed: Content, kept: Content, mine: Content, theirs: Content
) -> None:
    found = merge(link(agreed, kept, mine), entry(theirs))
    for field in SHARED:
        here = field_of(mine, field) != field_of(agreed, field)
        there = field_of(theirs, field) != field_of(kept, field)
        same = field_of(mine, field) == field_of(theirs, field)
        assert (field in found.taken) == (there and not here and not same)
        assert (field in found.lost) == (there and here and not same)


@given(agreed=contents, mine=contents, theirs=contents)
def test_once_both_have_done_what_follows_they_are_equal_and_nothing_more_follows(
    agreed: Content, mine: Content, theirs: Content
) -> None:
    found = merge(link(agreed, agreed, mine), entry(theirs))
    for field in found.taken:
        mine = with_field(mine, field, theirs)
    here = [
        new if field in found.taken else old for field, old, new in zip(OURS, found.here, mine.digests, strict=True)
    ]
    after = replace(link(agreed, theirs, mine), here=here, there=found.there)
    writes = outgoing([after], [])
    fields = writes[0].fields if writes else frozenset()
    for field in fields & set(SHARED):
        theirs = with_field(theirs, field, mine)
    assert replace(mine, remind_at=None) == theirs
    settled = link(mine, theirs, mine)
    again = merge(settled, entry(theirs))
    assert (again.taken, again.lost, outgoing([settled], [])) == (frozenset(), frozenset(), [])


@given(agreed=contents, mine=contents, more=contents)
def test_a_write_whose_answer_was_lost_is_known_for_ours(agreed: Content, mine: Content, more: Content) -> None:
    """`more` is what changed here meanwhile: it goes there, and nobody is told of a conflict."""
    found = merge(link(agreed, agreed, more, sent=mine.digests), entry(mine))
    assert (found.taken, found.lost) == (frozenset(), frozenset())
    writes = outgoing([replace(link(agreed, mine, more), here=found.here, there=found.there)], [])
    theirs = mine
    for field in (writes[0].fields if writes else frozenset()) & set(SHARED):
        theirs = with_field(theirs, field, more)
    assert theirs == more


@given(kept=some.integers(0, 60), gone=some.integers(0, 60))
def test_the_person_is_asked_when_more_than_twenty_or_half_of_four_are_gone(kept: int, gone: int) -> None:
    content = Content("Call", None, Times(NOON, NOON + HOUR, False), completed=False)
    links = [link(content, content, content, number) for number in range(1, kept + gone + 1)]
    removed = frozenset(f"r{number}" for number in range(1, gone + 1))
    matched = match(Changes(entries=(), removed=removed, token="t", complete=False), links, WINDOW)
    assert len(matched.vanished) == gone
    wanted = gone > 20 or (len(links) >= 4 and 2 * gone >= len(links))
    assert asks(matched.vanished, links) == (gone if wanted else 0)


def test_a_series_that_is_deleted_counts_once() -> None:
    content = Content("Call", None, Times(NOON, NOON + HOUR, False), completed=False)
    others = [link(content, content, content, number) for number in range(1, 6)]
    series = [link(content, content, content, number, series="s") for number in range(10, 40)]
    changes = Changes(entries=(), removed=frozenset({"s"}), token="t", complete=False)
    matched = match(changes, [*others, *series], WINDOW)
    assert len(matched.vanished) == 30
    assert asks(matched.vanished, [*others, *series]) == 0


def test_an_entry_that_becomes_a_series_is_its_first_occurrence() -> None:
    content = Content("Call", None, Times(NOON, NOON + HOUR, False), completed=False)
    known = link(content, content, content)
    occurrences = tuple(entry(content, f"r1/{week}", series="r1") for week in range(3))
    changes = Changes(entries=occurrences, whole=frozenset({"r1"}), token="t", complete=False)
    matched = match(changes, [known], WINDOW)
    assert [(pair[0].id, pair[1].remote_id) for pair in matched.pairs] == [(1, "r1/0")]
    assert (matched.vanished, len(matched.others)) == ([], 2)


def test_several_whole_days_keep_their_length_when_the_activity_moves() -> None:
    moved = Content("Fair", None, Times(NOON.replace(hour=0), NOON.replace(hour=0) + DAY, True), completed=False)
    before = Times(NOON.replace(hour=0) - 7 * DAY, NOON.replace(hour=0) - 4 * DAY, True)
    assert times_there(moved, before) == Times(NOON.replace(hour=0), NOON.replace(hour=0) + 3 * DAY, True)
    assert content_of(entry(moved)).digests == moved.digests
