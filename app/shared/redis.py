"""One worker's way to Redis: bounded in time, and never needed. While it is away, each worker goes on with its own."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from app.crypto.cipher import Cipher, UnreadableError
from app.settings import Settings

if TYPE_CHECKING:
    from redis.asyncio import Redis

# A request waits for Redis no longer than this, and after the first such wait not at all until Redis answers again.
REQUEST_SECONDS = 0.01
# What runs in the background has more time.
BACKGROUND_SECONDS = 1.0
# How often it is asked whether Redis is there.
PROBE_SECONDS = 1.0
MOST_CONNECTIONS = 20

T = TypeVar("T")
log = structlog.get_logger("redis")


class Shared:
    """What this worker shares with others. Whoever uses it asks `is_up`, and takes None for an answer.

    Who reads Redis learns nothing: names are hashed and values encrypted, with keys that are made of JWT_SECRET. Under
    another name than its own a value can't be read.
    """

    def __init__(self, settings: Settings) -> None:
        self.is_configured = bool(settings.redis_url)
        self.is_up = False
        # What runs in the background ends by this too: the library can lose a cancellation while it waits for Redis.
        self.is_closing = False
        self._url = settings.redis_url
        self._client: Redis | None = None
        self._doubted = asyncio.Event()
        self._said_to_be_there: bool | None = None
        self._failures: tuple[type[Exception], ...] = (OSError, TimeoutError)
        self._secret = settings.jwt_secrets[0].encode() if settings.jwt_secrets else b""
        self._naming = hmac.digest(self._secret, b"crm redis names", "sha256")

    @cached_property
    def _cipher(self) -> Cipher:
        return Cipher(hmac.digest(self._secret, b"crm redis values", "sha256"))

    def name(self, kind: str, *of: object) -> str:
        """A key or channel, for one tenant's or person's part of a kind of value."""
        described = "\0".join(map(str, of)).encode()
        return f"crm:{kind}:{hmac.new(self._naming, described, hashlib.sha256).hexdigest()[:32]}"

    def encrypt(self, name: str, value: bytes) -> bytes:
        """The value, to be kept under this name."""
        return self._cipher.encrypt(value, name.encode())

    def decrypt(self, name: str, kept: bytes) -> bytes | None:
        """The value that was kept under this name; None where it was not, or with another JWT_SECRET."""
        with suppress(UnreadableError):
            return self._cipher.decrypt(kept, name.encode())
        return None

    async def call(self, work: Callable[[Redis], Awaitable[T]], seconds: float | None = None) -> T | None:
        """What this work answers; None where Redis is away, or does not answer in time."""
        client = self._client
        if client is None or not self.is_up:
            return None
        try:
            async with asyncio.timeout(REQUEST_SECONDS if seconds is None else seconds):
                return await work(client)
        except self._failures:
            # It may only be slow, or this worker be busy: `run` finds out, and nobody waits for it meanwhile.
            self.is_up = False
            self._doubted.set()
            return None

    def close(self) -> None:
        """Let what runs in the background end."""
        self.is_closing, self.is_up = True, False

    async def run(self) -> None:
        """Connect, and again whenever Redis was away, until cancelled."""
        # Inside the function, because a service without Redis need not have the library.
        from redis.asyncio import Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
        from redis.exceptions import RedisError

        self._failures = (OSError, TimeoutError, RedisError)
        try:
            while not self.is_closing:
                client = Redis.from_url(
                    self._url,
                    socket_timeout=BACKGROUND_SECONDS,
                    socket_connect_timeout=BACKGROUND_SECONDS,
                    max_connections=MOST_CONNECTIONS,
                    retry=Retry(NoBackoff(), 0),
                )
                try:
                    await self._keep(client)
                finally:
                    self.is_up, self._client = False, None
                    with suppress(Exception):
                        await client.aclose()
                await asyncio.sleep(PROBE_SECONDS)
        finally:
            self.close()

    async def _keep(self, client: Redis) -> None:
        """Use this client until it is lost."""
        while not self.is_closing:
            self._doubted.clear()
            try:
                async with asyncio.timeout(BACKGROUND_SECONDS):
                    await client.ping()
            except self._failures as error:
                if self._said_to_be_there is not False:
                    reason = type(error).__name__
                    log.warning("redis is away: each worker goes on with its own until it is back", reason=reason)
                self._said_to_be_there = False
                return
            if not self._said_to_be_there:
                log.info("redis is there: limits, reports and live streams are shared")
            self._said_to_be_there = True
            self._client, self.is_up = client, not self.is_closing
            with suppress(TimeoutError):
                async with asyncio.timeout(PROBE_SECONDS):
                    await self._doubted.wait()

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[Any]:
        """A subscription, with a connection of its own. Raises redis.RedisError; RuntimeError while Redis is away."""
        client = self._client
        if client is None:
            raise RuntimeError("redis is away")
        async with client.pubsub(ignore_subscribe_messages=True) as subscription:
            yield subscription
