"""Email addresses."""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from types import ModuleType
from typing import Annotated

from msgspec import Meta

from app.web.errors import Code
from app.web.fields import Refused
from app.web.text import trimmed

# What nearly all addresses look like. The library takes a fiftieth of the time of a new customer to accept one.
PLAIN = re.compile(
    r"[a-z0-9_+-]+(?:\.[a-z0-9_+-]+)*@(?:[a-z0-9]+(?:-[a-z0-9]+)*\.)+[a-z]{2,}", re.ASCII | re.IGNORECASE
)
LONGEST_PLAIN = 63  # a label of a domain


def check_email(text: str) -> str:
    """Return the address. Raises Refused (INVALID_EMAIL) if the email-validator library does not accept it."""
    if len(text) <= LONGEST_PLAIN and PLAIN.fullmatch(text):
        return text
    try:
        _library().validate_email(text, check_deliverability=False)
    except ValueError as error:
        raise Refused(f"is not a valid address: {error}", Code.INVALID_EMAIL) from None
    return text


def ascii_address(address: str) -> str:
    """The address with its domain as servers know it. Raises ValueError."""
    checked = _library().validate_email(address, check_deliverability=False)
    return checked.ascii_email or f"{checked.local_part}@{checked.ascii_domain}"


@cache
def _library() -> ModuleType:
    # Inside the function, because its patterns take a fiftieth of the start, and nearly all addresses are plain.
    import email_validator

    # Companies have addresses in their own networks, such as printer@corp.local.
    email_validator.SPECIAL_USE_DOMAIN_NAMES.clear()
    return email_validator


PUNYCODE = re.compile("(?<![^.])xn--([a-z0-9-]{1,59})(?![^.])")
DOTS = str.maketrans("\u3002\uff0e\uff61", "...")


def fold_email(address: str) -> str:
    """The key under which alike addresses are one: the same that the database's crm_fold_email makes."""
    if address.isascii() and "xn--" not in address.lower():
        return address.lower()
    local, at, domain = address.rpartition("@")
    if not at:
        return _fold_simply(address)
    domain = PUNYCODE.sub(_decoded, unicodedata.normalize("NFKC", domain).translate(DOTS).lower())
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFD", domain).casefold())
    return f"{_fold_simply(local)}@{folded}"


def _fold_simply(text: str) -> str:
    """Letters that fold to more than one stay as they are: `ß` is not `ss` before the @."""
    letters = unicodedata.normalize("NFC", text)
    folded = "".join(next((each for each in (c.casefold(), c.lower()) if len(each) == 1), c) for c in letters)
    return unicodedata.normalize("NFC", folded)


def _decoded(label: re.Match[str]) -> str:
    try:
        decoded = label[1].encode().decode("punycode")
    except ValueError:
        return label[0]
    return decoded if max(decoded, default="") > "\x80" else label[0]


Email = Annotated[
    str,
    Meta(
        max_length=255,
        description="An email address",
        examples=["ada@example.com"],
        extra={"clean": trimmed, "check": check_email},
        extra_json_schema={"anyOf": [{"format": "email"}, {"maxLength": 0}]},
    ),
]
