"""What an organization's id may be. Commands check one before they load what requests need."""

from __future__ import annotations

from typing import Any

from app.web.text import INVISIBLE, is_text

MAX_ID_LENGTH = 64


def is_tenant_id(value: Any) -> bool:
    """Whether this is a valid organization: 1 to 64 visible characters, with blanks only between them."""
    return (
        is_text(value)
        and 1 <= len(value) <= MAX_ID_LENGTH
        and value == value.strip(" ")
        and not any(INVISIBLE.fullmatch(character) for character in value.replace(" ", ""))
    )
