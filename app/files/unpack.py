"""Unpacking a file of rows in a process of its own, with limits on memory and time: a file that is made to fill memory,
or that crashes a parser, ends that process and never the service. It gets no environment, and so none of our secrets.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import IO

import structlog
from msgspec import DecodeError, json

from app.files.unpacked import Outcome, Refusal, Unpacked
from app.web.errors import AppError, Code, Fault, bad_field, invalid

log = structlog.get_logger("files")

AT_ONCE = 2
# The process may compute for two minutes; the rest is waiting.
SECONDS = 240
_threads = ThreadPoolExecutor(AT_ONCE, "unpack")
TOO_MUCH = Refusal("large", "The file takes too much memory or time to read: save it as CSV, or in parts")


@asynccontextmanager
async def unpacked(file: IO[bytes]) -> AsyncIterator[tuple[Unpacked, IO[bytes]]]:
    """What a file is, and its rows as lines in a temporary file.

    Raises AppError EMPTY_FILE, UNSUPPORTED_MEDIA_TYPE, PAYLOAD_TOO_LARGE, or INVALID_REQUEST where it is damaged.
    """
    with tempfile.TemporaryFile() as rows:
        outcome = await asyncio.get_running_loop().run_in_executor(_threads, _read, file, rows)
        if outcome.unpacked is None:
            raise _refusal(outcome.refusal or TOO_MUCH)
        yield outcome.unpacked, rows


def _read(file: IO[bytes], rows: IO[bytes]) -> Outcome:
    file.flush()
    command = [sys.executable, "-I", "-m", "app.files.reader", str(rows.fileno())]
    try:
        done = subprocess.run(  # noqa: S603 -- our own program
            command,
            stdin=file,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=[rows.fileno()],
            env={},
            timeout=SECONDS,
            check=False,
        )
        outcome = json.decode(done.stdout, type=Outcome)
    except subprocess.TimeoutExpired:
        return Outcome(refusal=TOO_MUCH)
    except DecodeError:
        log.warning("a file ended the process that read it", status=done.returncode)
        return Outcome(refusal=TOO_MUCH)
    if outcome.refusal is not None and outcome.refusal.why == "failed":
        log.error("a file could not be read", error=outcome.refusal.message)
    return outcome


def _refusal(refusal: Refusal) -> AppError:
    match refusal.why:
        case "type":
            return AppError(Code.UNSUPPORTED_MEDIA_TYPE, refusal.message)
        case "large":
            return AppError(Code.PAYLOAD_TOO_LARGE, refusal.message)
        case "empty":
            return bad_field(Code.EMPTY_FILE, "file", refusal.message)
        case "broken":
            return invalid(Fault("file", refusal.message))
        case "failed":
            return invalid(Fault("file", "can't be read: save it as CSV in UTF-8, and send that"))
