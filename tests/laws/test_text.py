"""What holds for every text field of every body, and for every filter."""

from __future__ import annotations

from contextlib import suppress
from enum import StrEnum
from types import NoneType
from typing import Any, get_args, get_origin

from msgspec import UNSET, ValidationError

from app.web.fields import Refused, _extras, _leaves, _plain, parameter_reader
from app.web.input import input_types
from tests.laws.routes import EVERY, fields

BODIES = {wanted.data for each in EVERY if (wanted := input_types(each.handler)).data is not None}
QUERIES = {wanted.query for each in EVERY if (wanted := input_types(each.handler)).query is not None}
EVERY_FIELD = [(f"{body.__name__}.{field.name}", field.type) for body in BODIES for field in fields(body)]
EVERY_FILTER = [
    (f"{query.__name__}.{field.encode_name}", field.encode_name, field.type)
    for query in QUERIES
    for field in fields(query)
]
# These take only one value at a time.
SINGLE = {"sort_by", "sort_order", "deleted", "by", "format"}


def test_a_text_field_says_what_kind_it_is() -> None:
    # An id may come as a number or a text, and is neither trimmed nor normalized.
    texts = [(place, kind) for place, kind in EVERY_FIELD if str in (types := _leaves(kind)) and not {int, Any} & types]
    silent = [place for place, kind in texts if not {"clean", "choice"} & dict(_extras(kind)).keys()]
    assert silent == [], "say which: app/web/text.py"


def test_a_filter_on_a_choice_or_an_id_takes_several() -> None:
    for place, name, kind in EVERY_FILTER:
        leaves = {leaf for leaf in _leaves(kind) if isinstance(leaf, type)}
        chosen = any(issubclass(leaf, StrEnum) for leaf in leaves) or name.endswith("_id")
        if chosen and name not in SINGLE:
            several = any(get_origin(part) is list for part in (_plain(kind), *get_args(kind)))
            assert several, f"{place}: give it a list"
        assert NoneType not in leaves, place


def test_an_empty_value_in_quotes_is_a_value_or_refused() -> None:
    for place, _, kind in EVERY_FILTER:
        with suppress(Refused, ValidationError):
            values = parameter_reader(kind)('""')
            assert not isinstance(values, list) or UNSET not in values, place
