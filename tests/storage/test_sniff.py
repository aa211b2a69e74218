"""What a file is, by its bytes."""

from __future__ import annotations

import gzip
import io
import tarfile
import time
import zipfile

import pytest

from app.settings import Settings
from app.storage.sniff import sniff

OFFICE = "application/vnd.openxmlformats-officedocument."
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 504


def zipped(*names: str, mimetype: str | None = None) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        if mimetype:
            archive.writestr(zipfile.ZipInfo("mimetype"), mimetype)
        for name in names:
            archive.writestr(name, "x" * 2000)
    return made.getvalue()


def tarred() -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        member = tarfile.TarInfo("a.txt")
        member.size = 3
        archive.addfile(member, io.BytesIO(b"abc"))
    return made.getvalue()


def ole(stream: str) -> bytes:
    # Across the blocks in which it is read.
    return OLE + b"\0" * (1024 * 1024 - len(OLE) - 7) + stream.encode("utf-16-le") + b"\0" * 600


ACCEPTED = {
    "a.pdf": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj", "application/pdf"),
    "ascii.pdf": (b"%PDF-1.4\n1 0 obj\n", "application/pdf"),
    "a.rtf": (b"{\\rtf1\\ansi hello}", "application/rtf"),
    "a.doc": (ole("WordDocument"), "application/msword"),
    "a.xls": (ole("Workbook"), "application/vnd.ms-excel"),
    "a.ppt": (ole("PowerPoint Document"), "application/vnd.ms-powerpoint"),
    "a.msg": (ole("__nameid_version1.0"), "application/vnd.ms-outlook"),
    "a.docx": (zipped("[Content_Types].xml", "word/document.xml"), f"{OFFICE}wordprocessingml.document"),
    "a.xlsx": (zipped("[Content_Types].xml", "xl/workbook.xml"), f"{OFFICE}spreadsheetml.sheet"),
    "a.pptx": (zipped("[Content_Types].xml", "ppt/presentation.xml"), f"{OFFICE}presentationml.presentation"),
    "a.odt": (
        zipped("content.xml", mimetype="application/vnd.oasis.opendocument.text"),
        "application/vnd.oasis.opendocument.text",
    ),
    "a.zip": (zipped("a.txt"), "application/zip"),
    "a.gz": (gzip.compress(b"x"), "application/gzip"),
    "a.7z": (b"7z\xbc\xaf\x27\x1c\0\4" + b"\0" * 30, "application/x-7z-compressed"),
    "a.tar": (tarred(), "application/x-tar"),
    "a.png": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "image/png"),
    "a.jpg": (b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\1", "image/jpeg"),
    "a.gif": (b"GIF89a\1\0\1\0\0\0\0", "image/gif"),
    "a.webp": (b"RIFF\x24\0\0\0WEBPVP8 \0\0", "image/webp"),
    "a.heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "image/heic"),
    "a.tiff": (b"II*\0\x08\0\0\0\0\0", "image/tiff"),
    "a.bmp": (b"BM\x46\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0", "image/bmp"),
    "a.txt": ("Grüße\r\n\tan alle\n".encode(), "text/plain"),
    "bom.txt": (b"\xef\xbb\xbfhello", "text/plain"),
    "script.js": (b"function () { return 1 }", "text/plain"),
    "BM.txt": (b"BM is what this text begins with", "text/plain"),
    "MZ.txt": (b"MZ too", "text/plain"),
    "a.csv": (b"a,b\n1,2\n", "text/csv"),
    "a.md": (b"# Title\n", "text/markdown"),
    "latin1.txt": ("Grüße".encode("latin-1"), "text/plain"),
    "windows.csv": ("Name;Straße;„Preis“ €\r\n".encode("cp1252"), "text/csv"),
    "excel.csv": ("Name\tStraße\r\n".encode("utf-16"), "text/csv"),
    "big endian.txt": (b"\xfe\xff" + "Grüße".encode("utf-16-be"), "text/plain"),
    "japanese.csv": ("名前,住所\r\n".encode("shift-jis"), "text/csv"),
    "mail.txt": ("日本語\r\n".encode("iso-2022-jp"), "text/plain"),
    "russian.txt": ("Привет\r\n".encode("koi8-r"), "text/plain"),
    "dos.txt": ("Größe\r\n\x1a".encode("cp850"), "text/plain"),
    "less.txt": (b"<3 and <ada@example.com> wrote", "text/plain"),
    "about pdf.txt": (b"Files begin with %PDF-1.4, they say.\n", "text/plain"),
    "junk.pdf": (b"\r\n\0\0junk" * 100 + b"%PDF-1.5\r\n%\xe2\xe3\r\n12 0 obj\r\n", "application/pdf"),
    "http.pdf": (b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\n%PDF-1.4\n1 0 obj\n", "application/pdf"),
    "bom.pdf": (b"\xef\xbb\xbf%PDF-1.4\n1 0 obj\n", "application/pdf"),
    "a.heif": (b"\0\0\0\x18ftypmif1\0\0\0\0mif1miaf", "image/heif"),
    "b.heic": (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "image/heic"),
    "a.mbox": (b"From ada@b.co Thu Jan  1 00:00:00 2026\nFrom: ada@b.co\nDate: today\n\nHi", "message/rfc822"),
    "a.emlx": (b"1234      \nReturn-Path: <a@b.co>\nFrom: a@b.co\nDate: x\n\nHi", "message/rfc822"),
    "long.eml": (
        b"Return-Path: <a@b.co>\r\nDelivered-To: c@d.co\r\nX-Spam-Status: No,\r\n\tscore=0\r\n"
        b"ARC-Seal: i=1; a=rsa-sha256;\r\n"
        + b"        b=" * 3000
        + b"\r\n"
        + b"Received: from x\r\n by y\r\n" * 300
        + b'from: "A" <a@b.co>\r\nMIME-Version: 1.0\r\n\r\n<html><script>\0',
        "message/rfc822",
    ),
    "no mail.txt": (b"From: me\nthis is a text\nDate: none\n", "text/plain"),
    "a.eml": (b"Subject: Hi\r\nFrom: a@b.co\r\nDate: today\r\n\r\nGr\xfc\xdfe", "message/rfc822"),
}
REFUSED = {
    "a.exe": b"MZ\x90\0\3\0\0\0\4\0" + b"\0" * 60,
    "a.elf": b"\x7fELF\2\1\1\0" + b"\0" * 60,
    "photo.png": b"<svg xmlns='http://www.w3.org/2000/svg'><script/></svg>",
    "page.txt": b"<!DOCTYPE html><html><script>alert(1)</script>",
    "a.docm": zipped("[Content_Types].xml", "word/document.xml", "word/vbaProject.bin"),
    "a.msi": OLE + b"\0" * 5000,
    "a.mp4": b"\0\0\0\x18ftypisom\0\0\2\0isomiso2",
    "page.csv": "<HTML><body>".encode("utf-16"),
    "page.md": b"\xef\xbb\xbf \n<script>alert(1)</script>",
    "page.pdf": b"<html>\n%PDF-1.4\n1 0 obj<script>alert(1)</script>",
    "program.pdf": b"MZ\x90\0" + b"\0" * 60 + b"%PDF-1.4\n1 0 obj",
    "picture.txt": b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>',
    "comment.txt": b"<!-- hello --><script>alert(1)</script>",
    "late.pdf": b" " * 1100 + b"%PDF-1.4\n1 0 obj\0",
    "a.mov": b"\0\0\0\x14ftypqt  \0\0\0\0",
    "utf32.txt": "text".encode("utf-32"),
    "nul.txt": b"text\0text",
    "noise.txt": bytes(range(1, 256)),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_an_accepted_file_is_what_its_bytes_say(name: str) -> None:
    content, kind = ACCEPTED[name]
    assert sniff(io.BytesIO(content), name) == kind
    assert kind in Settings().accepted_types


@pytest.mark.parametrize("name", REFUSED)
def test_what_may_run_or_is_unknown_is_on_no_list(name: str) -> None:
    assert sniff(io.BytesIO(REFUSED[name]), name) not in Settings().accepted_types


@pytest.mark.parametrize(
    "piece",
    [
        b"a:\n",
        b"\n",
        b" ",
        b"%PDF-",
        b"%PDF-1.4",
        b"<",
        b"<!--",
        b"From: ",
        b"a",
        b"\xff\xfe",
        b"\xc3\xa4",
        b"PK\x03\x04",
        b"1 0 ob",
    ],
)
def test_no_file_is_slow_to_tell(piece: bytes) -> None:
    """The processor's time, with much to spare for a machine that is busy."""
    file = io.BytesIO((piece * (25 * 1024**2 // len(piece) + 1))[: 25 * 1024**2])
    began = time.process_time()
    sniff(file, "a.txt")
    assert time.process_time() - began < 5
