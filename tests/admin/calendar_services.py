"""What a person does in the calendars of the two local servers that stand for Google and Microsoft."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

from tests.admin.calendar_walk import Seen
from tests.peers.google_calendar import Google
from tests.peers.graph import Graph

MARK = "✓ "


class OnGoogle:
    """With Google's own programs. What is done among several people is a property that these do not show; some other
    program of the person's takes it away.
    """

    def __init__(self, peer: Google) -> None:
        self._peer = peer

    def seen(self) -> dict[str, Seen]:
        return {event["id"]: self._seen(event) for event in self._peer.events()}

    def make(self, title: str, starts_at: datetime, minutes: int, attendee: str | None) -> None:
        self._peer.add(title, starts_at, starts_at + timedelta(minutes=minutes), **_invited(attendee))

    def make_series(self, title: str, starts_at: datetime, minutes: int, attendee: str, count: int) -> None:
        rule = [f"RRULE:FREQ=WEEKLY;COUNT={count}"]
        ends_at = starts_at + timedelta(minutes=minutes)
        self._peer.add(title, starts_at, ends_at, recurrence=rule, **_invited(attendee))

    def change(self, remote_id: str, seen: Seen) -> None:
        event = next(each for each in self._peer.events() if each["id"] == remote_id)
        noted = event.get("extendedProperties", {}).get("private", {}).get("crmCompleted")
        start, end = _times(seen)
        self._peer.change(
            remote_id,
            summary=(MARK if seen.completed and not noted else "") + seen.title,
            description=seen.description,
            start=start,
            end=end,
            extendedProperties={"private": {"crmCompleted": noted if seen.completed else None}},
        )

    def drop(self, remote_id: str) -> None:
        self._peer.remove(remote_id)

    def skip(self, remote_id: str) -> None:
        self._peer.remove(remote_id)

    def shift_series(self, remote_id: str, by: timedelta) -> None:
        event = next(each for each in self._peer.series() if remote_id.startswith(each["id"]))
        start, end = (datetime.fromisoformat(event[name]["dateTime"]) + by for name in ("start", "end"))
        self._peer.change(event["id"], start=start, end=end)

    def forget(self) -> None:
        self._peer.forget_places()
        self._peer.expire_access()

    def _seen(self, event: dict[str, Any]) -> Seen:
        all_day = "date" in event["start"]
        starts, ends = (
            datetime.fromisoformat(event[name]["date" if all_day else "dateTime"]) for name in ("start", "end")
        )
        noted = "crmCompleted" in event.get("extendedProperties", {}).get("private", {})
        return _shown(event["summary"], event.get("description", ""), starts, ends, all_day=all_day, completed=noted)


class OnGraph:
    """With Outlook. What is done among several people is a category there."""

    def __init__(self, peer: Graph) -> None:
        self._peer = peer

    def seen(self) -> dict[str, Seen]:
        return {event["id"]: self._seen(event) for event in self._peer.events()}

    def make(self, title: str, starts_at: datetime, minutes: int, attendee: str | None) -> None:
        people = [attendee] if attendee else []
        self._peer.add(title, starts_at, starts_at + timedelta(minutes=minutes), attendees=_addresses(people))

    def make_series(self, title: str, starts_at: datetime, minutes: int, attendee: str, count: int) -> None:
        ends_at, rule = starts_at + timedelta(minutes=minutes), f"FREQ=WEEKLY;COUNT={count}"
        self._peer.add(title, starts_at, ends_at, recurrence=rule, attendees=_addresses([attendee]))

    def change(self, remote_id: str, seen: Seen) -> None:
        event = next(each for each in self._peer.events() if each["id"] == remote_id)
        start, end = _times(seen)
        noted = "✓" in event["categories"]
        self._peer.change(
            remote_id,
            subject=(MARK if seen.completed and not noted else "") + seen.title,
            body={"contentType": "text", "content": seen.description},
            start=start,
            end=end,
            categories=["✓"] if noted and seen.completed else [],
        )

    def drop(self, remote_id: str) -> None:
        self._peer.remove(remote_id)

    def skip(self, remote_id: str) -> None:
        self._peer.remove(remote_id)

    def shift_series(self, remote_id: str, by: timedelta) -> None:
        event = next(each for each in self._peer.series() if remote_id.startswith(each["id"]))
        start, end = (_moment(event[name]["dateTime"]) + by for name in ("start", "end"))
        self._peer.change(event["id"], start=start, end=end)

    def forget(self) -> None:
        self._peer.forget_places()
        self._peer.expire_access()

    def _seen(self, event: dict[str, Any]) -> Seen:
        starts, ends = (_moment(event[name]["dateTime"]) for name in ("start", "end"))
        text = event["body"]["content"].strip()
        noted = "✓" in event["categories"]
        return _shown(event["subject"], text, starts, ends, all_day=event["isAllDay"], completed=noted)


def _shown(title: str, text: str, starts: datetime, ends: datetime, *, all_day: bool, completed: bool) -> Seen:
    starts_at = starts.replace(tzinfo=UTC) if all_day else starts.astimezone(UTC)
    minutes = (ends - starts) // timedelta(minutes=1)
    done = completed or title.startswith(MARK)
    return Seen(title.removeprefix(MARK), text, starts_at, minutes, all_day, done)


def _times(seen: Seen) -> tuple[date, date]:
    ends_at = seen.starts_at + timedelta(minutes=seen.minutes)
    return (seen.starts_at.date(), ends_at.date()) if seen.all_day else (seen.starts_at, ends_at)


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text[:19]).replace(tzinfo=UTC)


def _invited(attendee: str | None) -> dict[str, Any]:
    own = {"email": "ada@example.com", "self": True, "responseStatus": "accepted"}
    return {} if attendee is None else {"attendees": [{"email": attendee, "responseStatus": "accepted"}, own]}


def _addresses(people: list[str]) -> list[dict[str, Any]]:
    return [{"emailAddress": {"address": address}, "type": "required"} for address in people]
