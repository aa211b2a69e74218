"""ETag, If-Match and If-None-Match (RFC 9110)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from app.web.errors import AppError, Code

# A list of entity tags. Weak ones are allowed in it and never match.
TAGS = re.compile(r'\s*+(?:W/)?"[^"]*"\s*+(?:,\s*+(?:(?:W/)?"[^"]*"\s*+)?+)*+')
TAG = re.compile(r'(W/)?"([^"]*)"')


def etag(version: int) -> str:
    """The entity tag of a version."""
    return f'"{version}"'


def is_known(if_none_match: Sequence[str], tag: str) -> bool:
    """Whether a client has what has this tag already. Weak ones are as good as strong ones here."""
    value = ", ".join(if_none_match).strip()
    if value == "*":
        return True
    return bool(TAGS.fullmatch(value)) and any(each == tag for _, each in TAG.findall(value))


class Precondition:
    """The version that a client requires by If-Match. Without that header every version matches."""

    def __init__(self, if_match: Sequence[str]) -> None:
        self._value = ", ".join(if_match).strip() if if_match else None

    def check(self, version: int) -> None:
        """Raises AppError VERSION_CONFLICT if the client does not accept this version."""
        if self._value is None or self._value == "*":
            return
        strong = {tag for weak, tag in TAG.findall(self._value) if not weak} if TAGS.fullmatch(self._value) else set()
        if str(version) not in strong:
            raise AppError(Code.VERSION_CONFLICT, data={"current_version": version})
