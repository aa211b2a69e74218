"""What is sent to erase a record."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from app.web.structs import Body
from app.web.text import NAME


class Erasure(Body, kw_only=True):
    """Why a record is erased, and its name as it is shown, so that nobody erases another one by mistake."""

    reason: Annotated[
        str,
        Meta(max_length=1000, description="Kept in the log: no personal data", examples=["Request of 2 May"], **NAME),
    ]
    confirm: Annotated[
        str, Meta(max_length=255, description="Its name as it is shown", examples=["Ada Lovelace"], **NAME)
    ]
