"""Reading rows of a file that are in the object store, from any place on."""

from __future__ import annotations

from contextlib import aclosing

from app.files.rows_format import LINE_END, Row, decode_row
from app.storage.objects import ObjectStore
from app.web.errors import AppError, Code

__all__ = ["Row", "read_rows"]

MOST_AT_ONCE = 8 * 1024 * 1024


async def read_rows(store: ObjectStore, key: str, offset: int, most: int) -> tuple[list[Row], int]:
    """At most so many rows from this place on, or fewer where they are long, and the place of the next one. The first
    place is 0; ask no more once there were as many rows as the file has.

    Raises AppError SERVICE_UNAVAILABLE, also where the object is gone.
    """
    body = await store.open(key, offset)
    if body is None:
        raise AppError(Code.SERVICE_UNAVAILABLE, "The rows of this file are not in the store any more")
    rows: list[Row] = []
    enough = offset + MOST_AT_ONCE
    # What has come of a row so far.
    parts: list[bytes] = []
    async with aclosing(body) as chunks:
        async for chunk in chunks:
            *lines, rest = chunk.split(LINE_END)
            if lines:
                lines[0] = b"".join((*parts, lines[0]))
                parts.clear()
            parts.append(rest)
            for line in lines:
                rows.append(decode_row(line))
                offset += len(line) + len(LINE_END)
                if len(rows) == most or offset >= enough:
                    return rows, offset
    return rows, offset
