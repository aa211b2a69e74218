"""Texts of calendars that other people see, or that have HTML in them."""

from __future__ import annotations

import re
from html import unescape

from app.calendars.entries import marked, read_title

TAG = re.compile(r"<(/?)([A-Za-z][A-Za-z0-9]{0,20})[^<>]{0,4000}>|<!-{0,2}[^<>]{0,4000}>")
BLANK_LINES = re.compile(r"\n{3,}")
# Ten times what a record can store: the rest of a longer text is not looked at.
LONGEST = 100_000
# Elements that begin a line of their own, and those that nobody reads.
BLOCKS = {"br", "p", "div", "li", "ul", "ol", "tr", "table", "blockquote", "hr", "h1", "h2", "h3", "h4", "h5", "h6"}
UNREAD = {"head", "style", "script", "title"}


def retitled(now: str, title: str | None, *, completed: bool, invited: bool) -> str:
    """The title that an entry gets which has another one now: a new one if it is given, and the mark of what is done.

    Who is invited sees the same title, and may get a mail about each change of it: then no mark is put there. One that
    the person has put there stays as long as it is right.
    """
    current, has_mark = read_title(now)
    return marked(current if title is None else title, completed=completed and (has_mark or not invited))


def without_html(text: str) -> str:
    """What is read of a text that may be HTML: one with tags is.

    In one pass over the tags. Python's own parser takes a minute for some texts of this length.
    """
    text = text[:LONGEST]
    parts: list[str] = []
    unread, end = 0, 0
    for tag in TAG.finditer(text):
        if not unread:
            parts.append(text[end : tag.start()])
        closes, name, end = bool(tag[1]), (tag[2] or "").lower(), tag.end()
        if name in UNREAD:
            unread = max(unread + (-1 if closes else 1), 0)
        elif name in BLOCKS and not (closes and name == "br"):
            parts.append("\n")
    if not end:
        return text
    parts.append("" if unread else text[end:])
    lines = unescape("".join(parts)).replace("\xa0", " ").split("\n")
    return BLANK_LINES.sub("\n\n", "\n".join(line.strip() for line in lines)).strip()
