"""What a search asks for: fragments of text, and the ways in which a phone number is kept."""

from __future__ import annotations

import re
from typing import NamedTuple

PHONE = re.compile(r"[0-9\s+\-/().]+")
COUNTRY_CODE = re.compile(r"[^0-9+]*([+]|00)")
MIN_DIGITS = 4
# A number of fewer digits is no number's end, and nobody's number has more.
NUMBER_DIGITS = range(7, 21)
# In letters that nobody types, so that no other search finds what is kept of a number (crm_phone_lines).
KEPT = str.maketrans("0123456789=", "".join(map(chr, range(0xE000, 0xE00B))))


class Search(NamedTuple):
    """Fragments of which every one has to be found, or any one."""

    fragments: list[str]
    every: bool = True


def read_search(text: str, *, phones: bool = False) -> Search:
    """The words of a search, in any order; what is in double quotes is one. Digits as people write phone numbers are
    one too and, where `phones` are searched, are found however the number is written.
    """
    if PHONE.fullmatch(text) and sum(map(str.isdecimal, text)) >= MIN_DIGITS:
        term = " ".join(text.split())
        return Search(list(dict.fromkeys([term, *_as_kept(text)])), every=False) if phones else Search([term])
    parts = text.split('"')
    if len(parts) % 2 == 0:  # a quote without its other half is a letter
        parts = [text]
    terms: dict[str, None] = {}
    for place, part in enumerate(parts):
        # Punctuation at a word's end, as in "Lovelace, Ada", is none of the word.
        words = [" ".join(part.split())] if place % 2 else [word.strip(",;") for word in part.split()]
        terms |= dict.fromkeys(filter(None, words))
    return Search(list(terms) or [" ".join(text.split())])


def _as_kept(text: str) -> list[str]:
    """What the lines of a phone number hold, if it has these digits in it or is their end (crm_phone_lines)."""
    # A zero in parentheses is not dialled after a country code.
    zero = "(0" if COUNTRY_CODE.match(text) else "(0)"
    digits = re.sub(r"[^0-9]", "", text.replace(zero, ""))
    number = digits.lstrip("0")
    ends = range(len(number) - NUMBER_DIGITS.start + 1) if len(number) in NUMBER_DIGITS else ()
    kept = [f"={number[place:]}\n" for place in ends if number[place] != "0"]
    return [each.translate(KEPT) for each in (number if len(number) >= MIN_DIGITS else digits, *kept)]
