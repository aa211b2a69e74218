"""Reports as people read them in a mail: of each the figures that matter, in few columns and in their language."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any, NamedTuple, TypeAlias

from app.admin.report_runs.schemas import ReportName
from app.locales import Locale
from app.mail.templates import Cell, Table
from app.mail.texts import Say

MOST_ROWS = 25
NOTHING = "\N{EN DASH}"


class Layout(NamedTuple):
    """For whom it is laid out: their language, and the organization's currency and stages."""

    locale: Locale
    say: Say
    currency: str
    stages: Mapping[str, str]


Row: TypeAlias = Mapping[str, Any]
Shown: TypeAlias = Callable[[Row, Layout], Cell]


class _Section(NamedTuple):
    """A table of a report: its title, its rows, and of each column the heading and what is in it."""

    title: str | None
    rows: Callable[[Row], Sequence[Row]]
    columns: Sequence[tuple[str, Shown]]


def report_tables(report: ReportName, document: Row, layout: Layout) -> list[Table]:
    """The tables of a report's answer."""
    return [_table(section, document, layout) for section in SECTIONS[report]]


def _table(section: _Section, document: Row, layout: Layout) -> Table:
    rows = section.rows(document)
    title = None if section.title is None else layout.say(section.title)
    headings = [layout.say(heading) for heading, _ in section.columns]
    cells = [[show(row, layout) for _, show in section.columns] for row in rows[:MOST_ROWS]]
    return Table(title, headings, cells, len(rows))


# ── cells ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _text(name: str) -> Shown:
    return lambda row, layout: Cell(str(row[name] or layout.say("nobody")), is_number=False)


def _number(name: str) -> Shown:
    def show(row: Row, layout: Layout) -> Cell:
        value = row[name]
        return Cell(NOTHING if value is None else layout.locale.number(value))

    return show


def _share(name: str) -> Shown:
    def show(row: Row, layout: Layout) -> Cell:
        return Cell(NOTHING if row[name] is None else layout.locale.percent(Decimal(row[name])))

    return show


def _money(name: str) -> Shown:
    """In the row's own currency, or the organization's."""
    return lambda row, layout: Cell(layout.locale.money(Decimal(row[name]), row.get("currency") or layout.currency))


def _by_currency(name: str) -> Shown:
    """An amount of each currency: they are never added up."""

    def show(row: Row, layout: Layout) -> Cell:
        amounts = sorted(row[f"{name}_by_currency"].items()) or [(layout.currency, 0)]
        return Cell(" + ".join(layout.locale.money(Decimal(amount), currency) for currency, amount in amounts))

    return show


def _stage(row: Row, layout: Layout) -> Cell:
    return Cell(layout.stages.get(row["stage"], row["stage"]), is_number=False)


def _status(row: Row, layout: Layout) -> Cell:
    return Cell(layout.say(f"status.{row['status']}"), is_number=False)


def _period(row: Row, layout: Layout) -> Cell:
    if row["start"] is None:
        return Cell(layout.say(f"period.{row['period']}"), is_number=False)
    start = date.fromisoformat(row["start"])
    quarter = "Q" in row["period"]
    return Cell(row["period"] if quarter else layout.locale.month(start), is_number=False)


def _figures(*figures: tuple[str, str, Callable[[str], Shown]]) -> _Section:
    """One row for each figure: where it stands in the answer, what it is called, and how it is shown."""

    def rows(document: Row) -> list[Row]:
        return [{"of": _found(document, path), "path": path, "label": label} for label, path, _ in figures]

    kinds = {path: kind for _, path, kind in figures}

    def show(row: Row, layout: Layout) -> Cell:
        return kinds[row["path"]](row["path"].rpartition(".")[2])(row["of"], layout)

    def label(row: Row, layout: Layout) -> Cell:
        return Cell(layout.say(row["label"]), is_number=False)

    return _Section(None, rows, [("figure", label), ("value", show)])


def _found(document: Row, path: str) -> Row:
    for name in path.split(".")[:-1]:
        document = document[name]
    return document


def _rows(name: str) -> Callable[[Row], Sequence[Row]]:
    def rows(document: Row) -> Sequence[Row]:
        found: Sequence[Row] = document[name]
        return found

    return rows


SECTIONS: dict[ReportName, list[_Section]] = {
    ReportName.OVERVIEW: [
        _figures(
            ("customers", "customers.total", _number),
            ("new_customers", "metrics.customers_this_month", _number),
            ("open_deals", "deals.open_count", _number),
            ("open_value", "deals.open_value", _by_currency),
            ("weighted_value", "deals.weighted_value", _by_currency),
            ("won_deals", "deals.won_count", _number),
            ("won_value", "deals.won_value", _by_currency),
            ("won_this_month", "metrics.won_deals_this_month", _number),
            ("lost_deals", "deals.lost_count", _number),
            ("activities_this_week", "metrics.activities_this_week", _number),
            ("overdue_activities", "activities.overdue", _number),
        ),
        _Section(
            "deals_by_stage",
            _rows("deals_by_stage"),
            [("stage", _stage), ("count", _number("count")), ("value", _by_currency("value"))],
        ),
        _Section(
            "top_customers",
            _rows("top_customers"),
            [("customer", _text("name")), ("deals", _number("deals_count")), ("value", _money("deals_value"))],
        ),
        _Section(
            "top_performers",
            _rows("top_performers"),
            [("person", _text("name")), ("won", _number("deals_closed")), ("open_value", _money("pipeline_value"))],
        ),
    ],
    ReportName.SUMMARY: [
        _figures(
            ("new_deals_last_30_days", "new_deals_last_30_days", _number),
            ("average_days_to_close", "average_days_to_close", _number),
        ),
        _Section(
            "deals",
            _rows("by_status"),
            [
                ("status", _status),
                ("count", _number("count")),
                ("total", _money("total")),
                ("average", _money("average")),
            ],
        ),
    ],
    ReportName.FUNNEL: [
        _Section(
            None,
            _rows("stages"),
            [
                ("stage", _text("display_name")),
                ("entered", _number("entered")),
                ("conversion", _share("conversion")),
                ("current", _number("current")),
                ("value", _by_currency("value")),
            ],
        )
    ],
    ReportName.FORECAST: [
        _Section(
            None,
            _rows("periods"),
            [
                ("period", _period),
                ("won", _money("won_value")),
                ("open_", _money("open_value")),
                ("weighted", _money("weighted_value")),
            ],
        )
    ],
    ReportName.TEAM: [
        _Section(
            None,
            _rows("data"),
            [
                ("person", _text("name")),
                ("open_", _by_currency("open_value")),
                ("won", _by_currency("won_value")),
                ("win_rate", _share("win_rate")),
                ("done", _number("activities_completed")),
            ],
        )
    ],
}
