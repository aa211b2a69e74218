"""Server-sent events: an answer that goes on until one of both ends it."""

from __future__ import annotations

from collections.abc import AsyncIterator

from litestar.response import Stream
from msgspec import Struct

from app.web import strict_json

MEDIA_TYPE = "text/event-stream"


class EventStream(Stream):
    """An answer of events. A proxy must not collect them before it hands them on."""

    def __init__(self, content: AsyncIterator[bytes]) -> None:
        super().__init__(content, media_type=MEDIA_TYPE, headers={"X-Accel-Buffering": "no"})


def event(name: str, data: Struct) -> bytes:
    """An event, without id."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), strict_json.encode(data))


def id_line(sequence: int) -> bytes:
    """The id of the event that follows; with an empty line after it, where a client would go on."""
    return b"id: %d\n" % sequence


def retry_block(milliseconds: int) -> bytes:
    """After what time a client comes back when the stream has ended."""
    return b"retry: %d\n\n" % milliseconds
