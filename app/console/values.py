"""The console has fewer stages and statuses than the service, and less precise times.

In answers, each value is shown as the nearest one. In requests, a value that equals the shown one changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, time
from enum import StrEnum
from typing import Any

from app.admin.customers.schemas import CustomerStatus
from app.admin.pipeline_stages.queries import StageOrigin, list_origins
from app.records.transaction import Transaction
from app.web import strict_json
from app.web.fields import BareDate


class Status(StrEnum):
    """A customer's status."""

    LEAD = "lead"
    ACTIVE = "active"
    INACTIVE = "inactive"


class Stage(StrEnum):
    """A deal's stage."""

    LEAD = "lead"
    QUALIFIED = "qualified"
    PROPOSAL = "proposal"
    NEGOTIATION = "negotiation"
    WON = "won"
    LOST = "lost"


SHOWN_STATUS = {
    CustomerStatus.LEAD: Status.LEAD,
    CustomerStatus.PROSPECT: Status.LEAD,
    CustomerStatus.ACTIVE: Status.ACTIVE,
    CustomerStatus.INACTIVE: Status.INACTIVE,
    CustomerStatus.CHURNED: Status.INACTIVE,
}
BUILT_IN = {
    "prospecting": Stage.LEAD,
    "qualification": Stage.QUALIFIED,
    "proposal": Stage.PROPOSAL,
    "negotiation": Stage.NEGOTIATION,
}
CLOSED = {"won": Stage.WON, "lost": Stage.LOST}

# A whole day is shown to the console as noon UTC, which is the same day in almost every browser.
NOON = time(12)
# How the console's forms shorten times.
CUT: Mapping[str, Callable[[datetime], Any]] = {
    "follow_up_at": datetime.date,
    "expected_close_date": datetime.date,
    "due_at": lambda time: time.replace(second=0, microsecond=0),
}


def shown_id(reference: int | str | None) -> str | None:
    """The id as text. With numbers, the console's form for deals silently sends nothing."""
    return None if reference is None else str(reference)


def shown_name(name: str | None, email: str | None, reference: int | str) -> str:
    """A person's name; if there is none, the part of the email before the @, else the id."""
    return name or (email or "").partition("@")[0] or str(reference)


def shown_day(moment: datetime | None) -> datetime | None:
    """Noon if this is a whole day (midnight UTC), else the time as it is."""
    return shown_due(moment, all_day=moment is not None and moment.time() == time())


def shown_due(moment: datetime | None, *, all_day: bool) -> datetime | None:
    """Noon if it is a whole day, else the time as it is."""
    return datetime.combine(moment, NOON, UTC) if moment is not None and all_day else moment


def read_day(sent: Any) -> Any:
    """The whole day if this is noon, else the value as it is."""
    if isinstance(sent, datetime) and sent.time() == NOON:
        return BareDate(sent.year, sent.month, sent.day, tzinfo=UTC)
    return sent


def statuses_shown_as(shown: list[Status]) -> list[CustomerStatus]:
    """The statuses that are shown as one of these."""
    return [status for status, known in SHOWN_STATUS.items() if known in shown]


def equals_shown(name: str, sent: Any, shown: Any) -> bool:
    """Whether a form sent back what the console was shown."""
    if isinstance(sent, datetime) and isinstance(shown, datetime):
        return bool(CUT[name](sent) == CUT[name](shown))
    if isinstance(sent, dict) and isinstance(shown, dict):
        return strict_json.encode_sorted(sent) == strict_json.encode_sorted(shown)  # 1 is not true
    if isinstance(shown, str):
        return str(sent) == shown  # an id may be sent as a number
    return bool(sent == shown)


class Stages:
    """Maps a tenant's stages to the console's. A built-in stage is known by its origin, since its name can change."""

    def __init__(self, stages: list[StageOrigin]) -> None:
        self._stages = stages
        self._console_stages: dict[str, Stage] = {}
        # A tenant's own open stage is shown as the built-in one before it.
        before = Stage.LEAD
        for stage in stages:
            if stage.kind == "open":
                before = BUILT_IN.get(stage.origin or "", before)
            self._console_stages[stage.name] = CLOSED.get(stage.kind, before)

    @classmethod
    async def load(cls, tx: Transaction) -> Stages:
        """The stages of the transaction's tenant."""
        return cls(await list_origins(tx))

    def console_stage(self, name: str) -> Stage:
        """How a stage is shown. A stage that was renamed since the stages were read is shown as the first."""
        return self._console_stages.get(name, Stage.LEAD)

    def tenant_stages(self, wanted: list[Stage]) -> list[str]:
        """The stages that are shown as one of these."""
        return [name for name, shown in self._console_stages.items() if shown in wanted]

    def target_stage(self, wanted: Stage) -> str:
        """The active stage for a move: the built-in one, else the first that is shown as this one.

        If there is none, a name that no stage can have, so that the move fails like one to an unknown stage.
        """
        active = [stage for stage in self._stages if stage.is_active and self._console_stages[stage.name] is wanted]
        built_in = [stage for stage in active if BUILT_IN.get(stage.origin or "") is wanted]
        for stage in built_in + active:
            return stage.name
        return f"none for {wanted}"
