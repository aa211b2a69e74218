"""The real `crm identity` on the tests' database, with a login of its own."""

from __future__ import annotations

import email
import email.policy
import re
import uuid
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from litestar import Litestar
from litestar.testing import TestClient
from msgspec.structs import replace

from app.identity.main import create_identity
from app.settings import Settings
from tests.client import InProcess
from tests.processes import wait_until

PASSWORD = "correct horse battery staple"
SECRET = re.compile(r"^(\S{43})$|token=(\S{43})", re.MULTILINE)


@pytest.fixture(scope="session")
def identity(identity_settings: Settings) -> Iterator[TestClient[Litestar]]:
    with InProcess(behind_a_proxy(create_identity(identity_settings))) as client:
        yield client


def behind_a_proxy(app: Litestar) -> Litestar:
    """The test client has no address; now it is a proxy's, which says the client's."""
    inner = app.asgi_handler

    async def outer(scope: Any, receive: Any, send: Any) -> None:
        await inner(scope | {"client": ("127.0.0.1", 1)}, receive, send)

    app.asgi_handler = outer
    return app


@pytest.fixture
def other_identity(identity_settings: Settings) -> Iterator[Callable[..., TestClient[Litestar]]]:
    """`crm identity` with other settings, on the same database."""
    started: list[TestClient[Litestar]] = []

    def start(**changes: object) -> TestClient[Litestar]:
        app = behind_a_proxy(create_identity(replace(identity_settings, **changes)))
        client = InProcess(app)
        client.__enter__()
        started.append(client)
        return client

    yield start
    for client in started:
        client.__exit__(None, None, None)


@pytest.fixture
def identity_owner(identity_settings: Settings) -> Iterator[psycopg.Connection]:
    """A session of the login that owns the tables."""
    with psycopg.connect(
        identity_settings.migration_dsn, autocommit=True, options="-csearch_path=identity"
    ) as connection:
        yield connection


class Somebody:
    """A person who has registered, on a network of their own."""

    def __init__(self, identity: TestClient[Litestar], settings: Settings, name: str = "Ada") -> None:
        self.identity, self.settings = identity, settings
        self.name = name
        self.email = f"{name.lower()}-{uuid.uuid4().hex[:12]}@example.com"
        self.password = PASSWORD
        # Everybody has a network of their own, so that no test uses up another one's attempts.
        self.network = f"10.{uuid.uuid4().int % 250}.{uuid.uuid4().int % 250}.{uuid.uuid4().int % 250}"
        self.session: dict[str, Any] = {}
        self.read: set[str] = set()

    def call(self, method: str, path: str, *, headers: dict[str, str] | None = None, **more: Any) -> httpx.Response:
        token = self.session.get("token")
        sent = {"X-Forwarded-For": self.network} | ({"Authorization": f"Bearer {token}"} if token else {})
        return self.identity.request(method, path, headers=sent | (headers or {}), **more)

    def ok(self, method: str, path: str, json: Any = None, **more: Any) -> Any:
        answer = self.call(method, path, json=json, **more)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json()

    def register(self, organization: str | None = "Engines", **more: Any) -> httpx.Response:
        body = {"email": self.email, "password": self.password, "name": self.name}
        return self.call(
            "POST", "/auth/register", json=body | ({"organization": organization} if organization else {}) | more
        )

    def log_in(
        self, password: str | None = None, *, headers: dict[str, str] | None = None, **more: Any
    ) -> httpx.Response:
        body = {"email": self.email, "password": password or self.password} | more
        answer = self.call("POST", "/auth/login", json=body, headers=headers)
        if answer.is_success:
            self.session = answer.json()
        return answer

    def refresh(self, token: str | None = None, **headers: str) -> httpx.Response:
        return self.call(
            "POST", "/auth/refresh", json={"refresh_token": token or self.session["refresh_token"]}, headers=headers
        )

    @property
    def id(self) -> str:
        return str(self.session["user"]["id"])

    @property
    def organization(self) -> str:
        return str(self.session["organizations"][0]["id"])

    def mail(self, subject: str) -> str:
        """The text of a mail to this person with this in its subject, once it is there; of each mail once."""
        found: list[EmailMessage] = []

        def arrived() -> bool:
            mails = _mails(Path(self.settings.crm_data_dir))
            new = [each for each in mails if self.email in str(each["To"]) and each["Message-ID"] not in self.read]
            found[:] = [each for each in new if subject in str(each["Subject"])]
            return bool(found)

        wait_until(arrived, f"a mail to {self.email} about {subject}")
        self.read.add(found[0]["Message-ID"])
        body = found[0].get_body(("plain",))
        assert body is not None
        return str(body.get_content()).replace("\r", "")

    def secret(self, subject: str) -> str:
        """The secret in such a mail."""
        match = SECRET.search(self.mail(subject))
        assert match is not None
        return match[1] or match[2]


def _mails(folder: Path) -> list[EmailMessage]:
    paths = sorted((folder / "mail").glob("*.eml"))
    return [email.message_from_bytes(path.read_bytes(), policy=email.policy.default) for path in paths]


@pytest.fixture
def somebody(identity: TestClient[Litestar], identity_settings: Settings) -> Callable[..., Somebody]:
    """Makes people who have not registered."""
    return lambda name="Ada", client=identity: Somebody(client, identity_settings, name)


@pytest.fixture
def ada(somebody: Callable[..., Somebody]) -> Somebody:
    """Somebody who has registered and logged in."""
    ada = somebody("Ada")
    assert ada.register().status_code == 202
    assert ada.log_in().status_code == 200
    return ada
