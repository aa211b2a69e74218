"""A file that is being received, in an unnamed temporary file: memory stays flat, and nothing outlives the process."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from types import TracebackType
from typing import IO

BLOCK = 1024 * 1024


class Spool:
    """Collects bytes as they arrive, with their number and hash. `finish` completes them."""

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
        """The hash of all bytes."""
        return self._hash.hexdigest()

    async def write(self, data: bytes) -> None:
        """Add bytes."""
        self.size += len(data)
        self._block += data
        if len(self._block) >= BLOCK:
            await self.finish()

    async def finish(self) -> None:
        """Write what is still buffered."""
        block, self._block = self._block, bytearray()
        await asyncio.to_thread(self._store, block)

    def _store(self, block: bytearray) -> None:
        self.file.write(block)
        self._hash.update(block)
