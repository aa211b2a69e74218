"""Cells of files that spreadsheets open. What is made harmless on the way out is as it was on the way in."""

from __future__ import annotations

import re

# A spreadsheet runs text that begins so as a formula; a number or a phone number it may. Text that has an apostrophe
# before such a beginning gets one more, so that one can be taken off from all of them.
RUNS = re.compile(r"'*[=+\-@\t\r]")
NUMBER = re.compile(r"[+-][0-9 ()/.-]*")
DISARMED = re.compile(r"'+[=+\-@\t\r]")


def harmless(text: str) -> str:
    """The text, with an apostrophe before it if a spreadsheet would run it."""
    return f"'{text}" if RUNS.match(text) and not NUMBER.fullmatch(text) else text


def bare(text: str) -> str:
    """The text as it was before `harmless`."""
    return text[1:] if DISARMED.match(text) else text
