"""Which encoding a text file has."""

from __future__ import annotations

import codecs
import io
import re
from typing import IO, NamedTuple

HEAD = 64 * 1024
BLOCK = 1024 * 1024
# UTF-32 first: its mark begins with the one of UTF-16.
MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# What spreadsheets and older programs write. Between those of the Latin script, the library often guesses wrong where
# texts are as short as names: there it is the one in which fewest letters look odd, of several the first.
LATIN = ["cp1252", "cp1250", "cp1254", "cp1257", "mac_roman", "cp850"]
OTHERS = ["cp1251", "cp1253", "cp1255", "cp1256", "cp932", "gb18030", "big5", "cp949", "euc_jp", "koi8_r", "cp874"]
# A sign beside a letter, or a capital letter after a small one.
ODD = re.compile(
    r"[^\W\d_][\x80-\xa9\xab-\xb9\xbb-\xbf\xd7\xf7\u2000-\u2bff\ufffd]|[a-z][ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÐÑÒÓÔÕÖØÙÚÛÜÝÞŒŠŽŸŁŻŹŚĆĄĘŃ]"
    r"|[\x80-\xa9\xab-\xb9\xbb-\xbf\xd7\xf7\u2100-\u2bff\ufffd][^\W\d_]"
)
USUAL = "cp1252"
BAD = re.compile(r"[\udc80-\udcff]")
FOREIGN = re.compile(r"[\x80-\ud7ff\ue000-\U0010ffff]")
NOT_ASCII = re.compile(rb"[^\n]*[\x80-\xff][^\n]*\n?")
# A file of UTF-8 in which some lines come from elsewhere: so many good letters for each bad byte.
MOSTLY = 5
# One byte of so many is NUL at least in UTF-16.
NULS = 10


class Encoding(NamedTuple):
    """How bytes become text. `errors` is Python's name for what is done about bytes that are none."""

    name: str
    errors: str = "strict"
    remark: str | None = None


def as_usual(error: UnicodeError) -> tuple[str, int]:
    """Bytes that are no UTF-8, as most programs meant them."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return error.object[error.start : error.end].decode(USUAL, "replace"), error.end


codecs.register_error("as_usual", as_usual)


def encoding_of(file: IO[bytes]) -> Encoding:
    """The encoding of a text file, found out from its bytes. It is read once more afterwards, from the beginning."""
    file.seek(0)
    head = file.read(HEAD)
    for mark, name in MARKS:
        if head.startswith(mark):
            return Encoding(name, "replace")
    even, odd = head[::2].count(0), head[1::2].count(0)
    if even + odd > len(head) // NULS:
        return Encoding("utf-16-le" if odd > even else "utf-16-be", "replace")
    if _is_utf8(file):
        return Encoding("utf-8")
    file.seek(0)
    sample = b"".join(NOT_ASCII.findall(file.read(16 * BLOCK)))[:BLOCK]
    text = sample.decode(errors="surrogateescape")
    bad = len(BAD.findall(text))
    if len(FOREIGN.findall(text)) > MOSTLY * bad:
        remark = (
            "Some letters are not in UTF-8 as the rest of the file is: they were read as Windows-1252. Look at them"
        )
        return Encoding("utf-8", "as_usual", remark)
    name = _legacy(sample[:HEAD])
    return Encoding(
        name,
        "replace",
        f"The file says nothing about its encoding: it was read as {name}. Look at the"
        " letters with accents; if they are wrong, save the file as UTF-8",
    )


def open_text(file: IO[bytes], encoding: Encoding) -> io.TextIOWrapper:
    """The file as text, from its beginning, with the ends of lines as they are."""
    file.seek(0)
    return io.TextIOWrapper(file, encoding.name, encoding.errors, newline="")


def _is_utf8(file: IO[bytes]) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    file.seek(0)
    try:
        while block := file.read(BLOCK):
            decoder.decode(block)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _legacy(sample: bytes) -> str:
    # Inside the function, because most files are UTF-8.
    from charset_normalizer import from_bytes

    best = from_bytes(sample, cp_isolation=[*LATIN, *OTHERS]).best()
    if best is not None and best.encoding in OTHERS:
        return best.encoding
    return min(LATIN, key=lambda name: len(ODD.findall(sample.decode(name, "replace"))))
