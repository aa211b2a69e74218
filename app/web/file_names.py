"""File names: making them safe, and the headers of a file that is sent."""

from __future__ import annotations

import re
from urllib.parse import quote

from app.web.text import INVISIBLE, WHITE_SPACE, trimmed

MAX_LENGTH = 255
MAX_EXTENSION_LENGTH = 20
# Control characters, line and paragraph separators, and characters that change the direction of text, which could hide
# the end of a name.
UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")
NOT_PLAIN = re.compile(r'[^\x20-\x7e]|["\\%]')


def safe_name(sent: str) -> str:
    """The last part of the path that a client sent, in NFC, without unsafe characters, of at most 255 characters."""
    name = trimmed(UNSAFE.sub("", re.split(r"[/\\]", sent)[-1])).rstrip(f".{WHITE_SPACE}")
    if INVISIBLE.fullmatch(name.strip(".")):
        return "file"
    if len(name) <= MAX_LENGTH:
        return name
    stem, dot, extension = name.rpartition(".")
    if not stem or len(extension) > MAX_EXTENSION_LENGTH:
        return name[:MAX_LENGTH]
    return stem[: MAX_LENGTH - len(extension) - 1] + dot + extension


def as_attachment(name: str) -> str:
    """A Content-Disposition that makes browsers save the file (RFC 6266), with a plain name for old clients."""
    plain = NOT_PLAIN.sub("_", name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='!#$&+-.^_`|~')}"


def file_headers(name: str) -> dict[str, str]:
    """The headers of a file from somebody: browsers save it, and never run or guess what it is."""
    return {
        "Content-Disposition": as_attachment(name),
        "Content-Security-Policy": "sandbox",
        "X-Content-Type-Options": "nosniff",
    }
