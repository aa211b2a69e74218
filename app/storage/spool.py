"""A file on its way: in a nameless temporary file, so that memory stays flat and a killed process leaves nothing."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from types import TracebackType
from typing import IO

BLOCK = 1024 * 1024


class Spool:
    """Takes bytes as they come; when it is `finish`ed, their number and hash are known."""

    def __init__(self) -> None:
        self.file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 -- closed on exit
        self.size = 0
        self._hash = hashlib.sha256()
        self._block = bytearray()

    async def __aenter__(self) -> Spool:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.file.close()

    @property
    def sha256(self) -> str:
        """Of all bytes."""
        return self._hash.hexdigest()

    async def write(self, data: bytes) -> None:
        """Take some more."""
        self.size += len(data)
        self._block += data
        if len(self._block) >= BLOCK:
            await self.finish()

    async def finish(self) -> None:
        """Write down what came last."""
        block, self._block = self._block, bytearray()
        await asyncio.to_thread(self._store, block)

    def _store(self, block: bytearray) -> None:
        self.file.write(block)
        self._hash.update(block)
