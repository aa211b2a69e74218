"""Google's login and its Calendar API, version 3, as their documentation says: as strict, with the same errors.

Of series it knows what `dateutil` reads of one RRULE; of an occurrence, that it is changed or deleted.
"""

from __future__ import annotations

import itertools
import json
import re
import secrets
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any, ClassVar, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from dateutil.rrule import rrulestr
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.peers.consent import Guarded

Event = dict[str, Any]

CALENDAR_SCOPE = "https://www.googleapis.com/auth/calendar.events"
ID = re.compile(r"[a-v0-9]{5,1024}")
BERLIN = ZoneInfo("Europe/Berlin")
EVENT_TYPES = {"default", "birthday", "focusTime", "fromGmail", "outOfOffice", "workingLocation"}
# What can't be given together with a sync token.
FILTERS = {"iCalUID", "orderBy", "privateExtendedProperty", "q", "sharedExtendedProperty", "timeMin", "timeMax"} | {
    "updatedMin"
}
PARAMETERS = FILTERS | {
    *("alwaysIncludeEmail", "eventTypes", "maxAttendees", "maxResults", "pageToken", "showDeleted"),
    *("showHiddenInvitations", "singleEvents", "syncToken", "timeZone"),
}
# Of an event, what only its organizer may change.
SHARED = {"summary", "description", "location", "start", "end", "recurrence", "attendees", "status"}
# What a client may not write, or what is ignored.
READ_ONLY = {"kind", "etag", "htmlLink", "created", "updated", "creator", "organizer", "recurringEventId", "iCalUID"}


class Refused(Exception):
    """A request that the API does not take."""

    def __init__(self, status: int, reason: str, message: str = "No.") -> None:
        super().__init__(message)
        self.status, self.reason, self.message = status, reason, message


class Listing(NamedTuple):
    """Where somebody is who reads changes, or pages of a list."""

    parameters: dict[str, list[str]]
    time_min: datetime | None
    time_max: datetime | None
    since: int
    # Of the list that is read page by page.
    items: list[Event]
    until: int


class Google(Guarded):
    """A person's account at Google, with one calendar."""

    login_path, token_path = "/o/oauth2/v2/auth", "/token"
    scopes: ClassVar[set[str]] = {"openid", "email", CALENDAR_SCOPE}
    rotates = False

    def clear(self) -> None:
        """Everything is as in the beginning."""
        super().clear()
        # Of the answers: so many events at most, whatever was asked for.
        self.page = 250
        self._events: dict[str, Event] = {}
        self._changed: dict[str, int] = {}
        self._overrides: dict[str, Event] = {}
        self._shown: dict[str, set[str]] = {}
        self._places: dict[str, Listing] = {}
        self._sequence = itertools.count(1)
        self._now = 0

    # ── what the person does, and sees ───────────────────────────────────────────────────────────────────────────

    def add(self, summary: str, start: Any, end: Any, **more: Any) -> str:
        """The person makes an event, or is invited to one (with another `organizer`)."""
        with self.lock:
            event_id = secrets.token_hex(13)
            self._keep(self._new(event_id, {"summary": summary, "start": _time(start), "end": _time(end), **more}))
            return event_id

    def change(self, event_id: str, **fields: Any) -> None:
        """The person changes an event, an occurrence, or a series."""
        with self.lock:
            for name in {"start", "end"} & set(fields):
                fields[name] = _time(fields[name])
            self._apply(event_id, fields)

    def remove(self, event_id: str) -> None:
        """The person deletes an event, an occurrence, or a series."""
        with self.lock:
            self._delete(event_id)

    def events(self, since: datetime | None = None, until: datetime | None = None) -> list[Event]:
        """What the person sees: occurrences and not series, nothing that is deleted."""
        with self.lock:
            found = itertools.chain.from_iterable(self._flat(event, since, until) for event in self._events.values())
            return [event for event in found if event["status"] != "cancelled"]

    def series(self) -> list[Event]:
        """The series that are not deleted."""
        with self.lock:
            return [each for each in self._events.values() if "recurrence" in each and each["status"] != "cancelled"]

    def forget_places(self) -> None:
        """All sync tokens and page tokens expire."""
        with self.lock:
            self._places.clear()

    # ── the API ──────────────────────────────────────────────────────────────────────────────────────────────────

    def routes(self) -> list[Route]:
        """Of the API, and what else it has."""
        events = "/calendar/v3/calendars/primary/events"
        return [
            Route("/revoke", self._revoke, methods=["POST"]),
            Route("/v1/userinfo", self.guarded(self._user)),
            Route(events, self.guarded(self._answer(self._list)), methods=["GET"]),
            Route(events, self.guarded(self._answer(self._insert)), methods=["POST"]),
            Route(f"{events}/{{id}}", self.guarded(self._answer(self._one)), methods=["GET", "PATCH", "DELETE"]),
        ]

    def is_lasting(self, asked: dict[str, str]) -> bool:
        """Whether the login page was asked for a refresh token."""
        return asked.get("access_type") == "offline" and asked.get("prompt") == "consent"

    def failure(self, status: int, code: str, message: str = "No.") -> Response:
        """An error in the API's form."""
        error = {"domain": "calendar", "reason": code, "message": message}
        return JSONResponse({"error": {"errors": [error], "code": status, "message": message}}, status)

    def unauthorized(self) -> Response:
        """The answer to a token that is not good."""
        return self.failure(401, "authError", "Invalid Credentials")

    async def _revoke(self, request: Request) -> Response:
        token = (await request.body()).decode().partition("token=")[2]
        return JSONResponse({}) if self.revoked(token) else JSONResponse({"error": "invalid_token"}, 400)

    def _user(self, _: Request, __: bytes) -> Response:
        return JSONResponse({"sub": "4711", "email": self.email, "email_verified": True})

    def _answer(self, answer: Callable[[Request, Any], Response]) -> Callable[[Request, bytes], Response]:
        def run(request: Request, body: bytes) -> Response:
            try:
                given = None
                if body:
                    if request.headers.get("content-type") != "application/json":
                        raise Refused(400, "parseError", "This API does not support parsing form-encoded input.")
                    given = json.loads(body)
                return answer(request, given)
            except Refused as refused:
                return self.failure(refused.status, refused.reason, refused.message)

        return run

    def _list(self, request: Request, _: Any) -> Response:
        given: dict[str, list[str]] = {}
        for name, value in request.query_params.multi_items():
            given.setdefault(name, []).append(value)
        if unknown := set(given) - PARAMETERS:
            raise Refused(400, "invalidParameter", f"Unknown: {unknown}")
        if not set(given.get("eventTypes", [])) <= EVENT_TYPES:
            raise Refused(400, "invalidParameter")
        most = int(given.get("maxResults", ["250"])[0])
        if not 1 <= most <= 2500:
            raise Refused(400, "invalidParameter", "maxResults")
        page_token = given.pop("pageToken", [""])[0]
        if page_token:
            place = self._places.pop(page_token, None)
            if place is None or place.parameters != given:
                raise Refused(400, "invalid", "The page token belongs to another list")
        else:
            place = self._begun(given)
        items, rest = place.items[: min(most, self.page)], place.items[min(most, self.page) :]
        answer: dict[str, Any] = {
            "kind": "calendar#events",
            "etag": f'"p{self._now}"',
            "summary": self.email,
            "timeZone": "Europe/Berlin",
            "accessRole": "reader" if self.read_only else "owner",
            "items": items,
        }
        token = f"{'page' if rest else 'sync'}-{secrets.token_urlsafe(12)}="
        self._places[token] = place._replace(items=rest)
        return JSONResponse(answer | {"nextPageToken" if rest else "nextSyncToken": token})

    def _begun(self, given: dict[str, list[str]]) -> Listing:
        """A list from its first page on: of all events, or of what changed."""
        if "syncToken" in given:
            if set(given) & FILTERS or given.get("showDeleted") == ["false"]:
                raise Refused(400, "invalid", "Sync tokens go with no filters")
            place = self._places.get(given["syncToken"][0])
            if place is None:
                raise Refused(410, "fullSyncRequired", "Sync token is no longer valid, a full sync is required.")
            if {name: given.get(name) for name in ("singleEvents", "eventTypes")} != {
                name: place.parameters.get(name) for name in ("singleEvents", "eventTypes")
            }:
                raise Refused(400, "invalid", "Not the list that the token is of")
            changed = [event_id for event_id, at in self._changed.items() if at > place.until]
            items = [
                each
                for event_id in changed
                for each in self._flat(self._events[event_id], place.time_min, place.time_max, gone=True)
            ]
            return Listing(given, place.time_min, place.time_max, place.until, items, self._now)
        if given.get("singleEvents") != ["true"]:
            raise Refused(400, "invalid", "This server shows series by their occurrences only")
        time_min, time_max = (_bound(given.get(name, [""])[0]) for name in ("timeMin", "timeMax"))
        if time_min and time_max and time_max <= time_min:
            raise Refused(400, "timeRangeEmpty", "The specified time range is empty.")
        items = [
            each
            for event in self._events.values()
            for each in self._flat(event, time_min, time_max)
            if each["status"] != "cancelled" and _within(each, time_min, time_max)
        ]
        return Listing(given, time_min, time_max, 0, items, self._now)

    def _insert(self, _: Request, given: Event) -> Response:
        _check(given, new=True)
        event_id = given.get("id") or secrets.token_hex(13)
        if not ID.fullmatch(event_id):
            raise Refused(400, "invalid", "Invalid resource id value.")
        if "id" in given and "iCalUID" in given:
            raise Refused(400, "invalid", "Only one of id and iCalUID")
        if event_id in self._events:
            # Also where it was deleted.
            raise Refused(409, "duplicate", "The requested identifier already exists.")
        return JSONResponse(self._keep(self._new(event_id, given)))

    def _one(self, request: Request, given: Event | None) -> Response:
        event_id = request.path_params["id"]
        event = self._find(event_id)
        if event is None:
            raise Refused(404, "notFound", "Not Found")
        if request.method == "GET":
            return JSONResponse(event)
        if request.query_params.get("sendUpdates", "none") not in {"all", "externalOnly", "none"}:
            raise Refused(400, "invalidParameter")
        if request.headers.get("if-match", event["etag"]) not in {event["etag"], "*"}:
            raise Refused(412, "conditionNotMet", "Precondition Failed")
        if event["status"] == "cancelled":
            if request.method == "DELETE":
                raise Refused(410, "deleted", "Resource has been deleted")
            raise Refused(403, "forbidden", "Forbidden")
        if request.method == "DELETE":
            self._delete(event_id)
            return Response(status_code=204)
        assert given is not None
        _check(given, new=False)
        is_organizer = event.get("organizer", {}).get("self", False)
        if SHARED & set(given) and not is_organizer:
            raise Refused(
                403, "forbiddenForNonOrganizer", "Shared properties can only be changed by the organizer of the event."
            )
        self._apply(event_id, given)
        changed = self._find(event_id)
        return JSONResponse(changed)

    # ── events ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _new(self, event_id: str, given: Event) -> Event:
        own = {"email": self.email, "self": True}
        return {
            "kind": "calendar#event",
            "id": event_id,
            "status": "confirmed",
            "eventType": "default",
            "iCalUID": given.get("iCalUID", f"{event_id}@google.com"),
            "creator": own,
            "organizer": given.get("organizer", own),
            "reminders": {"useDefault": True},
        } | _merged({}, {name: value for name, value in given.items() if name not in READ_ONLY | {"id"}})

    def _keep(self, event: Event) -> Event:
        self._now = next(self._sequence)
        event["etag"] = f'"{self._now}"'
        event["start"], event["end"] = _answered(event["start"]), _answered(event["end"])
        self._events[event["id"]] = event
        self._changed[event["id"]] = self._now
        return event

    def _apply(self, event_id: str, fields: Event) -> None:
        fields = {name: value for name, value in fields.items() if name not in READ_ONLY | {"id"}}
        if event_id in self._events:
            changed = self._keep(_merged(self._events[event_id], fields))
            _check_order(changed)
            return
        # An occurrence becomes an exception of its series.
        series = self._series_of(event_id)
        self._overrides[event_id] = _merged(self._overrides.get(event_id, {}), fields)
        self._keep(series)

    def _delete(self, event_id: str) -> None:
        if event_id in self._events:
            self._keep(self._events[event_id] | {"status": "cancelled"})
        else:
            series = self._series_of(event_id)
            self._overrides[event_id] = {"status": "cancelled"}
            self._keep(series)

    def _series_of(self, event_id: str) -> Event:
        return self._events[event_id.rpartition("_")[0]]

    def _find(self, event_id: str) -> Event | None:
        if event_id in self._events:
            return self._events[event_id]
        series = self._events.get(event_id.rpartition("_")[0])
        if series is None or "recurrence" not in series:
            return None
        return next((event for event in self._flat(series, None, None, gone=True) if event["id"] == event_id), None)

    def _flat(
        self, event: Event, time_min: datetime | None, time_max: datetime | None, *, gone: bool = False
    ) -> list[Event]:
        """The event itself, or the occurrences of a series. With those that are `gone`, where they were shown once."""
        deleted = {"kind": "calendar#event", "etag": event["etag"], "status": "cancelled"}
        if "recurrence" not in event:
            return [deleted | {"id": event["id"]}] if gone and event["status"] == "cancelled" else [event]
        left = [] if event["status"] == "cancelled" else self._occurrences(event)
        within = [each for each in left if _within(each, time_min, time_max)]
        shown = self._shown.setdefault(event["id"], set())
        present = {each["id"] for each in within if each["status"] != "cancelled"}
        missing = [deleted | {"id": each, "recurringEventId": event["id"]} for each in sorted(shown - present)]
        shown |= present
        return [each for each in within if each["id"] in present] + (missing if gone else [])

    def _occurrences(self, series: Event) -> list[Event]:
        start, end = series["start"], series["end"]
        first, length = _moment(start), _moment(end) - _moment(start)
        zone = ZoneInfo(start.get("timeZone", "Europe/Berlin"))
        (rule,) = (line.removeprefix("RRULE:") for line in series["recurrence"])
        local = first.astimezone(zone).replace(tzinfo=None) if "dateTime" in start else first.replace(tzinfo=None)
        found = []
        for moment in itertools.islice(rrulestr(rule, dtstart=local), 1000):
            if "date" in start:
                at, name = moment.replace(tzinfo=UTC), f"{moment:%Y%m%d}"
                times = {"start": {"date": f"{at.date()}"}, "end": {"date": f"{(at + length).date()}"}}
            else:
                at = moment.replace(tzinfo=zone).astimezone(UTC)
                name = f"{at:%Y%m%dT%H%M%SZ}"
                times = {
                    "start": _answered({"dateTime": at.isoformat(), "timeZone": zone.key}),
                    "end": _answered({"dateTime": (at + length).isoformat(), "timeZone": zone.key}),
                }
            occurrence_id = f"{series['id']}_{name}"
            whole = {key: value for key, value in series.items() if key != "recurrence"}
            occurrence = whole | times | {"id": occurrence_id, "recurringEventId": series["id"]}
            occurrence["originalStartTime"] = times["start"]
            found.append(_merged(occurrence, self._overrides.get(occurrence_id, {})))
        return found


def _check(given: Event, *, new: bool) -> None:
    """Raise Refused for what the API does not take."""
    if new and not {"start", "end"} <= set(given):
        raise Refused(400, "required", "Missing start or end time.")
    for name in ("start", "end"):
        if name in given:
            moment = {key: value for key, value in given[name].items() if value is not None}
            if not set(moment) <= {"date", "dateTime", "timeZone"} or len({"date", "dateTime"} & set(moment)) != 1:
                raise Refused(400, "invalid", "Start and end times must either both be date or both be dateTime.")
            try:
                _moment(moment)
            except (ValueError, ZoneInfoNotFoundError):
                raise Refused(400, "invalid", "Invalid value for: time") from None
    if {"start", "end"} <= set(given):
        _check_order(given)
    private = given.get("extendedProperties", {}).get("private", {})
    if any(len(key) > 44 or len(value or "") > 1024 for key, value in private.items()):
        raise Refused(400, "invalid", "Extended property")
    reminders = given.get("reminders", {})
    overrides = reminders.get("overrides", [])
    if reminders.get("useDefault") and overrides:
        raise Refused(400, "cannotUseDefaultRemindersAndSpecifyOverride")
    for override in overrides:
        if override.get("method") not in {"email", "popup"} or not 0 <= override.get("minutes", -1) <= 40320:
            raise Refused(400, "invalid", "Reminder")
    if given.get("transparency", "opaque") not in {"opaque", "transparent"}:
        raise Refused(400, "invalid", "transparency")


def _check_order(event: Event) -> None:
    start, end = event["start"], event["end"]
    if ("date" in _said(start)) != ("date" in _said(end)):
        raise Refused(400, "invalid", "Start and end times must either both be date or both be dateTime.")
    if _moment(_said(end)) < _moment(_said(start)):
        raise Refused(400, "timeRangeEmpty", "The specified time range is empty.")


def _said(time: Event) -> Event:
    return {key: value for key, value in time.items() if value is not None}


def _merged(event: Event, fields: Event) -> Event:
    """A patch: null deletes, objects are merged, arrays replaced."""
    merged = dict(event)
    for name, value in fields.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, dict):
            merged[name] = _merged(merged.get(name, {}), value)
        else:
            merged[name] = value
    return merged


def _time(value: Any) -> Event:
    if isinstance(value, datetime):
        return {"date": None, "dateTime": value.isoformat(), "timeZone": "Europe/Berlin"}
    if isinstance(value, date):
        return {"date": value.isoformat(), "dateTime": None, "timeZone": None}
    given: Event = value
    return given


def _answered(time: Event) -> Event:
    """As the API shows it: by the clocks of the calendar, without parts of a second."""
    if "dateTime" not in time:
        return time
    moment = _moment(time).astimezone(BERLIN)
    return {"dateTime": moment.isoformat(timespec="seconds"), "timeZone": time.get("timeZone", "Europe/Berlin")}


def _moment(time: Event) -> datetime:
    if "date" in time:
        day = date.fromisoformat(time["date"])
        return datetime(day.year, day.month, day.day, tzinfo=UTC)
    moment = datetime.fromisoformat(time["dateTime"])
    zone = ZoneInfo(time["timeZone"]) if "timeZone" in time else None
    if moment.tzinfo is None:
        if zone is None:
            raise ValueError("Missing time zone definition for start time.")
        moment = moment.replace(tzinfo=zone)
    return moment.astimezone(UTC)


def _bound(text: str) -> datetime | None:
    if not text:
        return None
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise Refused(400, "badRequest", "Bad Request")
    return moment


def _within(event: Event, time_min: datetime | None, time_max: datetime | None) -> bool:
    return (time_min is None or _moment(event["end"]) > time_min) and (
        time_max is None or _moment(event["start"]) < time_max
    )
