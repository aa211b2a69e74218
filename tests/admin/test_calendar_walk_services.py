"""The walk of test_calendar_walk.py over calendars at Google and Microsoft, as the local servers have them. Here quotas
are used up, too, servers fail for a while, lists have pages, and access tokens run out.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import pytest
from litestar import Litestar
from litestar.testing import TestClient
from msgspec.structs import replace
from starlette.requests import Request

from app.settings import Settings
from tests.admin.calendar_services import OnGoogle, OnGraph
from tests.admin.calendar_walk import Walk
from tests.callers import Callers
from tests.peers.consent import CLIENT_ID, CLIENT_SECRET, Fail
from tests.peers.google_calendar import Google
from tests.peers.graph import Graph
from tests.peers.unreliable import Unreliable

pytestmark = pytest.mark.slow

STEPS = int(os.environ.get("CRM_CALENDAR_STEPS", "40"))
CONSOLE, SERVICE = "https://console.example.com/calendars", "https://crm.example.com"
TROUBLE = [
    Fail(429, "rateLimitExceeded", {"Retry-After": "3"}),
    Fail(403, "userRateLimitExceeded"),
    Fail(500, "backendError"),
    Fail(503, "serviceNotAvailable", {"Retry-After": "2"}),
    Fail(504),
]


@pytest.mark.parametrize("provider", ["google", "microsoft"])
def test_after_a_walk_both_sides_are_equal_and_nothing_is_lost_or_there_twice(
    settings: Settings, variant: Callable[..., TestClient[Litestar]], tenant: str, provider: str
) -> None:
    peer = Google() if provider == "google" else Graph()
    theirs = OnGoogle(peer) if isinstance(peer, Google) else OnGraph(peer)
    with peer.listening(), Unreliable(peer.url).listening() as proxy:
        changed = {
            f"{provider}_client_id": CLIENT_ID,
            f"{provider}_client_secret": CLIENT_SECRET,
            **({"google_base_url": proxy.url} if provider == "google" else {}),
            **({"microsoft_login_url": proxy.url, "microsoft_graph_url": proxy.url} if provider == "microsoft" else {}),
            "public_url": SERVICE,
            "console_url": CONSOLE,
        }
        client = variant(**changed)
        agent = Callers(client, settings).person("agent", tenant)
        peer.redirect_uris.add(f"{SERVICE}/public/connections/callback")
        page = agent.ok("POST", f"/admin/me/connections/{provider}", {})["authorize_url"]
        back = client.get("/public/connections/callback", params=peer.consented(page), follow_redirects=False)
        assert back.headers["location"].startswith(f"{CONSOLE}?")
        given = {name: values[0] for name, values in parse_qs(urlsplit(back.headers["location"]).query).items()}
        connection = agent.ok("POST", "/admin/me/connections/finish", given)
        walk = Walk(replace(settings, **changed), agent, theirs, proxy, connection["id"], seed=STEPS)
        dice = random.Random(STEPS)
        peer.page = 7

        def trouble(_: Request) -> Fail | None:
            if walk.done.total() < STEPS and dice.random() < 0.03:
                walk.done["refused for a while"] += 1
                return dice.choice(TROUBLE)
            return None

        peer.trouble = trouble
        walk.run(STEPS)
    print(walk.done)  # noqa: T201 -- what was seen, for who runs the long one
