"""What it costs who writes that others listen, and how soon webhooks have what was written."""

from __future__ import annotations

import os
import selectors
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import httpx
import psycopg

from app.dev.token import make_token
from app.settings import Settings
from tests.bench.goals import Goal, at_least, at_most
from tests.bench.server import OPTIONS, SECRET, settings_for
from tests.processes import Service, Worker, family, wait_until
from tests.rabbitmq import RabbitMq

HOOKS, STREAMS = 10, 50
# A busy office: who writes as fast as it can leaves no processor to anybody.
WRITES_A_SECOND = 10
TURNS, TURN_SECONDS = 8, 6.0
# Changed at once, so often.
MANY, BURSTS = 1000, 3
CUSTOMERS = "/admin/customers"
COMMITTED = """
    SELECT sequence, created_at FROM audit_seals AS seal
    JOIN audit_entries AS entry ON entry.tenant_id = seal.tenant_id AND entry.id = seal.entry_id
    WHERE seal.tenant_id = %s
"""


class Office:
    """An organization, and somebody in it who writes."""

    def __init__(self, name: str, url: str, *, user_id: str = "bench") -> None:
        settings = Settings(jwt_secret=SECRET)
        self.name = name
        self.token = make_token(settings, role="admin", tenant=name, user_id=user_id, name="Bench", ttl=86400)
        headers = {"Authorization": f"Bearer {self.token}"}
        self.client = httpx.Client(base_url=url, headers=headers, timeout=60)
        self.took: list[float] = []

    def call(self, method: str, path: str, body: Any = None) -> Any:
        answer = self.client.request(method, path, json=body)
        assert answer.is_success, answer.text
        return answer.json()

    def write(self, seconds: float) -> None:
        """At a steady pace; how long each took."""
        begins = time.perf_counter()
        for number in range(round(seconds * WRITES_A_SECOND)):
            time.sleep(max(0.0, begins + number / WRITES_A_SECOND - time.perf_counter()))
            sent = time.perf_counter()
            self.call("POST", CUSTOMERS, {"name": "Ada Lovelace", "company": "Engines"})
            self.took.append(time.perf_counter() - sent)


class Heard:
    """What the webhooks got."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def deliveries(self) -> list[tuple[float, str, int]]:
        """When each came, to which webhook, and its sequence."""
        lines = [line.split() for line in self._file.read_text().splitlines(keepends=True) if line.endswith("\n")]
        return [(float(at), path, int(sequence)) for at, path, sequence in lines]


def measure() -> list[Goal]:
    """All goals of those who listen."""
    slower, seconds, rate = _measure()
    return [
        at_most("a write beside ten webhooks, the broker and fifty streams, to one unheard", 1.05, slower),
        at_most("an event at a webhook after its commit", 2, seconds, "s"),
        at_least("deliveries to webhooks while there are many", 500, rate, "a second"),
    ]


def _measure() -> tuple[float, float, float]:
    """A write beside ten webhooks, the broker and fifty streams, as a multiple of one that nobody hears; the seconds
    from a commit to a webhook, in the middle; and deliveries a second while there are many.
    """
    with ExitStack() as open_:
        folder = Path(open_.enter_context(tempfile.TemporaryDirectory(prefix="crm-bench-", ignore_cleanup_errors=True)))
        settings, superuser, _ = open_.enter_context(settings_for(folder / "data", OPTIONS))
        (folder / "broker").mkdir()
        broker = open_.enter_context(RabbitMq(folder / "broker"))
        environment = {
            "DATABASE_URL": settings.database_url,
            "JWT_SECRET": SECRET,
            "RATE_LIMIT_PER_MINUTE": "0",
            "JOBS_IN_SERVICE": "false",
            "WEBHOOK_ALLOWED_NETWORKS": "127.0.0.1/32",
            "AMQP_URL": broker.url,
            "CRM_DATA_DIR": str(folder / "data"),
            "DRAIN_SECONDS": "0",
        }
        service = Service(folder / "data", "--workers", "2", **environment)
        open_.callback(service.stop)
        worker = Worker(None, **environment)
        open_.callback(worker.stop)
        port = open_.enter_context(_receiver(folder / "received"))
        heard, quiet, heard_by = Office("heard", service.url), Office("quiet", service.url), Heard(folder / "received")
        for number in range(HOOKS):
            hook = {"url": f"http://127.0.0.1:{port}/{number}", "types": ["*"]}
            heard.call("POST", "/admin/webhooks", hook)
        open_.enter_context(_streams(heard, service.url))
        for office in (heard, quiet):
            office.write(3)
            office.took.clear()
        for _ in range(TURNS):
            with paused(worker):
                quiet.write(TURN_SECONDS)
            heard.write(TURN_SECONDS)
        slower = statistics.median(heard.took) / statistics.median(quiet.took)
        committed = _committed(superuser, heard)
        seconds = statistics.median(at - committed[sequence] for at, _, sequence in heard_by.deliveries())
        return slower, seconds, _deliveries_a_second(heard, heard_by)


def _committed(superuser: str, office: Office) -> dict[int, float]:
    with psycopg.connect(superuser) as connection:
        return {sequence: at.timestamp() for sequence, at in connection.execute(COMMITTED, [office.name])}


def _deliveries_a_second(office: Office, heard: Heard) -> float:
    """Many changes at once, until the last webhook has the last of them."""
    ids = [office.call("POST", CUSTOMERS, {"name": "Ada Lovelace"})["id"] for _ in range(MANY)]
    page = office.call("GET", "/admin/events")
    wait_until(lambda: _reached(heard, page["last_sequence"]), "the deliveries of what was created", at_most=120)
    before = len(heard.deliveries())
    began = time.time()
    for number in range(BURSTS):
        change = {"ids": ids, "action": "update", "values": {"company": f"No {number}"}}
        assert office.call("POST", f"{CUSTOMERS}/bulk", change)["changed"] == MANY
    wanted = BURSTS * MANY * HOOKS
    wait_until(lambda: len(heard.deliveries()) >= before + wanted, "the deliveries of all changes", at_most=300)
    return wanted / (max(at for at, *_ in heard.deliveries()) - began)


def _reached(heard: Heard, sequence: int) -> bool:
    time.sleep(1)
    return len({path for _, path, of in heard.deliveries() if of == sequence}) == HOOKS


@contextmanager
def paused(worker: Worker) -> Iterator[None]:
    """Nobody listens."""
    pids = family(worker.process.pid)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@contextmanager
def _receiver(file: Path) -> Iterator[int]:
    """Its port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.receiver", str(file)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


@contextmanager
def _streams(office: Office, url: str) -> Iterator[None]:
    """Screens of people of the organization, which read what comes."""
    address = httpx.URL(url)
    lines: list[socket.socket] = []
    for number in range(STREAMS):
        person = Office(office.name, url, user_id=f"screen-{number}")
        line = socket.create_connection((address.host, address.port or 80))
        request = f"GET /admin/events/stream HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {person.token}\r\n\r\n"
        line.sendall(request.encode())
        assert line.recv(4096).startswith(b"HTTP/1.1 200")
        lines.append(line)
    with selectors.DefaultSelector() as selector:
        for line in lines:
            selector.register(line, selectors.EVENT_READ)
        stop = Event()

        def read() -> None:
            while not stop.is_set():
                for ready, _ in selector.select(0.2):
                    assert isinstance(ready.fileobj, socket.socket)
                    if not ready.fileobj.recv(65536):
                        selector.unregister(ready.fileobj)

        reading = Thread(target=read)
        reading.start()
        try:
            yield
            assert len(selector.get_map()) == STREAMS, "some streams ended"
        finally:
            stop.set()
            reading.join()
            for line in lines:
                line.close()
