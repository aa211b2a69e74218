"""What is asked: every list, detail, search and report, as people ask for them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

import psycopg

from tests.bench.server import Bench

RARE_FRAGMENT = "zyxm"
MONTH = "from={year}-03-01&to={year}-03-31"
YEAR = "from={year}-03-05T10:00:00Z&to={next_year}-03-04"


class Case(NamedTuple):
    """One address, as a template of what a tenant has; reports are asked for anew each time."""

    name: str
    path: str
    report: bool = False

    def at(self, bench: Bench, size: int) -> str:
        """The address for this tenant."""
        return self.path.format(**_of_tenant(bench, size))

    @property
    def headers(self) -> dict[str, str]:
        """What goes along."""
        return {"Cache-Control": "no-cache"} if self.report else {}


def _of_tenant(bench: Bench, size: int) -> dict[str, int]:
    with psycopg.connect(bench.superuser) as connection:
        row = connection.execute(
            "SELECT (SELECT min(id) FROM customers WHERE tenant_id = %(t)s) + 1,"
            " (SELECT min(id) FROM contacts WHERE tenant_id = %(t)s) + 1,"
            " (SELECT min(id) FROM deals WHERE tenant_id = %(t)s) + 1",
            {"t": str(size)},
        ).fetchone()
    assert row is not None
    year = datetime.now(UTC).year - 1
    return {
        "customer": row[0],
        "contact": row[1],
        "deal": row[2],
        "last": size // 20,
        "middle": size // 40,
        "year": year,
        "next_year": year + 1,
    }


CASES = [
    Case("customers", "/admin/customers"),
    Case("customers, last page by number", "/admin/customers?page={last}"),
    Case("customers, middle page by number", "/admin/customers?page={middle}"),
    Case("customers by email, descending", "/admin/customers?sort_by=email&sort_order=desc"),
    Case("customers of a status", "/admin/customers?status=churned"),
    Case("customers of a person", "/admin/customers?assigned_to=agent-7"),
    Case("customers found by a rare fragment", f"/admin/customers?search={RARE_FRAGMENT}"),
    Case("customers found by one letter", "/admin/customers?search=a"),
    Case("customers found by two letters", "/admin/customers?search=ad"),
    Case("customers found by a rare pair of letters", "/admin/customers?search=zy"),
    Case("everything found by a rare fragment", f"/admin/search?q={RARE_FRAGMENT}"),
    Case("everything found by one letter", "/admin/search?q=a"),
    Case("everything found by two letters", "/admin/search?q=ad"),
    Case("deals found by their customers", "/admin/deals?search=ad"),
    Case("one customer with all that hangs on it", "/admin/customers/{customer}"),
    Case("a customer's timeline", "/admin/customers/{customer}/timeline"),
    Case("one contact", "/admin/contacts/{contact}"),
    Case("contacts", "/admin/contacts"),
    Case("deals", "/admin/deals"),
    Case("deals, middle page by number", "/admin/deals?page={middle}"),
    Case("deals by stage", "/admin/deals?sort_by=stage"),
    Case("deals of a stage", "/admin/deals?stage=proposal"),
    Case("one deal", "/admin/deals/{deal}"),
    Case("activities", "/admin/activities"),
    Case("activities: agenda", "/admin/activities?sort_by=agenda"),
    Case("activities by status", "/admin/activities?sort_by=status"),
    Case("activities of a person", "/admin/activities?assigned_to=agent-7"),
    Case("notes", "/admin/notes"),
    Case("tags", "/admin/tags"),
    Case("duplicates", "/admin/duplicates"),
    Case("audit log", "/admin/audit"),
    Case("report: overview", "/admin/reports/overview", report=True),
    Case("report: deals", "/admin/reports/deals/summary", report=True),
    Case("report: deals of a year", f"/admin/reports/deals/summary?{YEAR}", report=True),
    Case("report: deals of a person", "/admin/reports/deals/summary?owner_id=agent-1", report=True),
    Case("report: deals of a person, of a year", f"/admin/reports/deals/summary?owner_id=agent-1&{YEAR}", report=True),
    Case("report: funnel", "/admin/reports/deals/funnel", report=True),
    Case("report: funnel of a month", f"/admin/reports/deals/funnel?{MONTH}", report=True),
    Case("report: funnel of a year", f"/admin/reports/deals/funnel?{YEAR}", report=True),
    Case("report: funnel of a person", "/admin/reports/deals/funnel?owner_id=agent-1", report=True),
    Case("report: funnel of a person, of a year", f"/admin/reports/deals/funnel?owner_id=agent-1&{YEAR}", report=True),
    Case("report: forecast", "/admin/reports/deals/forecast", report=True),
    Case("report: forecast by month", "/admin/reports/deals/forecast?by=month&from={year}-01-01", report=True),
    Case("report: team", "/admin/reports/team", report=True),
    Case("report: team of a year", f"/admin/reports/team?{YEAR}", report=True),
]
# Of who sees only own records. The funnel of a period reads the visits of that person's deals.
OF_OWN = [case for case in CASES if case.report and "person" not in case.name and "funnel of" not in case.name]
# One of each kind, where how fast it is proves nothing.
FEW = ("customers", "report: overview")
BY_NAME = {case.name: case for case in CASES}
