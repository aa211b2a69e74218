"""What only Microsoft's calendars have."""

from __future__ import annotations

from datetime import date

import pytest

from app.calendars.entries import Field, Times
from app.calendars.errors import Away
from app.calendars.microsoft import windows_name
from tests.calendars.accounts import WINDOW, Account, draft, utc
from tests.peers.graph import HOME, Graph


def test_whole_days_are_the_days_of_their_zone(microsoft: Account) -> None:
    assert isinstance(microsoft.peer, Graph)
    microsoft.peer.shifts_days = True
    microsoft.peer.add("Fair", date(2026, 6, 1), date(2026, 6, 3))
    for zone in ("New Zealand Standard Time", "Hawaiian Standard Time", "tzone://Microsoft/Custom"):
        known = zone if "://" not in zone else HOME
        time = {"timeZone": known}
        event_id = microsoft.peer.add(
            "Fair",
            time | {"dateTime": "2026-06-01T00:00:00"},
            time | {"dateTime": "2026-06-03T00:00:00"},
            isAllDay=True,
        )
        microsoft.peer.change(event_id, originalStartTimeZone=zone)
    found = microsoft.run(lambda adapter: adapter.changes(None, WINDOW))
    assert {entry.times for entry in found.entries} == {Times(utc(2026, 6, 1), utc(2026, 6, 3), all_day=True)}
    assert len(found.entries) == 4


def test_texts_are_read_without_html(microsoft: Account) -> None:
    assert isinstance(microsoft.peer, Graph)
    microsoft.peer.tells_html = True
    made = microsoft.run(lambda adapter: adapter.create(draft(description="1 < 2 & 3\nBring <b>the plan")))
    assert made.description == "1 < 2 & 3\nBring <b>the plan"


def test_how_to_join_an_online_meeting_is_not_written_over(microsoft: Account) -> None:
    assert isinstance(microsoft.peer, Graph)
    join = {"contentType": "html", "content": "Join: https://teams.example.com/1"}
    event_id = microsoft.peer.add("Demo", utc(2026, 6, 1, 8), utc(2026, 6, 1, 9), body=join, isOnlineMeeting=True)
    wanted = draft(title="Demo for Ada", description="Bring the plan")
    fields = [Field.TITLE, Field.DESCRIPTION]
    changed = microsoft.run(lambda adapter: adapter.update(event_id, None, wanted, fields))
    assert (changed.title, changed.description) == ("Demo for Ada", "Join: https://teams.example.com/1")


def test_a_link_to_another_place_is_not_followed(microsoft: Account) -> None:
    """The token would go there."""
    assert isinstance(microsoft.peer, Graph)
    microsoft.peer.page, microsoft.peer.elsewhere = 1, "https://elsewhere.example.com"
    for name in ("Visit", "Another"):
        microsoft.peer.add(name, utc(2026, 6, 1, 8), utc(2026, 6, 1, 9))
    with pytest.raises(Away, match="another place"):
        microsoft.run(lambda adapter: adapter.changes(None, WINDOW))


@pytest.mark.parametrize(
    ("zone", "name"),
    [
        ("Europe/Berlin", HOME),
        ("America/New_York", "Eastern Standard Time"),
        # Microsoft knows no name of its own for it, but one whose clocks show the same.
        ("America/Toronto", "Eastern Standard Time"),
        ("Africa/Casablanca", "Morocco Standard Time"),
        # Its times are told in UTC.
        ("Antarctica/Troll", None),
    ],
)
def test_zones_have_other_names_at_microsoft(zone: str, name: str | None) -> None:
    assert windows_name(zone) == name
