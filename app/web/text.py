"""Text that people type. Each text field of a body is one of the kinds at the end of this module, used in its type's
Meta: `clean` prepares the text before its length is checked.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any

from app.web.fields import Refused

# Unicode's White_Space property, which differs from what Python's strip() removes.
WHITE_SPACE = "\t\n\v\f\r \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
# Invisible characters: white space, controls, format characters and Unicode's Default_Ignorable_Code_Point.
INVISIBLE = re.compile(
    rf"[{WHITE_SPACE}\x00-\x1f\x7f-\x9f\xad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160"
    r"\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0"
    r"\ufff0-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    r"\U000e0000-\U000e0fff]*"
)


# Sorting combining marks takes quadratic time, here and in the database. No language has more than a few on a letter;
# Unicode's Stream-Safe Text Format (UAX #15) has this limit too.
MAX_MARKS = 30
ANY_MARK = bytes([0] + [1] * 255)


def is_text(value: Any) -> bool:
    """Whether it is text that can be stored: PostgreSQL has no NUL, and UTF-8 no surrogates."""
    return isinstance(value, str) and "\0" not in value and not any("\ud800" <= c <= "\udfff" for c in value)


def normalized(text: str) -> str:
    """The text in Unicode's normal form C. Raises Refused for a letter with too many marks."""
    if text.isascii():
        return text
    marks = bytes(map(unicodedata.combining, text)).translate(ANY_MARK)
    if b"\x01" * (MAX_MARKS + 1) in marks:
        raise Refused(f"must have at most {MAX_MARKS} accents on one letter")
    return unicodedata.normalize("NFC", text)


def trimmed(text: str) -> str:
    """The text in normal form, without white space at its ends."""
    return normalized(text).strip(WHITE_SPACE)


def one_line(text: str) -> str:
    """The trimmed text. Raises Refused if it contains control characters."""
    text = trimmed(text)
    if CONTROL.search(text):
        raise Refused("must be one line, without control characters")
    return text


def is_visible(text: str) -> bool:
    """Whether it has a visible character."""
    return INVISIBLE.fullmatch(text) is None


def require_visible(text: str) -> str:
    """Return the text. Raises Refused if it has no visible character."""
    if not is_visible(text):
        raise Refused("must have at least one visible character: it must not be blank")
    return text


def name(text: str) -> str:
    """One line with a visible character. Raises Refused."""
    return require_visible(one_line(text))


def required_text(text: str) -> str:
    """One or more lines with a visible character. Raises Refused."""
    return require_visible(normalized(text))


def exact(text: str) -> str:
    """The text as it is, for keys that programs compare."""
    return text


# A schema can't say everything: invisible characters are checked by the code only.
_ONE_LINE = {"pattern": r"^[^\u0000-\u001f\u007f-\u009f\u2028\u2029]*$"}

LINE: dict[str, Any] = {"extra": {"clean": one_line}, "extra_json_schema": _ONE_LINE}
NAME: dict[str, Any] = {"min_length": 1, "extra": {"clean": name}, "extra_json_schema": _ONE_LINE}
TEXT: dict[str, Any] = {"extra": {"clean": normalized}}
REQUIRED_TEXT: dict[str, Any] = {"min_length": 1, "extra": {"clean": required_text}}
EXACT: dict[str, Any] = {"extra": {"clean": exact}}
SEARCH: dict[str, Any] = {"extra": {"clean": trimmed}}
