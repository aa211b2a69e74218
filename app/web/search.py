"""The terms of a search: fragments of text, and digits of phone numbers."""

from __future__ import annotations

import re
from typing import NamedTuple

PHONE = re.compile(r"[0-9\s+\-/().]+")
COUNTRY_CODE = re.compile(r"[^0-9+]*([+]|00)")
MIN_DIGITS = 4
# A number with fewer digits does not count as the end of another number, and no phone number has more.
NUMBER_DIGITS = range(7, 21)
# Phone numbers are indexed in private-use characters, so that other searches do not find them (crm_phone_lines).
KEPT = str.maketrans("0123456789=", "".join(map(chr, range(0xE000, 0xE00B))))


class Search(NamedTuple):
    """Fragments of text: all of them must be found, or any one."""

    fragments: list[str]
    every: bool = True


def read_search(text: str, *, phones: bool = False) -> Search:
    """The words of a search; text in double quotes is one term. Digits in the form of a phone number are one term too,
    and find the number in any notation if `phones` are searched.
    """
    if PHONE.fullmatch(text) and sum(map(str.isdecimal, text)) >= MIN_DIGITS:
        term = " ".join(text.split())
        return Search(list(dict.fromkeys([term, *_as_kept(text)])), every=False) if phones else Search([term])
    parts = text.split('"')
    if len(parts) % 2 == 0:  # an unpaired quote is an ordinary character
        parts = [text]
    terms: dict[str, None] = {}
    for place, part in enumerate(parts):
        # Punctuation at the end of a word, as in "Lovelace, Ada", does not belong to the word.
        words = [" ".join(part.split())] if place % 2 else [word.strip(",;") for word in part.split()]
        terms |= dict.fromkeys(filter(None, words))
    return Search(list(terms) or [" ".join(text.split())])


def _as_kept(text: str) -> list[str]:
    """What the index holds (crm_phone_lines) for numbers that contain these digits, or that these digits end with."""
    # A zero in parentheses after a country code is not dialled.
    zero = "(0" if COUNTRY_CODE.match(text) else "(0)"
    digits = re.sub(r"[^0-9]", "", text.replace(zero, ""))
    number = digits.lstrip("0")
    ends = range(len(number) - NUMBER_DIGITS.start + 1) if len(number) in NUMBER_DIGITS else ()
    kept = [f"={number[place:]}\n" for place in ends if number[place] != "0"]
    return [each.translate(KEPT) for each in (number if len(number) >= MIN_DIGITS else digits, *kept)]
