"""What came of sending something, and when it is sent again."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import datetime, timedelta

from msgspec import Struct

MINUTE, HOUR = 60.0, 3600.0
# As the Standard Webhooks specification proposes it.
PAUSES = (5.0, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR)
SPREAD = 0.2
# What a receiver may ask for.
LONGEST_PAUSE = 24 * HOUR
GONE = 410


class Attempt(Struct):
    """One request to a receiver. `status` is null where there was no whole answer; `error` says why it is no success;
    `response` is the beginning of the answer.
    """

    at: datetime
    status: int | None
    duration_ms: int
    error: str | None
    response: str | None


class Outcome(Struct):
    """An attempt, and after how many seconds the receiver wants the next one, if it says so."""

    attempt: Attempt
    retry_after: float | None = None
    # Whether no other attempt can be better.
    final: bool = False

    @property
    def delivered(self) -> bool:
        """Whether the receiver has it."""
        return self.attempt.error is None

    @property
    def receiver_failed(self) -> bool:
        """Whether it is the receiver that has to do something about it."""
        return not self.delivered and (self.gone or not self.final)

    @property
    def gone(self) -> bool:
        """Whether the receiver wants nothing any more."""
        return self.attempt.status == GONE


class Policy(Struct, frozen=True):
    """After which pauses a delivery is tried again, and how long a webhook may fail before it is switched off."""

    pauses: Sequence[float] = PAUSES
    patience: timedelta = timedelta(days=5)

    def pause(self, tries: int, outcome: Outcome) -> float | None:
        """Seconds until the next attempt after so many before this one; None if it was the last."""
        if outcome.final or tries >= len(self.pauses):
            return None
        pause = self.pauses[tries] * random.uniform(1 - SPREAD, 1 + SPREAD)  # noqa: S311 -- not a secret
        return min(max(pause, outcome.retry_after or 0.0), max(pause, LONGEST_PAUSE))
