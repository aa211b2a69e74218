"""Every event of every organization at a real RabbitMQ, whatever happens to it and to who publishes."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any
from urllib.parse import unquote

import aio_pika
import msgspec
import psycopg
import pytest
from aio_pika.abc import AbstractIncomingMessage
from cloudevents.core.formats.json import JSONFormat
from msgspec.structs import replace
from prometheus_client import REGISTRY

from app.admin.events.queries import SHOWN
from app.db.database import Database
from app.events import feed, relay
from app.events.broker import MOST_KEY_BYTES, published, quoted
from app.events.feed import Event
from app.events.places import BROKER, Reader
from app.events.relay import Relay
from app.events.types import NAMES
from app.records.audit_values import ResourceType
from app.settings import Settings
from app.web.errors import AppError, Code
from tests.callers import Caller, Callers
from tests.rabbitmq import PASSWORD, QUOTED_PASSWORD, RabbitMq, gate


@pytest.fixture(scope="module")
def rabbit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMq]:
    with RabbitMq(tmp_path_factory.mktemp("rabbit")) as started:
        yield started


@pytest.fixture(autouse=True, scope="module")
def _begun(settings: Settings) -> None:
    """The first one ever that publishes begins with what happens from then on."""

    async def begin() -> None:
        async with Database(settings) as database:
            await Reader(database, BROKER).lead(0)

    asyncio.run(begin())


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here waits for seconds, save where a test is about that."""
    monkeypatch.setattr(relay, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(relay, "LOOK_AT_ALL_SECONDS", 0.2)
    monkeypatch.setattr(relay, "TURN_SECONDS", 0.2)
    monkeypatch.setattr(relay, "LONGEST_PAUSE_SECONDS", 0.3)


class Stage:
    """Processes that publish the events of a database, each with a database pool of its own."""

    def __init__(self, settings: Settings, url: str, exchange: str) -> None:
        self._settings = replace(settings, amqp_url=url, amqp_exchange=exchange, db_pool_min=1, db_pool_max=8)
        self.running: list[asyncio.Task[None]] = []

    def start(self) -> asyncio.Task[None]:
        task = asyncio.create_task(self._run())
        self.running.append(task)
        return task

    async def _run(self) -> None:
        async with Database(self._settings) as database:
            await Relay(database, self._settings, SHOWN).run()

    async def stop(self) -> None:
        for task in self.running:
            task.cancel()
        await asyncio.gather(*self.running, return_exceptions=True)


@asynccontextmanager
async def publishing(settings: Settings, url: str, exchange: str) -> AsyncIterator[Stage]:
    stage = Stage(settings, url, exchange)
    stage.start()
    try:
        yield stage
    finally:
        await stage.stop()


@asynccontextmanager
async def heard(rabbit: RabbitMq, exchange: str, *tenants: str) -> AsyncIterator[list[AbstractIncomingMessage]]:
    """The messages that arrive for these organizations, in a queue of one's own."""
    messages: list[AbstractIncomingMessage] = []

    async def hear(message: AbstractIncomingMessage) -> None:
        messages.append(message)

    async with await aio_pika.connect(rabbit.url) as connection:
        channel = await connection.channel()
        await channel.declare_exchange(exchange, aio_pika.ExchangeType.TOPIC, durable=True)
        queue = await channel.declare_queue(exclusive=True)
        for tenant in tenants:
            await queue.bind(exchange, f"{quoted(tenant)}.#")
        await queue.consume(hear, no_ack=True)
        yield messages


async def until(true: Callable[[], Any], what: str) -> None:
    ends = time.monotonic() + 30
    while not true():
        assert time.monotonic() < ends, f"not within 30 s: {what}"
        await asyncio.sleep(0.02)


async def settled(settings: Settings) -> None:
    """Until the places are stored of all that was published."""
    async with Database(settings) as database:
        while (await Reader(database, BROKER).news()).behind:  # noqa: ASYNC110 -- what it waits for is elsewhere
            await asyncio.sleep(0.02)


def ids(messages: list[AbstractIncomingMessage]) -> list[str | None]:
    return [message.message_id for message in messages]


def behind() -> float | None:
    return REGISTRY.get_sample_value("crm_events_behind")


def test_each_event_is_a_cloud_event_in_order_and_says_what_the_feed_says(
    rabbit: RabbitMq, settings: Settings, callers: Callers, tenant: str, seal: Callable[[], None]
) -> None:
    # A word of a routing key ends at a dot, and * and # are patterns.
    strange = callers.person("admin", f"Müller & Söhne/ü.*#{tenant}"[:64])
    plain = callers.person("admin", tenant)

    async def run() -> list[AbstractIncomingMessage]:
        async with heard(rabbit, tenant, strange.tenant, plain.tenant) as messages:
            async with publishing(settings, rabbit.url, tenant):
                for caller in (strange, plain):
                    for number in range(3):
                        customer = caller.customer(f"Ada {number}")
                    caller.ok("PATCH", f"/admin/customers/{customer['id']}", {"assigned_to": 12})
                await asyncio.to_thread(seal)
                await until(lambda: len(messages) >= 8, "all events at the broker")
            return messages

    messages = asyncio.run(run())
    for caller in (strange, plain):
        own = [message for message in messages if (message.message_id or "").startswith(f"{caller.tenant}/")]
        told = caller.ok("GET", "/admin/events", after=0)["data"]
        events = [JSONFormat().read(None, message.body) for message in own]
        assert [event.get_data() for event in events] == told
        assert [event.get_id() for event in events] == [f"{caller.tenant}/{number}" for number in (1, 2, 3, 4)]
        assert {event.get_source() for event in events} == {f"/crm/{quoted(caller.tenant)}"}
        assert events[-1].get_subject() == f"customer/{told[-1]['resource_id']}"
        assert [event.get_type() for event in events] == [*["customer.created"] * 3, "customer.assigned"]
        assert own[-1].routing_key == f"{quoted(caller.tenant)}.customer.assigned"
        assert {message.content_type for message in own} == {"application/cloudevents+json"}
        assert {message.delivery_mode for message in own} == {aio_pika.DeliveryMode.PERSISTENT}
    assert quoted(strange.tenant).startswith("M%C3%BCller%20%26%20S%C3%B6hne%2F%C3%BC%2E%2A%23tenant-")


def test_a_broker_that_is_away_delays_events_and_nothing_else(
    rabbit: RabbitMq, settings: Settings, admin: Caller, seal: Callable[[], None], capfd: pytest.CaptureFixture[str]
) -> None:
    async def run() -> None:
        async with heard(rabbit, admin.tenant, admin.tenant) as messages, gate(rabbit.port) as front:
            url = rabbit.url.replace(f":{rabbit.port}/", f":{front.port}/")
            async with publishing(settings, url, admin.tenant):
                admin.customer()
                await asyncio.to_thread(seal)
                await until(lambda: len(messages) == 1, "the first event")
                await settled(settings)
                front.shut()
                for _ in range(3):
                    admin.customer()
                await asyncio.to_thread(seal)
                # Monitors hear of it although the broker is away.
                await until(lambda: front.refused >= 3 and behind() == 3, "it is tried again")
                assert len(messages) == 1
                front.is_shut = False
                await until(lambda: len(messages) == 4 and behind() == 0, "all events")
            assert ids(messages) == [f"{admin.tenant}/{number}" for number in (1, 2, 3, 4)]

    asyncio.run(run())
    said = capfd.readouterr()
    text = said.out + said.err
    assert text.count("the message broker can't be reached") == 1
    assert text.count("are published to the message broker again") == 1
    assert PASSWORD not in text
    assert QUOTED_PASSWORD not in text


def test_what_was_confirmed_when_the_process_died_comes_again_with_the_same_id(
    rabbit: RabbitMq, settings: Settings, admin: Caller, seal: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "LEASE_SECONDS", 1.0)
    monkeypatch.setattr(relay, "STOP_SECONDS", 0.0)
    confirmed = asyncio.Event()
    advance, lead = Reader.advance, Reader.lead

    async def die(*_: Any) -> None:
        confirmed.set()
        await asyncio.Event().wait()

    async def run() -> list[str | None]:
        async with heard(rabbit, admin.tenant, admin.tenant) as messages:
            async with publishing(settings, rabbit.url, admin.tenant) as stage:
                monkeypatch.setattr(Reader, "advance", die)
                for _ in range(3):
                    admin.customer()
                await asyncio.to_thread(seal)
                await confirmed.wait()
                await until(lambda: len(messages) == 3, "what was confirmed")
                # Dead, it gives nothing back: another process waits until it has not been heard of for long enough.
                monkeypatch.setattr(Reader, "lead", lambda *_: asyncio.sleep(0, False))
                await stage.stop()
                monkeypatch.setattr(Reader, "lead", lead)
                monkeypatch.setattr(Reader, "advance", advance)
                stage.start()
                admin.customer()
                await asyncio.to_thread(seal)
                await until(lambda: len(messages) >= 7, "all of it, some twice")
            return ids(messages)

    first = [f"{admin.tenant}/{number}" for number in (1, 2, 3)]
    assert asyncio.run(run()) == [*first, *first, f"{admin.tenant}/4"]


def test_of_many_processes_one_publishes_and_another_goes_on_when_it_stops(
    rabbit: RabbitMq, settings: Settings, admin: Caller, seal: Callable[[], None]
) -> None:
    async def run() -> list[str | None]:
        async with heard(rabbit, admin.tenant, admin.tenant) as messages:

            def came(count: int) -> bool:
                return len(messages) >= count

            async with publishing(settings, rabbit.url, admin.tenant) as stage:
                for turn, process in enumerate([stage.running[0], stage.start(), stage.start()], 1):
                    admin.customer()
                    admin.customer()
                    await asyncio.to_thread(seal)
                    await until(partial(came, 2 * turn), "the next events")
                    process.cancel()
            return ids(messages)

    assert asyncio.run(run()) == [f"{admin.tenant}/{number}" for number in range(1, 7)]


def test_tls_is_verified(
    rabbit: RabbitMq, settings: Settings, admin: Caller, seal: Callable[[], None], capfd: pytest.CaptureFixture[str]
) -> None:
    async def run(url: str) -> None:
        async with heard(rabbit, admin.tenant, admin.tenant) as messages:
            async with publishing(settings, url, admin.tenant):
                admin.customer()
                await asyncio.to_thread(seal)
                said = ""

                def heard_or_refused() -> bool:
                    nonlocal said
                    said += capfd.readouterr().out
                    return bool(messages) or "CERTIFICATE_VERIFY_FAILED" in said

                await until(heard_or_refused, "an answer")
            assert bool(messages) == ("cafile" in url)

    asyncio.run(run(rabbit.tls_url.partition("?")[0]))
    asyncio.run(run(rabbit.tls_url))


def test_a_new_reader_begins_with_what_happens_from_then_on(
    settings: Settings, admin: Caller, stranger: Caller, seal: Callable[[], None]
) -> None:
    admin.customer()
    seal()

    async def run() -> None:
        async with Database(settings) as database:
            reader, other = Reader(database, f"test-{admin.tenant}"), Reader(database, f"test-{admin.tenant}")
            assert (await reader.news()).tenants == []
            assert await reader.lead(5)
            assert not await other.lead(5)
            mark, tenants, waiting = await reader.news()
            assert (tenants, waiting) == ([], 0)
            admin.customer()
            stranger.customer()
            stranger.customer()
            await asyncio.to_thread(seal)
            assert sorted((await reader.news(mark)).tenants) == sorted([admin.tenant, stranger.tenant])
            assert (await reader.news()).behind == 3
            await reader.advance(stranger.tenant, 2)
            await reader.advance(stranger.tenant, 1)
            assert (await reader.news()).tenants == [admin.tenant]
            assert await reader.lead(0)
            assert await other.lead(5)

    asyncio.run(run())


def test_what_retention_deleted_unpublished_is_said_and_passed_over(
    rabbit: RabbitMq, settings: Settings, callers: Callers, tenant: str, seal: Callable[[], None], capfd: Any
) -> None:
    cut, whole = callers.person("admin", f"cut-{tenant}"), callers.person("admin", tenant)

    async def run() -> list[str | None]:
        async with heard(rabbit, tenant, cut.tenant, whole.tenant) as messages:
            with psycopg.connect(settings.migration_dsn) as owner:
                owner.execute("SELECT set_config('crm.tenant', %s, true)", [cut.tenant])
                owner.execute(
                    "INSERT INTO audit_cuts (tenant_id, sequence, entry_id, hash, until)"
                    " VALUES (%s, 7, 0, sha256(''), now())",
                    [cut.tenant],
                )
            async with Database(settings) as database:
                await Reader(database, BROKER).advance(cut.tenant, 1)
            cut.customer()
            whole.customer()
            await asyncio.to_thread(seal)
            async with publishing(settings, rabbit.url, tenant):
                await until(lambda: len(messages) == 2, "what is left")
            return ids(messages)

    assert sorted(map(str, asyncio.run(run()))) == [f"{cut.tenant}/8", f"{whole.tenant}/1"]
    said = capfd.readouterr()
    (line,) = [line for line in (said.out + said.err).splitlines() if "retention deleted events" in line]
    assert cut.tenant in line
    assert "lost=6" in line


def test_a_tenant_whose_events_can_not_be_read_keeps_no_other_waiting(
    rabbit: RabbitMq,
    settings: Settings,
    admin: Caller,
    stranger: Caller,
    seal: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read = feed.read

    async def fail_for_admin(tx: Any, *arguments: Any, **more: Any) -> Any:
        if tx.actor.tenant_id == admin.tenant:
            raise AppError(Code.SERVICE_UNAVAILABLE)
        return await read(tx, *arguments, **more)

    async def run() -> list[str | None]:
        async with heard(rabbit, admin.tenant, admin.tenant, stranger.tenant) as messages:
            async with publishing(settings, rabbit.url, admin.tenant):
                monkeypatch.setattr(feed, "read", fail_for_admin)
                admin.customer()
                stranger.customer()
                await asyncio.to_thread(seal)
                await until(lambda: len(messages) == 1, "the other's")
                monkeypatch.setattr(feed, "read", read)
                await until(lambda: len(messages) == 2, "its own, later")
            return ids(messages)

    assert asyncio.run(run()) == [f"{stranger.tenant}/1", f"{admin.tenant}/1"]


@pytest.mark.parametrize("tenant", ["a" * 64, "." * 64, "~" * 64, "😀" * 64, "会社" * 32, "会社" * 31 + "会"])
def test_a_routing_key_is_a_word_and_a_type_of_at_most_255_bytes(tenant: str) -> None:
    keys = set()
    for name in NAMES:
        event = Event(7, name, [name], datetime.now(UTC), ResourceType.DEAL, 1, 1, None, None, None, {}, None)
        message = published(tenant, event)
        word, _, rest = message.key.partition(".")
        keys.add(word)
        assert rest == name
        assert len(message.key.encode()) <= MOST_KEY_BYTES
        assert msgspec.json.decode(message.body)["source"] == f"/crm/{quoted(tenant)}"
    (word,) = keys
    # What is not the name itself is longer than a name can be.
    assert unquote(word) == tenant or re.fullmatch(r"~[0-9a-f]{64}", word)
