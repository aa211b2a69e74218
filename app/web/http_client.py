"""The HTTP client for what others run: models, MCP servers, calendars. Of addresses that a client named, it connects
only to what was checked; and no answer is larger than there is room for.

Its library takes half a second to load: nothing that each start loads imports this module.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from functools import cache

import httpx2

from app.web.addresses import Addresses, RefusedAddressError

CONNECT_SECONDS, SILENT_SECONDS = 5.0, 120.0
MOST_BYTES = 16 * 1024 * 1024
PORTS = {"https": 443, "http": 80}
LARGE = "The answer is larger than this service reads"
PACKED = "The answer is compressed, although nobody asked for it"


@cache
def _tls() -> ssl.SSLContext:
    """The certificates take some ten milliseconds to load."""
    return httpx2.create_ssl_context()


class TooLargeError(httpx2.ReadError):
    """The answer is larger than this service reads."""


class _Bounded(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        length = 0
        async for chunk in self._stream:
            length += len(chunk)
            if length > MOST_BYTES:
                raise TooLargeError(LARGE)
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()


class Transport(httpx2.AsyncBaseTransport):
    """With `addresses` it looks a name up once, checks what it finds, and connects to one of these."""

    def __init__(self, addresses: Addresses | None) -> None:
        self._addresses = addresses
        self._inner = httpx2.AsyncHTTPTransport(verify=_tls(), trust_env=addresses is None)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send it. Raises httpx2.ConnectError, also where the address is refused."""
        request.headers["Accept-Encoding"] = "identity"
        response = await self._sent(request)
        assert isinstance(response.stream, httpx2.AsyncByteStream), "of an asynchronous transport"  # noqa: S101
        if response.headers.get("content-encoding", "identity") != "identity":
            # A little of it could be unpacked into any amount.
            await response.stream.aclose()
            raise httpx2.RemoteProtocolError(PACKED)
        response.stream = _Bounded(response.stream)
        return response

    async def _sent(self, request: httpx2.Request) -> httpx2.Response:
        if self._addresses is None:
            return await self._inner.handle_async_request(request)
        url = request.url
        try:
            found = await self._addresses.look_up(url.host, url.port or PORTS.get(url.scheme, 0))
        except RefusedAddressError as error:
            raise httpx2.ConnectError(str(error)) from error
        failure: Exception | None = None
        for address in found:
            pinned = httpx2.Request(
                request.method,
                url.copy_with(host=address),
                headers=request.headers,  # with the host's name
                stream=request.stream,
                # What the certificate must be for, although the connection is made by an address.
                extensions=request.extensions | {"sni_hostname": url.host},
            )
            try:
                return await self._inner.handle_async_request(pinned)
            except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
                failure = error
        assert failure is not None, "a host has an address, or is refused"  # noqa: S101
        raise failure

    async def aclose(self) -> None:
        """Close its connections."""
        await self._inner.aclose()


def http_client(addresses: Addresses | None, headers: dict[str, str] | None = None) -> httpx2.AsyncClient:
    """A client that follows no redirect. Without `addresses` it calls whatever the operator named."""
    return httpx2.AsyncClient(
        transport=Transport(addresses),
        timeout=httpx2.Timeout(SILENT_SECONDS, connect=CONNECT_SECONDS),
        follow_redirects=False,
        headers=headers,
    )


def refusal(error: BaseException | None) -> str | None:
    """Why an address was refused, if that is why there is no connection."""
    while error is not None:
        if isinstance(error, RefusedAddressError):
            return str(error)
        error = error.__cause__ or error.__context__
    return None
