"""`crm demo-calendar`: one command, and a calendar is there that is connected."""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path

import httpx
import pytest

from app.dev.servers import free_port
from app.settings import Settings
from tests.peers.phone import Phone
from tests.processes import CRM, ENVIRONMENT, beside

pytestmark = pytest.mark.slow


def test_one_command_shows_a_connected_calendar_and_ends_all_it_began(settings: Settings, tmp_path: Path) -> None:
    ports = ["--port", "0", "--calendar-port", str(free_port())]
    environment = beside(settings) | {"CRM_DATA_DIR": str(tmp_path), "DRAIN_SECONDS": "0"}
    with subprocess.Popen(
        [CRM, "demo-calendar", *ports],
        env=ENVIRONMENT | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        said: dict[str, str] = {}
        for line in process.stdout:
            said |= re.findall(r"^  (address|user name|password) +(\S+)$", line)
            if "password" in said:
                break
        phone = Phone(said["address"], said["user name"], said["password"])
        assert phone.names() == []
        process.send_signal(signal.SIGTERM)
        process.stdout.read()
    with pytest.raises(httpx.ConnectError):
        phone.names()
    phone.close()
