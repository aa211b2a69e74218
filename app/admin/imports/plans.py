"""What an import is to do with its file, as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, convert, to_builtins

from app.admin.imports.dates import DateOrder
from app.admin.imports.values import DecimalSign
from app.admin.settings.schemas import check_timezone
from app.admin.tags.schemas import TagName
from app.web.country import Country
from app.web.structs import Body, Maybe, UserId

MOST_TAGS, MOST_VALUES = 100, 10_000


class MatchOn(StrEnum):
    """What tells which record a row is about."""

    EXTERNAL_ID = "external_id"
    EMAIL = "email"
    ID = "id"
    NONE = "none"


class OnMatch(StrEnum):
    """What becomes of a record that a row is about."""

    UPDATE = "update"
    FILL_EMPTY = "fill_empty"
    SKIP = "skip"


class OnError(StrEnum):
    """What becomes of the others if a row is wrong."""

    STOP = "stop"
    SKIP = "skip"


class ImportOptions(Body, kw_only=True):
    """How the rows are read, and what becomes of them."""

    match_on: Maybe[MatchOn] = UNSET
    on_match: Maybe[OnMatch] = UNSET
    on_error: Maybe[OnError] = UNSET
    date_order: Maybe[DateOrder] = UNSET
    timezone: Maybe[
        Annotated[
            str,
            Meta(
                description="Of times without an offset; else the organization's",
                examples=["Europe/Berlin"],
                extra={"check": check_timezone, "choice": True},
            ),
        ]
    ] = UNSET
    decimal: Maybe[DecimalSign] = UNSET
    country: Maybe[Annotated[Country, Meta(description="Of phone numbers without one; else the organization's")]] = (
        UNSET
    )
    values: Maybe[
        Annotated[
            dict[str, dict[str, str]],
            Meta(
                description="By field: what values of the file stand for",
                examples=[{"status": {"Proposal Sent": "prospect"}}],
            ),
        ]
    ] = UNSET
    create_tags: Maybe[Annotated[bool, Meta(description="Make tags that there are not yet (admins)")]] = UNSET
    create_customers: Maybe[Annotated[bool, Meta(description="Make customers that there are not yet")]] = UNSET
    take_overdue: Maybe[Annotated[bool, Meta(description="Take tasks that are overdue already")]] = UNSET
    tags: Maybe[
        Annotated[list[TagName], Meta(max_length=MOST_TAGS, description="Names of tags that every record gets")]
    ] = UNSET
    assigned_to: Maybe[Annotated[UserId, Meta(description="Whose the new records are that name nobody")]] = UNSET
    owner_id: Maybe[Annotated[UserId, Meta(description="The same, for deals and projects")]] = UNSET


class Options(Struct):
    """The same, with what holds where somebody has chosen nothing."""

    match_on: MatchOn = MatchOn.NONE
    on_match: OnMatch = OnMatch.UPDATE
    on_error: OnError = OnError.STOP
    date_order: DateOrder | None = None
    timezone: str = "UTC"
    decimal: DecimalSign | None = None
    country: str | None = None
    values: dict[str, dict[str, str]] = {}
    create_tags: bool = False
    create_customers: bool = False
    take_overdue: bool = False
    tags: list[str] = []
    assigned_to: int | str | None = None
    owner_id: int | str | None = None


class ImportPlan(Body, kw_only=True):
    """Which column is which field, and how the rows are read. A column that is null, or not named, is left out."""

    mapping: Annotated[
        dict[str, str | None], Meta(examples=[{"E-Mail": "email", "Firma": "company"}], extra={"choice": True})
    ]
    options: Maybe[ImportOptions] = UNSET

    @classmethod
    def parts(cls, document: dict[str, Any]) -> Mapping[str, type[Any]]:  # noqa: ARG003 -- it is always the same
        """The options are a body of their own."""
        return {"options": ImportOptions}

    @property
    def chosen(self) -> Options:
        """The options, with defaults in place of those that were not sent."""
        return convert({} if self.options is UNSET else to_builtins(self.options), Options)

    @property
    def columns(self) -> dict[str, str]:
        """By field: its column in the file."""
        return {name: column for column, name in self.mapping.items() if name is not None}


class ImportRun(Body, kw_only=True):
    """Do what the check has found. With `accept_changes`, also to records that were changed since."""

    accept_changes: Maybe[bool] = UNSET
