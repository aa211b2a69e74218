"""JSON without the parser's usual leniency, numbers exact."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any, NoReturn

import msgspec

DEEPEST = 64
LONGEST_NUMBER = 100
# The database writes 1e30 out: a larger exponent would let a short body become a long record.
LARGEST_EXPONENT = 30
# A surrogate has no place in UTF-8, and PostgreSQL stores no NUL.
UNSTORABLE = re.compile(r"[\x00\ud800-\udfff]")

encode = msgspec.json.Encoder(decimal_format="number").encode
encode_sorted = msgspec.json.Encoder(decimal_format="number", order="sorted").encode


def decode(raw: bytes) -> Any:
    """Strict JSON: UTF-8, no duplicate names, no NaN, no NUL or lone surrogate, fractions as Decimal, bounded depth.

    Raises ValueError, whose message is for people.
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
    _check_storable(document, DEEPEST)
    return document


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"has the field {twice[:100]!r} twice")
    return document


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"must not hold {constant}: JSON knows no such number")


def _integer(digits: str) -> int:
    if len(digits) > LONGEST_NUMBER:
        raise ValueError("holds a number that is too long")
    return int(digits)


def _fraction(digits: str) -> Decimal:
    number = Decimal(digits)
    if len(digits) > LONGEST_NUMBER or abs(number.adjusted()) > LARGEST_EXPONENT:
        raise ValueError("holds a number that is too long")
    return number


def _check_storable(value: Any, depth: int) -> None:
    if depth == 0:
        raise ValueError("is nested too deeply")
    if isinstance(value, str):
        if UNSTORABLE.search(value):
            raise ValueError("must not hold NUL characters or lone surrogates")
    elif isinstance(value, dict):
        for name, item in value.items():
            _check_storable(name, depth)
            _check_storable(item, depth - 1)
    elif isinstance(value, list):
        for item in value:
            _check_storable(item, depth - 1)
