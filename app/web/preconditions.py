"""ETag and If-Match (RFC 9110), over record versions."""

from __future__ import annotations

import re
from collections.abc import Sequence

from app.web.errors import AppError, Code

# Strong tags and what stands between them; a weak one never matches strongly.
TAGS = re.compile(r'\s*+(?:W/)?"[^"]*"\s*+(?:,\s*+(?:(?:W/)?"[^"]*"\s*+)?+)*+')
TAG = re.compile(r'(W/)?"([^"]*)"')


def etag(version: int) -> str:
    """A record version as an entity tag."""
    return f'"{version}"'


class Precondition:
    """What a client's If-Match headers ask of a record; without any, everything matches."""

    def __init__(self, if_match: Sequence[str]) -> None:
        self._value = ", ".join(if_match).strip() if if_match else None

    def check(self, version: int) -> None:
        """Raise AppError VERSION_CONFLICT unless the record's version is one that the client accepts."""
        if self._value is None or self._value == "*":
            return
        strong = {tag for weak, tag in TAG.findall(self._value) if not weak} if TAGS.fullmatch(self._value) else set()
        if str(version) not in strong:
            raise AppError(Code.VERSION_CONFLICT, data={"current_version": version})
