"""Large answers: beyond a certain size they are kept in a temporary file and sent from there in chunks.

So a worker's memory does not grow with the size of answers or with slow clients.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import IO, Any, NamedTuple, Self, TypeAlias

from litestar import Response
from litestar.enums import MediaType
from litestar.response import Stream

MAX_BYTES_IN_MEMORY = 256 * 1024
CHUNK_BYTES = 64 * 1024
BLOCK_BYTES = 256 * 1024


class MadeFile(Stream):
    """A file that was made for this request. It is sent from a temporary one, which whoever opened it closes."""

    def __init__(self, file: IO[bytes], media_type: str, headers: Mapping[str, str]) -> None:
        length = {"Content-Length": str(file.seek(0, os.SEEK_END))}
        super().__init__(_chunks_of(file), headers=dict(headers) | length, media_type=media_type)


async def _chunks_of(file: IO[bytes]) -> AsyncIterator[bytes]:
    file.seek(0)
    while chunk := await asyncio.to_thread(file.read, BLOCK_BYTES):
        yield chunk


class Slice(NamedTuple):
    """Where in the file the JSON of a row is."""

    start: int
    size: int


EncodedRow: TypeAlias = bytes | Slice


class EncodedRows:
    """The rows of an answer as JSON. They can be sent in another order than they were added."""

    def __init__(self) -> None:
        self._in_memory = 0
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        if failure is not None and self._file is not None:  # else it is closed after it was sent
            self._file.close()

    def add(self, row: bytes) -> EncodedRow:
        """Keep a row: in memory, or in the file."""
        if self._in_memory + len(row) <= MAX_BYTES_IN_MEMORY:
            self._in_memory += len(row)
            return row
        if self._file is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 -- closed after it was sent
        slice_ = Slice(self._file.seek(0, 2), len(row))
        self._file.write(row)
        return slice_

    def response(
        self,
        before: bytes,
        rows: Sequence[EncodedRow],
        after: bytes,
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> Response[Any]:
        """An answer of these rows, with commas between them, `before` and `after`."""
        headers = dict(headers or {})
        if self._file is None:
            body = before + b",".join(row for row in rows if isinstance(row, bytes)) + after
            return Response(body, status_code=status, headers=headers, media_type=MediaType.JSON)
        size = sum(row.size if isinstance(row, Slice) else len(row) for row in rows)
        headers["Content-Length"] = str(len(before) + size + max(0, len(rows) - 1) + len(after))
        chunks = self._chunks(before, rows, after, self._file)
        return Stream(chunks, status_code=status, headers=headers, media_type=MediaType.JSON)

    async def _chunks(
        self, before: bytes, rows: Sequence[EncodedRow], after: bytes, file: IO[bytes]
    ) -> AsyncIterator[bytes]:
        with file:
            chunk = bytearray(before)
            for number, row in enumerate(rows):
                chunk += b"," if number else b""
                for part in [row] if isinstance(row, bytes) else _read(file, row):
                    chunk += part
                    if len(chunk) >= CHUNK_BYTES:
                        yield bytes(chunk)
                        chunk.clear()
            yield bytes(chunk + after)


def _read(file: IO[bytes], slice_: Slice) -> Iterator[bytes]:
    start, left = slice_
    while left:
        file.seek(start)
        part = file.read(min(left, CHUNK_BYTES))
        yield part
        start, left = start + len(part), left - len(part)


def encoded_response(body: bytes, status: int, headers: Mapping[str, str]) -> Response[Any]:
    """An answer whose body is already encoded."""
    with EncodedRows() as rows:
        return rows.response(b"", [rows.add(body)], b"", status=status, headers=headers)
