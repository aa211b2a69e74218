"""Countries as ISO 3166 lists them, from the tzdata package and not from the operating system."""

from importlib.resources import files

COUNTRIES = frozenset(
    line.split("\t")[0]
    for line in files("tzdata").joinpath("zoneinfo", "iso3166.tab").read_text("utf-8").splitlines()
    if not line.startswith("#")
)
