"""Two replicas behind a small proxy, restarted one after the other under load."""

from __future__ import annotations

import contextlib
import itertools
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from tests.processes import Service, fetch, wait_until

pytestmark = pytest.mark.slow

PASSED_ON = ("authorization", "content-type")


class Proxy:
    """Sends each request to the next replica that says it is ready, over connections that it keeps, as balancers do."""

    def __init__(self) -> None:
        self.replicas: list[Service] = []
        self._ready: list[str] = []
        self._turn = itertools.count()
        self._stop = threading.Event()
        self._client = httpx.Client(timeout=30)
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {name: self.headers[name] for name in PASSED_ON if name in self.headers}
                answer = proxy._client.request(self.command, proxy.next() + self.path, headers=headers, content=body)
                self.send_response(answer.status_code)
                self.send_header("content-length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)

            do_GET = do_POST = answer  # noqa: N815 -- the library's names

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        for work in (self._server.serve_forever, self._watch):
            threading.Thread(target=work, daemon=True).start()

    def next(self) -> str:
        ready = self._ready
        return ready[next(self._turn) % len(ready)]

    def _watch(self) -> None:
        with httpx.Client(timeout=2) as asking:
            while not self._stop.wait(0.05):
                # One probe may come late on a busy machine. With none ready, balancers go on with those that were.
                self._ready = [r.url for r in list(self.replicas) if self._is_ready(asking, r)] or self._ready

    @staticmethod
    def _is_ready(asking: httpx.Client, replica: Service) -> bool:
        with contextlib.suppress(httpx.TransportError):
            return asking.get(f"{replica.url}/ready").status_code == 200
        return False

    def wait_for(self, count: int) -> None:
        wait_until(lambda: len(self._ready) == count, f"{count} replicas ready")

    def close(self) -> None:
        self._stop.set()
        self._server.shutdown()
        self._server.server_close()
        self._client.close()


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    proxy = Proxy()
    yield proxy
    proxy.close()
    for replica in proxy.replicas:
        replica.stop()


def test_restarting_both_fails_no_request_and_loses_no_record(proxy: Proxy, tmp_path: Path) -> None:
    def start() -> Service:
        return Service(tmp_path / "data", DRAIN_SECONDS="1")

    with ThreadPoolExecutor(2) as pool:
        proxy.replicas = list(pool.map(lambda _: start(), range(2)))
    proxy.wait_for(2)
    headers = {"Authorization": f"Bearer {proxy.replicas[0].token('admin')}"}
    statuses: Counter[int] = Counter()
    stop = threading.Event()

    def load() -> None:
        with httpx.Client(base_url=proxy.url, headers=headers, timeout=30) as client:
            # Steady, but no more than leaves the machine free to start the new ones.
            while not stop.wait(0.1):
                statuses[client.post("/admin/customers", json={"name": "Under load"}).status_code] += 1
                statuses[client.get("/admin/customers").status_code] += 1

    with ThreadPoolExecutor(4) as pool:
        workers = [pool.submit(load) for _ in range(4)]
        for old in list(proxy.replicas):
            assert old.stop(signal.SIGTERM) == 0
            proxy.replicas.remove(old)
            proxy.replicas.append(start())
            proxy.wait_for(2)
        stop.set()
        for worker in workers:
            worker.result()
        assert set(statuses) == {200, 201}, statuses
        listed = fetch(f"{proxy.url}/admin/customers", headers=headers).json()
        assert listed["total"] == statuses[201] > 20
