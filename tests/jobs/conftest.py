"""Jobs made by hand, and workers that run for as long as a test needs them."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from litestar import Litestar
from litestar.testing import TestClient
from msgspec.structs import replace

from app.admin.report_runs.service import make_report
from app.db.database import Database
from app.db.roles import SERVICE_ROLE, set_for_transaction
from app.jobs.queue import Job, Kinds, Step
from app.jobs.queue import Work as KindOfWork
from app.jobs.worker import JobWorker
from app.main import create_app
from app.records.transaction import Transaction
from app.settings import Settings
from tests.callers import Caller
from tests.client import InProcess

Enqueue = Callable[..., int]
Work = Callable[..., None]


@pytest.fixture
def catalog(settings: Settings) -> Iterator[psycopg.Connection]:
    """A session of the owner."""
    with psycopg.connect(settings.migration_dsn) as connection:
        yield connection


@pytest.fixture(scope="module")
def working(settings: Settings) -> Iterator[TestClient[Litestar]]:
    """A service that runs jobs, for all tests of a module from the first on that wants it."""
    with InProcess(create_app(replace(settings, jobs_in_service=True))) as service:
        yield service


@pytest.fixture
def enqueue(settings: Settings) -> Enqueue:
    """Make a job of this person, as a request does: answers its id."""

    def make(caller: Caller, kind: str = "test", *, role: str = "admin", total: int | None = None) -> int:
        actor = {"user_name": "Ada", "user_role": role, "request_id": "r-1", "operation_id": str(uuid.uuid4())}
        values = {"role": "%s", "crm.tenant": "%s", "crm.user": "%s", "crm.actor": "%s"}
        with psycopg.connect(settings.database_dsn) as connection:
            connection.execute(
                set_for_transaction(values), [SERVICE_ROLE, caller.tenant, caller.user_id, json.dumps(actor)]
            )
            made = connection.execute("SELECT crm_enqueue_job(%s, '{}', NULL, %s)", [kind, total]).fetchone()
        assert made is not None
        return int(made[0])

    return make


@pytest.fixture
def work(settings: Settings) -> Work:
    """Run workers with these kinds of jobs, until something is so."""

    def run(kinds: Kinds, until: Callable[[], Any], *, workers: int = 1, seconds: float = 30) -> None:
        async def both() -> None:
            async with Database(settings) as database:
                running = [asyncio.create_task(JobWorker(database, settings, kinds).run()) for _ in range(workers)]
                try:
                    async with asyncio.timeout(seconds):
                        while not await asyncio.to_thread(until):  # noqa: ASYNC110 -- what it waits for is elsewhere
                            await asyncio.sleep(0.1)
                finally:
                    for each in running:
                        each.cancel()
                    await asyncio.gather(*running, return_exceptions=True)

        asyncio.run(both())

    return run


def report_maker(settings: Settings) -> KindOfWork:
    """The work of a job that makes a report, on a database of its own."""

    async def step(tx: Transaction, job: Job) -> Step:
        async with Database(settings) as database:
            return await make_report(database)(tx, job)

    return step
