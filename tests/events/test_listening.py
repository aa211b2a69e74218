"""The programs of docs/listening-to-changes.md do what the page says, with the real service."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from litestar import Litestar
from litestar.testing import TestClient

from app.events.webhooks.attempts import Policy
from tests.callers import Caller
from tests.events.conftest import Deliver, hook, sent
from tests.processes import wait_until
from tests.programs import missing, program

pytestmark = pytest.mark.slow

PAGE = (Path(__file__).parents[2] / "docs" / "listening-to-changes.md").read_text()
READER, RECEIVER = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
(TYPESCRIPT,) = re.findall(r"```ts\n(.*?)```", PAGE, re.DOTALL)
NODE = Path(__file__).with_name("node")
TRANSPILE = """
import { readFileSync, writeFileSync } from "node:fs";
import ts from "typescript";
const source = readFileSync("receiver.ts", "utf8");
writeFileSync("receiver.js", ts.transpile(source, { module: "esnext", target: "es2022" }));
"""
# What a receiver needs longer than for this, it catches up with from the feed.
ONCE = Policy(pauses=())


class Program(NamedTuple):
    """A program of the page, in a folder of its own."""

    folder: Path
    command: list[str]

    def start(self, **environment: str) -> subprocess.Popen[bytes]:
        with (self.folder / "said").open("ab") as said:
            return subprocess.Popen(
                self.command, cwd=self.folder, env=os.environ | environment, stdout=said, stderr=said
            )

    def said(self) -> list[str]:
        return (self.folder / "said").read_text().splitlines()

    def events(self) -> list[str]:
        """Of what it said, what it did: a sequence and a type."""
        lines = [line.split(" ")[:2] for line in self.said()]
        return [" ".join(line) for line in lines if line[0].isdigit() and "." in line[1]]


@pytest.fixture(scope="module")
def address(client: TestClient[Litestar]) -> Iterator[str]:
    """The service, as programs reach it."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = client.get(self.path, headers={"Authorization": self.headers["Authorization"]})
            self.send_response(answer.status_code)
            self.end_headers()
            self.wfile.write(answer.content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start a program, which is killed at the end."""
    started: list[subprocess.Popen[bytes]] = []

    def run(what: Program, **environment: str) -> subprocess.Popen[bytes]:
        started.append(what.start(**environment))
        return started[-1]

    yield run
    for each in started:
        kill(each)


def kill(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()


def in_python(folder: Path) -> Program:
    (folder / "receiver.py").write_text(RECEIVER)
    return Program(folder, [sys.executable, "receiver.py"])


def in_typescript(folder: Path) -> Program:
    node, npm = program("node", package="nodejs"), program("npm", package="npm")
    if not (NODE / "node_modules" / ".package-lock.json").exists():
        done = subprocess.run(
            [npm, "ci", "--no-audit", "--no-fund"], cwd=NODE, capture_output=True, text=True, timeout=300, check=False
        )
        if done.returncode:
            missing(f"npm could not install standardwebhooks: {done.stderr[-300:]}")
    (folder / "node_modules").symlink_to(NODE / "node_modules")
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "receiver.ts").write_text(TYPESCRIPT)
    (folder / "transpile.js").write_text(TRANSPILE)
    subprocess.run([node, "transpile.js"], cwd=folder, check=True)
    return Program(folder, [node, "receiver.js"])


@pytest.mark.parametrize("language", [in_python, in_typescript])
def test_a_receiver_verifies_drops_repeats_and_catches_up(
    language: Callable[[Path], Program],
    address: str,
    admin: Caller,
    deliver: Deliver,
    start: Callable[..., subprocess.Popen[bytes]],
    tmp_path: Path,
) -> None:
    receiver = language(tmp_path)
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}/"
    webhook = hook(admin, url, "customer.*", "deal.won")
    path = f"/admin/webhooks/{webhook['id']}"
    environment = {
        "WEBHOOK_SECRET": webhook["secret"],
        "CRM_URL": address,
        "CRM_TOKEN": admin.headers["Authorization"].removeprefix("Bearer "),
        "PORT": str(port),
    }
    process = start(receiver, **environment)
    wait_until(lambda: answers(url), "it listens")
    assert admin.ok("POST", f"{path}/test")["status"] == 204
    admin.customer()
    deliver(lambda: sent(admin, webhook, status="delivered"))
    (delivery,) = sent(admin, webhook)
    admin.ok("POST", f"{path}/deliveries/{delivery['id']}/redeliver")
    deliver(lambda: [each["status"] for each in sent(admin, webhook)[0]["attempts"]] == [204, 204])
    assert httpx.post(url, json={"type": "deal.won"}, headers={"webhook-id": "msg_1"}).status_code == 400
    first = f"{delivery['sequence']} customer.created"
    wait_until(lambda: receiver.events() == [first], "it has done it, once")
    kill(process)
    admin.customer()
    admin.tag()
    admin.customer()
    deliver(lambda: len(sent(admin, webhook, status="failed")) == 2, policy=ONCE)
    start(receiver, **environment)
    wait_until(lambda: answers(url), "it listens again")
    admin.customer()
    deliver(lambda: len(sent(admin, webhook, status="delivered")) == 2)
    told = admin.ok("GET", "/admin/events", after=0, types="customer.*")["data"]
    wait_until(lambda: len(receiver.events()) >= 4, "it has done the others")
    assert receiver.events() == [f"{event['sequence']} {event['type']}" for event in told]


def answers(url: str) -> bool:
    try:
        return httpx.post(url).status_code == 400
    except httpx.TransportError:
        return False


def test_a_reader_goes_on_where_it_was_killed(
    address: str,
    admin: Caller,
    seal: Callable[[], None],
    start: Callable[..., subprocess.Popen[bytes]],
    tmp_path: Path,
) -> None:
    (tmp_path / "reader.py").write_text(READER)
    reader = Program(tmp_path, [sys.executable, "reader.py"])
    environment = {"CRM_URL": address, "CRM_TOKEN": admin.headers["Authorization"].removeprefix("Bearer ")}
    place = tmp_path / "place.txt"
    for number in ("1", "2", "3"):
        admin.customer()
        seal()
        process = start(reader, **environment)
        wait_until(partial(holds, place, number), "it has the event")
        kill(process)
    assert reader.events() == [f"{number} customer.created" for number in (1, 2, 3)]


def holds(place: Path, number: str) -> bool:
    return place.exists() and place.read_text() == number
