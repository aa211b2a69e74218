"""What a file is, by its bytes. Its name decides nothing but which kind of plain text it is called."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from typing import IO

import puremagic

UNKNOWN = "application/octet-stream"
HEAD = 8192
# Where a zip archive lists what is in it.
TAIL = 1024 * 1024
BLOCK = 1024 * 1024

OTHER_NAMES = {"application/x-gzip": "application/gzip", "image/x-ms-bmp": "image/bmp"}
# The only kinds of text whose beginning says more than that it is text.
MARKED_TEXT = {
    "application/pdf",
    "application/rtf",
    "application/postscript",
    "application/xml",
    "image/svg+xml",
    "message/rfc822",
    "text/html",
}
TEXT_BY_NAME = {"csv": "text/csv", "md": "text/markdown", "markdown": "text/markdown"}
CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
MAIL = re.compile(rb"[A-Za-z][A-Za-z0-9-]*: [^\n]*\n")
MAIL_HEADERS = (re.compile(rb"(?im)^From:"), re.compile(rb"(?im)^(Date|Received|Message-ID|MIME-Version):"))

OFFICE = "application/vnd.openxmlformats-officedocument."
OFFICE_PARTS = {
    b"word/": f"{OFFICE}wordprocessingml.document",
    b"xl/": f"{OFFICE}spreadsheetml.sheet",
    b"ppt/": f"{OFFICE}presentationml.presentation",
}
MACROS = b"vbaProject.bin"
WITH_MACROS = "application/vnd.ms-office.macroenabled"
OPEN_DOCUMENT = re.compile(rb"PK\x03\x04.{26}mimetype(application/[a-z0-9.+-]+?)(?=PK|[^a-z0-9.+-])", re.DOTALL)
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
OLE_STREAMS = {
    "__nameid_version1.0": "application/vnd.ms-outlook",
    "PowerPoint Document": "application/vnd.ms-powerpoint",
    "WordDocument": "application/msword",
    "Workbook": "application/vnd.ms-excel",
    "Book\0": "application/vnd.ms-excel",
}


def sniff(file: IO[bytes], name: str) -> str:
    """The media type of a file; `application/octet-stream` for what nobody knows."""
    file.seek(0)
    head = file.read(HEAD)
    if head.startswith(b"PK\x03\x04"):
        return _in_zip(file, head)
    if head.startswith(OLE):
        return _in_ole(file)
    if _is_mail(head):
        return "message/rfc822"
    known = _by_signature(head)
    if known not in MARKED_TEXT and _is_text(file):
        return TEXT_BY_NAME.get(name.rpartition(".")[2].lower(), "text/plain")
    return known


def _by_signature(head: bytes) -> str:
    try:
        matches = puremagic.magic_string(head)
    except (puremagic.PureError, ValueError):  # unknown, and empty
        return UNKNOWN
    # What two bytes say is not enough, but for the one image format that has no more.
    known = next((match for match in matches if match.mime_type), None)
    if known is None or (known.confidence < 0.3 and known.extension != ".bmp"):
        return UNKNOWN
    kind = OTHER_NAMES.get(known.mime_type, known.mime_type)
    return "image/heic" if head[8:12] in {b"heic", b"heix"} else kind


def _is_text(file: IO[bytes]) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for block in _blocks(file):
            if CONTROLS.search(decoder.decode(block)):
                return False
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _is_mail(head: bytes) -> bool:
    headers = re.split(rb"\r?\n\r?\n", head, maxsplit=1)[0] + b"\n"
    return bool(MAIL.match(headers)) and b"\0" not in head and all(line.search(headers) for line in MAIL_HEADERS)


def _in_zip(file: IO[bytes], head: bytes) -> str:
    if named := OPEN_DOCUMENT.match(head):
        return named[1].decode()
    size = file.seek(0, 2)
    file.seek(max(0, size - TAIL))
    listed = head + file.read(TAIL)
    if b"[Content_Types].xml" in listed:
        for part, kind in OFFICE_PARTS.items():
            if part in listed:
                return WITH_MACROS if MACROS in listed else kind
    return "application/zip"


def _in_ole(file: IO[bytes]) -> str:
    names = {name: name.encode("utf-16-le") for name in OLE_STREAMS}
    longest = max(map(len, names.values()))
    found, rest = set(), b""
    for block in _blocks(file):
        window = rest + block
        found |= {name for name, coded in names.items() if coded in window}
        rest = window[-longest:]
    return next((kind for name, kind in OLE_STREAMS.items() if name in found), "application/x-ole-storage")


def _blocks(file: IO[bytes]) -> Iterator[bytes]:
    file.seek(0)
    while block := file.read(BLOCK):
        yield block
