"""The media type of a file, by its bytes. Its name is used only to tell text types apart (csv, md)."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from typing import IO

UNKNOWN = "application/octet-stream"
HEAD = 8192
# The list of a zip archive's files is in its last bytes.
TAIL = 1024 * 1024
BLOCK = 1024 * 1024

# The first bytes of a file, and its type. A table of our own, because few more types are accepted by default, and
# libraries that know thousands of formats answer differently from one version to the next.
SIGNATURES = (
    (b"{\\rtf", "application/rtf"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"\x1f\x8b\x08", "application/gzip"),
    (b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (b"Rar!\x1a\x07", "application/vnd.rar"),
    (b"BZh", "application/x-bzip2"),
    (b"\xfd7zXZ\0", "application/x-xz"),
    (b"(\xb5/\xfd", "application/zstd"),
    (b"%!PS", "application/postscript"),
    (b"\x7fELF", "application/x-executable"),
    (b"MZ", "application/x-msdownload"),
    (b"SQLite format 3\0", "application/vnd.sqlite3"),
    (b"8BPS", "image/vnd.adobe.photoshop"),
    (b"\0\0\x01\0", "image/vnd.microsoft.icon"),
    (b"ID3", "audio/mpeg"),
    (b"\xff\xfb", "audio/mpeg"),
    (b"fLaC", "audio/flac"),
    (b"OggS", "audio/ogg"),
    (b"\x1aE\xdf\xa3", "video/webm"),
)
# The type that a RIFF file or an ISO base media file names in its second word.
RIFF = {b"WEBP": "image/webp", b"WAVE": "audio/wav", b"AVI ": "video/x-msvideo"}
HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx")
BRANDS = dict.fromkeys(HEIC, "image/heic") | {
    b"mif1": "image/heif",
    b"msf1": "image/heif",
    b"avif": "image/avif",
    b"avis": "image/avif",
    b"qt  ": "video/quicktime",
    b"M4A ": "audio/mp4",
}
# The sizes that a bitmap's second header can have: two letters BM at the start prove too little.
BITMAP_HEADERS = {12, 40, 52, 56, 64, 108, 124}
# These signatures are letters only, so a plain text may begin with them.
TEXTUAL = {"application/rtf", "application/postscript"}

PDF = re.compile(rb"%PDF-\d\.\d")
PDF_HEAD = 1024
PDF_OBJECT = re.compile(rb"\d obj\b")

BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
# No text contains these bytes, except in encodings of two bytes a letter. Old programs end a file with 0x1a.
CONTROL_BYTES = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
END_OF_FILE = b"\x1a"
TEXT_BY_NAME = {"csv": "text/csv", "md": "text/markdown", "markdown": "text/markdown"}
# What a browser would take for a page, and run: the tags of the standard on MIME sniffing, and some more.
PAGE = re.compile(
    r"<(!doctype|!--|html|head|body|script|iframe|frameset|style|title|meta|link|base|object|embed|img|video|audio|form"
    r"|input|button|h[1-6]|div|span|font|table|center|marquee|a|b|p|br|hr|ul|ol|math)(?![a-z0-9-])",
    re.IGNORECASE,
)

# The headers of a mail can be long: each server on its way adds some.
MAIL_HEAD = 256 * 1024
HEADER = re.compile(rb"([!-9;-~]{1,200}):")
WRITTEN_BY = {b"from", b"sender"}
SENT = {b"date", b"received", b"message-id", b"mime-version", b"to", b"subject"}
BEFORE_A_MAIL = re.compile(rb">?From |\d+ *$")

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
    """The media type of a file; `application/octet-stream` if it is unknown."""
    file.seek(0)
    head = file.read(HEAD)
    if head.startswith(b"PK\x03\x04"):
        return _in_zip(file, head)
    if head.startswith(OLE):
        return _in_ole(file)
    known = _by_signature(head)
    codec = next((codec for bom, codec in BOMS if head.startswith(bom)), None)
    is_text = (known == UNKNOWN or known in TEXTUAL or head[:8].isascii()) and _is_text(file, codec)
    if is_text and known not in TEXTUAL:
        known = _markup(head, codec)
    if known == UNKNOWN and _is_mail(file):
        return "message/rfc822"
    if known == UNKNOWN and (pdf := PDF.search(head, 0, PDF_HEAD + 8)) and (not pdf.start() or PDF_OBJECT.search(head)):
        return "application/pdf"
    if known == UNKNOWN and is_text:
        return TEXT_BY_NAME.get(name.rpartition(".")[2].lower(), "text/plain")
    return known


def _by_signature(head: bytes) -> str:
    if head[4:8] == b"ftyp":
        brands = [head[8:12], *(head[place : place + 4] for place in range(16, min(int.from_bytes(head[:4]), 64), 4))]
        if brands[0] in {b"mif1", b"msf1"} and any(brand in HEIC for brand in brands):
            return "image/heic"
        return BRANDS.get(brands[0], "video/mp4")
    if head[:4] == b"RIFF":
        return RIFF.get(head[8:12], UNKNOWN)
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in BITMAP_HEADERS:
        return "image/bmp"
    if head[257:262] == b"ustar":
        return "application/x-tar"
    return next((kind for signature, kind in SIGNATURES if head.startswith(signature)), UNKNOWN)


def _markup(head: bytes, codec: str | None) -> str:
    start = head.decode(codec or "latin-1", errors="replace").lstrip("\ufeff \t\n\v\f\r\x00")
    lowered = start[:1024].lower()
    if lowered.startswith("<svg") or ("<svg" in lowered and lowered.startswith(("<?xml", "<!doctype svg", "<!--"))):
        return "image/svg+xml"
    if lowered.startswith("<?xml"):
        return "text/html" if "<html" in lowered else "application/xml"
    return "text/html" if PAGE.match(start) else UNKNOWN


def _is_text(file: IO[bytes], codec: str | None) -> bool:
    if codec is None or codec == "utf-8":
        size = file.seek(0, 2)
        for block in _blocks(file):
            control = CONTROL_BYTES.search(block.removesuffix(END_OF_FILE) if file.tell() == size else block)
            if control:
                return False
        return True
    decoder = codecs.getincrementaldecoder(codec)()
    try:
        for block in _blocks(file):
            if CONTROLS.search(decoder.decode(block)):
                return False
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _is_mail(file: IO[bytes]) -> bool:
    """Whether it begins with the headers of a mail: lines of `Name: value`, some folded, up to an empty line."""
    file.seek(0)
    lines = file.read(MAIL_HEAD).removeprefix(codecs.BOM_UTF8).lstrip(b"\r\n").split(b"\n")
    if BEFORE_A_MAIL.match(lines[0].rstrip(b"\r")):  # the first line of a mailbox, or the length that Apple Mail writes
        lines.pop(0)
    names: set[bytes] = set()
    for line in lines:
        if not line.rstrip(b"\r"):
            break
        if b"\0" in line:
            return False
        if header := HEADER.match(line):
            names.add(header[1].lower())
        elif not names or line[:1] not in {b" ", b"\t"}:
            return False
    return bool(names & WRITTEN_BY and names & SENT)


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
