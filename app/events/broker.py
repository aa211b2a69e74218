"""Events at a message broker that speaks AMQP 0-9-1, such as RabbitMQ: CloudEvents in a topic exchange. Loaded only if
one is configured; needs the extra `broker`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from hashlib import sha256
from typing import Literal, NamedTuple
from urllib.parse import quote

import structlog
from aio_pika import DeliveryMode, ExchangeType, Message, connect
from aio_pika.abc import AbstractConnection, AbstractExchange
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, ChannelInvalidStateError
from msgspec import Struct

from app.events.feed import Event
from app.web import strict_json

CONNECT_SECONDS = 10.0
# A broker that hangs is noticed after three times as long.
HEARTBEAT_SECONDS = 5
CLOSE_SECONDS = 2.0
SLOW_SECONDS = 10.0
MOST_KEY_BYTES = 255
# With the longest type, it is a key.
MOST_TENANT_BYTES = 200
LOST = "the connection was lost"
REFUSALS = (*CONNECTION_EXCEPTIONS, TimeoutError)

log = structlog.get_logger("broker")


class CloudEvent(Struct):
    """CloudEvents 1.0, as JSON in structured mode."""

    id: str
    source: str
    subject: str
    type: str
    time: datetime
    data: Event
    specversion: Literal["1.0"] = "1.0"
    datacontenttype: Literal["application/json"] = "application/json"


class Published(NamedTuple):
    """An event as it is published."""

    sequence: int
    id: str
    key: str
    body: bytes


class BrokerError(Exception):
    """The broker is away, refuses, or did not confirm. The message has no password."""


def published(tenant_id: str, event: Event) -> Published:
    """What is published of an event of this tenant."""
    tenant = quoted(tenant_id)
    cloud_event = CloudEvent(
        id=f"{tenant_id}/{event.sequence}",
        source=f"/crm/{tenant}",
        subject=f"{event.resource_type}/{event.resource_id}",
        type=event.type,
        time=event.at,
        data=event,
    )
    if len(tenant) > MOST_TENANT_BYTES:
        # No tenant's name looks so: it has at most 64 characters.
        tenant = f"~{sha256(tenant_id.encode()).hexdigest()}"
    return Published(event.sequence, cloud_event.id, f"{tenant}.{event.type}", strict_json.encode(cloud_event))


def quoted(tenant_id: str) -> str:
    """The tenant, percent-encoded so that it is one word of a routing key."""
    return quote(tenant_id, safe="").replace(".", "%2E")


class Broker:
    """An open connection."""

    def __init__(self, connection: AbstractConnection, exchange: AbstractExchange) -> None:
        self._connection = connection
        self._exchange = exchange
        self._slow = False

    def check(self) -> None:
        """Raises BrokerError if the connection has broken."""
        if self._connection.is_closed:
            raise BrokerError(LOST)

    async def publish(self, events: Sequence[Published]) -> None:
        """Publish these in order; it ends when the broker has confirmed them all. While the broker raises flow control,
        it waits. Raises BrokerError.
        """
        warning = asyncio.get_running_loop().call_later(SLOW_SECONDS, self._warn)
        try:
            answers = await asyncio.gather(*map(self._publish, events), return_exceptions=True)
        finally:
            warning.cancel()
        for answer in answers:
            # A connection that breaks cancels some of them, which is no confirmation either.
            if isinstance(answer, BaseException):
                raise BrokerError(_reason(answer))

    async def _publish(self, event: Published) -> None:
        message = Message(
            event.body,
            content_type="application/cloudevents+json",
            delivery_mode=DeliveryMode.PERSISTENT,
            message_id=event.id,
        )
        # Nobody need be interested.
        await self._exchange.publish(message, event.key, mandatory=False)

    def _warn(self) -> None:
        if not self._slow:
            log.warning("the message broker does not confirm events: it hangs, or its memory or disk is short")
        self._slow = True


@asynccontextmanager
async def connected(url: str, exchange: str) -> AsyncIterator[Broker]:
    """A connection to the broker, with the exchange declared. Raises BrokerError."""
    connection = None
    try:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                connection = await connect(
                    url, heartbeat=HEARTBEAT_SECONDS, client_properties={"connection_name": "crm-service"}
                )
                channel = await connection.channel(publisher_confirms=True)
                topic = await channel.declare_exchange(exchange, ExchangeType.TOPIC, durable=True)
        except REFUSALS as error:
            raise BrokerError(_reason(error)) from None
        yield Broker(connection, topic)
    finally:
        if connection is not None:
            with suppress(*REFUSALS):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await connection.close()


def _reason(error: BaseException) -> str:
    # What a broken connection cancels, or closes, does not say why.
    if isinstance(error, ChannelInvalidStateError | asyncio.CancelledError):
        return LOST
    return str(error) or ("it does not answer" if isinstance(error, TimeoutError) else type(error).__name__)
