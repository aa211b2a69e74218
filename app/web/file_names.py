"""Names of files: made safe, and put into a Content-Disposition header."""

from __future__ import annotations

import re
from urllib.parse import quote

from app.web.text import INVISIBLE, WHITE_SPACE, trimmed

MAX_LENGTH = 255
MAX_EXTENSION_LENGTH = 20
# Control characters, line and paragraph separators, and what turns the direction of the text around it, so that a name
# would end otherwise than it seems to.
UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")
NOT_PLAIN = re.compile(r'[^\x20-\x7e]|["\\%]')


def safe_name(sent: str) -> str:
    """The last component of what a client sent, in NFC, without what is unsafe, of at most 255 characters."""
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
    """A Content-Disposition that never opens in a browser (RFC 6266), for old clients with a plain name too."""
    plain = NOT_PLAIN.sub("_", name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='!#$&+-.^_`|~')}"
