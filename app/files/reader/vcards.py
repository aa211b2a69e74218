"""vCard 2.1, 3 and 4: a person a row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Any

from app.files.reader.source import Record, Source
from app.files.reader.text import encoding_of, open_text
from app.files.unpacked import FileFormat, UnreadableError

NAMES = [
    *("Prefix", "First Name", "Middle Name", "Last Name", "Suffix", "Full Name", "Organization", "Department"),
    *("Job Title", "Email", "Email 2", "Phone", "Phone 2", "Phone 3", "Website", "Address", "Birthday", "Categories"),
    *("Notes", "UID"),
]
# How many columns there are for what a person may have several of.
SEVERAL = {"email": ("Email", "Email 2"), "tel": ("Phone", "Phone 2", "Phone 3")}
SINGLE = {"title": "Job Title", "url": "Website", "bday": "Birthday", "note": "Notes", "uid": "UID"}
# Of several, the one that is preferred comes first, then what is of work.
PREFERENCE = ("pref", "work", "cell")


def read_vcards(file: IO[bytes]) -> Source:
    """The rows of a file of cards. Raises UnreadableError."""
    encoding = encoding_of(file)
    remarks = [encoding.remark] if encoding.remark else []
    text = open_text(file, encoding)
    return Source(FileFormat.VCARD, _records(text, remarks), names=NAMES, encoding=encoding.name, remarks=remarks)


def _records(text: IO[str], remarks: list[str]) -> Iterator[Record]:
    # Inside the function, because other files need not have it.
    from vobject.base import ParseError, readComponents

    number = 0
    left_out: set[str] = set()
    try:
        for card in readComponents(text, ignoreUnreadable=True, allowQP=True):  # type: ignore[no-untyped-call]  # untyped
            number += 1
            if card.name != "VCARD":
                continue
            row, more = _row(card)
            left_out |= more
            yield Record(number, [row.get(name) for name in NAMES])
    except (ParseError, UnicodeError, ValueError, TypeError):
        message = f"The card after number {number} can't be read: it must be vCard 2.1, 3 or 4"
        raise UnreadableError("broken", message) from None
    if left_out:
        remarks.append(f"Left out of the cards: {', '.join(sorted(left_out))[:300]}")


def _row(card: Any) -> tuple[dict[str, str | None], set[str]]:
    """The cells of a card by column, and what has no column."""
    row: dict[str, str | None] = {}
    left_out: set[str] = set()
    for kind, lines in card.contents.items():
        values = [line for line in lines if line.value]
        if kind == "n" and values:
            name = values[0].value
            for column, part in zip(NAMES, ("prefix", "given", "additional", "family", "suffix"), strict=False):
                row[column] = _text(getattr(name, part))
        elif kind == "fn" and values:
            row["Full Name"] = _text(values[0].value)
        elif kind == "org" and values:
            organization, *units = values[0].value if isinstance(values[0].value, list) else [values[0].value]
            row["Organization"], row["Department"] = _text(organization), _text(units)
        elif kind == "adr" and values:
            row["Address"] = _address(values[0].value)
        elif kind == "categories":
            row["Categories"] = _text([each for line in values for each in _list(line.value)], "; ")
        elif kind in SEVERAL:
            found = [_bare(line.value) for line in sorted(values, key=_preference)]
            row |= dict(zip(SEVERAL[kind], found, strict=False))
            if len(found) > len(SEVERAL[kind]):
                left_out.add(f"{kind} beyond the first {len(SEVERAL[kind])}")
        elif kind in SINGLE and values:
            row[SINGLE[kind]] = _text(values[0].value)
        elif values and kind not in {"version", "prodid", "rev", "x-ablabel"}:
            left_out.add(kind)
    return row, left_out


def _preference(line: Any) -> int:
    types = [each.lower() for each in line.params.get("TYPE", []) + line.singletonparams]
    if "PREF" in line.params:
        return 0
    return next((place for place, name in enumerate(PREFERENCE) if name in types), len(PREFERENCE))


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _text(value: Any, between: str = " ") -> str | None:
    return between.join(text for each in _list(value) if (text := str(each).strip())) or None


def _bare(value: Any) -> str | None:
    """An email address or a phone number, which vCard 4 may have as a link."""
    return _text(str(value).removeprefix("tel:").removeprefix("mailto:"))


def _address(value: Any) -> str | None:
    parts = (value.street, value.extended, value.box, f"{value.code} {value.city}", value.region, value.country)
    return ", ".join(text for part in parts if (text := _text(part))) or None
