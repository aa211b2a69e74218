"""Where it happens: one embedded PostgreSQL, services on it as real processes, and how a promise is put to the test."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psycopg

from app.dev.postgres import EmbeddedPostgres
from app.dev.token import make_token
from app.settings import Settings, load_settings
from tests.processes import IdentityService, Service, family, fetch

UNLIMITED = {"RATE_LIMIT_PER_MINUTE": "0", "AUTH_FAILURES_PER_MINUTE": "0", "DRAIN_SECONDS": "0", "LOG_FORMAT": "json"}

# How long /ready says no before a service stops, when it is told to by SIGTERM.
DRAIN_SECONDS = 2
# What a service must be told before it looks at some parts of a request.
DETAILED = {
    "CORS_ALLOWED_ORIGINS": "https://a-*-a-*.example.com,https://*.*.example.com",
    "TRUSTED_PROXIES": "127.0.0.0/8",
    "ATTACHMENT_MAX_BYTES": str(2**22),
}


class Finding(NamedTuple):
    """What was done, how often; what was lost; and whether the promise was kept."""

    done: str
    lost: str
    kept: bool


class Place:
    """A database that outlives the services on it. `quick` does everything less often."""

    def __init__(self, folder: Path, *, quick: bool) -> None:
        self.folder = folder
        self.quick = quick
        self.data_dir = folder / "data"
        self.postgres = EmbeddedPostgres(self.data_dir)
        self.settings: Settings = load_settings({}, data_dir=str(self.data_dir))
        self._tenants = itertools.count(1)
        self._kept: dict[str, Service] = {}

    def times(self, full: int, quick: int) -> int:
        """How often, in this run."""
        return quick if self.quick else full

    def within(self, seconds: float) -> float:
        """A limit; a quick run shares its machine with other tests, and gets twice as long."""
        return 2 * seconds if self.quick else seconds

    def tenant(self) -> str:
        """An organization that nobody used before."""
        return f"tenant-{next(self._tenants)}-{os.getpid()}"

    def token(self, tenant: str, role: str = "admin", user_id: str = "torturer") -> str:
        return make_token(self.settings, role=role, tenant=tenant, user_id=user_id, ttl=86400)

    @contextmanager
    def service(self, *arguments: str, **environment: str) -> Iterator[Service]:
        """A service of these settings, without limits on how often it may be called."""
        service = Service(self.data_dir, *arguments, **UNLIMITED | environment)
        try:
            yield service
        finally:
            if service.process.poll() is None:
                service.stop()

    @property
    def kept(self) -> Service:
        """A service of two workers that goes on from one trial to the next."""
        return self._going_on(Service, "two workers", "--workers", "2", DRAIN_SECONDS=str(DRAIN_SECONDS))

    @property
    def single(self) -> Service:
        """One of a single worker, whose memory and processor time can be looked at."""
        return self._going_on(Service, "single", **DETAILED)

    @property
    def narrow(self) -> Service:
        """One with a pool of two connections, which logs all that it does."""
        return self._going_on(Service, "narrow", DB_POOL_MAX="2", DB_POOL_MIN="2", LOG_LEVEL="debug", SLOW_QUERY_MS="0")

    @property
    def identity(self) -> Service:
        """`crm identity serve`, which believes what is said of the networks of its callers."""
        return self._going_on(IdentityService, "identity", TRUSTED_PROXIES="127.0.0.0/8")

    def _going_on(self, kind: type[Service], name: str, *arguments: str, **environment: str) -> Service:
        service = self._kept.get(name)
        if service is None or service.process.poll() is not None:
            service = self._kept[name] = kind(self.data_dir, *arguments, **UNLIMITED | environment)
        return service

    def stop_kept(self) -> None:
        """Stop these services. Whoever needs one next gets a new one."""
        for service in self._kept.values():
            if service.process.poll() is None:
                service.stop()

    def close(self) -> None:
        """Stop what is still running, and delete the data."""
        self.stop_kept()
        self.postgres.destroy()

    @contextmanager
    def superuser(self) -> Iterator[psycopg.Connection[Any]]:
        """Past every rule: to look at what is really there, and to do harm."""
        with psycopg.connect(self.postgres.dsn(user="postgres"), autocommit=True) as connection:
            yield connection

    def look(self, query: str, *values: object) -> Any:
        """The first column of the first row."""
        with self.superuser() as connection:
            row = connection.execute(query, list(values)).fetchone()
            return None if row is None else row[0]

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Every process of the server stopped where it stands, as on a machine that hangs."""
        pids = family(self.postgres.pid or 0)
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def unaudited(self, tenant: str) -> tuple[int, int]:
        """Customers that have not one entry a version, and entries without their customer."""
        rows = """
            SELECT count(*) FROM customers WHERE tenant_id = %s AND version <> (
                SELECT count(*) FROM audit_entries AS entry WHERE entry.tenant_id = customers.tenant_id
                AND resource_type = 'customer' AND resource_id = customers.id)
        """
        entries = """
            SELECT count(*) FROM audit_entries AS entry WHERE tenant_id = %s AND resource_type = 'customer'
            AND NOT EXISTS (SELECT FROM customers WHERE tenant_id = entry.tenant_id AND id = entry.resource_id)
        """
        return self.look(rows, tenant), self.look(entries, tenant)


def ready(url: str) -> bool:
    with suppress(httpx.TransportError):
        return fetch(f"{url}/ready", timeout=5).status_code == 200
    return False


def seconds_until(true: Callable[[], bool], at_most: float = 60) -> float:
    """How long it took."""
    began = time.monotonic()
    while not true():
        if time.monotonic() - began > at_most:
            return float("inf")
        time.sleep(0.05)
    return time.monotonic() - began


def resident_mb(service: Service) -> float:
    """Of all workers together."""
    pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in service.workers)
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
