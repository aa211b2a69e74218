"""`crm issuer`, the stand-in for the CMS's login."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from litestar import Litestar
from litestar.testing import TestClient

from app.access.permissions import Role
from app.dev.issuer import User, create_issuer
from app.settings import Settings
from tests.processes import CRM, ENVIRONMENT, crm_here

USERS = [
    User("boss@example.com", "correct horse", Role.ADMIN, "The Boss"),
    User("sam@example.com", "päßwörd", Role.AGENT, "Sam", "acme"),
]


@pytest.fixture(scope="module")
def issuer(settings: Settings) -> Iterator[TestClient[Litestar]]:
    with TestClient(create_issuer(settings, USERS)) as client:
        yield client


def log_in(issuer: TestClient[Litestar], **body: Any) -> httpx.Response:
    return issuer.post("/admin/login", json=body)


def test_who_logs_in_gets_a_token_that_the_service_takes(
    issuer: TestClient[Litestar], client: TestClient[Litestar]
) -> None:
    answer = log_in(issuer, email="Boss@example.com", password="correct horse").json()
    headers = {"Authorization": f"Bearer {answer['token']}"}
    for where in (issuer, client):
        assert where.get("/admin/me", headers=headers).json()["user"] == answer["user"]
    assert answer["user"]["name"] == "The Boss"
    assert answer["user"]["role"] == "admin"


def test_the_token_has_the_form_of_the_cms(issuer: TestClient[Litestar]) -> None:
    answer = log_in(issuer, email="boss@example.com", password="correct horse").json()
    claims = jwt.decode(answer["token"], options={"verify_signature": False})
    assert set(claims) == {"sub", "email", "name", "role", "permissions", "iss", "aud", "iat", "exp"}
    again = log_in(issuer, email="boss@example.com", password="correct horse").json()
    assert again["user"]["id"] == claims["sub"] == answer["user"]["id"]


def test_a_user_of_one_organization_gets_tokens_for_it(issuer: TestClient[Litestar]) -> None:
    answer = log_in(issuer, email="sam@example.com", password="päßwörd").json()
    assert answer["user"]["tenant_id"] == "acme"
    assert jwt.decode(answer["token"], options={"verify_signature": False})["tenant_id"] == "acme"


@pytest.mark.parametrize(
    ("email", "password"),
    [("boss@example.com", "wrong"), ("boss@example.com", "päßwörd"), ("nobody@example.com", "correct horse")],
)
def test_a_wrong_login_is_401_and_does_not_say_what_was_wrong(
    issuer: TestClient[Litestar], email: str, password: str
) -> None:
    answer = log_in(issuer, email=email, password=password)
    assert (answer.status_code, answer.json()["code"]) == (401, "INVALID_CREDENTIALS")
    assert answer.content == log_in(issuer, email="boss@example.com", password="x").content


@pytest.mark.parametrize("body", [{"email": "boss@example.com"}, {"email": "boss@example.com", "password": ""}, {}])
def test_a_login_without_a_password_is_400(issuer: TestClient[Litestar], body: dict[str, Any]) -> None:
    answer = log_in(issuer, **body)
    assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_REQUEST")
    assert "password" in {field["field"] for field in answer.json()["data"]["fields"]}


def test_without_a_token_nobody_is_anybody(issuer: TestClient[Litestar]) -> None:
    answer = issuer.get("/admin/me")
    assert (answer.status_code, answer.json()["code"]) == (401, "MISSING_TOKEN")


def test_pages_on_the_developers_machine_may_log_in_and_others_may_not(issuer: TestClient[Litestar]) -> None:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    local = issuer.options("/admin/login", headers={"Origin": "http://localhost:3000"} | asked)
    assert (local.status_code, local.headers["access-control-allow-origin"]) == (204, "http://localhost:3000")
    other = issuer.options("/admin/login", headers={"Origin": "https://evil.example.com"} | asked)
    assert (other.status_code, other.json()["code"]) == (403, "ORIGIN_NOT_ALLOWED")


def test_as_a_process_it_prints_the_passwords_signs_with_the_services_secret_and_stops(
    tmp_path: Path,
) -> None:
    process = subprocess.Popen(
        [CRM, "issuer", "--port", "0", "--data-dir", str(tmp_path)], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    passwords = dict(process.stdout.readline().split() for _ in range(3))
    assert set(passwords) == {"admin@example.com", "manager@example.com", "agent@example.com"}
    url = process.stdout.readline().strip().removeprefix("ready ")
    body = {"email": "agent@example.com", "password": passwords["agent@example.com"]}
    token = httpx.post(f"{url}/admin/login", json=body).json()["token"]
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    process.stdout.close()
    assert jwt.decode(token, (tmp_path / "jwt-secret").read_text(), ["HS256"], audience="platform-console")["role"] == (
        "agent"
    )


@pytest.mark.parametrize(
    ("users", "reason"),
    [
        ('[{"email": "a@example.com", "role": "admin", "name": "A"}]', "missing required field `password`"),
        ('[{"email": "a@example.com", "password": "p", "role": "king", "name": "A"}]', "king"),
        (json.dumps([{"email": "a@example.com", "password": "p", "role": "agent", "name": "A"}] * 2), "twice"),
        (
            json.dumps([{"email": "a@b.co", "password": "p", "role": "agent", "name": "A", "tenant_id": "a\n"}]),
            "can't be the organization",
        ),
        ("[", "truncated"),
    ],
)
def test_a_users_file_that_will_not_do_is_one_line(tmp_path: Path, users: str, reason: str) -> None:
    (tmp_path / "users.json").write_text(users)
    answer = crm_here("issuer", "--port", "0", "--users", str(tmp_path / "users.json"), "--data-dir", str(tmp_path))
    assert answer.exit_code == 1
    assert reason in answer.stderr
    assert answer.stderr.count("\n") == 1


def test_in_production_it_refuses_to_start() -> None:
    answer = crm_here("issuer", ENVIRONMENT="production", JWT_SECRET="s" * 32, DATABASE_URL="postgresql://crm@db/crm")
    assert answer.exit_code == 1
    assert "only the CMS issues tokens" in answer.stderr


def test_the_service_never_loads_it() -> None:
    loaded = "import app.worker, sys; print([name for name in sys.modules if name.startswith(('app.cli', 'app.dev'))])"
    shown = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert shown.stdout == "[]\n"
