"""A file in a multipart/form-data body (RFC 7578), read in chunks as it arrives, and short texts beside it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from enum import StrEnum
from typing import Any, ClassVar

from litestar import Request
from litestar.exceptions import InternalServerException
from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header

from app.web.errors import AppError, Code, Fault, invalid

PART = "file"
# The space for what surrounds the file in the body: boundaries and the part's headers.
FRAME = 64 * 1024
LONGEST_TEXT = 1000
FORM_ONLY = "The body must be multipart/form-data with a boundary and one part named file, not compressed"
MALFORMED = "is not valid multipart/form-data: it ends too early, or a part's headers are malformed or not in UTF-8"


class FilePart:
    """The part named `file` of a request's body.

    Raises AppError UNSUPPORTED_MEDIA_TYPE or PAYLOAD_TOO_LARGE if the request's headers show that already.
    """

    # The setting that says how large a file may be.
    limited_by: ClassVar[str] = "attachment_max_bytes"
    # The texts that stand beside the file in parts of their own, and what each may be.
    choices: ClassVar[Mapping[str, type[StrEnum]]] = {}

    def __init__(self, request: Request[Any, Any, Any], limit: int) -> None:
        types = request.headers.getall("content-type", [])
        header = types[0] if len(types) == 1 else ""
        kind, options = parse_options_header(header)  # type: ignore[no-untyped-call]  # the library's own gap
        encoded = request.headers.getall("content-encoding", []) not in ([], ["identity"])
        if kind != "multipart/form-data" or not options.get("boundary") or encoded:
            raise AppError(Code.UNSUPPORTED_MEDIA_TYPE, FORM_ONLY)
        # The request refers to this part too. Such a cycle would keep the connection open until garbage collection, so
        # the reference is dropped once the body is read.
        self._request: Request[Any, Any, Any] | None = request
        self._limit = limit
        # The texts that have arrived.
        self.chosen: dict[str, str] = {}
        self._boundary = options["boundary"]
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._limit + FRAME:
            raise self._too_large()

    async def receive(self, write: Callable[[bytes], Awaitable[None]]) -> str:
        """Pass the file's bytes to `write`, and return its name as it was sent.

        Raises AppError PAYLOAD_TOO_LARGE as soon as the limit is passed, or INVALID_REQUEST for a malformed body.
        """
        name: str | None = None
        size = 0
        # The text that is arriving, and its name.
        text: tuple[str, bytearray] | None = None
        try:
            async for event in self._events():
                if isinstance(event, MultipartSegment):
                    text = self._text(event)
                    if text is None:
                        name = _file_name(event, first=name is None)
                elif text is not None:
                    self._add_text(*text, event)
                elif event:
                    size += len(event)
                    if size > self._limit:
                        raise self._too_large()
                    await write(event)
        except (MultipartError, UnicodeError):
            raise invalid(Fault("body", MALFORMED)) from None
        missing = [Fault(each, "is required") for each in self.choices if each not in self.chosen]
        if name is None or missing:
            raise invalid(*([] if name else [Fault(PART, "is required")]), *missing)
        return name

    def _text(self, part: MultipartSegment) -> tuple[str, bytearray] | None:
        """The part's name, and room for its text; None if it is no text."""
        if part.name is None or part.name not in self.choices:
            return None
        if part.name in self.chosen:
            raise invalid(Fault(part.name, "is given more than once"))
        return part.name, bytearray()

    def _add_text(self, name: str, text: bytearray, more: bytes | None) -> None:
        """Add to a text; at its end, see whether it is one of those that it may be."""
        text += more or b""
        known = [each.value for each in self.choices[name]]
        if len(text) > LONGEST_TEXT or (more is None and text.decode() not in known):
            raise invalid(Fault(name, f"must be one of {', '.join(known)}"))
        if more is None:
            self.chosen[name] = text.decode()

    async def _events(self) -> AsyncIterator[MultipartSegment | bytes | None]:
        total = 0
        request, self._request = self._request, None
        assert request is not None, "a body is read once"  # noqa: S101
        with PushMultipartParser(self._boundary, max_segment_count=16) as parser:
            try:
                async for chunk in request.stream():
                    total += len(chunk)
                    if total > self._limit + FRAME:
                        raise self._too_large()
                    for event in parser.parse(bytes(chunk)):
                        yield event
            except InternalServerException:  # Litestar's error for a client that hung up
                raise AppError(Code.INVALID_REQUEST, "The connection ended before the body did") from None

    def _too_large(self) -> AppError:
        limit = self._limit
        return AppError(Code.PAYLOAD_TOO_LARGE, f"A file may have at most {limit} bytes", data={"max": limit})


def _file_name(part: MultipartSegment, *, first: bool) -> str:
    if part.name != PART:
        raise invalid(Fault((part.name or "")[:100] or "body", "is not a part of this request: send one, named file"))
    if not first:
        raise invalid(Fault(PART, "is given more than once: send one file in a request"))
    name: str | None = part.filename
    if name is None:
        if "filename*" in (part.header("Content-Disposition") or ""):
            raise invalid(Fault(PART, "must have its name in filename=, in UTF-8: filename*= is not allowed in a form"))
        raise invalid(Fault(PART, "must be a file: its part needs a filename"))
    return name
