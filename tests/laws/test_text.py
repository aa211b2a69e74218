"""What holds for every text field of every body, and for every filter."""

from __future__ import annotations

from enum import StrEnum
from types import NoneType
from typing import Any, get_args, get_origin

import pytest
from msgspec import UNSET, ValidationError
from msgspec.structs import fields

from app.web.fields import Refused, _extras, _leaves, _plain, parameter_reader
from app.web.input import input_types
from tests.laws.routes import EVERY

BODIES = {wanted.data for each in EVERY if (wanted := input_types(each.handler)).data is not None}
QUERIES = {wanted.query for each in EVERY if (wanted := input_types(each.handler)).query is not None}
EVERY_FIELD = [
    pytest.param(field.type, id=f"{body.__name__}.{field.name}")
    for body in sorted(BODIES, key=lambda body: body.__name__)
    for field in fields(body)
]
EVERY_FILTER = [
    pytest.param(field.encode_name, field.type, id=f"{query.__name__}.{field.encode_name}")
    for query in sorted(QUERIES, key=lambda query: query.__name__)
    for field in fields(query)
]
# These take only one value at a time.
SINGLE = {"sort_by", "sort_order", "deleted", "by", "format"}


@pytest.mark.parametrize("kind", EVERY_FIELD)
def test_a_text_field_says_what_kind_it_is(kind: Any) -> None:
    leaves = _leaves(kind)
    # An id may come as a number or a text, and is neither trimmed nor normalized.
    if str in leaves and not {int, Any} & leaves:
        assert {"clean", "choice"} & dict(_extras(kind)).keys(), "say which: app/web/text.py"


@pytest.mark.parametrize(("name", "kind"), EVERY_FILTER)
def test_a_filter_on_a_choice_or_an_id_takes_several(name: str, kind: Any) -> None:
    leaves = {leaf for leaf in _leaves(kind) if isinstance(leaf, type)}
    chosen = any(issubclass(leaf, StrEnum) for leaf in leaves) or name.endswith("_id")
    if chosen and name not in SINGLE:
        assert any(get_origin(part) is list for part in (_plain(kind), *get_args(kind))), "give it a list"
    assert NoneType not in leaves


@pytest.mark.parametrize(("name", "kind"), EVERY_FILTER)
def test_an_empty_value_in_quotes_is_a_value_or_refused(name: str, kind: Any) -> None:
    try:
        values = parameter_reader(kind)('""')
    except (Refused, ValidationError):
        return
    assert not isinstance(values, list) or UNSET not in values, name
