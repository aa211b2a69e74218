"""The HTTP client under the providers' libraries."""

from __future__ import annotations

import httpx2

from app.web.addresses import Addresses
from app.web.http_client import http_client

# What a model's provider gets besides its credentials.
HEADERS = {
    *("host", "content-type", "content-length", "transfer-encoding", "accept", "accept-encoding", "connection"),
    *("user-agent", "anthropic-version"),
}


def model_client(addresses: Addresses | None, credentials: dict[str, str]) -> httpx2.AsyncClient:
    """A client for a model, which sends these credentials and no others. The providers' libraries read more of them
    from the environment, and those are the operator's.
    """
    credentials = {name.lower(): value for name, value in credentials.items()}

    async def keep_known(request: httpx2.Request) -> None:
        for name in {name.lower() for name in request.headers} - HEADERS:
            del request.headers[name]
        request.headers.update(credentials)

    client = http_client(addresses)
    client.event_hooks = {"request": [keep_known], "response": []}
    return client
