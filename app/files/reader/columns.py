"""What the cells of each column look like, and what they prove about dates and numbers."""

from __future__ import annotations

import re

from app.files.unpacked import Column

SAMPLES = 3
LONGEST_SAMPLE = 100
# So many cells of a column are looked at; where there are dates or numbers among them that prove nothing yet, all.
LOOKED_AT = 1000
DATE = re.compile(r"\s*(\d{1,4})([./-])(\d{1,2})\2(\d{1,4})(?!\d)")
NUMBER = re.compile(r"\d[\d., '\u00a0\u202f]*")
AROUND_NUMBERS = " \t\u00a0\u202f+-$€£¥%()ABCDEFGHIJKLMNOPQRSTUVWXYZ"
LOOKS = {
    "email": re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+"),
    "address": re.compile(r"(https?://|www\.)\S+", re.IGNORECASE),
    "date": re.compile(r"\d{4}-\d\d?-\d\d?([T ].*)?|\d{1,2}([./-])\d{1,2}\2\d{2,4}(\s.*)?"),
    "number": re.compile(r"-?[\d.,]*\d[\d.,]*\s?[%€$£]?"),
    "phone": re.compile(r"(\+|00|\(?0)[\d\s()/.-]{5,}\d"),
}


class _Seen:
    """One column."""

    def __init__(self) -> None:
        self.samples: list[str] = []
        self.filled = 0
        self.looks: dict[str, int] = {}
        self.orders: set[str] = set()
        self.unclear: list[str] = []
        self.decimals: set[str] = set()
        self.has_unclear_numbers = False

    def see(self, cell: str) -> bool:
        """Look at a cell; returns whether more of them may prove something."""
        self.filled += 1
        if len(self.samples) < SAMPLES and (sample := cell.strip()[:LONGEST_SAMPLE]) and sample not in self.samples:
            self.samples.append(sample)
        if self.filled <= LOOKED_AT and len(plain := cell.strip()) <= LONGEST_SAMPLE:
            for kind, pattern in LOOKS.items():
                if pattern.fullmatch(plain):
                    self.looks[kind] = self.looks.get(kind, 0) + 1
        if len(cell) <= 40:
            if date := DATE.match(cell):
                self._see_date(date, cell)
            elif any(map(str.isdigit, cell)):
                self._see_number(cell.strip(AROUND_NUMBERS))
        if self.filled < LOOKED_AT:
            return True
        return bool(self.unclear and not self.orders) or (self.has_unclear_numbers and not self.decimals)

    def _see_date(self, date: re.Match[str], cell: str) -> None:
        first, second = int(date[1]), int(date[3])
        if len(date[1]) > 2 or first == second:
            return
        if first > 12 or second > 12:
            self.orders.add("dmy" if second <= 12 else "mdy" if first <= 12 else "ymd")
        elif len(self.unclear) < SAMPLES and cell not in self.unclear:
            self.unclear.append(cell.strip())

    def _see_number(self, cell: str) -> None:
        if not NUMBER.fullmatch(cell):
            return
        dots, commas = cell.count("."), cell.count(",")
        if dots and commas:
            self.decimals.add("." if cell.rindex(".") > cell.rindex(",") else ",")
        elif dots > 1 or commas > 1:
            self.decimals.add("," if dots else ".")
        elif dots or commas:
            sign = "." if dots else ","
            whole, _, part = cell.partition(sign)
            # One sign with three digits behind it may be either.
            if len(part) != 3 or len(whole) > 3 or whole == "0":
                self.decimals.add(sign)
            else:
                self.has_unclear_numbers = True


class Columns:
    """All columns of a file."""

    def __init__(self, names: list[str]) -> None:
        # The reader adds names to it.
        self._names = names
        self._seen: list[_Seen] = []
        self._watched: list[int] = []

    def see(self, cells: list[str | None]) -> None:
        """Look at a row."""
        if len(cells) > len(self._seen):
            self._watched += range(len(self._seen), len(cells))
            self._seen += [_Seen() for _ in range(len(cells) - len(self._seen))]
        self._watched = [
            place
            for place in self._watched
            if place >= len(cells) or not (cell := cells[place]) or self._seen[place].see(cell)
        ]

    def found(self) -> list[Column]:
        """What was seen."""
        seen = self._seen + [_Seen() for _ in range(len(self._names) - len(self._seen))]
        return [_column(name, each) for name, each in zip(self._names, seen, strict=False)]


def _column(name: str, seen: _Seen) -> Column:
    looked_at = min(seen.filled, LOOKED_AT)
    kinds = [kind for kind, times in seen.looks.items() if times > 0.8 * looked_at]
    return Column(
        name,
        samples=seen.samples,
        looks_like=next((kind for kind in LOOKS if kind in kinds), None),
        orders=sorted(seen.orders),
        unclear=seen.unclear,
        decimals=sorted(seen.decimals),
    )
