"""Where the service's time goes: one process that answers one request over and over, watched by py-spy.

py-spy can't see the web server's threads, so the application runs without it, in the main thread.
"""

from __future__ import annotations

import asyncio
import ctypes
import itertools
import math
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import uvloop

from app.worker import serve_app
from tests.bench import create
from tests.bench.cases import BY_NAME
from tests.bench.server import CREATED, Bench, environment_of

RATE = 500
WARM_UP = 50
# "Yama": where a process may otherwise be watched by its parents only.
PR_SET_PTRACER, ANYBODY = 0x59616D61, ctypes.c_ulong(-1)
LOOP = "the event loop"


class Work(msgspec.Struct, frozen=True):
    """A request, answered for so many seconds; in its body, %d is another number each time."""

    method: str
    path: str
    token: str
    seconds: float
    body: str = ""
    no_cache: bool = False


class Profile(NamedTuple):
    """Shares of the processor's time by package, and milliseconds of one request, of these on the processor."""

    name: str
    packages: dict[str, float]
    ms: float
    on_processor_ms: float


def measure(bench: Bench, seconds: float, *, quick: bool) -> list[Profile] | str:
    """A list, a detail, a report and a create, or in a quick run the create alone; or why py-spy can't."""
    works = {}
    read = {"customers": bench.large, "one contact": bench.large, "report: overview": bench.sizes[0]}
    for name, size in ({} if quick else read).items():
        case = BY_NAME[name]
        works[name] = Work("GET", case.at(bench, size), bench.token(size), seconds, no_cache=case.report)
    body = create.BODY.format(email=f"profile.{time.time_ns()}.%d@example.com")
    works["create a customer"] = Work("POST", create.PATH, bench.token(CREATED), seconds, body)
    try:
        return [_watch(bench, name, work) for name, work in works.items()]
    except subprocess.CalledProcessError as error:
        return str(error.stderr).strip()


def _watch(bench: Bench, name: str, work: Work) -> Profile:
    with tempfile.TemporaryDirectory() as folder, Path(folder, "log").open("w+") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.profile", msgspec.json.encode(work).decode()],
            env=environment_of(bench.settings) | {"PROMETHEUS_MULTIPROC_DIR": folder},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        try:
            assert process.stdout is not None
            said = next((line for line in process.stdout if line.startswith("measured ")), "")
            assert said, Path(log.name).read_text()
            shares = _spy(process.pid, work.seconds, Path(folder, "stacks"))
        finally:
            process.kill()
            process.wait()
    requests, elapsed, used = map(float, said.split()[1:])
    return Profile(name, shares, elapsed / requests * 1000, used / requests * 1000)


def _spy(pid: int, seconds: float, stacks: Path) -> dict[str, float]:
    """Shares of the samples in which Python was running, and nobody waited, by the innermost frame's package."""
    command = [str(Path(sys.executable).with_name("py-spy")), "record", "--pid", str(pid), "--gil"]
    command += ["--rate", str(RATE), "--duration", str(math.ceil(seconds)), "--format", "raw", "--full-filenames"]
    subprocess.run([*command, "--nolineno", "--output", str(stacks)], capture_output=True, text=True, check=True)
    counts: Counter[str] = Counter()
    for line in stacks.read_text().splitlines():
        stack, count = line.rsplit(" ", 1)
        counts[_package_of(stack.rsplit(";", 1)[-1])] += int(count)
    return {package: count / counts.total() for package, count in counts.most_common()}


def _package_of(frame: str) -> str:
    if found := re.search(r"/site-packages/(\w+)", frame):
        return found[1]
    if "/asyncio/" in frame or "/tests/bench/" in frame:
        return LOOP
    return "app" if "/app/" in frame else "Python's own library"


async def run(work: Work) -> None:
    """Ask the application for so long, say how often, in how many seconds and how many of the processor's; go on."""
    app, numbers = serve_app(), itertools.count()
    headers = [(b"authorization", f"Bearer {work.token}".encode()), (b"host", b"bench")]
    if work.no_cache:
        headers.append((b"cache-control", b"no-cache"))
    path, _, query = work.path.partition("?")

    async def ask() -> None:
        body = work.body.replace("%d", str(next(numbers))).encode()
        of_body = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))] if body else []
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": work.method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": headers + of_body,
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 2),
            "state": {},
        }

        async def receive() -> Any:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            assert message.get("status", 200) < 300, message

        await app(scope, receive, send)  # type: ignore[arg-type]  # a dict, as servers give one

    async with app.lifespan():
        for _ in range(WARM_UP):
            await ask()
        done, began, used = 0, time.perf_counter(), time.process_time()
        while time.perf_counter() < began + work.seconds:
            await ask()
            done += 1
        said = f"measured {done} {time.perf_counter() - began} {time.process_time() - used}\n"
        sys.stdout.write(said)
        sys.stdout.flush()
        while True:  # now with somebody who watches, which takes time
            await ask()


if __name__ == "__main__":
    ctypes.CDLL(None).prctl(PR_SET_PTRACER, ANYBODY)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(msgspec.json.decode(sys.argv[1], type=Work)))
