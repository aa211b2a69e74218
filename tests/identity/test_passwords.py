"""Registration and passwords: what is refused, and what nobody can find out."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from statistics import median

import psycopg
import pytest
from litestar import Litestar
from litestar.testing import TestClient

from app.identity.passwords import MOST_FOR_EACH_CORE, PasswordHashes
from app.settings import Settings
from app.web.errors import AppError
from tests.callers import refused
from tests.identity.conftest import PASSWORD, Somebody

NEW = "another horse battery staple"


@pytest.mark.parametrize(
    ("password", "reason"),
    [
        ("short", ">= 8"),
        ("x" * 129, "<= 128"),
        ("Password1", "most common"),
        ("{email}", "email address"),
    ],
)
def test_a_password_that_others_would_guess_is_refused(
    somebody: Callable[..., Somebody], password: str, reason: str
) -> None:
    ada = somebody()
    ada.password = password.format(email=ada.email)
    answer = ada.register()
    assert refused(answer, 400, "INVALID_REQUEST")["fields"][0]["field"] == "password"
    assert reason in answer.json()["message"].replace("length >= 8", ">= 8").replace("length <= 128", "<= 128")


def test_a_password_is_the_same_however_its_letters_are_composed(somebody: Callable[..., Somebody]) -> None:
    ada = somebody()
    ada.password = "pa\u0308sswo\u0308rter sind lang"
    ada.register()
    assert ada.log_in("p\u00e4ssw\u00f6rter sind lang").status_code == 200


def test_a_known_email_answers_as_a_new_one_and_only_its_owner_is_told(ada: Somebody) -> None:
    again = ada.register()
    assert again.status_code == 202
    new = Somebody(ada.identity, ada.settings)
    assert new.register().content == again.content
    assert "tried to register" in " ".join(ada.mail("account already").split())
    assert ada.log_in().status_code == 200


def test_the_mail_after_the_registration_confirms_the_address_once(ada: Somebody) -> None:
    secret = ada.secret("Confirm")
    assert not ada.ok("GET", "/auth/me")["is_email_verified"]
    ada.ok("POST", "/auth/verify-email", {"token": secret})
    assert ada.ok("GET", "/auth/me")["is_email_verified"]
    refused(ada.call("POST", "/auth/verify-email", json={"token": secret}), 400, "INVALID_LINK")


def test_without_mail_the_registration_answers_with_a_session_or_says_that_the_email_is_known(
    somebody: Callable[..., Somebody], other_identity: Callable[..., TestClient[Litestar]]
) -> None:
    mute = other_identity(
        environment="production", registration="open", jwt_secret="s" * 32, password_hash_memory_kib=64
    )
    ada = somebody(client=mute)
    session = ada.register()
    assert (session.status_code, session.json()["user"]["email"]) == (201, ada.email)
    refused(ada.register(), 409, "EMAIL_EXISTS")


@pytest.mark.parametrize(("registration", "invited"), [("invited", True), ("closed", True), ("closed", False)])
def test_nobody_registers_where_registration_is_closed(
    somebody: Callable[..., Somebody],
    other_identity: Callable[..., TestClient[Litestar]],
    registration: str,
    invited: bool,
) -> None:
    ada = somebody(client=other_identity(registration=registration))
    refused(ada.register(), 403, "REGISTRATION_CLOSED")
    if invited and registration == "invited":
        refused(ada.register(None, invitation="none"), 400, "INVALID_LINK")


def test_a_forgotten_password_is_set_anew_by_a_link_that_is_good_once(ada: Somebody) -> None:
    for email in (ada.email, "nobody@example.com"):
        assert ada.call("POST", "/auth/password/forgot", json={"email": email}).status_code == 202
    secret = ada.secret("new password")
    refused(
        ada.call("POST", "/auth/password/reset", json={"token": secret, "password": "12345678"}), 400, "INVALID_REQUEST"
    )
    before = ada.session
    ada.ok("POST", "/auth/password/reset", {"token": secret, "password": NEW})
    refused(ada.call("POST", "/auth/password/reset", json={"token": secret, "password": NEW}), 400, "INVALID_LINK")
    refused(ada.refresh(before["refresh_token"]), 401, "INVALID_TOKEN")
    refused(ada.log_in(), 401, "INVALID_CREDENTIALS")
    assert ada.log_in(NEW).status_code == 200


def test_the_link_goes_to_the_address_that_the_person_gave_not_to_one_that_is_alike(
    somebody: Callable[..., Somebody],
) -> None:
    ada = somebody()
    ada.email = ada.email.replace("example.com", "strasse.example.com")
    ada.register()
    # Another domain, which folds to the same letters: `straße`.
    alike = ada.email.replace("strasse", "xn--strae-oqa")
    assert ada.call("POST", "/auth/password/forgot", json={"email": alike}).status_code == 202
    ada.ok("POST", "/auth/password/reset", {"token": ada.secret("new password"), "password": NEW})
    eve = somebody("Eve")
    eve.email = alike
    assert eve.register().status_code == 202
    assert ada.mail("have an account already")


def test_a_link_is_good_for_half_an_hour(ada: Somebody, identity_owner: psycopg.Connection) -> None:
    ada.call("POST", "/auth/password/forgot", json={"email": ada.email})
    secret = ada.secret("new password")
    (left,) = identity_owner.execute(
        "SELECT extract(epoch FROM expires_at - created_at) FROM one_time_links WHERE user_id = %s AND purpose = %s",
        [ada.id, "reset_password"],
    ).fetchone() or (0,)
    assert left == 30 * 60
    identity_owner.execute("UPDATE one_time_links SET expires_at = now() WHERE user_id = %s", [ada.id])
    refused(ada.call("POST", "/auth/password/reset", json={"token": secret, "password": NEW}), 400, "INVALID_LINK")


def test_a_change_of_the_password_ends_all_other_sessions(ada: Somebody) -> None:
    other = ada.session
    ada.log_in()
    change = {"current_password": "wrong", "new_password": NEW}
    refused(ada.call("POST", "/auth/password/change", json=change), 400, "INVALID_CREDENTIALS")
    ada.ok("POST", "/auth/password/change", change | {"current_password": PASSWORD})
    refused(ada.refresh(other["refresh_token"]), 401, "INVALID_TOKEN")
    assert ada.refresh().status_code == 200


def test_a_login_renews_a_hash_that_was_made_with_other_settings(
    ada: Somebody, other_identity: Callable[..., TestClient[Litestar]], identity_owner: psycopg.Connection
) -> None:
    def parameters() -> str:
        (found,) = identity_owner.execute(
            "SELECT split_part(password_hash, '$', 4) FROM credentials WHERE user_id = %s", [ada.id]
        ).fetchone() or ("",)
        return str(found)

    assert parameters() == "m=64,t=1,p=1"
    ada.identity = other_identity(password_hash_memory_kib=128, password_hash_time=2)
    ada.log_in()
    assert parameters() == "m=128,t=2,p=1"
    assert ada.log_in().status_code == 200


def test_after_five_failures_even_the_right_password_waits_but_not_on_another_network(ada: Somebody) -> None:
    here = ada.network
    for _ in range(5):
        refused(ada.log_in("wrong password"), 401, "INVALID_CREDENTIALS")
    answer = ada.log_in()
    refused(answer, 429, "RATE_LIMITED")
    assert 1 <= int(answer.headers["Retry-After"]) <= 60
    ada.network = "192.0.2.1"
    assert ada.log_in().status_code == 200
    # The networks of IPv6 are of 64 bits.
    for last in range(6):
        ada.network = f"2001:db8:{here.split('.')[1]}:{here.split('.')[2]}::{last}"
        answer = ada.log_in("wrong password")
    refused(answer, 429, "RATE_LIMITED")


def test_of_many_who_guess_at_the_same_moment_five_are_told(ada: Somebody) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(lambda number: ada.log_in(f"wrong password {number}"), range(20)))
    assert sorted(answer.status_code for answer in answers) == [401] * 5 + [429] * 15


def test_fifty_failures_from_one_network_are_enough_whatever_the_email(
    ada: Somebody, identity_owner: psycopg.Connection
) -> None:
    identity_owner.execute(
        "INSERT INTO auth_events (kind, network, email_folded)"
        " SELECT 'login_failed', %s, n || '@example.com' FROM generate_series(1, 50) AS n",
        [ada.network],
    )
    refused(ada.log_in(), 429, "RATE_LIMITED")


ROUNDS, TURNS = 3, 40
# Of 40 fair coins, fewer than 7 or more than 33 heads come once in a hundred thousand times.
FEWEST = 7


@pytest.fixture
def known(ada: Somebody, identity_owner: psycopg.Connection) -> Iterator[str]:
    """Emails that are known: each is asked about once, as the new ones are."""
    made = identity_owner.execute(
        "WITH person AS (INSERT INTO users (email, email_folded, name)"
        " SELECT f, f, 'Known' FROM generate_series(1, %s) AS n, concat(n, '-', %s::text) AS f RETURNING id, email),"
        " credential AS (INSERT INTO credentials (user_id, password_hash)"
        " SELECT person.id, password_hash FROM person, credentials WHERE user_id = %s)"
        " SELECT email FROM person",
        [ROUNDS * TURNS, ada.email, ada.id],
    )
    return iter([email for (email,) in made.fetchall()])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "changes"),
    [
        ("/auth/login", {}),
        # A hash by the settings takes much longer than those of the known, which are from before.
        ("/auth/login", {"password_hash_memory_kib": 8192, "password_hash_time": 3}),
        ("/auth/register", {}),
        ("/auth/password/forgot", {}),
    ],
)
def test_no_time_tells_whether_an_email_is_known(
    path: str,
    changes: dict[str, int],
    known: Iterator[str],
    somebody: Callable[..., Somebody],
    other_identity: Callable[..., TestClient[Litestar]],
) -> None:
    """The two kinds take turns, so that whatever else this machine does falls on both alike. A difference would make
    one kind faster in clearly more than half of the turns, and so again and again: what else the machine does for a
    while can look like it once.
    """
    client = other_identity(**changes)
    found = []
    for _ in range(ROUNDS):
        pairs = [_in_turn(path, next(known), lambda: somebody("Eve", client), turn) for turn in range(TURNS)]
        found.append((sum(a < b for a, b in pairs), *(median(each) for each in zip(*pairs, strict=True))))
        if FEWEST <= found[-1][0] <= TURNS - FEWEST:
            return
    pytest.fail(f"known ones were faster in so many of {TURNS} turns, and the medians: {found}")


def _in_turn(path: str, known: str, newcomer: Callable[[], Somebody], turn: int) -> tuple[float, float]:
    """How long it takes for a known email and for a new one, of which each comes first every other time."""
    times = {}
    for is_known in (True, False) if turn % 2 else (False, True):
        asks = newcomer()
        body = {"email": known if is_known else asks.email}
        body |= {"password": NEW} if path != "/auth/password/forgot" else {}
        body |= {"name": "Eve", "organization": "Engines"} if path == "/auth/register" else {}
        began = time.perf_counter()
        answer = asks.call("POST", path, json=body)
        times[is_known] = time.perf_counter() - began
        assert answer.status_code in {401, 202}
    return times[True], times[False]


def test_an_address_gets_five_mails_in_half_an_hour_whoever_asks_for_them(
    ada: Somebody, somebody: Callable[..., Somebody], identity_owner: psycopg.Connection
) -> None:
    for path, more in (
        ("/auth/password/forgot", {}),
        ("/auth/register", {"password": NEW, "name": "Eve", "organization": "Engines"}),
    ):
        # Each on a network of its own, and with the address in another form.
        spellings = [ada.email.upper(), *[ada.email] * 6]
        answers = [somebody("Eve").call("POST", path, json={"email": each, **more}) for each in spellings]
        assert {answer.status_code for answer in answers} == {202}

    def made() -> list[tuple[str, int]]:
        mails = "SELECT kind, count(*) FROM mails WHERE lower(address) = %s GROUP BY kind ORDER BY kind"
        return identity_owner.execute(mails, [ada.email]).fetchall()

    assert made() == [("registered", 5), ("reset_password", 5)]
    # After that time, others are sent.
    identity_owner.execute(
        "UPDATE auth_events SET at = at - interval '30 minutes' WHERE email_folded = %s", [ada.email]
    )
    ada.call("POST", "/auth/password/forgot", json={"email": ada.email})
    assert made() == [("registered", 5), ("reset_password", 6)]


def test_who_would_wait_too_long_for_a_hash_is_refused_and_nobody_else(identity_settings: Settings) -> None:
    hashes = PasswordHashes(identity_settings)
    with ExitStack() as turns:
        for _ in range(MOST_FOR_EACH_CORE * len(os.sched_getaffinity(0))):
            turns.enter_context(hashes.turn())
        with pytest.raises(AppError) as refusal, hashes.turn():
            pass
        assert (refusal.value.status, refusal.value.headers["Retry-After"]) == (429, "2")
    with hashes.turn():
        assert not asyncio.run(hashes.verify(None, "whatever"))


def test_the_settings_say_how_a_password_is_hashed(settings: Settings) -> None:
    assert (settings.password_hash_memory_kib, settings.password_hash_time) == (65_536, 3)


class InterruptedHashes(PasswordHashes):
    """Real ones; but before somebody learns that a password is right, something else happens."""

    def __init__(self, settings: Settings, happens: Callable[[], object]) -> None:
        super().__init__(settings)
        self._happens = happens

    async def verify(self, known: str | None, password: str, in_use: Collection[str] = ()) -> bool:
        is_right = await super().verify(known, password, in_use)
        await asyncio.to_thread(self._happens)
        return is_right


@pytest.mark.parametrize("path", ["/auth/login", "/auth/password/change"])
def test_a_password_that_is_replaced_while_it_is_checked_opens_nothing_any_more(
    ada: Somebody,
    other_identity: Callable[..., TestClient[Litestar]],
    identity_settings: Settings,
    path: str,
) -> None:
    ada.call("POST", "/auth/password/forgot", json={"email": ada.email})
    reset = {"token": ada.secret("new password"), "password": NEW}
    owner = Somebody(ada.identity, ada.settings)
    intruder = other_identity()
    happens = InterruptedHashes(identity_settings, lambda: owner.ok("POST", "/auth/password/reset", reset))
    intruder.app.state.hashes = happens
    ada.identity = intruder
    body = {"email": ada.email, "password": PASSWORD}
    if path == "/auth/password/change":
        body = {"current_password": PASSWORD, "new_password": "a password of the intruder"}
    assert ada.call("POST", path, json=body).json()["code"] == "INVALID_CREDENTIALS"
    ada.identity = owner.identity
    assert ada.log_in(NEW).status_code == 200


def test_a_new_password_makes_the_links_useless_that_were_mailed_before(ada: Somebody) -> None:
    ada.call("POST", "/auth/password/forgot", json={"email": ada.email})
    secret = ada.secret("new password")
    ada.ok("POST", "/auth/password/change", {"current_password": PASSWORD, "new_password": NEW})
    refused(ada.call("POST", "/auth/password/reset", json={"token": secret, "password": PASSWORD}), 400, "INVALID_LINK")
    assert ada.log_in(NEW).status_code == 200


def test_a_link_that_is_none_costs_no_hash(ada: Somebody, other_identity: Callable[..., TestClient[Litestar]]) -> None:
    hashed: list[str] = []

    class CountedHashes(PasswordHashes):
        async def hash(self, password: str) -> str:
            hashed.append(password)
            return await super().hash(password)

    client = other_identity()
    client.app.state.hashes = CountedHashes(client.app.state.settings)
    ada.identity = client
    for _ in range(2):
        refused(
            ada.call("POST", "/auth/password/reset", json={"token": "x" * 43, "password": NEW}), 400, "INVALID_LINK"
        )
    assert hashed == []
