"""The process that reads one file: it comes on standard input, the rows go to the file descriptor that is given, and
what was found out, or why the file can't be read, to standard output.
"""

from __future__ import annotations

import os
import resource
import sys
import traceback
from contextlib import suppress
from pathlib import Path

from msgspec import json

from app.files.reader.read import unpack
from app.files.unpacked import MOST_BYTES, Outcome, Refusal, UnreadableError
from app.shared.memory import memory_limit

# What a file may cost. A workbook is read whole: one of a million rows needs about as much. In a container it is a part
# of the container's memory, since the kernel may end all processes of one whose memory is used up.
MOST_MEMORY, LEAST_MEMORY = 2 * 1024**3, 256 * 1024**2
SHARE = 3
MOST_SECONDS = 120
BLOCK = 1024 * 1024


def main() -> None:
    """Read the file, and answer."""
    _limit_this_process()
    with os.fdopen(int(sys.argv[1]), "wb", BLOCK) as rows:
        try:
            outcome = Outcome(unpacked=unpack(sys.stdin.buffer, rows))
        except UnreadableError as error:
            outcome = Outcome(refusal=error.refusal)
        except MemoryError:
            outcome = Outcome(refusal=Refusal("large", "The file needs too much memory: save it as CSV, or in parts"))
        except Exception as error:  # noqa: BLE001 -- whatever a parser raises, with its place and without values
            place = traceback.extract_tb(error.__traceback__)[-1]
            what = f"{type(error).__name__} in {Path(place.filename).name}:{place.lineno}"
            outcome = Outcome(refusal=Refusal("failed", what))
    sys.stdout.buffer.write(json.encode(outcome))


def _limit_this_process() -> None:
    for limit, value in (
        (resource.RLIMIT_AS, _memory()),
        (resource.RLIMIT_CPU, MOST_SECONDS),
        (resource.RLIMIT_FSIZE, MOST_BYTES + BLOCK),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (value, value))
    # If memory becomes short, the kernel ends this process and not the service.
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def _memory() -> int:
    limit = memory_limit()
    return MOST_MEMORY if limit is None else max(min(MOST_MEMORY, limit // SHARE), LEAST_MEMORY)


if __name__ == "__main__":
    main()
