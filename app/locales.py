"""The languages that people are written to in, and how each writes numbers, dates and times."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo


class Locale(StrEnum):
    """A person's language."""

    ENGLISH = "en"
    GERMAN = "de"
    ARABIC = "ar"

    @property
    def direction(self) -> str:
        """For HTML's `dir`."""
        return "rtl" if self is Locale.ARABIC else "ltr"

    def number(self, value: int | Decimal) -> str:
        """A number as people read it."""
        return str(_babel().numbers.format_decimal(value, locale=_rules(self)))

    def percent(self, share: Decimal) -> str:
        """A share from 0 to 1."""
        return str(_babel().numbers.format_percent(share, locale=_rules(self)))

    def money(self, amount: Decimal, currency: str) -> str:
        """An amount; without decimals if they would be zeros."""
        pattern = str(_rules(self).currency_formats["standard"].pattern)
        if self.direction == "rtl":
            # The currency's code: symbols of letters and signs would be turned around.
            pattern = pattern.replace("\N{CURRENCY SIGN}", "\N{CURRENCY SIGN}" * 2)
        if amount != amount.to_integral_value():
            return str(_babel().numbers.format_currency(amount, currency, pattern, locale=_rules(self)))
        pattern = pattern.replace("0.00", "0")
        return str(
            _babel().numbers.format_currency(amount, currency, pattern, locale=_rules(self), currency_digits=False)
        )

    def day(self, day: date) -> str:
        """Such as `26 November 2026`."""
        return str(_babel().dates.format_date(day, "long", locale=_rules(self)))

    def month(self, day: date) -> str:
        """A month of a year."""
        return str(_babel().dates.format_skeleton("yMMMM", day, locale=_rules(self)))

    def short_day(self, day: date) -> str:
        """With the day of the week, without the year."""
        return str(_babel().dates.format_skeleton("MMMEd", day, locale=_rules(self)))

    def weekday(self, day: date) -> str:
        """With the day of the week."""
        return str(_babel().dates.format_date(day, "full", locale=_rules(self)))

    def time(self, moment: datetime, zone: ZoneInfo) -> str:
        """A time of day, in this time zone."""
        return str(_babel().dates.format_time(moment, "short", tzinfo=zone, locale=_rules(self)))

    def moment(self, moment: datetime, zone: ZoneInfo) -> str:
        """A day and a time of it, in this time zone."""
        comma = "\N{ARABIC COMMA}" if self is Locale.ARABIC else ","
        return f"{self.day(moment.astimezone(zone).date())}{comma} {self.time(moment, zone)}"

    def plural(self, number: int) -> str:
        """Which form of a word goes with the number: zero, one, two, few, many or other."""
        return str(_rules(self).plural_form(number))


@cache
def _rules(locale: Locale) -> Any:
    # English as it is written in most countries: the day before the month, and 24 hours.
    return _babel().Locale.parse({"en": "en_GB"}.get(locale.value, locale.value))


@cache
def _babel() -> Any:
    # Inside the function, because the library takes a while to load, and only who writes to people needs it.
    import babel.dates
    import babel.numbers

    return babel
