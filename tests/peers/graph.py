"""Microsoft's login and the calendar of Microsoft Graph, version 1.0, as their documentation says: as strict, with the
same errors.

Of series it knows what `dateutil` reads of one RRULE, in place of Graph's patterns; of an occurrence, that it is
changed or deleted.
"""

from __future__ import annotations

import itertools
import json
import re
import secrets
from collections.abc import Callable
from datetime import UTC, date, datetime
from html import escape
from typing import Any, ClassVar, NamedTuple
from zoneinfo import ZoneInfo

from dateutil.rrule import rrulestr
from icalendar.timezone.windows_to_olson import WINDOWS_TO_OLSON
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.peers.consent import Guarded

Event = dict[str, Any]

SHOW_AS = {"free", "tentative", "busy", "oof", "workingElsewhere", "unknown"}
WRITABLE = {
    *("subject", "body", "start", "end", "isAllDay", "showAs", "transactionId", "isReminderOn", "categories"),
    *("reminderMinutesBeforeStart", "attendees", "location", "sensitivity", "importance"),
}
# Only the organizer may change these.
SHARED = {"subject", "body", "start", "end", "isAllDay", "attendees", "location"}
# Times have no offset: their zone is beside them.
LOCAL = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,7})?)?")
PREFERENCE = re.compile(r'\s*([A-Za-z.\-]+)="?([^",]*)"?\s*')
HOME = "W. Europe Standard Time"


class Refused(Exception):
    """A request that the API does not take."""

    def __init__(self, status: int, code: str, message: str = "No.") -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class Place(NamedTuple):
    """Where somebody is who reads changes, or pages of a list."""

    since: datetime
    until: datetime
    # Of the list that is read page by page.
    items: list[Event]
    at: int
    path: str


class Graph(Guarded):
    """A person's account at Microsoft, with its default calendar."""

    login_path, token_path = "/common/oauth2/v2.0/authorize", "/common/oauth2/v2.0/token"
    # Each cloud has its own address before the last one.
    scopes: ClassVar[set[str]] = {"openid", "offline_access", "Calendars.ReadWrite"}
    rotates = True

    def clear(self) -> None:
        """Everything is as in the beginning."""
        super().clear()
        # Of the answers: so many events at most, whatever was asked for.
        self.page = 100
        # Whether whole days are told as the moments of midnights in their zone; and texts always as HTML.
        self.shifts_days = self.tells_html = False
        # Where links lead, if not to the address that was asked.
        self.elsewhere = ""
        self._events: dict[str, Event] = {}
        self._changed: dict[str, int] = {}
        self._overrides: dict[str, Event] = {}
        self._places: dict[str, Place] = {}
        self._sequence = itertools.count(1)
        self._now = 0

    # ── what the person does, and sees ───────────────────────────────────────────────────────────────────────────

    def add(self, subject: str, start: Any, end: Any, **more: Any) -> str:
        """The person makes an event, or is invited to one (with another `organizer`)."""
        with self.lock:
            event_id = f"AAMk{secrets.token_urlsafe(40)}="
            if isinstance(start, date) and not isinstance(start, datetime):
                more["isAllDay"] = True
            self._keep(self._new(event_id, {"subject": subject, "start": _time(start), "end": _time(end), **more}))
            return event_id

    def change(self, event_id: str, **fields: Any) -> None:
        """The person changes an event, an occurrence, or a series."""
        with self.lock:
            if "start" in fields:
                fields["isAllDay"] = not isinstance(fields["start"], datetime)
            for name in {"start", "end"} & set(fields):
                fields[name] = _time(fields[name])
            self._apply(event_id, fields)

    def remove(self, event_id: str) -> None:
        """The person deletes an event, an occurrence, or a series."""
        with self.lock:
            self._delete(event_id)

    def events(self, since: datetime = datetime(2000, 1, 1, tzinfo=UTC), until: datetime | None = None) -> list[Event]:
        """What the person sees: occurrences and not series."""
        with self.lock:
            end = until or datetime(2100, 1, 1, tzinfo=UTC)
            return [
                self._shown(each)
                for event in self._events.values()
                for each in self._flat(event)
                if _in(each, since, end)
            ]

    def series(self) -> list[Event]:
        """The series."""
        with self.lock:
            return [self._shown(each) for each in self._events.values() if each["type"] == "seriesMaster"]

    def forget_places(self) -> None:
        """All tokens of changes expire."""
        with self.lock:
            self._places.clear()

    # ── the API ──────────────────────────────────────────────────────────────────────────────────────────────────

    def routes(self) -> list[Route]:
        """Of the API, and what else it has."""
        me = "/v1.0/me"
        return [
            Route(f"{me}/calendar", self.guarded(self._answer(self._calendar)), methods=["GET"]),
            Route(f"{me}/calendarView/delta", self.guarded(self._answer(self._delta)), methods=["GET"]),
            Route(f"{me}/events", self.guarded(self._answer(self._insert)), methods=["POST"]),
            Route(f"{me}/events/{{id}}/instances", self.guarded(self._answer(self._instances)), methods=["GET"]),
            Route(f"{me}/events/{{id}}", self.guarded(self._answer(self._one)), methods=["GET", "PATCH", "DELETE"]),
        ]

    def is_lasting(self, asked: dict[str, str]) -> bool:
        """Whether the login page was asked for a refresh token."""
        return "offline_access" in asked["scope"].split()

    def failure(self, status: int, code: str, message: str = "No.") -> Response:
        """An error in the API's form."""
        inner = {"date": "2026-01-01T00:00:00", "request-id": secrets.token_hex(8)}
        return JSONResponse({"error": {"code": code, "message": message, "innerError": inner}}, status)

    def unauthorized(self) -> Response:
        """The answer to a token that is not good."""
        return self.failure(401, "InvalidAuthenticationToken", "Access token has expired or is not yet valid.")

    def _answer(self, answer: Callable[[Request, Any], Response]) -> Callable[[Request, bytes], Response]:
        def run(request: Request, body: bytes) -> Response:
            try:
                given = None
                if body:
                    if not request.headers.get("content-type", "").startswith("application/json"):
                        raise Refused(415, "RequestBodyRead", "A supported MIME type could not be found.")
                    given = json.loads(body)
                preferred = _preferred(request)
                if preferred.get("idtype") != "ImmutableId":
                    raise Refused(400, "ThisServer", "Ids that change with each move are not what this server tells")
                if preferred.get("outlook.timezone", "UTC") != "UTC":
                    raise Refused(400, "ThisServer", "Times are told in UTC only")
                return answer(request, given)
            except Refused as refused:
                return self.failure(refused.status, refused.code, refused.message)

        return run

    def _calendar(self, _: Request, __: Any) -> Response:
        owner = {"name": "Ada Lovelace", "address": self.email}
        return JSONResponse({"id": "AAMkCalendar=", "name": "Calendar", "canEdit": not self.read_only, "owner": owner})

    def _delta(self, request: Request, _: Any) -> Response:
        given = {name.lower(): value for name, value in request.query_params.items()}
        token = given.get("$skiptoken") or given.get("$deltatoken")
        if token is not None:
            place = self._places.get(token)
            if set(given) - {"$skiptoken", "$deltatoken"}:
                raise Refused(400, "ErrorInvalidUrlQuery", "The token has all parameters")
            if place is None:
                raise Refused(410, "SyncStateNotFound", "The sync state generation is not found; please resync.")
            if "$deltatoken" in given:
                place = place._replace(items=self._changes(place), at=self._now)
        else:
            if set(given) != {"startdatetime", "enddatetime"}:
                raise Refused(400, "ErrorInvalidUrlQuery", f"Not supported: {sorted(given)}")
            since, until = self._range(given)
            items = [each for event in self._events.values() for each in self._told(event, since, until)]
            place = Place(since, until, items, self._now, "me/calendarView/delta")
        return self._paged(request, place)

    def _changes(self, place: Place) -> list[Event]:
        items: list[Event] = []
        for event_id in [each for each, at in self._changed.items() if at > place.at]:
            event = self._events.get(event_id)
            told = [] if event is None else self._told(event, place.since, place.until)
            # What is outside of the range is told as if it was deleted.
            items += told or [{"id": event_id, "@removed": {"reason": "deleted"}}]
        return items

    def _told(self, event: Event, since: datetime, until: datetime) -> list[Event]:
        """An event as the delta function tells it: a series whole, and its occurrences only by their times."""
        found = [each for each in self._flat(event) if _in(each, since, until)]
        if not found or event["type"] == "singleInstance":
            return [self._shown(each) for each in found]
        return [self._shown(event)] + [
            self._shown(each)
            if each["type"] == "exception"
            else {name: value for name, value in self._shown(each).items() if name in SPARSE}
            for each in found
        ]

    def _instances(self, request: Request, _: Any) -> Response:
        series = self._events.get(request.path_params["id"])
        if series is None or series["type"] != "seriesMaster":
            raise Refused(404, "ErrorItemNotFound", "The specified object was not found in the store.")
        given = {name.lower(): value for name, value in request.query_params.items()}
        if token := given.get("$skip"):
            place = self._places[token]
        else:
            since, until = self._range(given)
            items = [self._shown(each) for each in self._flat(series) if _in(each, since, until)]
            place = Place(since, until, items, self._now, f"me/events/{series['id']}/instances")
        return self._paged(request, place)

    def _range(self, given: dict[str, str]) -> tuple[datetime, datetime]:
        try:
            since, until = (datetime.fromisoformat(given[name]) for name in ("startdatetime", "enddatetime"))
        except (KeyError, ValueError):
            raise Refused(400, "ErrorInvalidParameter", "startDateTime and endDateTime are required") from None
        since, until = (each if each.tzinfo else each.replace(tzinfo=UTC) for each in (since, until))
        if until <= since:
            raise Refused(400, "ErrorInvalidParameter", "The end is before the start")
        return since, until

    def _paged(self, request: Request, place: Place) -> Response:
        most = min(int(_preferred(request).get("odata.maxpagesize", "10")), self.page)
        items, rest = place.items[:most], place.items[most:]
        # As whoever asks knows it.
        here = f"{self.elsewhere or 'http://' + request.headers['host']}/v1.0"
        answer: dict[str, Any] = {"@odata.context": f"{here}/$metadata#Collection(event)", "value": items}
        token = secrets.token_urlsafe(24)
        self._places[token] = place._replace(items=rest)
        is_delta = place.path.endswith("delta")
        if rest:
            answer["@odata.nextLink"] = f"{here}/{place.path}?${'skiptoken' if is_delta else 'skip'}={token}"
        elif is_delta:
            answer["@odata.deltaLink"] = f"{here}/{place.path}?$deltatoken={token}"
        return JSONResponse(answer)

    def _insert(self, _: Request, given: Event) -> Response:
        self._check(given, {"subject": "", "isAllDay": False})
        if not {"start", "end"} <= set(given):
            raise Refused(400, "ErrorInvalidRequest", "start and end are required")
        transaction = given.get("transactionId")
        same = [each for each in self._events.values() if transaction and each.get("transactionId") == transaction]
        if same:
            # The event that is there, whatever became of it since.
            return JSONResponse(self._shown(same[0]), 201)
        return JSONResponse(self._shown(self._keep(self._new(f"AAMk{secrets.token_urlsafe(40)}=", given))), 201)

    def _one(self, request: Request, given: Event | None) -> Response:
        event_id = request.path_params["id"]
        event = self._find(event_id)
        if event is None:
            raise Refused(404, "ErrorItemNotFound", "The specified object was not found in the store.")
        if request.method == "GET":
            return JSONResponse(self._shown(event))
        if request.headers.get("if-match", event["@odata.etag"]) not in {event["@odata.etag"], "*"}:
            raise Refused(412, "ErrorIrresolvableConflict", "The change key does not match the current change key.")
        if request.method == "DELETE":
            self._delete(event_id)
            return Response(status_code=204)
        assert given is not None
        if "transactionId" in given:
            raise Refused(400, "ErrorInvalidPropertySet", "transactionId can't be changed")
        self._check(given, event)
        if SHARED & set(given) and not event["isOrganizer"]:
            raise Refused(403, "ErrorAccessDenied", "You need to be an organizer to set or update this property.")
        self._apply(event_id, given)
        changed = self._find(event_id)
        assert changed is not None
        return JSONResponse(self._shown(changed))

    def _check(self, given: Event, before: Event) -> None:
        if unknown := set(given) - WRITABLE:
            raise Refused(400, "ErrorInvalidPropertySet", f"Not known, or read only: {unknown}")
        event = before | given
        for name in ("start", "end"):
            moment = event.get(name)
            if moment is None or name not in given:
                continue
            if not LOCAL.fullmatch(str(moment.get("dateTime"))):
                raise Refused(400, "RequestBodyRead", "Cannot convert a value to the expected type")
            if moment.get("timeZone") not in WINDOWS_TO_OLSON and moment.get("timeZone") != "UTC":
                raise Refused(400, "TimeZoneNotSupportedException", f"Not supported: {moment.get('timeZone')}")
        if {"start", "end"} <= set(event):
            if event.get("isAllDay"):
                clocks = [(event[name]["dateTime"][11:19], event[name]["timeZone"]) for name in ("start", "end")]
                if clocks[0] != clocks[1] or not clocks[0][0].startswith("00:00"):
                    raise Refused(
                        400, "ErrorPropertyValidationFailure", "An all-day event must begin and end at midnight"
                    )
                if _moment(event["end"]) <= _moment(event["start"]):
                    raise Refused(400, "ErrorCalendarDurationIsTooShort", "At least a day")
            if _moment(event["end"]) < _moment(event["start"]):
                raise Refused(400, "ErrorCalendarEndDateIsEarlierThanStartDate", "The end is before the start")
        if event.get("showAs", "busy") not in SHOW_AS:
            raise Refused(400, "RequestBodyRead", "Cannot convert the literal to the expected type")
        body = event.get("body", {"contentType": "text"})
        if body.get("contentType", "").lower() not in {"text", "html"}:
            raise Refused(400, "RequestBodyRead", "Cannot convert the literal to the expected type")

    # ── events ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _new(self, event_id: str, given: Event) -> Event:
        own = {"emailAddress": {"name": "Ada Lovelace", "address": self.email}}
        return {
            "id": event_id,
            "iCalUId": f"040000008200E00074C5B7101A82E008{secrets.token_hex(24).upper()}",
            "type": "seriesMaster" if "recurrence" in given else "singleInstance",
            "subject": "",
            "body": {"contentType": "text", "content": ""},
            "isAllDay": False,
            "isCancelled": False,
            "isOrganizer": "organizer" not in given,
            "organizer": own,
            "showAs": "busy",
            "categories": [],
            "attendees": [],
            "isReminderOn": True,
            "reminderMinutesBeforeStart": 15,
            "responseStatus": {"response": "organizer", "time": "0001-01-01T00:00:00Z"},
            "seriesMasterId": None,
            "originalStartTimeZone": given["start"]["timeZone"],
        } | given

    def _keep(self, event: Event) -> Event:
        self._now = next(self._sequence)
        event["@odata.etag"] = f'W/"{self._now:016d}=="'
        self._events[event["id"]] = event
        self._changed[event["id"]] = self._now
        return event

    def _apply(self, event_id: str, fields: Event) -> None:
        if "start" in fields:
            fields = fields | {"originalStartTimeZone": fields["start"]["timeZone"]}
        if event_id in self._events:
            self._keep(self._events[event_id] | fields)
            return
        series = self._events[event_id.rpartition("-")[0]]
        self._overrides[event_id] = self._overrides.get(event_id, {}) | fields | {"type": "exception"}
        self._keep(series)

    def _delete(self, event_id: str) -> None:
        if event_id in self._events:
            self._now = next(self._sequence)
            del self._events[event_id]
            self._changed[event_id] = self._now
        else:
            self._overrides[event_id] = {"gone": True}
            self._keep(self._events[event_id.rpartition("-")[0]])

    def _find(self, event_id: str) -> Event | None:
        if event_id in self._events:
            return self._events[event_id]
        series = self._events.get(event_id.rpartition("-")[0])
        return next((each for each in self._flat(series) if each["id"] == event_id), None) if series else None

    def _flat(self, event: Event) -> list[Event]:
        """The event itself, or the occurrences of a series that are left."""
        if event["type"] != "seriesMaster":
            return [event]
        zone = ZoneInfo(WINDOWS_TO_OLSON.get(event["start"]["timeZone"], "UTC"))
        first, length = _moment(event["start"]), _moment(event["end"]) - _moment(event["start"])
        found = []
        rule = rrulestr(event["recurrence"], dtstart=first.astimezone(zone).replace(tzinfo=None))
        for number, moment in enumerate(itertools.islice(rule, 1000)):
            at = moment.replace(tzinfo=zone).astimezone(UTC)
            occurrence_id = f"{event['id']}-{number:04d}"
            override = self._overrides.get(occurrence_id, {})
            if not override.get("gone"):
                whole = {name: value for name, value in event.items() if name not in {"recurrence", "transactionId"}}
                times = {
                    "start": {"dateTime": f"{at:%Y-%m-%dT%H:%M:%S}", "timeZone": "UTC"},
                    "end": {"dateTime": f"{at + length:%Y-%m-%dT%H:%M:%S}", "timeZone": "UTC"},
                }
                own = {"id": occurrence_id, "type": "occurrence", "seriesMasterId": event["id"]}
                found.append(whole | times | own | override)
        return found

    def _shown(self, event: Event) -> Event:
        """As the API shows it: in UTC, with seven digits of a second, whole days from midnight to midnight; texts end
        with a line break.
        """
        shown = dict(event)
        for name in ("start", "end"):
            moment = _moment(event[name])
            if event["isAllDay"] and not self.shifts_days:
                moment = datetime.fromisoformat(event[name]["dateTime"][:19]).replace(tzinfo=UTC)
            shown[name] = {"dateTime": f"{moment:%Y-%m-%dT%H:%M:%S}.0000000", "timeZone": "UTC"}
        content = event["body"].get("content", "")
        if self.tells_html:
            text = escape(content).replace("\n", "<br>\r\n")
            whole = f"<html><head><style>p {{}}</style></head><body><div>{text}</div>\r\n</body></html>"
            return shown | {"body": {"contentType": "html", "content": whole if content else ""}}
        text = content.replace("\r\n", "\n").replace("\n", "\r\n") + ("\r\n" if content else "")
        return shown | {"body": {"contentType": "text", "content": text}}


# What the delta function tells of an occurrence.
SPARSE = {"id", "type", "start", "end", "seriesMasterId", "@odata.etag"}


def _preferred(request: Request) -> dict[str, str]:
    given = ",".join(request.headers.getlist("prefer"))
    return {match[1].lower(): match[2] for part in given.split(",") if (match := PREFERENCE.fullmatch(part))}


def _time(value: Any) -> Event:
    if isinstance(value, datetime):
        local = value.astimezone(ZoneInfo(WINDOWS_TO_OLSON[HOME]))
        if local.fold:
            # An hour that comes twice has one name by these clocks.
            return {"dateTime": f"{value.astimezone(UTC):%Y-%m-%dT%H:%M:%S}", "timeZone": "UTC"}
        return {"dateTime": f"{local:%Y-%m-%dT%H:%M:%S}", "timeZone": HOME}
    return {"dateTime": f"{value}T00:00:00", "timeZone": HOME} if isinstance(value, date) else value


def _moment(time: Event) -> datetime:
    zone = time["timeZone"]
    local = datetime.fromisoformat(time["dateTime"][:26])
    return local.replace(tzinfo=UTC if zone == "UTC" else ZoneInfo(WINDOWS_TO_OLSON[zone])).astimezone(UTC)


def _in(event: Event, since: datetime, until: datetime) -> bool:
    start, end = _moment(event["start"]), _moment(event["end"])
    return start < until and (end > since or start >= since)
