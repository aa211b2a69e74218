"""Bodies: what is taken as JSON."""

from __future__ import annotations

import contextlib
import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.web import strict_json

REFUSED = {
    "invalid UTF-8": (b'{"a":"\xff"}', "UTF-8"),
    "nothing": (b"", "is not JSON"),
    "cut off": (b'{"a":', "is not JSON"),
    "a trailing comma": (b'{"a":1,}', "is not JSON"),
    "single quotes": (b"{'a':1}", "is not JSON"),
    "two documents": (b"{}{}", "is not JSON"),
    "a byte order mark": (b"\xef\xbb\xbf{}", "is not JSON"),
    "a name twice": (b'{"a":1,"a":2}', "'a' twice"),
    "a name twice, deep": (b'{"x":[{"b":1,"b":1}]}', "'b' twice"),
    "NaN": (b'{"a":NaN}', "NaN"),
    "Infinity": (b'{"a":-Infinity}', "Infinity"),
    "NUL": (b'{"a":"\\u0000"}', "NUL"),
    "NUL in a name": (b'{"\\u0000":1}', "NUL"),
    "a lone surrogate": (b'{"a":"\\ud800"}', "surrogates"),
    "100,000 brackets": (b"[" * 100_000, "nested"),
    "65 levels": (b"[" * 65 + b"]" * 65, "nested"),
    "a number of 5,000 digits": (b"1" * 5000, "too long"),
    "a huge exponent": (b"1e999999999", "too long"),
    "a tiny exponent": (b"1e-999999999", "too long"),
    "an exponent that no decimal has": (b"1e99999999999999999999", "too long"),
}


@pytest.mark.parametrize(("raw", "reason"), REFUSED.values(), ids=REFUSED)
def test_it_is_refused_with_the_reason(raw: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        strict_json.decode(raw)


def test_what_cannot_be_stored_is_found_where_it_is() -> None:
    raw = rb'{"a":"\\u0000","b":{"c":[1,{"d":"\ud800"}]},"\u0000":1,"e":{"\udc00":1},"f":"\ud83d\ude00"}'
    with pytest.raises(strict_json.UnstorableError) as caught:
        strict_json.decode(raw)
    assert list(caught.value.places.values()) == ["b.c[1].d", "\\x00", "e.\\udc00"]


def test_fractions_stay_exact() -> None:
    assert strict_json.decode(b"[0.10, 1e2, 12345678901234567890]") == [
        Decimal("0.10"),
        Decimal("1E+2"),
        12345678901234567890,
    ]
    assert strict_json.encode(strict_json.decode(b"[0.10]")) == b"[0.10]"


def test_an_escaped_backslash_before_u0000_is_text() -> None:
    assert strict_json.decode(rb'"\\u0000"') == r"\u0000"


@given(st.binary(max_size=200))
def test_no_bytes_are_worse_than_a_value_error(raw: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert strict_json.encode(strict_json.decode(raw)) is not None
