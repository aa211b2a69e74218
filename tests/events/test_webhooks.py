"""Webhooks: what other systems receive, in which order, and what happens to those that fail."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from typing import Any

import psycopg
import pytest
from standardwebhooks import WebhookVerificationError

from app.admin.webhooks.schemas import MOST_REPLAYED
from app.db.database import Database
from app.events import feed
from app.events.webhooks import client, deliveries, sender
from app.events.webhooks.attempts import Attempt, Outcome, Policy
from app.events.webhooks.deliveries import Result
from app.settings import Settings
from app.web.errors import AppError, Code
from tests.callers import Caller, refused
from tests.events.conftest import Deliver, Receiver, hook, respond, sent

Seal = Callable[[], None]
Handler = BaseHTTPRequestHandler


def all_delivered(caller: Caller, webhook: dict[str, Any], count: int) -> Callable[[], bool]:
    return lambda: len(sent(caller, webhook, status="delivered")) == count


def attempts(caller: Caller, webhook: dict[str, Any]) -> list[dict[str, Any]]:
    return [attempt for delivery in sent(caller, webhook) for attempt in delivery["attempts"]]


# ── what arrives ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_event_arrives_signed_and_once(admin: Caller, receiver: Receiver, deliver: Deliver) -> None:
    webhook = hook(admin, receiver.url, "customer.*")
    customer = admin.customer("Ada")
    deliver(all_delivered(admin, webhook, 1))
    (got,) = receiver.got
    got.verify(webhook["secret"])
    (event,) = admin.ok("GET", "/admin/events", after=0, types="customer.*")["data"]
    assert got.body == {"type": "customer.created", "timestamp": event["at"], "data": event}
    assert event["record"]["id"] == customer["id"]
    (delivery,) = sent(admin, webhook)
    assert (delivery["type"], delivery["sequence"]) == ("customer.created", event["sequence"])
    assert got.id == delivery["message_id"]
    assert delivery["next_attempt_at"] is None
    (attempt,) = delivery["attempts"]
    assert (attempt["status"], attempt["error"], attempt["response"]) == (204, None, "")


def test_each_webhook_gets_the_types_that_it_asks_for_of_its_own_organization(
    admin: Caller, stranger: Caller, receivers: Callable[[], Receiver], deliver: Deliver
) -> None:
    wanted = {"deal.won": 1, "deal.*": 3, "*.created": 4, "customer.assigned": 1, "*": 6, "tag.deleted": 0}
    listening = {pattern: receivers() for pattern in wanted}
    before = hook(stranger, receivers().url)
    hooks = {pattern: hook(admin, receiver.url, pattern) for pattern, receiver in listening.items()}
    stages = {stage["name"]: stage["name"] for stage in admin.ok("GET", "/admin/pipeline-stages")["data"]}
    assert "closed_won" in stages
    customer = admin.customer("Ada", assigned_to="7")
    deal = admin.ok("POST", "/admin/deals", {"title": "Engine", "customer_id": customer["id"], "amount": 5})
    admin.ok("PATCH", f"/admin/deals/{deal['id']}", {"title": "Engine 2"})
    admin.ok("PATCH", f"/admin/deals/{deal['id']}", {"stage": "closed_won"})
    admin.tag()
    admin.ok("POST", f"/admin/customers/{customer['id']}/contacts", {"first_name": "Grace"})
    events = admin.ok("GET", "/admin/events", after=0)
    assert events["data"] == []  # not sealed yet

    def done() -> bool:
        kinds = {"webhook"}
        own = {
            p: [d for d in sent(admin, hooks[p], status="delivered") if d["resource_type"] not in kinds] for p in hooks
        }
        return {pattern: len(found) for pattern, found in own.items()} == wanted

    deliver(done)
    # That webhooks are made is an event too.
    types = [each.body["type"] for each in listening["*"].got if each.body["data"]["resource_type"] != "webhook"]
    assert Counter(types) == Counter(
        ["customer.created", "deal.created", "deal.updated", "deal.won", "tag.created", "contact.created"]
    )
    assert [each.body["type"] for each in listening["deal.won"].got] == ["deal.won"]
    assert [delivery["type"] for delivery in sent(stranger, before)] == ["webhook.created"]


def test_changes_of_one_record_arrive_in_order_while_they_succeed(
    admin: Caller, receiver: Receiver, deliver: Deliver
) -> None:
    webhook = hook(admin, receiver.url, "customer.*")
    customers = [admin.customer(f"Number {number}")["id"] for number in range(3)]
    for number in range(8):
        for customer in customers:
            admin.ok("PATCH", f"/admin/customers/{customer}", {"company": f"No {number}"})
    deliver(all_delivered(admin, webhook, 27), senders=2)
    assert len(receiver.got) == 27  # each once, although two send
    for customer in customers:
        of_it = [each.body["data"] for each in receiver.got if each.body["data"]["resource_id"] == customer]
        assert [event["version"] for event in of_it] == list(range(1, 10))


def test_a_failed_one_is_tried_again_and_holds_nothing_back(
    admin: Caller, receiver: Receiver, deliver: Deliver
) -> None:
    webhook = hook(admin, receiver.url, "customer.*")
    customer = admin.customer("Ada")["id"]
    admin.ok("PATCH", f"/admin/customers/{customer}", {"company": "Engines"})

    def fail_the_first(handler: Handler) -> None:
        respond(handler, 500 if len(receiver.got) == 1 else 200, b"Oh\0 no\xff")

    receiver.answer = fail_the_first
    deliver(lambda: len(sent(admin, webhook, status="delivered")) == 1, policy=Policy(pauses=(3600,)))
    # The later change was not kept waiting.
    created, updated = sent(admin, webhook)
    assert (created["status"], updated["status"]) == ("pending", "delivered")
    assert created["next_attempt_at"] > updated["finished_at"]
    (attempt,) = created["attempts"]
    assert (attempt["status"], attempt["error"]) == (500, "The receiver answered 500")
    assert attempt["response"] == "Oh\N{REPLACEMENT CHARACTER} no\N{REPLACEMENT CHARACTER}"
    admin.ok("PATCH", f"/admin/customers/{customer}", {"name": "Ada L"})
    admin.ok("POST", f"/admin/webhooks/{webhook['id']}/deliveries/{created['id']}/redeliver")
    deliver(all_delivered(admin, webhook, 3))
    first, *_, again = [each for each in receiver.got if each.sequence == created["sequence"]]
    assert first.id == again.id == created["message_id"]
    assert first.headers["webhook-timestamp"] <= again.headers["webhook-timestamp"]
    again.verify(webhook["secret"])
    # The record is read anew for each attempt.
    assert (first.body["data"]["record"]["name"], again.body["data"]["record"]["name"]) == ("Ada", "Ada L")


def test_after_the_last_attempt_it_has_failed(admin: Caller, receiver: Receiver, deliver: Deliver) -> None:
    webhook = hook(admin, receiver.url, "customer.*")
    admin.customer()
    receiver.answer = lambda handler: respond(handler, 503)
    deliver(lambda: sent(admin, webhook, status="failed"), policy=Policy(pauses=(0.0, 0.0)))
    assert [attempt["status"] for attempt in attempts(admin, webhook)] == [503, 503, 503]
    assert len({each.id for each in receiver.got}) == 1
    assert admin.ok("GET", f"/admin/webhooks/{webhook['id']}")["failing_since"] is not None
    receiver.answer = lambda handler: respond(handler, 200)
    admin.customer()
    deliver(lambda: sent(admin, webhook, status="delivered"))
    assert admin.ok("GET", f"/admin/webhooks/{webhook['id']}")["failing_since"] is None


def test_pauses_grow_and_a_receiver_may_ask_for_longer_ones() -> None:
    def outcome(status: int, retry_after: float | None = None) -> Outcome:
        return Outcome(Attempt(datetime.now(UTC), status, 1, "no", None), retry_after, final=status == 410)

    policy = Policy()
    pauses = [policy.pause(tries, outcome(500)) for tries in range(10)]
    assert pauses[-1] is None
    for pause, expected in zip(pauses, (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400), strict=False):
        assert pause is not None
        assert 0.8 * expected <= pause <= 1.2 * expected
    assert policy.pause(0, outcome(503, 600.0)) == 600
    assert policy.pause(0, outcome(503, -5.0)) is not None
    assert policy.pause(0, outcome(503, 10.0**9)) == 86_400
    assert policy.pause(0, outcome(410)) is None


# ── switched off and on ──────────────────────────────────────────────────────────────────────────────────────────────


def test_a_receiver_that_is_gone_gets_nothing_more_and_admins_see_it(
    admin: Caller, receiver: Receiver, deliver: Deliver
) -> None:
    webhook = hook(admin, receiver.url, "customer.*")
    path = f"/admin/webhooks/{webhook['id']}"
    admin.customer()
    receiver.answer = lambda handler: respond(handler, 410)
    deliver(lambda: not admin.ok("GET", path)["is_active"])
    assert [each["status"] for each in sent(admin, webhook)] == ["failed"]
    entry = admin.audit(resource_type="webhook", action="update")[0]
    assert (entry["user_id"], entry["changes"]) == (None, {"is_active": {"old": True, "new": False}})
    deliver(lambda: admin.ok("GET", "/admin/events", after=0, types="webhook.updated")["data"])


def test_who_failed_for_five_days_is_switched_off(
    admin: Caller, receiver: Receiver, deliver: Deliver, owner: psycopg.Connection
) -> None:
    webhook = hook(admin, receiver.url, "customer.*")
    path = f"/admin/webhooks/{webhook['id']}"
    receiver.answer = lambda handler: respond(handler, 500)
    admin.customer()
    deliver(lambda: attempts(admin, webhook), policy=Policy(pauses=(3600,)))
    assert admin.ok("GET", path)["is_active"]
    as_tenant(owner, admin, "UPDATE webhook_states SET failing_since = now() - interval '4.9 days'")
    admin.customer()
    deliver(lambda: len(attempts(admin, webhook)) == 2, policy=Policy(pauses=(3600,)))
    assert admin.ok("GET", path)["is_active"]
    as_tenant(owner, admin, "UPDATE webhook_states SET failing_since = now() - interval '5.1 days'")
    admin.customer()
    deliver(lambda: not admin.ok("GET", path)["is_active"], policy=Policy(pauses=(3600,)))


def test_who_is_switched_on_again_gets_what_happens_from_then_on(
    admin: Caller, receiver: Receiver, deliver: Deliver
) -> None:
    webhook = hook(admin, receiver.url, "customer.*")
    other = hook(admin, receiver.url, "tag.created")
    path = f"/admin/webhooks/{webhook['id']}"
    admin.ok("PATCH", path, {"is_active": False})
    admin.customer("Missed")
    admin.tag("A")
    deliver(all_delivered(admin, other, 1))
    admin.ok("PATCH", path, {"is_active": True})
    admin.customer("Heard")
    deliver(all_delivered(admin, webhook, 1))
    assert [each.body["data"]["record"]["name"] for each in receiver.got] == ["A", "Heard"]


# ── again ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_replay_sends_what_is_between_two_sequences_once_more(
    admin: Caller, receiver: Receiver, deliver: Deliver, seal: Seal
) -> None:
    for number in range(4):
        admin.customer(f"Number {number}")
    admin.tag()
    seal()
    webhook = hook(admin, receiver.url, "customer.*")
    path = f"/admin/webhooks/{webhook['id']}/replay"
    admin.customer("Number 4")
    deliver(all_delivered(admin, webhook, 1))
    (live,) = receiver.got
    answer = admin.post(path, {"after": 1, "before": 4})
    assert (answer.status_code, answer.json()) == (202, {"deliveries": 2})
    deliver(all_delivered(admin, webhook, 3))
    assert sorted(receiver.sequences) == [2, 3, live.sequence]
    # What was delivered before keeps its id, and its attempts.
    assert admin.ok("POST", path, {"after": 2, "before": 1000}) == {"deliveries": 3}
    deliver(lambda: len(receiver.got) == 6 and all_delivered(admin, webhook, 4)())
    assert Counter(each.id for each in receiver.got) == {
        f"msg_{webhook['id']}_2": 1,
        f"msg_{webhook['id']}_3": 2,
        f"msg_{webhook['id']}_4": 1,
        live.id: 2,
    }
    assert [
        len(each["attempts"]) for each in sent(admin, webhook, type="customer.created") if each["sequence"] == 3
    ] == [2]
    assert admin.ok("POST", path, {"after": 5, "before": 6}) == {"deliveries": 0}


def test_a_replay_is_bounded(admin: Caller, receiver: Receiver, owner: psycopg.Connection) -> None:
    webhook = hook(admin, receiver.url)
    path = f"/admin/webhooks/{webhook['id']}/replay"
    # What is not there yet does not count.
    assert admin.ok("POST", path, {"after": 0, "before": 10 * MOST_REPLAYED})["deliveries"] >= 0
    insert = "INSERT INTO audit_seals (tenant_id, sequence, entry_id, hash) VALUES (%s, %s, -%s, sha256('x'))"
    as_tenant(owner, admin, insert, [admin.tenant, MOST_REPLAYED + 5, MOST_REPLAYED])
    data = refused(admin.post(path, {"after": 0, "before": MOST_REPLAYED + 2}), 400, "INVALID_REQUEST")
    assert data["fields"][0]["field"] == "before"
    assert admin.post(path, {"after": 0, "before": MOST_REPLAYED + 1}).status_code == 202
    data = refused(admin.post(path, {"after": 9, "before": 9}), 400, "INVALID_REQUEST")
    assert data["fields"] == [{"field": "before", "message": "must be above `after`"}]
    cut = "INSERT INTO audit_cuts (tenant_id, sequence, entry_id, hash, until) VALUES (%s, 7, 0, sha256(''), now())"
    as_tenant(owner, admin, cut, [admin.tenant])
    refused(admin.post(path, {"after": 6, "before": 9}), 410, "HISTORY_CUT")


def test_a_webhook_that_is_switched_off_is_sent_nothing_again(
    admin: Caller, receiver: Receiver, deliver: Deliver
) -> None:
    webhook = hook(admin, receiver.url, "customer.*")
    path = f"/admin/webhooks/{webhook['id']}"
    admin.customer()
    deliver(all_delivered(admin, webhook, 1))
    (delivery,) = sent(admin, webhook)
    admin.ok("PATCH", path, {"is_active": False})
    refused(admin.post(f"{path}/deliveries/{delivery['id']}/redeliver"), 409, "WEBHOOK_INACTIVE")
    refused(admin.post(f"{path}/replay", {"after": 0, "before": 9}), 409, "WEBHOOK_INACTIVE")
    assert sent(admin, webhook) == [delivery]


def test_a_rotated_secret_signs_beside_the_old_one_for_a_day(
    admin: Caller, receiver: Receiver, deliver: Deliver, owner: psycopg.Connection
) -> None:
    webhook = hook(admin, receiver.url, "customer.*")
    rotated = admin.ok("POST", f"/admin/webhooks/{webhook['id']}/rotate-secret")
    assert rotated["secret"] != webhook["secret"]
    admin.customer()
    deliver(all_delivered(admin, webhook, 1))
    receiver.got[0].verify(webhook["secret"])
    receiver.got[0].verify(rotated["secret"])
    as_tenant(owner, admin, "UPDATE webhook_states SET previous_until = previous_until - interval '24 hours'")
    admin.customer()
    deliver(all_delivered(admin, webhook, 2))
    receiver.got[1].verify(rotated["secret"])
    with pytest.raises(WebhookVerificationError):
        receiver.got[1].verify(webhook["secret"])


# ── receivers that behave badly ──────────────────────────────────────────────────────────────────────────────────────


def hang(handler: Handler) -> None:
    """Until the client has had enough."""
    handler.connection.settimeout(30)
    handler.rfile.read(1)


def drip(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    hang(handler)


def flood(handler: Handler) -> None:
    handler.send_response(200)
    handler.end_headers()
    for _ in range(1000):
        handler.wfile.write(b"." * 65536)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (hang, "There was no whole answer within 0.3 seconds"),
        (drip, "There was no whole answer within 0.3 seconds"),
        (lambda handler: handler.wfile.write(b"220 mail.example.com ESMTP\r\n"), "The answer was not valid HTTP"),
        (lambda handler: handler.connection.close(), "The receiver ended the connection without an answer"),
        (lambda handler: respond(handler, 302, Location="http://127.0.0.1:9/"), "The receiver answered 302"),
        (lambda handler: respond(handler, 204, X="y" * 100_000), "The answer was not valid HTTP"),
    ],
    ids=["hangs", "drips", "no HTTP", "hangs up", "redirects", "endless header"],
)
def test_whatever_a_receiver_does_is_a_failed_attempt(
    answer: Any, error: str, admin: Caller, receiver: Receiver, deliver: Deliver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "ATTEMPT_SECONDS", 0.3)
    webhook = hook(admin, receiver.url, "customer.*")
    admin.customer()
    receiver.answer = answer
    deliver(lambda: attempts(admin, webhook), policy=Policy(pauses=(3600,)))
    (attempt,) = attempts(admin, webhook)
    assert attempt["error"] == error
    assert len(receiver.got) == 1  # nobody followed the redirect


def test_of_an_endless_answer_only_the_beginning_is_read(admin: Caller, receiver: Receiver, deliver: Deliver) -> None:
    webhook = hook(admin, receiver.url, "customer.*")
    admin.customer()
    receiver.answer = flood
    deliver(all_delivered(admin, webhook, 1))
    assert attempts(admin, webhook)[0]["response"] == "." * 1024


def test_receivers_that_hang_delay_nobody_else(
    admin: Caller, callers: Any, receivers: Callable[[], Receiver], deliver: Deliver
) -> None:
    """More of them than may be open at a time would be, if each got as much as it is sent."""
    good, bad, over = receivers(), receivers(), threading.Event()
    bad.answer = lambda _: over.wait(30)
    others = [callers.person("admin", f"other-{uuid.uuid4().hex[:8]}") for _ in range(2)]
    for caller in others:
        for _ in range(20):
            hook(caller, bad.url, "customer.*")
    webhook = hook(admin, good.url, "customer.*")
    beside = hook(others[0], good.url, "customer.*")
    try:
        for number in range(5):
            for caller in (admin, *others):
                caller.customer(f"Number {number}")

        def done() -> bool:
            if all_delivered(admin, webhook, 5)() and all_delivered(others[0], beside, 5)():
                called.append(len(bad.got))
                over.set()
            return over.is_set()

        called: list[int] = []
        deliver(done)
        assert called[0] <= 40  # one at a time for each
    finally:
        over.set()


# ── workers that stop or die ─────────────────────────────────────────────────────────────────────────────────────────


def test_what_was_taken_and_can_not_be_read_is_due_again_at_once(
    admin: Caller, receiver: Receiver, deliver: Deliver, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = feed.read_these
    failed: list[bool] = []

    async def read_at_the_second_try(*arguments: Any) -> Any:
        if not failed:
            failed.append(True)
            raise AppError(Code.SERVICE_UNAVAILABLE)
        return await read(*arguments)

    monkeypatch.setattr(feed, "read_these", read_at_the_second_try)
    webhook = hook(admin, receiver.url, "customer.*")
    admin.customer()
    deliver(all_delivered(admin, webhook, 1))
    assert failed


def test_what_a_dead_worker_had_taken_is_sent_by_another_and_its_late_result_does_not_count(
    admin: Caller, receiver: Receiver, deliver: Deliver, settings: Settings, seal: Seal, owner: psycopg.Connection
) -> None:
    webhook = hook(admin, receiver.url, "customer.*")
    admin.customer()
    seal()

    async def take() -> list[deliveries.Taken]:
        async with Database(settings) as database:
            await deliveries.make(database, admin.tenant)
            _, taken = await deliveries.take(database, admin.tenant, {webhook["id"]: 10})
            # Nobody else gets it meanwhile.
            assert (await deliveries.take(database, admin.tenant, {webhook["id"]: 10}))[1] == []
            return taken

    (taken,) = asyncio.run(take())
    as_tenant(owner, admin, "UPDATE webhook_deliveries SET claimed_until = now()")
    deliver(all_delivered(admin, webhook, 1))
    attempt = Attempt(datetime.now(UTC), 500, 1, "too late", None)

    async def keep() -> None:
        async with Database(settings) as database:
            late = [Result(taken.id, taken.claims, "pending", attempt, 0.0)]
            await deliveries.keep(database, admin.tenant, late, [], [], [], timedelta(days=5))

    asyncio.run(keep())
    (delivery,) = sent(admin, webhook)
    assert (delivery["status"], [each["status"] for each in delivery["attempts"]]) == ("delivered", [204])


def test_an_erasure_empties_what_receivers_answered_and_what_is_being_sent_is_sent_anew(
    admin: Caller, receiver: Receiver, deliver: Deliver, settings: Settings, seal: Seal
) -> None:
    webhook = hook(admin, receiver.url, "customer.*")
    customer, other = (f"/admin/customers/{admin.customer(name)['id']}" for name in ("Ada", "Grace"))
    receiver.answer = lambda handler: respond(handler, 200, b"Ada or Grace")
    deliver(all_delivered(admin, webhook, 2))
    admin.ok("PATCH", customer, {"notes": "Ada"})
    seal()

    async def erase_while_it_is_sent() -> None:
        async with Database(settings) as database:
            await deliveries.make(database, admin.tenant)
            _, (taken,) = await deliveries.take(database, admin.tenant, {webhook["id"]: 10})
            body = {"reason": "why", "confirm": "Ada"}
            assert (await asyncio.to_thread(admin.post, f"{customer}/erase", body)).is_success
            answered = Result(taken.id, taken.claims, "delivered", Attempt(datetime.now(UTC), 200, 1, None, "Ada"), 0.0)
            await deliveries.keep(database, admin.tenant, [answered], [webhook["id"]], [], [], timedelta(days=5))

    asyncio.run(erase_while_it_is_sent())
    *created, updated = sent(admin, webhook)
    assert (updated["status"], updated["attempts"]) == ("pending", [])
    shown = {each["resource_id"]: each["attempts"][0]["response"] for each in created}
    assert shown == {int(customer.rsplit("/", 1)[1]): None, int(other.rsplit("/", 1)[1]): "Ada or Grace"}
    receiver.answer = lambda handler: respond(handler, 204)
    deliver(lambda: sent(admin, webhook)[2]["status"] == "delivered")
    assert len(receiver.got) > 2
    assert "Ada" not in str([each.body for each in receiver.got[2:]])


def test_a_worker_that_stops_finishes_or_gives_back_what_it_has_taken(
    admin: Caller, receiver: Receiver, deliver: Deliver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "STOP_SECONDS", 0.2)
    webhook = hook(admin, receiver.url, "customer.*")
    customer = admin.customer()["id"]
    admin.ok("PATCH", f"/admin/customers/{customer}", {"company": "Engines"})
    over = threading.Event()
    receiver.answer = lambda handler: respond(handler, 204) if over.wait(30) else None
    deliver(lambda: receiver.got)
    # Both are due at once, for the next worker.
    assert [each["status"] for each in sent(admin, webhook)] == ["pending", "pending"]
    assert attempts(admin, webhook) == []
    over.set()
    deliver(all_delivered(admin, webhook, 2), seconds=10)
    assert receiver.sequences == sorted(receiver.sequences)


def test_old_deliveries_go_and_those_of_deleted_webhooks(
    admin: Caller, receiver: Receiver, deliver: Deliver, settings: Settings, owner: psycopg.Connection
) -> None:
    kept, deleted = hook(admin, receiver.url, "customer.*"), hook(admin, receiver.url, "customer.*")
    for _ in range(2):
        admin.customer()
    deliver(lambda: all_delivered(admin, kept, 2)() and all_delivered(admin, deleted, 2)())
    admin.ok("DELETE", f"/admin/webhooks/{deleted['id']}")
    refused(admin.get(f"/admin/webhooks/{deleted['id']}/deliveries"), 404, "WEBHOOK_NOT_FOUND")
    old, _ = sent(admin, kept)
    age = "UPDATE webhook_deliveries SET created_at = now() - interval '30 days 1 minute' WHERE id = %s"
    as_tenant(owner, admin, age, [old["id"]])

    async def prune() -> int:
        async with Database(settings) as database:
            count = await deliveries.prune_webhooks(database)
            await deliveries.prune_webhooks(database)
            await deliveries.tend(database)
            return count

    assert asyncio.run(prune()) >= 3
    assert len(sent(admin, kept)) == 1
    left = "SELECT (SELECT count(*) FROM webhook_deliveries), (SELECT count(*) FROM webhook_states)"
    assert as_tenant(owner, admin, left) == [(1, 1)]


def test_an_event_that_retention_has_deleted_is_not_delivered(
    admin: Caller, receiver: Receiver, deliver: Deliver, owner: psycopg.Connection
) -> None:
    webhook = hook(admin, receiver.url, "customer.*")
    as_tenant(
        owner,
        admin,
        "INSERT INTO webhook_deliveries (tenant_id, webhook_id, sequence, type, resource_type, resource_id)"
        " VALUES (%s, %s, 999, 'customer.created', 'customer', 1)",
        [admin.tenant, webhook["id"]],
    )
    deliver(lambda: sent(admin, webhook, status="failed"))
    assert attempts(admin, webhook)[0]["error"] == sender.DELETED
    assert receiver.got == []


def as_tenant(owner: psycopg.Connection, caller: Caller, statement: str, values: Any = ()) -> list[Any]:
    """Rows, or none, of SQL as the owner, in this caller's organization."""
    with owner.transaction():
        owner.execute("SELECT set_config('crm.tenant', %s, true)", [caller.tenant])
        cursor = owner.execute(statement, values)
        return cursor.fetchall() if cursor.description else []
