"""Base classes and field types of bodies and answers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from typing import Annotated, Any, ClassVar, TypeAlias, TypeVar

from msgspec import UNSET, Meta, Struct, UnsetType

from app.web.fields import COLOR, BareDate, Refused, read_time
from app.web.text import CONTROL, EXACT, LINE, is_visible

MAX_ID = 2**63 - 1

MAX_USER_ID_LENGTH = 64
NUMERIC_USER = re.compile(r"[1-9][0-9]{0,14}")


def present_user(reference: int | str) -> int | str:
    """A user id as clients see it: an integer if JavaScript can represent it exactly, else text."""
    text = str(reference)
    return int(text) if NUMERIC_USER.fullmatch(text) else reference


def is_user_id(text: str) -> bool:
    """Whether this is a valid user id, in tokens and in records."""
    return len(text) <= MAX_USER_ID_LENGTH and is_visible(text) and not CONTROL.search(text)


def check_user(value: int | str) -> int | str:
    """The user id as clients see it. Raises Refused."""
    if not is_user_id(str(value)):
        raise Refused("must have at least one visible character, and no control characters")
    return present_user(str(value))


def check_users(values: list[int | str]) -> list[int | str]:
    """The user ids as clients see them, each once. Raises Refused."""
    return list(dict.fromkeys(check_user(value) for value in values))


# Times come as RFC 3339 or as bare dates.
DATES: dict[str, Any] = {
    "anyOf": [{"format": "date-time"}, {"format": "date"}],
    "pattern": r"^(?!0000|0001)\d{4}-",
}


def check_bound(text: str) -> str:
    """A date stays as it is: the tenant's timezone decides what it means. A time becomes RFC 3339. Raises Refused."""
    moment = read_time(text)
    return text if isinstance(moment, BareDate) else moment.isoformat()


RecordId = Annotated[int, Meta(ge=1, le=MAX_ID, description="A record's id", examples=[12])]
Time = Annotated[
    datetime,
    Meta(
        tz=True,
        description="RFC 3339 with an offset, or a bare date for midnight UTC",
        examples=["2026-01-31T09:30:00Z"],
        extra_json_schema=DATES,
    ),
]
From = Annotated[
    str,
    Meta(
        description="This moment or later; a bare date is that day in the organization's timezone",
        examples=["2026-01-01"],
        extra={"check": check_bound, "choice": True},
        extra_json_schema=DATES,
    ),
]
Until = Annotated[
    str,
    Meta(
        description="This moment or earlier; a bare date is the whole of that day in the organization's timezone",
        examples=["2026-01-31"],
        extra={"check": check_bound, "choice": True},
        extra_json_schema=DATES,
    ),
]
_Person = (
    Annotated[int, Meta(ge=-MAX_ID - 1, le=MAX_ID)]
    | Annotated[str, Meta(min_length=1, max_length=MAX_USER_ID_LENGTH, extra_json_schema=LINE["extra_json_schema"])]
)
UserId = Annotated[
    _Person,
    Meta(
        description="A person's id in the CMS, opaque: an integer or a string",
        examples=["6f9619ff-8b86-4d11-b42d-00c04fc964ff"],
        extra={"check": check_user},
    ),
]
UserIds = Annotated[
    list[_Person],
    Meta(
        description="People's ids in the CMS, each an integer or a string; each once",
        examples=[["6f9619ff-8b86-4d11-b42d-00c04fc964ff"]],
        extra={"check": check_users},
    ),
]
Color = Annotated[
    str,
    Meta(
        pattern=COLOR,
        max_length=7,
        description="#rrggbb",
        examples=["#6366f1"],
        extra={"choice": True},
    ),
]

ExternalId = Annotated[
    str,
    Meta(
        max_length=255,
        **EXACT,
        description="A key of your own. Unique among the live records of its type",
        examples=["erp-4711"],
    ),
]
# For new records only.
MadeAt = Annotated[
    Time,
    Meta(description="When the record was made, to import history. Not in the future. Ignored from agents"),
]

T = TypeVar("T")


class View(Struct):
    """A record in an answer."""


# Fields of every record that clients can't write.
READ_ONLY = frozenset({"id", "created_at", "updated_at", "deleted_at", "version"})
# An alias, since `type` may be the name of a field.
ViewType: TypeAlias = type[View]


class Body(Struct, kw_only=True, forbid_unknown_fields=True):
    """A JSON body. A field that the client left out is UNSET; `null` clears it.

    `view` is the answer that clients read. Its other fields are accepted and ignored, so that clients can send a record
    back as they read it.
    """

    view: ClassVar[ViewType | None] = None
    # Whether empty text means that a field was left out.
    empty_is_absent: ClassVar[bool] = False
    # What says how to write, and is no field that could be written.
    modifiers: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def ignored_fields(cls) -> frozenset[str]:
        """Fields that are accepted and ignored."""
        shown = () if cls.view is None else cls.view.__struct_encode_fields__
        return READ_ONLY.union(shown).difference(cls.__struct_encode_fields__)

    @classmethod
    def sent(cls, document: dict[str, Any]) -> dict[str, Any]:
        """The fields of a JSON object that count as sent."""
        if not cls.empty_is_absent:
            return document
        known = cls.__struct_encode_fields__
        return {name: value for name, value in document.items() if name not in known or not _blank(value)}

    @classmethod
    def parts(cls, document: dict[str, Any]) -> Mapping[str, type[Any]]:  # noqa: ARG003 -- for those that have parts
        """The fields of this JSON object that are objects of their own kind: another body, or the filters of a list."""
        return {}

    @property
    def writes_nothing(self) -> bool:
        """Whether there is no field that could be written."""
        return self.given().keys() <= self.modifiers

    def given(self) -> dict[str, Any]:
        """The fields that the client sent, by their names in the body, with values for the database."""
        names = zip(self.__struct_encode_fields__, self.__struct_fields__, strict=True)
        sent = ((name, getattr(self, field)) for name, field in names)
        return {name: value.value if isinstance(value, Enum) else value for name, value in sent if value is not UNSET}


def _blank(value: Any) -> bool:
    return isinstance(value, str) and not value.strip()


Maybe: TypeAlias = T | UnsetType


class Message(Struct):
    """An answer without a record."""

    message: str
