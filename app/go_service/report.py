"""What there is, what becomes of it, and everything that is different: for people, before anything is written."""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from collections.abc import Iterator
from decimal import Decimal
from typing import TextIO

from app.files.cells import harmless
from app.go_service.drafts import Problem, Record
from app.go_service.source import TABLES, Source
from app.go_service.sums import Sums
from app.web.text import CONTROL

EXAMPLES = 3
HEADER = ("table", "id", "field", "value", "what becomes of it")
FOLLOWS = "deleted_at"


class Report:
    """Adds up records as they go by, and writes what is different into a CSV file."""

    def __init__(self, source: Source, file: TextIO) -> None:
        self._source = source
        self._problems: Counter[tuple[str, str, str]] = Counter()
        self._examples: dict[tuple[str, str, str], list[int]] = defaultdict(list)
        self._done: dict[tuple[str, str, str], set[str]] = defaultdict(set)
        self._follow: Counter[str] = Counter()
        self._follow_amounts: Counter[str] = Counter()
        self._amounts: dict[str, Decimal] = defaultdict(Decimal)
        self._tagged = 0
        self.sums = {table: Sums(table) for table in TABLES}
        self._csv = csv.writer(file)
        self._csv.writerow(HEADER)

    def add(self, record: Record) -> None:
        """Count a record, and list what is different."""
        self.sums[record.table].add(record.id, record.values)
        for note in record.notes:
            self.sums["notes"].add(None, note)
        for problem in record.problems:
            self._list(problem)
        values = record.values
        if record.table == "customers":
            self._tagged += len(values["tags"])
        if record.table == "deals" and values["deleted_at"] is None:
            self._amounts[values["currency"]] += values["amount"]
        if any(problem.field == FOLLOWS for problem in record.problems) and "deleted_at" in values:
            self._follow[record.table] += 1
            if record.table == "deals":
                self._follow_amounts[values["currency"]] += values["amount"]

    def _list(self, problem: Problem) -> None:
        self._csv.writerow([harmless(str(cell)) for cell in problem])
        kind = problem.table, problem.field, problem.done.partition(":")[0]
        self._problems[kind] += 1
        self._done[kind] = set(list(self._done[kind])[:1]) | {problem.done}
        if len(self._examples[kind]) < EXAMPLES:
            self._examples[kind].append(problem.id)

    def lines(self) -> Iterator[str]:
        """The tables and sums, and what is different, the most frequent first."""
        yield f"{'':16}{'there':>10}{'in its trash':>14}{'here':>10}{'in the trash':>14}"
        for table in TABLES:
            here = self.sums[table]
            there, in_trash = self._source.count(table), self._source.count_in_trash(table)
            yield f"{table:16}{there:>10}{in_trash:>14}{here.rows:>10}{here.in_trash:>14}"
        yield f"{'customer_tags':16}{self._source.count('customer_tags'):>10}{'':14}{self._tagged:>10}"
        if audited := self._source.count("audit_logs"):
            yield f"{'audit_logs':16}{audited:>10}{'':14}{0:>10}  (they do not come over)"
        yield f"Amounts of deals that are not in the trash: there {_money(self._source.amounts())}"
        yield f"{'':43} here {_money(self._amounts)}"
        if self._follow:
            counts = ", ".join(f"{count} {table}" for table, count in self._follow.items())
            worth = f", deals of {_money(self._follow_amounts)} among them" if self._follow_amounts else ""
            yield (
                f"Figures change: {counts} are alive there though what they belong to is in the trash. Here they go"
                f" into the trash with it{worth}."
            )
        if others := self._source.others():
            yield f"Rows of other organizations stay there: {others} customers."
        if self._problems:
            yield "What does not come over as it is:"
        for kind, count in self._problems.most_common():
            table, field, short = kind
            said = next(iter(self._done[kind])) if len(self._done[kind]) == 1 else short
            ids = ", ".join(map(str, self._examples[kind])) + (", …" if count > EXAMPLES else "")
            yield f"{count:>8}  {table}.{field} {said} (id {ids})"


def _money(amounts: dict[str, Decimal] | Counter[str]) -> str:
    return ", ".join(f"{_short(currency)} {amount:.2f}" for currency, amount in sorted(amounts.items())) or "nothing"


def _short(text: str) -> str:
    """What somebody typed, on one line of a terminal."""
    return CONTROL.sub(" ", text[:12])
