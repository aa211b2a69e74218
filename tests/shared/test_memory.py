"""What limits memory: a container, a systemd unit, or nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.shared.memory import memory_limit

V2, V1 = "sys/fs/cgroup", "sys/fs/cgroup/memory"
UNIT = "system.slice/crm-service.service"


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/", {f"{V2}/memory.max": "512\n"}, 512),
        ("0::/", {f"{V2}/memory.max": "max\n"}, None),
        (f"0::/{UNIT}", {f"{V2}/{UNIT}/memory.max": "300", f"{V2}/system.slice/memory.max": "max"}, 300),
        (f"0::/{UNIT}", {f"{V2}/{UNIT}/memory.max": "max", f"{V2}/system.slice/memory.max": "400"}, 400),
        ("5:cpu,memory:/docker/1\n0::/", {f"{V1}/memory.limit_in_bytes": "600"}, 600),
        (f"5:memory:/{UNIT}\n1:name=systemd:/", {f"{V1}/{UNIT}/memory.limit_in_bytes": "700"}, 700),
        (None, {}, None),
    ],
)
def test_the_least_limit_counts_of_all_groups_around_a_process(
    groups: str | None, files: dict[str, str], expected: int | None, tmp_path: Path
) -> None:
    given = files if groups is None else files | {"proc/self/cgroup": f"{groups}\n"}
    for name, text in given.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert memory_limit(tmp_path) == expected
