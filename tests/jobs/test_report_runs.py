"""Reports as files: made by jobs, and fetched by links that need no token."""

from __future__ import annotations

import asyncio
import csv
import io
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from litestar import Litestar
from litestar.testing import TestClient

from app.admin.report_runs import service
from app.admin.report_runs.schemas import ReportName
from app.admin.reports import from_sums, sums
from app.db.database import READS
from app.db.roles import set_for_transaction
from app.records.transaction import Transaction
from app.settings import Settings
from tests.callers import Caller, Callers, refused
from tests.jobs.test_bulk_jobs import ended
from tests.processes import wait_until

RUNS = "/admin/report-runs"
REPORTS = {
    "overview": "overview",
    "summary": "deals/summary",
    "funnel": "deals/funnel",
    "forecast": "deals/forecast",
    "team": "team",
}


@pytest.fixture
def working(variant: Callable[..., TestClient[Litestar]]) -> TestClient[Litestar]:
    """A service that runs jobs."""
    return variant(jobs_in_service=True)


def start(caller: Caller, **run: Any) -> int:
    """A new run: the id of its job."""
    answer = caller.post(RUNS, {"report": "summary", "format": "json", **run})
    assert answer.status_code == 202, answer.text
    job = answer.json()["job"]
    assert answer.headers["Location"] == f"/admin/jobs/{job['id']}"
    return int(job["id"])


def result_of(caller: Caller, job_id: int) -> dict[str, Any]:
    """What a run comes to."""
    done = ended(caller, job_id)
    assert (done["status"], done["kind"], done["error"]) == ("done", "report", None), done
    result: dict[str, Any] = done["result"]
    return result


def made(caller: Caller, **run: Any) -> dict[str, Any]:
    """The result of a new run."""
    return result_of(caller, start(caller, **run))


def fetched(caller: Caller, result: dict[str, Any]) -> Any:
    """The file, fetched without a token."""
    return caller.client.get(result["download_url"])


def sell(caller: Caller, title: str = "Deal", customer: str = "Ada", **fields: Any) -> int:
    """A deal of a new customer; answers the customer's id."""
    customer_id = int(caller.customer(customer)["id"])
    caller.ok("POST", "/admin/deals", {"title": title, "customer_id": customer_id, "amount": 10, **fields})
    return customer_id


@pytest.mark.usefixtures("working")
def test_a_run_makes_what_the_report_answers(admin: Caller) -> None:
    sell(admin)
    sell(admin, amount=20.5, currency="EUR")
    runs = {report: start(admin, report=report) for report in REPORTS}
    period = {"from": "2020-01-01", "to": "2020-12-31"}
    more = [
        start(admin, **run)
        for run in (
            {"owner_id": admin.user_id, **period},
            {"report": "forecast", "owner_id": admin.user_id},
            {"report": "forecast", "owner_id": "me"},
        )
    ]
    for report, path in REPORTS.items():
        result = result_of(admin, runs[report])
        assert (result["report"], result["format"]) == (report, "json")
        file = fetched(admin, result)
        assert file.status_code == 200, file.text
        assert file.json() == admin.ok("GET", f"/admin/reports/{path}")
        assert file.headers["Content-Type"] == "application/json"
        assert f'filename="{result["file_name"]}"' in file.headers["Content-Disposition"]
        assert len(file.content) == result["size"]
    earlier, mine, of_me = (fetched(admin, result_of(admin, run)).json() for run in more)
    assert earlier["by_status"] == []
    assert sum(each["open_count"] for each in mine["periods"]) == 2
    assert of_me["periods"] == mine["periods"]


@pytest.mark.usefixtures("working")
def test_a_table_can_be_read_and_runs_nothing(admin: Caller) -> None:
    sell(admin, "=HYPERLINK(1)", '+Ada, "Ä"')
    sell(admin, amount=20.5, currency="EUR")
    file = fetched(admin, made(admin, report="summary", format="csv"))
    assert file.headers["Content-Type"] == "text/csv; charset=utf-8"
    rows = list(csv.reader(io.StringIO(file.text, newline="")))
    assert rows[:3] == [["Figures"], ["Figure", "Value"], ["New deals last 30 days", "2"]]
    assert ["By status"] in rows
    assert rows[rows.index(["By status"]) + 1 :][:3] == [
        ["Status", "Currency", "Count", "Total", "Average"],
        ["open", "EUR", "1", "20.50", "20.50"],
        ["open", "USD", "1", "10.00", "10.00"],
    ]
    overview = list(csv.reader(io.StringIO(fetched(admin, made(admin, report="overview", format="csv")).text)))
    cells = {cell for row in overview for cell in row}
    assert {"'=HYPERLINK(1)", '\'+Ada, "Ä"', "Value EUR", "Customer name"} <= cells
    book = fetched(admin, made(admin, report="overview", format="xlsx"))
    with zipfile.ZipFile(io.BytesIO(book.content)) as parts:
        sheets = [parts.read(name).decode() for name in parts.namelist() if name.startswith("xl/worksheets/")]
    assert len(sheets) == 9
    assert "<t>=HYPERLINK(1)</t>" in "".join(sheets)
    assert "<f>" not in "".join(sheets)


@pytest.mark.usefixtures("working")
def test_an_agent_gets_in_a_run_what_it_sees_in_the_report(admin: Caller, agent: Caller) -> None:
    sell(admin)
    sell(agent)
    team = fetched(agent, made(agent, report="team")).json()["data"]
    assert [member["id"] for member in team] == [agent.user_id]
    assert len(fetched(admin, made(admin, report="team")).json()["data"]) == 2


@pytest.mark.usefixtures("working")
def test_a_link_is_good_for_one_file_and_for_five_minutes(
    admin: Caller, agent: Caller, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = made(admin)
    path = urlsplit(result["download_url"]).path
    assert admin.client.get(path).status_code == 200
    head, _, signature = path.rpartition(".")
    for other in (
        f"{head}.{signature[:-1]}{'0' if signature[-1] != '0' else '1'}",
        f"{head}x.{signature}",
        head,
        "/public/files/x",
    ):
        refused(admin.client.get(other), 404, "NOT_FOUND")
    job = admin.ok("GET", "/admin/jobs", kind="report")["data"][0]
    listed = urlsplit(job["result"]["download_url"]).path
    assert admin.client.get(listed).status_code == 200
    refused(agent.get(f"/admin/jobs/{job['id']}"), 404, "JOB_NOT_FOUND")
    with psycopg.connect(settings.migration_dsn) as connection:
        connection.execute("ALTER TABLE jobs NO FORCE ROW LEVEL SECURITY")
        kept = connection.execute("SELECT result::text FROM jobs WHERE id = %s", [job["id"]]).fetchone()
        connection.rollback()
    assert kept is not None
    assert "public" not in kept[0]
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 301)
    refused(admin.client.get(listed), 410, "LINK_EXPIRED")


@pytest.mark.usefixtures("working")
def test_an_erasure_empties_the_files_that_mention_the_customer(admin: Caller, settings: Settings) -> None:
    with psycopg.connect(settings.migration_dsn) as connection:
        # Its id must not be a number that is in each report.
        connection.execute("ALTER TABLE customers ALTER id RESTART WITH 2026112600")
    customer_id = sell(admin, customer="Ada")
    overview, team = made(admin, report="overview", format="xlsx"), made(admin, report="team")
    other = admin.customer("Other")["id"]
    body = {"reason": "Request", "confirm": "Other"}
    admin.ok("POST", f"/admin/customers/{other}/erase", body)
    assert fetched(admin, overview).status_code == 200
    admin.ok("POST", f"/admin/customers/{customer_id}/erase", body | {"confirm": "Ada"})
    refused(fetched(admin, overview), 410, "ANSWER_ERASED")
    assert fetched(admin, team).status_code == 200


@pytest.mark.usefixtures("working")
def test_a_run_is_of_one_moment(admin: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    sell(admin)
    before = admin.ok("GET", "/admin/reports/deals/summary")
    add_up = sums.add_up

    def sell_in_a_new_stage() -> None:
        monkeypatch.setattr(from_sums, "add_up", add_up)
        admin.ok("POST", "/admin/pipeline-stages", {"name": "legal", "display_name": "Legal"})
        sell(admin, stage="legal")

    async def late(*args: Any, **kwargs: Any) -> Any:
        await asyncio.to_thread(sell_in_a_new_stage)
        return await add_up(*args, **kwargs)

    monkeypatch.setattr(from_sums, "add_up", late)
    assert fetched(admin, made(admin, report="summary")).json() == before
    assert admin.ok("GET", "/admin/reports/deals/summary") != before


@pytest.mark.usefixtures("working")
def test_who_is_erased_while_a_report_is_made_is_in_no_file(
    admin: Caller, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(settings.migration_dsn) as connection:
        # Its id must not be a number that is in each report.
        connection.execute("ALTER TABLE customers ALTER id RESTART WITH 2026112700")
    customer_id = sell(admin, customer="Ada")
    report = service.REPORTS[ReportName.OVERVIEW]
    with ThreadPoolExecutor(1) as pool:
        erasures = []

        def erase() -> None:
            body = {"reason": "Request", "confirm": "Ada"}
            erasures.append(pool.submit(admin.ok, "POST", f"/admin/customers/{customer_id}/erase", body))
            waits = "SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            with psycopg.connect(settings.migration_dsn, autocommit=True) as connection:
                while not erasures[0].done() and connection.execute(waits).fetchone() is None:
                    time.sleep(0.01)

        async def slow(tx: Transaction, query: Any) -> Any:
            made = await report.make(tx, query)
            await asyncio.to_thread(erase)
            return made

        monkeypatch.setitem(service.REPORTS, ReportName.OVERVIEW, report._replace(make=slow))
        result = made(admin, report="overview")
        erasures[0].result()
    refused(fetched(admin, result), 410, "ANSWER_ERASED")


def test_what_a_report_does_not_have_is_refused_at_once(admin: Caller) -> None:
    for run in (
        {"report": "overview", "from": "2026-01-01"},
        {"report": "team", "owner_id": 5},
        {"report": "forecast", "from": "2026-05-01", "to": "2026-01-01"},
    ):
        (fault,) = refused(admin.post(RUNS, {"format": "csv", **run}), 400, "INVALID_REQUEST")["fields"]
        assert fault["field"] in run
    refused(admin.post(RUNS, {"report": "team", "format": "pdf"}), 400, "INVALID_REQUEST")
    body = {"report": "team", "format": "csv"}
    refused(admin.post(RUNS, body, headers={"Dry-Run": "true"}), 400, "DRY_RUN_UNSUPPORTED")
    key = {"Idempotency-Key": "k"}
    first, again = (admin.post(RUNS, body, headers=key) for _ in range(2))
    assert again.json() == first.json()
    assert again.headers["Location"] == first.headers["Location"]
    assert admin.ok("GET", "/admin/jobs")["total"] == 1


def test_one_person_has_a_limited_number_of_reports_that_wait(
    admin: Caller, manager: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "MOST_WAITING", 2)
    first, _ = (start(manager) for _ in range(2))
    assert refused(manager.post(RUNS, {"report": "team", "format": "csv"}), 409, "LIMIT_REACHED") == {"max": 2}
    start(admin)
    manager.ok("POST", f"/admin/jobs/{first}/cancel")
    start(manager)


def test_in_production_there_are_links_where_the_service_knows_its_address(
    variant: Callable[..., TestClient[Litestar]], callers: Callers, tenant: str
) -> None:
    without = callers.person("admin", tenant, client=variant(environment="production"))
    refused(without.post(RUNS, {"report": "team", "format": "csv"}), 503, "SERVICE_UNAVAILABLE")
    refused(without.client.get("/public/files/x"), 404, "NOT_FOUND")
    known = variant(environment="production", public_url="https://crm.example.com/", jobs_in_service=True)
    url = made(callers.person("admin", tenant, client=known), report="team")["download_url"]
    assert url.startswith("https://crm.example.com/public/files/")
    assert known.get(urlsplit(url).path).status_code == 200


@pytest.mark.usefixtures("working")
@pytest.mark.parametrize("name", ["overview", "funnel"])
def test_a_report_that_takes_too_long_is_answered_from_its_last_run(
    admin: Caller, settings: Settings, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    sell(admin)
    impatient = set_for_transaction(READS | {"statement_timeout": "'100ms'"})
    monkeypatch.setattr("app.db.database.BEGIN_READ", impatient)
    path, query = (
        f"/admin/reports/{REPORTS[name]}",
        {} if name == "overview" else {"owner_id": "me", "from": "2020-01-01"},
    )
    fresh = {"Cache-Control": "no-cache"}
    expected = admin.ok("GET", path, **query)

    def ask() -> Any:
        return admin.client.get(path, params=query, headers=admin.headers | fresh)

    with ThreadPoolExecutor(1) as others, psycopg.connect(settings.migration_dsn) as owner:
        owner.execute("LOCK report_sums IN ACCESS EXCLUSIVE MODE")
        # It was never made: it is waited for.
        first = others.submit(ask)
        wait_until(lambda: bool(waiting(admin)), "a job makes the report")
        owner.rollback()
        assert (first.result().status_code, first.result().json()) == (200, expected)
        sell(admin)
        owner.execute("LOCK report_sums IN ACCESS EXCLUSIVE MODE")
        later = ask()
        assert (later.status_code, later.json()) == (200, expected)
        assert int(later.headers["Age"]) >= 0
        # It is not made again so soon.
        assert waiting(admin) == []


def waiting(caller: Caller) -> list[Any]:
    """The jobs that are not finished."""
    return [job for job in caller.ok("GET", "/admin/jobs")["data"] if job["finished_at"] is None]
