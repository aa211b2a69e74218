"""Load and latency: `wrk` against the service, `pgbench` with the same SQL against the database."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch
from urllib.parse import quote

import psycopg
from litestar.testing import TestClient
from psycopg import AsyncRawCursor, sql

from app.main import create_app
from tests.bench.server import LOGIN, Bench

# Of a load that is there to see that it can be measured; and where a busy machine answered nothing in that time.
LEAST_SECONDS, MOST_SECONDS = 0.1, 10.0
UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


class NoAnswerError(Exception):
    """What was asked was refused, or not answered in time."""


class Latency(NamedTuple):
    """Milliseconds, and requests per second."""

    p50: float
    p99: float
    rate: float
    # How many were answered.
    done: int = 0


def wrk(
    bench: Bench,
    path: str,
    size: int | str,
    *,
    connections: int,
    seconds: float,
    headers: dict[str, str] | None = None,
    script: Path | None = None,
) -> Latency:
    """Ask for one address of a tenant over and over. Raises NoAnswerError where one is no success."""
    headers = {"Authorization": f"Bearer {bench.token(size)}"} | (headers or {})
    return ask_over_and_over(bench.url + path, headers, connections=connections, seconds=seconds, script=script)


def ask_over_and_over(
    url: str, headers: dict[str, str], *, connections: int, seconds: float, script: Path | None = None
) -> Latency:
    """Ask for one address. Raises NoAnswerError where an answer is no success."""
    longest = max(seconds, MOST_SECONDS)
    command = ["wrk", "-t1", f"-c{connections}", f"-d{round(longest)}s", "--timeout", "60s", "--latency"]
    for name, value in headers.items():
        command += ["-H", f"{name}: {value}"]
    if script is not None:
        command += ["-s", str(script)]
    seconds = max(seconds, LEAST_SECONDS)
    while True:
        said = _stopped_after(seconds if seconds < longest else None, [*command, url])
        if "Non-2xx" in said:
            raise NoAnswerError(f"{url}: {said}")
        rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
        done = re.search(r"(\d+) requests in", said)
        assert rate, said
        assert done, said
        if float(rate[1]):
            break
        if seconds >= longest:
            raise NoAnswerError(f"{url}: no answer within {seconds} s")
        seconds = min(4 * seconds, longest)
    found = {key: float(value) * UNITS[unit] for key, value, unit in re.findall(r"(50|99)%\s+([\d.]+)(us|ms|s)", said)}
    return Latency(found["50"], found["99"], float(rate[1]), int(done[1]))


def _stopped_after(seconds: float | None, command: list[str]) -> str:
    """What it says. It takes whole seconds only, and tells at once what it has so far when it is interrupted."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        said = process.stdout.read()
    assert process.returncode == 0, said
    return said


class Sent(NamedTuple):
    """A statement as the driver gets it."""

    sql: str
    parameters: Sequence[Any]
    prepare: bool | None


@contextmanager
def watched(see: Callable[[Sent], None]) -> Iterator[None]:
    """Show every statement of a service inside this process, but for those that begin and end transactions."""
    execute, stream = AsyncRawCursor.execute, AsyncRawCursor.stream

    def tell(query: str, parameters: Sequence[Any] | None, prepare: bool | None) -> None:
        see(Sent(re.sub(r"^/\* \d+ \*/ ", "", query), parameters or (), prepare))

    async def executed(
        cursor: AsyncRawCursor[Any], query: Any, parameters: Sequence[Any] | None = None, **more: Any
    ) -> AsyncRawCursor[Any]:
        if not query.startswith("BEGIN"):
            tell(query, parameters, more.get("prepare"))
        return await execute(cursor, query, parameters, **more)

    def streamed(
        cursor: AsyncRawCursor[Any], query: Any, parameters: Sequence[Any] | None = None, **more: Any
    ) -> AsyncIterator[Any]:
        tell(query, parameters, None)
        return stream(cursor, query, parameters, **more)

    with patch.object(AsyncRawCursor, "execute", executed), patch.object(AsyncRawCursor, "stream", streamed):
        yield


@contextmanager
def recorded(bench: Bench, size: int | str) -> Iterator[tuple[TestClient[Any], list[str]]]:
    """The service inside this process, and every statement that it sends, with its values filled in: of each
    transaction first the one that says who asks.
    """
    sent: list[str] = []
    with psycopg.connect(bench.settings.database_url) as connection, TestClient(create_app(bench.settings)) as client:
        client.headers["Authorization"] = f"Bearer {bench.token(size)}"
        assert client.get("/admin/me").status_code == 200
        with watched(lambda statement: sent.append(_filled(statement, connection))):
            yield client, sent


def _filled(statement: Sent, connection: psycopg.Connection) -> str:
    values = [sql.Literal(value).as_string(connection) for value in statement.parameters]
    return re.sub(r"\$(\d+)", lambda place: values[int(place[1]) - 1], statement.sql)


def statements(bench: Bench, path: str, size: int | str) -> list[str]:
    """What one GET sends to the database."""
    with recorded(bench, size) as (client, sent):
        answer = client.get(path)
        assert answer.status_code == 200, answer.text
        return list(sent)


def pgbench(bench: Bench, sent: list[str], *, connections: int, seconds: float, prepared: bool = True) -> float:
    """Transactions per second of the same SQL, prepared or planned each time, over as many connections; below a second
    one of each.
    """
    host = re.search(r"host=([^&]+)", bench.superuser)
    assert host
    # In JSON `":null` would be a variable of pgbench's.
    lines = ["BEGIN", *sent, "COMMIT"]
    script = "".join(re.sub(r'":(?=\w)', '": ', line) + "\n;\n" for line in lines)
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
        file.write(script)
        file.flush()
        done = subprocess.run(
            [
                str(bench.server.programs / "pgbench"),
                "-M",
                "prepared" if prepared else "extended",
                "-n",
                f"-c{connections}",
                "-j2",
                f"-T{round(seconds)}" if seconds >= 1 else "-t1",
                f"-f{file.name}",
                f"host={unquoted(host[1])} user={LOGIN} dbname=crm",
            ],
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    rate = re.search(r"tps = ([\d.]+)", done.stdout)
    assert rate, done.stdout
    return float(rate[1])


def unquoted(text: str) -> str:
    """A path out of a URL."""
    return text.replace(quote("/", safe=""), "/")


def has_wrk() -> bool:
    """Whether the load tool is installed."""
    return shutil.which("wrk") is not None
