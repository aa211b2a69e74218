"""How much memory this process may use, with all others of its container or its systemd unit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

GROUPS = "sys/fs/cgroup"


def memory_limit(root: Path = Path("/")) -> int | None:
    """The least limit of its control group and those around it, in bytes; None if there is none."""
    found = []
    for file in _limits(root):
        with suppress(OSError, ValueError):  # it is not there, or "max", which is no limit
            found.append(int(file.read_text()))
    return min(found, default=None)


def _limits(root: Path) -> Iterator[Path]:
    """Where both versions of control groups keep limits; in a container, its own group is the outermost."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    for line in ("0::/", ":memory:/", *lines):
        _, controllers, path = line.split(":", 2)
        group = path.strip("/")
        if not controllers:
            place, name = root / GROUPS, "memory.max"
        elif "memory" in controllers.split(","):
            place, name = root / GROUPS / "memory", "memory.limit_in_bytes"
        else:
            continue
        yield place / name
        while group:
            yield place / group / name
            group = group.rpartition("/")[0]
