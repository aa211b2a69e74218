"""What a worker knows of members who may do less than their token says."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from app.access import memberships
from app.access.actor import Actor
from app.access.memberships import Changes, Membership, Memberships
from app.access.permissions import Role
from app.web.errors import AppError, Code

ADA = Membership("acme", 1, None, "ada@example.com", "agent", True, None)
BOB = Membership("acme", 2, "bob", None, None, False, None)
PERSON = Actor(user_id="ada", tenant_id="acme", role=Role.ADMIN, token_role=Role.ADMIN, email="ADA@example.com")


class Server:
    """What is asked of the database, and what it answers."""

    def __init__(self, *answers: Changes | AppError) -> None:
        self.answers = list(answers)
        self.asked: list[int | None] = []

    async def read(self, since: int | None) -> Changes:
        self.asked.append(since)
        await asyncio.sleep(0)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, AppError):
            raise answer
        return answer


def known(*answers: Changes | AppError) -> tuple[Memberships, Server]:
    server = Server(*answers)
    return Memberships(server.read), server


async def after_readings(number: int, *answers: Changes | AppError) -> tuple[Memberships, Server]:
    them, server = known(*answers)
    for _ in range(number):
        await them.catch_up()
    return them, server


def test_who_is_expected_is_narrowed_by_the_email_and_then_by_the_id() -> None:
    joined = ADA._replace(user_id="ada")
    them, server = asyncio.run(after_readings(1, Changes(5, 1, [ADA])))
    assert them.narrowed(PERSON).role is Role.AGENT
    them, server = asyncio.run(after_readings(2, Changes(5, 1, [ADA]), Changes(6, 0, [joined])))
    assert server.asked == [None, 5]
    assert them.narrowed(PERSON).role is Role.AGENT
    other = Actor(user_id="eve", tenant_id="acme", role=Role.ADMIN, email="ada@example.com")
    assert them.narrowed(other).role is Role.ADMIN


def test_all_is_read_again_when_an_invitation_was_withdrawn_or_the_server_is_another() -> None:
    them, server = asyncio.run(after_readings(2, Changes(5, 1, [ADA]), Changes(6, 0, []), Changes(6, 0, [])))
    assert server.asked == [None, 5, None]
    assert them.narrowed(PERSON).role is Role.ADMIN
    _, server = asyncio.run(after_readings(2, Changes(5, 1, [ADA]), Changes(3, 1, []), Changes(3, 1, [ADA])))
    assert server.asked == [None, 5, None]


def test_a_sign_out_of_who_is_expected_is_not_read_again_and_again() -> None:
    out = ADA._replace(role=None, signed_out_at=datetime.now(UTC))
    _, server = asyncio.run(after_readings(3, Changes(5, 0, [out])))
    assert server.asked == [None, 5, 5]


def test_nobody_is_let_in_on_what_is_old(monkeypatch: pytest.MonkeyPatch) -> None:
    async def asked() -> list[int | None]:
        them, server = known(Changes(5, 0, [BOB]), AppError(Code.SERVICE_UNAVAILABLE))
        await asyncio.gather(*(them.fresh() for _ in range(20)))
        await them.fresh()
        assert server.asked == [None]  # all share one reading
        monkeypatch.setattr(memberships, "MOST_SECONDS", -1.0)
        with pytest.raises(AppError) as refusal:
            await them.fresh()
        assert refusal.value.code is Code.SERVICE_UNAVAILABLE
        return server.asked

    assert asyncio.run(asked()) == [None, 5]


def test_a_revoked_token_is_older_than_the_sign_out_or_does_not_say() -> None:
    at = datetime(2026, 1, 1, 12, 0, 0, 500_000, tzinfo=UTC)
    them, _ = asyncio.run(after_readings(1, Changes(5, 0, [BOB._replace(is_active=True, signed_out_at=at)])))
    for issued_at in (at.timestamp() - 1, at.timestamp() // 1, None):
        with pytest.raises(AppError) as refusal:
            them.refuse_revoked("acme", "bob", None, issued_at)
        assert refusal.value.code is Code.TOKEN_REVOKED
    them.refuse_revoked("acme", "bob", None, at.timestamp() + 0.5)
    them.refuse_revoked("other", "bob", None, None)
