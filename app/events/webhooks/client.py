"""One attempt to deliver: an HTTP request that trusts nobody."""

from __future__ import annotations

import socket
import ssl
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Self

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from app.events.webhooks.attempts import GONE, Attempt, Outcome
from app.web.addresses import Addresses, RefusedAddressError

ATTEMPT_SECONDS = 15.0
READ_BYTES, KEPT_BYTES = 64 * 1024, 1024
USER_AGENT = "crm-service"


class _Resolver(AbstractResolver):
    """Looks a name up once, and refuses it unless all of its addresses may be called."""

    def __init__(self, addresses: Addresses) -> None:
        self._addresses = addresses

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_UNSPEC,  # noqa: ARG002 -- the library's signature
    ) -> list[ResolveResult]:
        found = await self._addresses.look_up(host, port)
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in found
        ]

    async def close(self) -> None:
        """There is nothing to close."""


class Client:
    """Sends messages. It is a context: it can be used inside."""

    def __init__(self, addresses: Addresses) -> None:
        self._addresses = addresses

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(
            resolver=_Resolver(self._addresses),
            use_dns_cache=False,
            force_close=True,
            limit=0,
            socket_factory=self._socket,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=ATTEMPT_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            skip_auto_headers=("Accept-Encoding",),
            headers={"User-Agent": USER_AGENT, "Content-Type": "application/json"},
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    def _socket(self, info: tuple[int, int, int, str, tuple[object, ...]]) -> socket.socket:
        """The library asks no resolver for a literal address: so each one is checked here, where it is connected to."""
        family, kind, proto, _, address = info
        self._addresses.check(str(address[0]))
        return socket.socket(family, kind, proto)

    async def send(self, url: str, headers: dict[str, str], body: bytes) -> Outcome:
        """Send it once, and say what came of it: never raises for what a receiver does."""
        at, began = datetime.now(UTC), time.monotonic()
        status, error, response, retry_after = None, None, None, None
        try:
            async with self._session.post(url, data=body, headers=headers, allow_redirects=False) as answer:
                status, retry_after = answer.status, _seconds(answer.headers.get("Retry-After"))
                response = await _beginning(answer)
            if not 200 <= status < 300:
                error = f"The receiver answered {status}"
        except TimeoutError:
            status, error = None, f"There was no whole answer within {ATTEMPT_SECONDS:g} seconds"
        except RefusedAddressError as refused:
            error = str(refused)
        except aiohttp.ClientConnectorCertificateError:
            error = "The certificate is not valid"
        except (aiohttp.ClientError, OSError, ValueError, ssl.SSLError) as failed:
            error = _in_words(failed)
        duration = round((time.monotonic() - began) * 1000)
        return Outcome(Attempt(at, status, duration, error, response), retry_after, final=status == GONE)


async def _beginning(answer: aiohttp.ClientResponse) -> str:
    """The first part of the answer, as text that can be stored and shown. What is over the limit is not read."""
    kept, length = b"", 0
    while length < READ_BYTES and (chunk := await answer.content.read(READ_BYTES - length)):
        kept, length = (kept + chunk)[:KEPT_BYTES], length + len(chunk)
    return kept.decode(errors="replace").replace("\0", "\N{REPLACEMENT CHARACTER}")


def _seconds(text: str | None) -> float | None:
    """What a header Retry-After asks for, in either of its forms."""
    if text is None:
        return None
    if text.strip().isdigit():
        return float(text[:10])
    try:
        return (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):
        return None


def _in_words(failed: Exception) -> str:
    if isinstance(failed, aiohttp.ClientConnectorError):
        reason = failed.os_error
        if isinstance(reason, RefusedAddressError):
            return str(reason)
        return "The receiver does not accept connections"
    if isinstance(failed, aiohttp.ServerDisconnectedError | ConnectionError):
        return "The receiver ended the connection without an answer"
    return "The answer was not valid HTTP"
