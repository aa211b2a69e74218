"""Two replicas and two workers behind a proxy, beside one of each.

A machine of two cores, which also runs the database, the proxy and the load, can't show that two replicas answer twice
as many requests. It shows what that depends on: that a request takes no more processor time when there are two, the
database's included, so that the rate grows with the processors until they are used up.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import httpx

from app.dev.servers import free_port
from tests.bench import create
from tests.bench.goals import Goal, Part, at_most
from tests.bench.listeners import paused
from tests.bench.load import wrk
from tests.bench.server import CREATED, Bench, environment_of
from tests.processes import Service, Worker, family, wait_until
from tests.programs import program

CONNECTIONS, ROUNDS, SECONDS = 8, 3, 4.0
JOBS = 90
# What two may take for each, to one.
MOST = 1.15
LIST = "/admin/customers?page_size=20"
RUN = {"report": "team", "format": "csv"}
TICKS = os.sysconf("SC_CLK_TCK")
PROXY = """
daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log; worker_processes 1;
events {{ worker_connections 256; }}
http {{
    access_log off; client_body_temp_path {folder}/bodies; proxy_temp_path {folder}/answers;
    upstream crm {{ least_conn; {servers} keepalive 32; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{ proxy_pass http://crm; proxy_http_version 1.1; proxy_set_header Connection ""; }}
    }}
}}
"""


class Spent(NamedTuple):
    """What was done, in which time, and the processor time that it took, by who took it."""

    done: float
    seconds: float
    processor: dict[str, float]

    @property
    def each(self) -> float:
        """Processor time of one."""
        return sum(self.processor.values()) / self.done


def measure(bench: Bench) -> list[Goal]:
    """What a request and a job take with two processes, to one."""
    goals = []
    with tempfile.TemporaryDirectory(prefix="crm-scale-") as folder:
        for name, ask in (("a list page", _list), ("a create", _create)):
            with _replicas(bench, Path(folder), 1) as one, _replicas(bench, Path(folder), 2) as two:
                pairs = [[_asked(bench, place, ask) for place in (one, two)] for _ in range(ROUNDS)]
            goals.append(_goal(f"processor time of {name}, two replicas behind a proxy to one", pairs))
        jobs = [[_jobs(bench, count) for count in (1, 2)] for _ in range(ROUNDS)]
        goals.append(_goal("processor time of a report's job, two workers to one", jobs))
    return goals


class Replicas(NamedTuple):
    """Services, and the proxy before them."""

    url: str
    processes: dict[str, list[int]]


def _goal(name: str, pairs: list[list[Spent]]) -> Goal:
    ratio = statistics.median(two.each / one.each for one, two in pairs)
    rate = statistics.median((two.done / two.seconds) / (one.done / one.seconds) for one, two in pairs)
    parts = [
        Part(
            f"{who}, with {count}",
            statistics.median(pair[at].processor[who] / pair[at].done / pair[0].each for pair in pairs),
        )
        for who in pairs[0][0].processor
        for at, count in enumerate(("one", "two"))
    ]
    missed = tuple(parts) if ratio > MOST else ()
    return at_most(name, MOST, ratio, note=f"(rate here: {rate:.2f} x)", parts=missed)


@contextmanager
def _replicas(bench: Bench, folder: Path, count: int) -> Iterator[Replicas]:
    with ExitStack() as open_:
        place = Path(tempfile.mkdtemp(dir=folder))
        place.chmod(0o755)
        services = []
        for number in range(count):
            services.append(Service(place / str(number), "--workers", "1", **environment_of(bench.settings)))
            open_.callback(services[-1].stop)
        port = free_port()
        servers = " ".join(f"server {service.url.removeprefix('http://')};" for service in services)
        (place / "nginx.conf").write_text(PROXY.format(folder=place, port=port, servers=servers))
        nginx = [program("nginx", package="nginx-light"), "-c", f"{place}/nginx.conf", "-e", f"{place}/error.log"]
        proxy = subprocess.Popen([*nginx, "-p", str(place)])
        open_.callback(proxy.wait, 30)
        open_.callback(proxy.terminate)
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: _answers(url), "the proxy")
        yield Replicas(url, {"the proxy": [proxy.pid], "the service": [it.process.pid for it in services]})


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/ready").status_code == 200
    except httpx.TransportError:
        return False


def _list(bench: Bench, seconds: float) -> float:
    return wrk(bench, LIST, bench.sizes[0], connections=CONNECTIONS, seconds=seconds).rate


def _create(bench: Bench, seconds: float) -> float:
    return create.through_service(bench, connections=CONNECTIONS, seconds=seconds)


def _asked(bench: Bench, place: Replicas, ask: Callable[[Bench, float], float]) -> Spent:
    there = bench._replace(url=place.url)
    ask(there, SECONDS / 2)
    before = _processor(bench, place.processes)
    rate = ask(there, SECONDS)
    return Spent(rate * SECONDS, SECONDS, _since(before, _processor(bench, place.processes)))


def _jobs(bench: Bench, workers: int) -> Spent:
    """Many jobs, by so many workers."""
    headers = {"Authorization": f"Bearer {bench.token(CREATED)}"}
    with ExitStack() as open_, httpx.Client(base_url=bench.url, headers=headers, timeout=60) as client:
        started = [Worker(None, **environment_of(bench.settings)) for _ in range(workers)]
        for worker in started:
            open_.callback(worker.stop)
        processes = {"the workers": [worker.process.pid for worker in started]}
        with ExitStack() as held:
            for worker in started:
                held.enter_context(paused(worker))
            begun = [client.post("/admin/report-runs", json=RUN).raise_for_status().json()["job"] for _ in range(JOBS)]
            before = _processor(bench, processes)

        def waiting() -> int:
            found = client.get("/admin/jobs", params={"status": "queued,running", "page_size": 1}).raise_for_status()
            return int(found.json()["total"])

        wait_until(lambda: waiting() == 0, "the end of all jobs")
        spent = _since(before, _processor(bench, processes))
        ended = [client.get(f"/admin/jobs/{job['id']}").json() for job in (begun[0], begun[-1])]
        first, end = ended[0]["started_at"], ended[1]["finished_at"]
        return Spent(JOBS, max(_seconds(first, end), 0.001), spent)


def _seconds(first: str, last: str) -> float:
    return (datetime.fromisoformat(last) - datetime.fromisoformat(first)).total_seconds()


def _processor(bench: Bench, processes: dict[str, list[int]]) -> dict[str, float]:
    """Seconds of processor time of these, of the database, and of all that they started, also of what has ended."""
    server = bench.server.pid
    assert server is not None
    return {
        who: sum(_ticks(pid) for root in roots for pid in family(root)) / TICKS
        for who, roots in (processes | {"the database": [server]}).items()
    }


def _since(before: dict[str, float], now: dict[str, float]) -> dict[str, float]:
    return {who: seconds - before[who] for who, seconds in now.items()}


def _ticks(pid: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except FileNotFoundError:
        return 0
    return sum(map(int, fields[11:15]))  # its own, and of its children that have ended
