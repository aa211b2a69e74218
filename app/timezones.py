"""Time zones as the IANA lists them, whatever the machine has lying about."""

from importlib.resources import files

TIMEZONES = frozenset(files("tzdata").joinpath("zones").read_text().split()) - {"Factory"}
