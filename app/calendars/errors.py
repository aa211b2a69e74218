"""What a calendar's server may answer besides what was asked for. The messages are for the calendar's person."""

from __future__ import annotations


class CalendarError(Exception):
    """Something is wrong with a calendar. Raised as one of its kinds."""


class ReconnectNeeded(CalendarError):
    """The server no longer accepts this person's password or consent: only the person can mend that."""


class TokenExpired(CalendarError):
    """The server no longer knows where we were: everything has to be read anew."""


class Outdated(CalendarError):
    """The entry is not as we knew it, or there is one already: what changed has to be read first."""


class Gone(CalendarError):
    """There is no such entry any more."""


class Throttled(CalendarError):
    """The server asks for a pause: of so many seconds, if it says how long."""

    def __init__(self, message: str, seconds: float | None = None) -> None:
        super().__init__(message)
        self.seconds = seconds


class Away(CalendarError):
    """The server is not reached, or fails at the moment: another attempt may succeed."""


class Refused(CalendarError):
    """The server will not do this, and another attempt would be the same."""


class TooLarge(Refused):
    """The answer is larger than this service reads."""
