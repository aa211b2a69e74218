"""The servers of Google and Microsoft, started once, and a new account for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.calendars.accounts import Account
from tests.peers.google_calendar import Google
from tests.peers.graph import Graph


@pytest.fixture(scope="session")
def google_server() -> Iterator[Google]:
    with Google().listening() as server:
        yield server


@pytest.fixture(scope="session")
def graph_server() -> Iterator[Graph]:
    with Graph().listening() as server:
        yield server


@pytest.fixture
def microsoft(graph_server: Graph) -> Account:
    return Account(graph_server)


@pytest.fixture(params=["google", "microsoft"])
def account(request: pytest.FixtureRequest, google_server: Google, graph_server: Graph) -> Account:
    """An account at each of the two."""
    return Account(google_server if request.param == "google" else graph_server)
