"""Requests to calendars' servers."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2

from app.calendars.errors import Away, TooLarge
from app.web.http_client import LARGE, TooLargeError, refusal

# Of one request, until its answer is read.
REQUEST_SECONDS = 60.0
LONGEST_PAUSE = timedelta(days=1).total_seconds()
SECONDS = re.compile(r"\d{1,9}")


async def sent(client: httpx2.AsyncClient, name: str, method: str, url: str, **more: Any) -> httpx2.Response:
    """The whole answer to a request. Raises Away where there is none, and TooLarge."""
    try:
        async with asyncio.timeout(REQUEST_SECONDS):
            return await client.request(method, url, **more)
    except (TimeoutError, httpx2.TimeoutException):
        raise Away(f"{name} does not answer in time") from None
    except TooLargeError:
        raise TooLarge(LARGE) from None
    except httpx2.HTTPError as error:
        # The error has the request, and the request the secret: nobody above needs to see them.
        raise Away(f"{name} is not reached: {refusal(error) or type(error).__name__}") from None


def pause(response: httpx2.Response) -> float | None:
    """The seconds of Retry-After. Where it is a date, by the clock of who wrote it."""
    given = response.headers.get("retry-after", "").strip()
    if SECONDS.fullmatch(given):
        return min(float(given), LONGEST_PAUSE)
    with suppress(ValueError):
        then, now = parsedate_to_datetime(given), parsedate_to_datetime(response.headers.get("date", ""))
        if (then.tzinfo is None) == (now.tzinfo is None):
            return min(max((then - now).total_seconds(), 0.0), LONGEST_PAUSE)
    return None
