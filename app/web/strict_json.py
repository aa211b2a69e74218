"""Strict JSON with exact numbers."""

from __future__ import annotations

import json
import re
from collections import Counter
from decimal import Decimal, InvalidOperation
from typing import Any, NoReturn

import msgspec

DEEPEST = 64
MAX_NUMBER_LENGTH = 100
# The database writes all digits: a larger exponent would make a short body a long record.
MAX_EXPONENT = 30
# UTF-8 can't contain a surrogate, and PostgreSQL can't store NUL.
UNSTORABLE = re.compile(r"[\x00\ud800-\udfff]")
# Only an escape can produce one, so a document without these escapes need not be searched.
ESCAPED = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")

encode = msgspec.json.Encoder(decimal_format="number").encode
encode_sorted = msgspec.json.Encoder(decimal_format="number", order="sorted").encode
# For documents that the service itself has written: they need no check, and this is much faster than `decode`.
decode_own = msgspec.json.Decoder(float_hook=Decimal).decode


class UnstorableError(ValueError):
    """A well-formed document contains characters that can't be stored. `places` says where, once for each member."""

    def __init__(self, document: Any, places: dict[Any, str]) -> None:
        super().__init__("must not contain NUL characters or lone surrogates")
        self.document = document
        self.places = places


def decode(raw: bytes) -> Any:
    """Strict JSON: UTF-8, no duplicate names, no NaN, no NUL or lone surrogate, fractions as Decimal, bounded depth.

    Raises ValueError with a message for people, or UnstorableError if only some characters can't be stored.
    """
    try:
        document = json.loads(
            raw.decode(),
            object_pairs_hook=_without_duplicates,
            parse_constant=_refuse_constant,
            parse_int=_integer,
            parse_float=_fraction,
        )
    except UnicodeDecodeError:
        raise ValueError("must be UTF-8") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    if raw.count(b"[") + raw.count(b"{") > DEEPEST:
        _check_depth(document, DEEPEST)
    if ESCAPED.search(raw) and (places := _unstorable(document)):
        raise UnstorableError(document, places)
    return document


def printable(text: str) -> str:
    """The text with characters that can't be stored as escapes."""
    return UNSTORABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        twice = next(name for name, times in Counter(name for name, _ in pairs).items() if times > 1)
        raise ValueError(f"has the field {twice[:100]!r} twice")
    return document


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"must not contain {constant}: JSON has no such number")


def _integer(digits: str) -> int:
    if len(digits) > MAX_NUMBER_LENGTH:
        raise ValueError("contains a number that is too long")
    return int(digits)


def _fraction(digits: str) -> Decimal:
    try:
        number = Decimal(digits) if len(digits) <= MAX_NUMBER_LENGTH else None
    except InvalidOperation:  # an exponent of more than eighteen digits
        number = None
    if number is None or abs(number.adjusted()) > MAX_EXPONENT:
        raise ValueError("contains a number that is too long")
    return number


def _check_depth(value: Any, depth: int) -> None:
    if depth == 0:
        raise ValueError("is nested too deeply")
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            if isinstance(item, dict | list):
                _check_depth(item, depth - 1)


def _unstorable(document: Any) -> dict[Any, str]:
    """The members of an object that contain such a character, and where the first one is in each."""
    members = document.items() if isinstance(document, dict) else [(None, document)]
    return {name: place for name, value in members if (place := _first_place(name, value)) is not None}


def _first_place(name: Any, value: Any) -> str | None:
    if isinstance(name, str) and UNSTORABLE.search(name):
        return printable(name)
    return None if (inside := _place_inside(value)) is None else f"{name or ''}{inside}".lstrip(".")


def _place_inside(value: Any) -> str | None:
    if isinstance(value, str):
        return "" if UNSTORABLE.search(value) else None
    members: Any = ()
    if isinstance(value, dict):
        for name in value:
            if UNSTORABLE.search(name):
                return f".{printable(name)}"
        members = ((f".{name}", item) for name, item in value.items())
    elif isinstance(value, list):
        members = ((f"[{place}]", item) for place, item in enumerate(value))
    for step, item in members:
        if (inside := _place_inside(item)) is not None:
            return f"{step}{inside}"
    return None
