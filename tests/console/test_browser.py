"""A page of another origin, in a real browser: CORS lets it make the calls, and read answers and errors."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from playwright.sync_api import Page, sync_playwright

from app.settings import Settings
from tests.console.dialect import FOLDER, check_shape
from tests.processes import IdentityService, Service, beside
from tests.programs import program

pytestmark = pytest.mark.slow


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Not into the tests' output."""


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    """Where the page is served from."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(FOLDER)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://localhost:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def service(settings: Settings, origin: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    told = beside(settings) | {"CORS_ALLOWED_ORIGINS": origin}
    service = Service(tmp_path_factory.mktemp("browser") / "data", **told)
    yield service
    service.stop()


@pytest.fixture(scope="module")
def page(origin: str) -> Iterator[Page]:
    chromium = program("chromium", "chromium-browser", "google-chrome", package="chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(f"{origin}/page.html")
        yield page
        browser.close()


def call(page: Page, service: Service, path: str, token: str, **options: Any) -> Any:
    if "body" in options:
        options["body"] = json.dumps(options["body"])
    return page.evaluate(
        "([url, token, options]) => call(url, token, options)", [f"{service.url}/console{path}", token, options]
    )


def test_a_page_reads_answers_and_errors(page: Page, service: Service) -> None:
    token = service.token("admin", "--tenant", "browser")
    made = call(page, service, "/admin/customers", token, method="POST", body={"name": "Ada", "phone": ""})
    assert made["status"] == 201, made
    check_shape(made["body"], "customer")
    assert made["headers"]["etag"] == '"1"'
    assert made["headers"]["x-request-id"]
    path = f"/admin/customers/{made['body']['id']}"
    assert call(page, service, "/admin/customers?limit=1000", token)["body"]["total"] == 1
    assert call(page, service, path, token, method="PUT", body={"phone": "1"})["body"]["phone"] == "1"
    task = {"type": "task", "subject": "Offer", "description": "", "customer_id": made["body"]["id"]}
    activity = call(page, service, "/admin/activities", token, method="POST", body=task)["body"]["id"]
    done = call(page, service, f"/admin/activities/{activity}/complete", token, method="PATCH")
    assert "completed_at" in done["body"]
    assert call(page, service, path, token, method="DELETE")["status"] == 200
    for refused, status, code in (
        (call(page, service, path, token), 404, "CUSTOMER_NOT_FOUND"),
        (call(page, service, path, "forged"), 401, "INVALID_TOKEN"),
        (call(page, service, "/admin/nothing", token), 404, "NOT_FOUND"),
        (call(page, service, "/admin/customers", token, method="POST", body={}), 400, "INVALID_REQUEST"),
        (call(page, service, "/admin/customers", token, method="POST", body={"name": "x" * 2**21}), 413, None),
    ):
        assert refused["status"] == status, refused
        assert refused["body"]["message"]
        assert code is None or refused["body"]["code"] == code


def test_an_agent_reads_why_it_may_not(page: Page, service: Service) -> None:
    answer = call(page, service, "/admin/tags", service.token("agent"), method="POST", body={"name": "VIP"})
    assert (answer["status"], answer["body"]["code"]) == (403, "INSUFFICIENT_PERMISSIONS")


def test_a_page_of_an_origin_that_is_not_allowed_reads_nothing(page: Page, service: Service, origin: str) -> None:
    token = service.token("admin", "--tenant", "browser")
    page.goto(f"{origin.replace('localhost', '127.0.0.1')}/page.html")
    try:
        assert "blocked" in call(page, service, "/admin/customers", token)
    finally:
        page.goto(f"{origin}/page.html")


@pytest.mark.parametrize(
    "zone", ["Pacific/Honolulu", "America/New_York", "Europe/London", "Asia/Kolkata", "Asia/Tokyo"]
)
def test_a_whole_day_is_that_day_in_browsers_west_and_east_of_greenwich(
    zone: str, page: Page, service: Service, origin: str
) -> None:
    token = service.token("admin", "--tenant", "days")
    assert page.context.browser
    context = page.context.browser.new_context(timezone_id=zone)
    there = context.new_page()
    there.goto(f"{origin}/page.html")
    task = {"type": "task", "subject": "Offer", "due_at": "2099-12-25"}
    body = {"name": "Ada", "follow_up_at": "2099-12-25"}
    for path, sent, field in (("/admin/activities", task, "due_at"), ("/admin/customers", body, "follow_up_at")):
        shown = call(there, service, path, token, method="POST", body=sent)["body"][field]
        day = there.evaluate("text => { const at = new Date(text); return [at.getMonth() + 1, at.getDate()]; }", shown)
        assert day == [12, 25], shown
    context.close()


@pytest.fixture(scope="module")
def identity(
    identity_settings: Settings, service: Service, origin: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[IdentityService]:
    secret = (service.data_dir / "jwt-secret").read_text().strip()
    told = beside(identity_settings) | {"CORS_ALLOWED_ORIGINS": origin, "JWT_SECRET": secret}
    cheap = {"PASSWORD_HASH_MEMORY_KIB": "64", "PASSWORD_HASH_TIME": "1"}
    service = IdentityService(tmp_path_factory.mktemp("logins") / "data", **told | cheap)
    yield service
    service.stop()


def test_a_page_logs_in_as_the_console_does_and_works_with_that_token(
    page: Page, service: Service, identity: IdentityService
) -> None:
    person = {"email": f"ada-{uuid.uuid4().hex[:8]}@example.com", "password": "correct horse battery staple"}

    def ask(path: str, token: str = "", **body: str) -> Any:
        options = {"method": "POST", "body": json.dumps(body)} if body else {}
        return page.evaluate(
            "([url, token, options]) => call(url, token, options)", [f"{identity.url}{path}", token, options]
        )

    assert ask("/auth/register", **person, name="Ada", organization="Engines")["status"] == 202
    wrong = ask("/admin/login", **person | {"password": "wrong password"})
    assert (wrong["status"], wrong["body"]["code"]) == (401, "INVALID_CREDENTIALS")
    session = ask("/admin/login", **person)["body"]
    me = ask("/admin/me", session["token"])["body"]
    assert me["user"]["email"] == person["email"]
    assert call(page, service, "/admin/customers?page=1&limit=10", session["token"])["body"]["total"] == 0
    renewed = ask("/auth/refresh", refresh_token=session["refresh_token"])["body"]
    made = call(page, service, "/admin/customers", renewed["token"], method="POST", body={"name": "Marie", "email": ""})
    assert made["status"] == 201, made
