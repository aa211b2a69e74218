"""Ranges of bytes (RFC 9110, section 14)."""

from __future__ import annotations

import re

from app.web.errors import AppError, Code

# Possessive quantifiers (*+), so that matching takes linear time.
RANGE = re.compile(r"bytes=\s*+(?:(\d{1,18})\s*+-\s*+(\d{1,18})?|-\s*+(\d{1,18}))\s*+", re.IGNORECASE | re.ASCII)


def requested_range(header: str | None, if_range: str | None, size: int, tag: str) -> tuple[int, int] | None:
    """The first and last byte that a client asks for. None means the whole file, also for several ranges.

    Raises AppError RANGE_NOT_SATISFIABLE.
    """
    match = RANGE.fullmatch(header) if header and (if_range is None or if_range.strip() == tag) else None
    if match is None:
        return None
    start, end, suffix = match.groups()
    if suffix is not None:
        first, last = max(0, size - int(suffix)), size - 1
    else:
        first, last = int(start), min(int(end) if end else size - 1, size - 1)
        if end and int(end) < int(start):
            return None  # not a valid range: the standard says to ignore it
    if first >= size:
        raise AppError(Code.RANGE_NOT_SATISFIABLE, data={"size": size}, headers={"Content-Range": f"bytes */{size}"})
    return first, last
