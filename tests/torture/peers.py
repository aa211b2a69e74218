"""Servers that the service can do without: the message broker, Redis and the mail server, hanging, gone, and back."""

from __future__ import annotations

import asyncio
import signal
import socket
import statistics
import time
from contextlib import ExitStack
from typing import Any

import aio_pika
import httpx

from app.cli.serve import free_port
from app.dev.token import make_token
from app.mail.sender import LANES
from tests.mail_server import MailServer
from tests.processes import Worker
from tests.rabbitmq import RabbitMq
from tests.redis_server import redis_server
from tests.torture.place import Finding, Place, seconds_until

CUSTOMERS = "/admin/customers"
EXCHANGE, QUEUE = "torture", "everything"


def away(place: Place) -> Finding:
    """Write and read all the time, while each of them hangs, is killed, and comes back. What the broker missed comes to
    it then, in order.
    """
    seconds = place.times(15, 3)
    tenant = place.tenant()
    token = place.token(tenant)
    took: dict[str, list[float]] = {}
    failed = 0
    with ExitStack() as open_:
        (place.folder / "broker").mkdir()
        broker = RabbitMq(place.folder / "broker")
        open_.enter_context(broker)
        asyncio.run(_declare(broker.url))
        redis = open_.enter_context(redis_server(place.folder))
        environment = {
            "REDIS_URL": redis.url,
            # So that it asks Redis for every request.
            "RATE_LIMIT_PER_MINUTE": "1000000",
            "AMQP_URL": broker.url,
            "AMQP_EXCHANGE": EXCHANGE,
            "JOBS_IN_SERVICE": "false",
        }
        service = open_.enter_context(place.service(**environment))
        worker = Worker(place.data_dir, **environment)
        open_.callback(worker.stop)
        client = open_.enter_context(
            httpx.Client(base_url=service.url, timeout=60, headers={"Authorization": f"Bearer {token}"})
        )

        def work(when: str) -> None:
            """As somebody at the console does."""
            nonlocal failed
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                began = time.perf_counter()
                made = client.post(CUSTOMERS, json={"name": "Ada"})
                shown = [client.get(path).status_code for path in (CUSTOMERS, "/admin/reports/overview")]
                took.setdefault(when, []).append(time.perf_counter() - began)
                failed += made.status_code != 201 or shown != [200, 200]
                time.sleep(0.02)

        work("before")
        work("all is well")
        with broker.paused():
            work("the broker hangs")
        broker.stop()
        work("the broker is gone")
        broker.start()
        work("the broker is back")
        redis.signal(signal.SIGSTOP)
        work("Redis hangs")
        redis.signal(signal.SIGCONT)
        redis.stop()
        work("Redis is gone")
        redis.start()
        work("Redis is back")
        expected = place.look("SELECT count(*) FROM audit_entries WHERE tenant_id = %s", tenant)
        came = asyncio.run(_consumed(broker.url, f"{tenant}/", expected))
    del took["before"]
    middle = {when: statistics.median(each) for when, each in took.items()}
    slowest = max(middle, key=middle.__getitem__)
    ratio = middle[slowest] / middle["all is well"]
    first_times = list(dict.fromkeys(came))
    in_order = first_times == list(range(1, expected + 1))
    return Finding(
        f"{sum(map(len, took.values())):,} writes and reads: at most {ratio:.2f} times as long as when all is well"
        f" ({slowest}); {expected:,} events at the broker, {len(came) - len(first_times)} of them twice",
        f"{failed} requests failed, {expected - len(first_times)} events missing{'' if in_order else ', out of order'}",
        not failed and in_order and ratio < place.within(1.5),
    )


def mail_away(place: Place) -> Finding:
    """Give deals to somebody who has that mailed, and have reports made, while the mail server hangs, is gone, refuses
    for now, and is back. Then each mail comes once.
    """
    seconds = place.times(10, 2)
    tenant = place.tenant()
    took: dict[str, list[float]] = {}
    failed = given = 0
    server, port = MailServer(), free_port("127.0.0.1", 0)
    reader = make_token(place.settings, role="agent", tenant=tenant, user_id="reader", email="ada@example.com")
    environment = {"SMTP_URL": f"smtp://127.0.0.1:{port}", "MAIL_FROM": "crm@example.com", "JOBS_IN_SERVICE": "false"}
    with ExitStack() as open_:
        service = open_.enter_context(place.service(**environment))
        worker = Worker(place.data_dir, **environment)
        open_.callback(worker.stop)
        headers = {"Authorization": f"Bearer {place.token(tenant)}"}
        client = open_.enter_context(httpx.Client(base_url=service.url, timeout=60, headers=headers))
        client.get("/admin/me", headers={"Authorization": f"Bearer {reader}"}).raise_for_status()
        customer = client.post(CUSTOMERS, json={"name": "Ada"}).json()["id"]

        def work(when: str) -> None:
            nonlocal failed, given
            until = time.monotonic() + seconds
            run = client.post("/admin/report-runs", json={"report": "team", "format": "csv"}).headers["Location"]
            while time.monotonic() < until:
                began = time.perf_counter()
                deal = {"title": "Engines", "customer_id": customer, "owner_id": "reader"}
                made = client.post("/admin/deals", json=deal).status_code
                shown = client.get(CUSTOMERS).status_code
                took.setdefault(when, []).append(time.perf_counter() - began)
                failed += (made, shown) != (201, 200)
                given += made == 201
                time.sleep(0.05)
            seconds_until(lambda: client.get(run).json()["status"] == "done", 20)

        work("before")
        with server.beside(port):
            work("all is well")
        with socket.create_server(("127.0.0.1", port)):
            work("it hangs")
        work("it is gone")
        with server.beside(port):
            server.to_recipient = lambda _: "451 Not now"
            work("it refuses for now")
            server.to_recipient = lambda _: "250 OK"
            ended = f"SELECT count(*) FROM mails WHERE tenant_id = '{tenant}' AND finished_at IS NOT NULL"
            seconds_until(lambda: place.look(ended) >= given, 180)
            unknown = place.look(f"SELECT count(*) FROM mails WHERE tenant_id = '{tenant}' AND status <> 'sent'")
    del took["before"]
    middle = {when: statistics.median(each) for when, each in took.items()}
    slowest = max(middle, key=middle.__getitem__)
    ratio = middle[slowest] / middle["all is well"]
    came = [str(each["Message-ID"]) for each in server.got]
    return Finding(
        f"{given:,} mails, {unknown} of them perhaps lost, {len(came) - len(set(came))} came twice; requests took"
        f" at most {ratio:.2f} times as long as when all is well ({slowest})",
        f"{failed} requests failed, {given - unknown - len(set(came))} mails missing",
        not failed
        and len(set(came)) == len(came) == given - unknown
        and unknown <= LANES
        and ratio < place.within(1.5),
    )


async def _declare(url: str) -> None:
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        exchange = await channel.declare_exchange(EXCHANGE, aio_pika.ExchangeType.TOPIC, durable=True)
        queue = await channel.declare_queue(QUEUE, durable=True)
        await queue.bind(exchange, "#")


async def _consumed(url: str, prefix: str, expected: int) -> list[int]:
    """The sequences that came, in order."""
    came: list[int] = []
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        queue = await channel.get_queue(QUEUE)
        until = time.monotonic() + 90
        while len(set(came)) < expected and time.monotonic() < until:
            message: Any = await queue.get(fail=False, no_ack=True)
            if message is None:
                await asyncio.sleep(0.1)
                continue
            cloud_event = httpx.Response(200, content=message.body).json()
            if cloud_event["id"].startswith(prefix):
                came.append(cloud_event["data"]["sequence"])
    return came
