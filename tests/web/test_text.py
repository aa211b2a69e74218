"""What people type, as it is read: see app/web/text.py."""

from __future__ import annotations

import sys
import unicodedata

import pytest

from app.web import text
from app.web.fields import Refused, split_values


def test_white_space_is_unicodes() -> None:
    # By PropList.txt: the separators, and six of the controls.
    separators = {
        chr(code) for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code)) in {"Zs", "Zl", "Zp"}
    }
    assert set(text.WHITE_SPACE) == separators | set("\t\n\v\f\r\x85")


def test_what_is_invisible_is_no_name() -> None:
    for code in range(1, sys.maxunicode + 1):
        if unicodedata.category(chr(code)) in {"Cc", "Cf", "Zs", "Zl", "Zp"}:
            assert text.INVISIBLE.fullmatch(chr(code)), hex(code)
        elif unicodedata.category(chr(code))[0] in "LNPS":
            seen = text.INVISIBLE.fullmatch(chr(code)) is None
            # Hangul's fillers, and Braille's blank.
            assert seen is (code not in {0x115F, 0x1160, 0x3164, 0xFFA0, 0x2800}), hex(code)


@pytest.mark.parametrize(
    "blank", ["", " ", "\u200b", "\u2060\ufeff", "\u202e\u202c", "\u3164", "\xa0\u3000", "\u00ad", "\U000e0001"]
)
def test_a_name_is_seen(blank: str) -> None:
    with pytest.raises(Refused, match="visible"):
        text.name(blank)
    with pytest.raises(Refused, match="visible"):
        text.required_text(blank + "\n")


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("  Ada  ", "Ada"),
        ("\u3000Ada\xa0\t\n", "Ada"),
        ("Mu\u0308ller", "Müller"),
        ("\u1112\u1161\u11ab", "한"),
        ("שלום \u200f", "שלום \u200f"),
        ("👩\u200d👧", "👩\u200d👧"),
        ("O\u2019Brien  & Co", "O\u2019Brien  & Co"),
        ("ﬁ \uff21\uff22 ½", "ﬁ \uff21\uff22 ½"),
        ("Å \u212b", "Å Å"),
    ],
)
def test_one_line_is_kept_as_typed(typed: str, kept: str) -> None:
    assert text.one_line(typed) == text.name(typed) == kept


@pytest.mark.parametrize("control", ["\t", "\n", "\r\n", "\x1b", "\x7f", "\x85", "\x9f", "\u2028", "\u2029"])
def test_one_line_has_no_controls(control: str) -> None:
    with pytest.raises(Refused, match="one line"):
        text.one_line(f"a{control}b")
    assert text.required_text(f" a{control}b\n") == f" a{control}b\n"


@pytest.mark.parametrize(
    ("sent", "values"),
    [
        ("a,b", ["a", "b"]),
        (" a , ,b,", ["a", "b"]),
        (",", []),
        ('"smith,john"', ["smith,john"]),
        ('a, "b,c" ,d', ["a", "b,c", "d"]),
        ('"say ""hi"""', ['say "hi"']),
        ('"", a', ["", "a"]),
        ('me,"me"', ["me", '"me"']),
        ('"""x"""', ['""x""']),
        ('" a "', [" a "]),
    ],
)
def test_a_list_of_values(sent: str, values: list[str]) -> None:
    assert split_values(sent, frozenset({"me"})) == values


@pytest.mark.parametrize("sent", ['"', 'a"b"', '"a"b', '"a" "b"', 'a"', '"a,b'])
def test_a_quote_out_of_place_is_refused(sent: str) -> None:
    with pytest.raises(Refused, match="quote"):
        split_values(sent)
