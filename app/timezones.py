"""The IANA time zones, from the tzdata package and not from the operating system."""

from importlib.resources import files

TIMEZONES = frozenset(files("tzdata").joinpath("zones").read_text().split()) - {"Factory"}
