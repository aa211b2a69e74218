"""Templates of mails and pages, in HTML and as plain text."""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from app.locales import Locale
from app.mail.texts import Say

WIDTH = 72
# Control characters, and those that change the direction of what follows.
UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
TURNING = re.compile("[\u202a-\u202e\u2066-\u2069]")
RIGHT_TO_LEFT, LEFT_TO_RIGHT = (
    re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufeff]"),
    re.compile("[A-Za-z\u00c0-\u058f]"),
)


# Around a name inside a sentence, so that it keeps its own direction.
ISOLATE, END_OF_ISOLATE = "\N{FIRST STRONG ISOLATE}", "\N{POP DIRECTIONAL ISOLATE}"


class Cell(NamedTuple):
    """A value as it is read. Numbers stand at the end of their column."""

    text: str
    is_number: bool = True


class Table(NamedTuple):
    """Rows under headings. The first cell of a row says what it is about. `total` is how many rows there are."""

    title: str | None
    headings: list[str]
    rows: list[list[Cell]]
    total: int


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("app.mail"),
        autoescape=select_autoescape(enabled_extensions=("html",), default=False),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=False,
    )
    environment.filters |= {"wrapped": wrapped, "underlined": underlined, "table": table_as_text, "isolated": isolated}
    return environment


def render(name: str, locale: Locale, values: Mapping[str, Any]) -> str:
    """The template in this language. `say` in it is a sentence of `app/mail/texts.py`."""
    start, end = ("right", "left") if locale.direction == "rtl" else ("left", "right")
    common = {"locale": locale, "say": Say(locale), "dir": locale.direction, "start": start, "end": end}
    return _environment().get_template(name).render(common, **values)


def as_text(name: str, locale: Locale, values: Mapping[str, Any]) -> str:
    """A template of plain text: without blanks at the ends of lines, and never two empty lines."""
    lines = (line.rstrip() for line in render(name, locale, values).splitlines())
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n") + "\n"


def wrapped(text: str, indent: str = "") -> str:
    """A paragraph in lines that a terminal shows, all but the first indented. Words, such as links, stay whole."""
    return textwrap.fill(text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def underlined(text: str) -> str:
    """A title."""
    return f"{text}\n{'-' * _width(text)}"


def table_as_text(table: Table, locale: Locale) -> str:
    """A table in columns where they fit, and otherwise each row as a list. Columns do not mix directions."""
    rows = [[cell.text for cell in row] for row in table.rows]
    widths = [max(map(_width, column)) for column in zip(table.headings, *rows, strict=True)]
    everything = " ".join(text for row in (table.headings, *rows) for text in row)
    if locale.direction == "rtl" or sum(widths) + 2 * len(widths) > WIDTH or RIGHT_TO_LEFT.search(everything):
        return "\n\n".join(_as_list(table.headings, row, locale.direction) for row in rows)
    ends = [cell.is_number for cell in table.rows[0]]
    rule = ["-" * width for width in widths]
    return "\n".join(_line(row, widths, ends) for row in (table.headings, rule, *rows))


def _as_list(headings: Sequence[str], row: Sequence[str], direction: str) -> str:
    lines = [isolated(row[0], direction)]
    return "\n".join(
        [
            *lines,
            *(f"  {heading}: {isolated(cell, direction)}" for heading, cell in zip(headings[1:], row[1:], strict=True)),
        ]
    )


def _line(row: Sequence[str], widths: Sequence[int], ends: Sequence[bool]) -> str:
    cells = zip(row, widths, ends, strict=True)
    padded = (" " * (w - _width(t)) + t if end else t + " " * (w - _width(t)) for t, w, end in cells)
    return "  ".join(padded).rstrip()


def _width(text: str) -> int:
    """Columns of a terminal."""
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return len(text) + wide - sum(unicodedata.combining(letter) > 0 for letter in text)


def isolated(text: str, direction: str) -> str:
    """Text that keeps its own direction inside a sentence of this one."""
    foreign = LEFT_TO_RIGHT if direction == "rtl" else RIGHT_TO_LEFT
    return f"{ISOLATE}{text}{END_OF_ISOLATE}" if foreign.search(text) else text


def one_line(text: str) -> str:
    """Text for a header, or for a line: nothing in it begins another one, or turns the direction of what follows."""
    return UNSEEN.sub(" ", TURNING.sub("", text)).strip()
